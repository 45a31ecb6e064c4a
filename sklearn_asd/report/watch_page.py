"""What a watch heard as one HTML file."""

from __future__ import annotations

import datetime
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from sklearn_asd._utils.files import check_outputs, replacing
from sklearn_asd._utils.messages import count, cut
from sklearn_asd._version import __version__
from sklearn_asd.monitoring.history import History, read_history
from sklearn_asd.monitoring.rules import STATES
from sklearn_asd.report.media import Sound, encode_sounds
from sklearn_asd.report.page import load_template
from sklearn_asd.report.watch_summary import Alarm, WatchedMachine, summarize_watch
from sklearn_asd.report.watch_trend import STATE_COLORS, draw_watch

__all__ = ["WatchFindings", "write_watch_page"]

# So that the page of a year can be mailed. What is left out is counted on the page.
_MOST_MACHINES, _MOST_PICTURES, _MOST_ALARMS, _MOST_REMARKS = 400, 60, 150, 6
_BINS_PER_PICTURE, _BINS = 240, 9000
_SOUND_DURATION = 10.0  # s
_LARGEST_SOUND = 300_000  # characters
_LONGEST_NAME = 200
_CLOCK_TOLERANCE = 60.0  # s; a network drive has a clock of its own


class WatchFindings(NamedTuple):
    """What the page says, as numbers.

    Attributes
    ----------
    machines : list of WatchedMachine
        The machines, those with most alarms first.

    alarms : list of Alarm
        Alarms of all machines, the latest first.

    since, until : float
        The period in s since 1970-01-01 UTC.

    n_windows : int
        Windows in the period.

    n_later : int
        Windows whose time is after the log was written, which are left out: a clock
        was wrong.
    """

    machines: list[WatchedMachine]
    alarms: list[Alarm]
    since: float
    until: float
    n_windows: int
    n_later: int


def write_watch_page(
    log: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    since: float | None = None,
    until: float | None = None,
    max_sounds: int = 5,
) -> WatchFindings:
    """Write one HTML file about what a watch heard, from its log alone.

    Parameters
    ----------
    log : str or path-like
        The log, which is only read; the watch may go on meanwhile.

    path : str or path-like
        The file to write; an existing one is replaced once the new one is complete.

    since, until : float or None, default=None
        The period in s since 1970-01-01 UTC, both included; None is where the log
        begins or ends.

    max_sounds : int >= 0, default=5
        Number of alarms to hear: the latest whose sound was kept and is still there. A
        sound of 10 s at 16 kHz takes about 0.06 MB.

    Returns
    -------
    findings : WatchFindings
        What the page says.

    Raises
    ------
    ImportError
        If matplotlib or Jinja2 is not installed.

    OSError
        If the log cannot be read, or the file not be written.

    ValueError
        If the log holds nothing of the period, is of another kind, or is `path`.

    Notes
    -----
    Cost: a log of 100,000 windows takes some seconds, and 0.4 kB of memory each. The
    picture of a machine shows the lowest and the median margin of each of at most 240
    parts of the period, so a page without sounds stays below 1 MB.
    """
    check_outputs({"path": path}, [log])
    template = load_template("watch.html")
    history = read_history(log)
    findings = _find(history, since, until)
    drawn = findings.machines[:_MOST_PICTURES]
    n_bins = min(_BINS_PER_PICTURE, _BINS // len(drawn))
    shown = findings.alarms[:_MOST_ALARMS]
    page = template.render(
        findings=findings,
        head=_describe_head(log, history, findings),
        notes=_describe_troubles(history, findings),
        alarms=list(zip(shown, _read_sounds(shown, max_sounds), strict=True)),
        machines=findings.machines[:_MOST_MACHINES],
        pictures=[
            (one, draw_watch(one, findings.since, findings.until, n_bins))
            for one in drawn
        ],
        colors=STATE_COLORS,
        states=STATES,
        most_remarks=_MOST_REMARKS,
        count=count,
        name=_show_name,
        shorten=lambda text: cut(text, _LONGEST_NAME),
        moment=_show_moment,
        duration=_show_duration,
        number=_show_number,
        share=_show_share,
        no_data_after=_show_duration(history.no_data_after),
        version=__version__,
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    with replacing(path) as file:
        file.write(page.encode("utf-8"))
    return findings


def _find(history: History, since: float | None, until: float | None) -> WatchFindings:
    times = history.rows["time"]
    n_later = 0
    last = times.max()
    if until is None and history.logged is not None:
        is_later = times > history.logged + _CLOCK_TOLERANCE
        if not is_later.all():
            n_later, last = int(is_later.sum()), times[~is_later].max()
    begin = float(times.min() if since is None else since)
    end = float(last if until is None else until)
    inside = history.rows[(times >= begin) & (times <= end)]
    if inside.empty:
        raise ValueError(
            f"nothing was heard from {_show_moment(begin)} to {_show_moment(end)}: the "
            f"log reaches from {_show_moment(times.min())} to {_show_moment(last)}"
        )
    machines = summarize_watch(history, begin, end)
    alarms = [alarm for machine in machines for alarm in machine.alarms]
    alarms.sort(key=lambda one: -one.start)
    n_windows = int(inside["verdict"].notna().sum())
    return WatchFindings(machines, alarms, begin, end, n_windows, n_later)


def _describe_head(
    log: str | os.PathLike[str], history: History, findings: WatchFindings
) -> dict[str, str]:
    head = {
        "Period": f"{_show_moment(findings.since)} to {_show_moment(findings.until)}, "
        "by the clock of this computer",
        "Log": os.path.abspath(log),
    }
    names = {"Model": "model", "Source": "source", "Alarm": "rule"}
    for name, field in names.items():
        if isinstance(history.start.get(field), str):
            head[name] = cut(history.start[field], _LONGEST_NAME)
    if "Alarm" in head:
        head["Alarm"] += " windows anomalous (of the last watch)"
    if history.logged is not None:
        head["Last line"] = _show_moment(history.logged)
    return head


def _describe_troubles(history: History, findings: WatchFindings) -> list[str]:
    """Say what makes the page less than it seems."""
    notes = []
    silent = 0.0 if history.logged is None else _now() - history.logged
    if silent > history.no_data_after:
        notes.append(
            f"The log ends {_show_duration(silent)} before this page was written. If "
            "machines should have been heard since, see whether the watch runs."
        )
    if findings.n_later:
        notes.append(
            f"{count(findings.n_later, 'line')} left out: by their times they are from "
            "after the log was written, so a clock was wrong. --until shows them."
        )
    if history.n_foreign:
        notes.append(
            f"{count(history.n_foreign, 'line')} of the log could not be read and left "
            "out: no watch wrote them, or they are damaged."
        )
    if history.ends_within_line:
        notes.append(
            "The last line of the log is incomplete and left out: the watch was "
            "writing it, or was killed."
        )
    return notes


def _read_sounds(alarms: list[Alarm], max_sounds: int) -> list[Sound | str]:
    """Read the sound of the latest alarms; a text says why there is none."""
    sounds: list[Sound | str] = []
    n_sounds = 0
    for alarm in alarms:
        if alarm.kept is None or n_sounds >= max_sounds:
            sounds.append("")
            continue
        sound = _read_sound(alarm.kept)
        n_sounds += isinstance(sound, Sound)
        sounds.append(sound)
    return sounds


def _read_sound(folder: str) -> Sound | str:
    """Read the end of the last recording that was kept, which raised the alarm."""
    try:
        files = sorted(one for one in Path(folder).iterdir() if one.is_file())
        with soundfile.SoundFile(files[-1]) as file:
            n_frames = min(file.frames, round(_SOUND_DURATION * file.samplerate))
            file.seek(file.frames - n_frames)
            samples = file.read(n_frames, dtype="float32", always_2d=True).mean(axis=1)
            rate, whole = file.samplerate, file.frames / file.samplerate
        if not len(samples):
            return "The sound that was kept is empty."
        samples = np.nan_to_num(samples, posinf=0.0, neginf=0.0)
        (sound,) = encode_sounds([samples], rate, _SOUND_DURATION)
    except (OSError, ValueError, IndexError, soundfile.LibsndfileError):
        return "The sound that was kept is gone, or cannot be read."
    if len(sound.uri) > _LARGEST_SOUND:
        return "The sound that was kept is too large for this page."
    if n_frames / rate < whole:
        part = f"the last {n_frames / rate:.3g} of {whole:.3g} s, "
        return Sound(sound.uri, part + sound.remark)
    return sound


def _show_name(machine: str) -> str:
    return cut(machine, _LONGEST_NAME) if machine else "no name"


def _show_moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def _show_duration(seconds: float) -> str:
    """Write a duration in its two largest units."""
    if not math.isfinite(seconds):
        return "not known (a clock was set back)"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), list[str]()
    for unit, size in units:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
        elif parts:
            break
        left %= size
    return " ".join(parts[:2])


def _show_number(value: float) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.2e}" if abs(value) >= 1e6 else f"{value:.2f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _show_share(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _now() -> float:
    return datetime.datetime.now().timestamp()
