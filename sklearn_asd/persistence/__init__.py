"""Fitted models in one file that holds no code: safetensors and JSON."""

from sklearn_asd.persistence.models import describe_model, load_model, save_model

__all__ = ["describe_model", "load_model", "save_model"]
