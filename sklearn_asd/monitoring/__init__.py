"""Machines that are listened to all the time: from blocks of samples to alarms."""

from sklearn_asd.monitoring.events import LogEntry
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
    "LogEntry",
    "RulePromise",
]
