"""Anomalous sounds of machines, found with normal recordings alone."""

import lazy_loader

from sklearn_asd._utils.forking import make_children_compute
from sklearn_asd._version import __version__ as __version__

# Names are imported when they are used; __init__.pyi says from where.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

make_children_compute()
