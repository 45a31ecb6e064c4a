"""Machines that are listened to all the time: from blocks of samples to alarms."""

from sklearn_asd.monitoring.drift import (
    DriftTest,
    benjamini_hochberg,
    conformal_p_values,
)
from sklearn_asd.monitoring.events import LogEntry
from sklearn_asd.monitoring.monitor import Monitor
from sklearn_asd.monitoring.rules import (
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
