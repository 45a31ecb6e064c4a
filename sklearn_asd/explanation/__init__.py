"""Why a clip has its score: when, in which bands, and by which detector inside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
