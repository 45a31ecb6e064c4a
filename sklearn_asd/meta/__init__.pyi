from .ensemble import GammaProbabilityEnsemble
from .only_machine_types import OnlyMachineTypes
from .per_machine import PerMachine
from .per_machine_type import PerMachineType
from .thresholds import ThresholdTuner
from .zscore import ZScoreEnsemble

__all__ = [
    "GammaProbabilityEnsemble",
    "OnlyMachineTypes",
    "PerMachine",
    "PerMachineType",
    "ThresholdTuner",
    "ZScoreEnsemble",
]
