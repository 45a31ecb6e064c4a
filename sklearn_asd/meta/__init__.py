"""Detectors made of others: ensembles, thresholds, one detector for each machine.

A new one inherits from `MetaDetectorMixin` of `structure`, which says how. To be saved
and exported it gets a row in persistence/allowed.py and export/detectors.py.
"""

from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.per_machine import PerMachine
from sklearn_asd.meta.thresholds import ThresholdTuner
from sklearn_asd.meta.zscore import ZScoreEnsemble

__all__ = [
    "GammaProbabilityEnsemble",
    "OnlyMachineTypes",
    "PerMachine",
    "ThresholdTuner",
    "ZScoreEnsemble",
]
