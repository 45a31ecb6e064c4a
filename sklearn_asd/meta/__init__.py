"""Detectors made of others: ensembles, thresholds, one detector for each machine.

A new one inherits from `MetaDetectorMixin` of `structure`, which says how. To be saved
and exported it gets a row in persistence/allowed.py and export/detectors.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
