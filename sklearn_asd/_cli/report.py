"""``sklearn-asd report``: a page about what a watch heard."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

from sklearn_asd._cli.conventions import CONTEXT, note, prepare_outputs, quiet_option
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.report.watch_page import write_watch_page

__all__ = ["report"]

_UNITS = {"d": 86400, "h": 3600}


def _read_moment(
    context: click.Context, _: click.Parameter, text: str | None
) -> float | None:
    """Read a time, or one before now, in s since 1970-01-01 UTC."""
    if text is None:
        return None
    if before := re.fullmatch(r"(\d{1,5})([dh])", text):
        return max(0.0, time.time() - int(before[1]) * _UNITS[before[2]])
    try:
        seconds = datetime.fromisoformat(text).timestamp()
        datetime.fromtimestamp(seconds + 86400)  # can be shown
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text!r:.60} is no time: write 2026-11-26, 2026-11-26T14:30, or 7d or "
            "12h for that long ago"
        ) from error
    return max(0.0, seconds)


@click.command(context_settings=CONTEXT)
@click.argument("log")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="watch.html",
    help="The page. An older one is replaced.",
)
@click.option(
    "--since",
    metavar="TIME",
    callback=_read_moment,
    help="Begin of the period: 2026-11-26, 2026-11-26T14:30, or 7d or 12h for that "
    "long ago. Default: where the log begins.",
)
@click.option(
    "--until",
    metavar="TIME",
    callback=_read_moment,
    help="End of the period, in the same form; a day alone is its midnight. Default: "
    "where the log ends.",
)
@click.option(
    "--sounds",
    metavar="N",
    type=click.IntRange(0),
    default=5,
    help="Number of alarms to hear: the latest whose sound was kept.",
)
@quiet_option
def report(log, output, since, until, sounds):
    """Write a page about what a watch heard, from its LOG alone.

    The page shows the margins of each machine over time with the threshold, its
    states and alarms, how long it had no data, and the remarks on its recordings. The
    sound of alarms is there if watch kept it (--keep). The page is one HTML file
    without scripts that loads nothing.

    The log is only read, so the watch may go on: write the page again and again, for
    example by cron.

    \b
    Examples:
      sklearn-asd report watch.jsonl
      sklearn-asd report watch.jsonl --since 7d -o week.html
      sklearn-asd report watch.jsonl --since 2026-11-01 --until 2026-12-01

    \b
    Exit codes:
      0  the page was written
      2  an error, such as a log without any recording of the period
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until: exchange them")
    prepare_outputs({"-o": output}, [log])
    found = write_watch_page(log, output, since=since, until=until, max_sounds=sounds)
    note(
        printable(
            f"Wrote {output}: {count(len(found.alarms), 'alarm')}, "
            f"{count(found.n_windows, 'window')} of "
            f"{count(len(found.machines), 'machine')}."
        )
    )
