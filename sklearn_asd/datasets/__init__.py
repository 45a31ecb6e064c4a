"""Clips to try things on: built-in sounds, and recordings to fetch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
