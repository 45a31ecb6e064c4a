from .models import describe_model, load_model, save_model

__all__ = ["describe_model", "load_model", "save_model"]
