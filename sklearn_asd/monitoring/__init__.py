"""Machines that are listened to all the time: from blocks of samples to alarms."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
