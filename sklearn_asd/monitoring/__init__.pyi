from .drift import (
    DriftTest,
    benjamini_hochberg,
    conformal_p_values,
)
from .events import LogEntry
from .monitor import Monitor
from .rules import (
    CONDITIONS,
    STATES,
    AlarmRule,
    AlarmState,
    RulePromise,
)

__all__ = [
    "CONDITIONS",
    "STATES",
    "AlarmRule",
    "AlarmState",
    "DriftTest",
    "LogEntry",
    "Monitor",
    "RulePromise",
    "benjamini_hochberg",
    "conformal_p_values",
]
