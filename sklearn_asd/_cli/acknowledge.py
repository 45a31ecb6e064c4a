"""``sklearn-asd acknowledge``: note in the log of a watch that an alarm is known."""

from __future__ import annotations

import os

import click

from sklearn_asd._cli.conventions import CONTEXT, echo
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.monitoring.log import acknowledge as write_acknowledgement
from sklearn_asd.monitoring.log import read_states

__all__ = ["acknowledge"]


@click.command(context_settings=CONTEXT)
@click.argument("log")
@click.argument("machine", required=False)
def acknowledge(log, machine):
    """Note that somebody knows of the alarm of MACHINE, or of all alarms in LOG.

    LOG is that of sklearn-asd watch. A watch that runs reads it: the state of the
    machine becomes "acknowledged", which is an event as any other. If none runs, the
    next watch does so. The machine is normal again when the alarm ends by itself.

    \b
    Examples:
      sklearn-asd acknowledge watch.jsonl
      sklearn-asd acknowledge watch.jsonl pump_3

    \b
    Exit codes:
      0  noted
      2  an error, or there is no such alarm
    """
    if not os.path.isfile(log):
        raise ValueError(f"there is no log {log!r}: name the file of watch --log")
    states = read_states(log)
    alarms = [name for name, one in states.items() if one.alarm == "alarm"]
    chosen = _choose(alarms, machine)
    write_acknowledgement(log, chosen)
    for one in chosen:
        echo(f"Acknowledged: the alarm of {printable(one) or 'the machine'}.")


def _choose(alarms: list[str], machine: str | None) -> list[str]:
    """Choose the machines in alarm that are meant."""
    if alarms and machine is None:
        return alarms
    if machine is not None and one_form(machine) in alarms:
        return [one_form(machine)]
    whose = "" if machine is None else f" of {machine!r}"
    others = f": name one of {abbreviate(sorted(alarms))}" if alarms else ""
    raise ValueError(
        f"the log tells of no alarm{whose} that is still to be acknowledged{others}"
    )
