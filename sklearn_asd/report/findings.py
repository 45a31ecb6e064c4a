"""Contents of the page: facts about all judged recordings, and details of some."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.text import printable
from sklearn_asd.audio import Clips
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.reading import BadClipError
from sklearn_asd.explanation.parts import find_spectrograms
from sklearn_asd.meta.structure import Opened
from sklearn_asd.plotting import ClipScoreDisplay
from sklearn_asd.plotting.clip import lay_out
from sklearn_asd.report import evidence
from sklearn_asd.report.machines import group_recordings, tabulate_machines
from sklearn_asd.report.media import Image, Sound, draw, encode_sounds
from sklearn_asd.report.recordings import find_paths, find_segmenter, name_clips
from sklearn_asd.report.sentences import choose_digits, describe_place, format_margin
from sklearn_asd.report.times import find_times, format_time
from sklearn_asd.report.trend import draw_trend
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["Findings", "Portrait"]

# Machines with a picture of their trend and a normal recording to hear.
_MOST_PORTRAITS = 24


class Portrait(NamedTuple):
    """What is seen and heard of one machine.

    Attributes
    ----------
    machine : str
        Its name.

    trend : Image or None
        Margins over time; None if fewer than two can be drawn.

    name : str
        Of a normal recording.

    sound : Sound or None
        That recording; None if there is none.
    """

    machine: str
    trend: Image | None
    name: str
    sound: Sound | None


class Findings:
    """Contents of the page about judged recordings.

    Parameters
    ----------
    verdicts : Verdicts
        Verdicts on all recordings.

    X_normal : any or None
        Normal clips, as the detector takes them.

    max_audio_duration : float, default=15.0
        Longest sound of each recording on the page, in s.

    model_path : str, path-like or None, default=None
        File that the detector comes from.

    X_train : any, default=None
        The clips that the detector was fitted to, in the same order. They are not read.

    refused : mapping of str to str, default={}
        Why further recordings were not judged, by their names.

    Attributes
    ----------
    names : list of str
        Names of the recordings.

    segmenter : LogMelSegmenter, PowerSpectrum or None
        What reads the recordings; None if there is no sound.

    times : Times
        When they were recorded.

    anomalous, normal, unusable : list of int
        Rows of the recordings with each verdict, the lowest margin first.

    digits : int
        Digits of margins behind the point.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        X_normal: Any,
        max_audio_duration: float = 15.0,
        *,
        model_path: str | os.PathLike[str] | None = None,
        X_train: Any = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        self.verdicts = verdicts
        self.detector = verdicts.detector
        self.model_path = model_path
        self.X_train = X_train
        self.refused = dict(refused or {})
        self.segmenter = find_segmenter(self.detector, verdicts.X)
        self.names = name_clips(verdicts.X, self.segmenter)
        self.paths = find_paths(verdicts.X, self.segmenter)
        self.times = find_times(self.paths, len(self.names))
        self.normal_clips = None
        if X_normal is not None:
            self.normal_clips = evidence.NormalClips(self.detector, X_normal)
        self.max_audio_duration = max_audio_duration
        usable = ~np.isnan(verdicts.scores)
        above = verdicts.scores > verdicts.thresholds
        self.anomalous = verdicts.rank(np.flatnonzero(usable & above)).tolist()
        self.normal = verdicts.rank(np.flatnonzero(usable & ~above)).tolist()
        self.unusable = np.flatnonzero(~usable).tolist()
        self.digits = choose_digits(verdicts.margins)

    @cached_property
    def machines(self) -> pd.DataFrame:
        """What is known of each machine.

        Returns
        -------
        machines : DataFrame
            See :func:`tabulate_machines`.
        """
        return tabulate_machines(self.verdicts, self.X_train)

    @property
    def has_sound(self) -> bool:
        """Whether the page has players.

        Returns
        -------
        has_sound : bool
            True if it has.
        """
        return self.segmenter is not None and self.max_audio_duration > 0

    @property
    def never_alarms(self) -> bool:
        """Whether no recording is called anomalous, whatever it is.

        Returns
        -------
        never : bool
            True if all thresholds are infinite.
        """
        known = self.verdicts.thresholds[~np.isnan(self.verdicts.thresholds)]
        return len(known) > 0 and bool(np.isposinf(known).all())

    def format_margin(self, row: int) -> str:
        """Write the margin of a recording.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        text : str
            With as many digits as all others.
        """
        return format_margin(self.verdicts.margins[row], self.digits)

    def format_time(self, row: int) -> str:
        """Write when a recording was made.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        text : str
            "" if it is not known.
        """
        return format_time(self.times.values[row], self.times.values)

    def name_unheard(self) -> str:
        """Name the machines of training of which there is no recording here.

        Returns
        -------
        names : str
            At most eight; "" if there are none.
        """
        known = None if self.X_train is None else machine_labels(self.X_train)
        if known is None or self.verdicts.machines is None:
            return ""
        names = sorted({name for name in known if name} - set(self.verdicts.machines))
        return abbreviate([printable(name) for name in names]) if names else ""

    def explain_unusable(self, row: int) -> str:
        """Explain why a recording has no verdict.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        reason : str
            To complete "the recording ...".
        """
        if row in self.verdicts.problems:
            return self.verdicts.problems[row]
        if self.segmenter is not None:
            return (
                "cannot be judged, as it is too short for the model, or of a machine "
                "type that the model was not trained on"
            )
        return "cannot be judged, as it is too short, or the model gives it no score"

    def name_worst(self, row: int) -> str:
        """Name the worst piece of a recording that was judged in pieces.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        name : str
            Such as "worst piece from 12 to 24 s".
        """
        start, stop = self.verdicts.spans[row]
        return f"worst piece from {start:.6g} to {stop:.6g} s"

    def portray_machines(self) -> list[Portrait]:
        """Draw the trend of each machine, and find a normal recording to hear.

        Returns
        -------
        portraits : list of Portrait
            Of the 24 machines with the lowest margins, in the order of the table;
            machines of which there is nothing to see or hear are left out.
        """
        lowest = self.machines["worst"].sort_values(kind="stable")
        chosen = set(lowest.index[:_MOST_PORTRAITS])
        portraits = [
            Portrait(name, self._draw_trend(name, rows), *self._hear_normal(name, rows))
            for name, rows in group_recordings(self.verdicts).items()
            if name in chosen
        ]
        return [one for one in portraits if one.trend or one.sound]

    def explain(self, row: int) -> dict[str, Any]:
        """Gather what is known about one recording.

        Parameters
        ----------
        row : int
            Row of one of the recordings that the verdicts keep open.

        Returns
        -------
        details : dict of str to any
            Contents of the page; None or empty if nothing is known:

            - `row` of the recording;
            - `figure`, :class:`Image` of it, of the nearest normal one, and of their
              difference;
            - `sound` and `nearest_sound`, :class:`Sound` of both;
            - `members`, `views`, `machines` and `nearest`: see
              :mod:`sklearn_asd.report.evidence`;
            - `member_digits`: digits of the members' scores behind the point;
            - `place`: when and in which bands it is anomalous, in sentences;
            - `remarks`: sentences about what cannot be shown.
        """
        opened = self.verdicts.opened[row]
        if self.normal_clips is None:
            nearest = evidence.find_nearest_in_training(opened)
        else:
            nearest = self.normal_clips.find_nearest(opened)
        remarks: list[str] = []
        display = self._locate(opened, nearest, remarks)
        sound, nearest_sound = self._encode_pair(opened, nearest)
        members = evidence.list_members(opened)
        return {
            "row": row,
            "figure": None if display is None else self._draw(display, row, nearest),
            "sound": sound,
            "members": members,
            "member_digits": 2 if members is None else choose_digits(members["raw"]),
            "views": evidence.list_views(opened),
            "machines": evidence.recognise_machines(opened),
            "nearest": nearest,
            "nearest_sound": nearest_sound,
            "place": "" if display is None else describe_place(display),
            "remarks": remarks,
        }

    def _locate(
        self, opened: Opened, nearest: evidence.Nearest | None, remarks: list[str]
    ) -> ClipScoreDisplay | None:
        """Find what each time and band contributes, to draw it with the spectrogram."""

        def _ask(question: Callable[[Opened], Any], missing: str) -> Any:
            try:
                return question(opened)
            except (TypeError, ValueError):
                remarks.append(missing)
                return None

        spectrograms = _ask(
            find_spectrograms, "There is no picture: the model hears no spectrogram."
        )
        if spectrograms is None:
            return None
        found = (None, None)
        if self.normal_clips is not None:
            missing = "When and at which frequencies it is anomalous cannot be found."
            found = _ask(self.normal_clips.locate, missing) or found
        normal = None if nearest is None else nearest.opened
        return lay_out(
            spectrograms, *found, None if normal is None else find_spectrograms(normal)
        )

    def _draw(
        self, display: ClipScoreDisplay, row: int, nearest: evidence.Nearest | None
    ) -> Image:
        kind = "Power spectrum" if display.band_scale == "log" else "Spectrogram"
        alt = f"{kind} of {self.names[row]}. {describe_place(display)}"
        height = 2.5
        if display.location is not None and display.location.times is not None:
            height += 1.2
        if display.normal is not None and nearest is not None:
            height += 3.9
            alt += f" Below, {nearest.name}, and the difference of the two."
        return draw(display.plot, (5.2, height), alt)

    def _encode_pair(
        self, opened: Opened, nearest: evidence.Nearest | None
    ) -> tuple[Sound | None, Sound | None]:
        """Sound of a recording, and of the normal one next to it."""
        if not self.has_sound:
            return None, None
        normal = None if nearest is None else nearest.opened
        sounds = self._encode([one.X for one in (opened, normal) if one is not None])
        return sounds[0], sounds[1] if len(sounds) > 1 else None

    def _encode(self, recordings: list[Any]) -> list[Sound]:
        reader: Any = self.segmenter
        samples = [
            Clips.from_X(one).read(0, reader.sample_rate, reader.channel)
            for one in recordings
        ]
        return encode_sounds(samples, reader.sample_rate, self.max_audio_duration)

    def _draw_trend(self, name: str, rows: np.ndarray) -> Image | None:
        times = self.times.values if self.times.source else pd.Series(self._number())
        trend = pd.DataFrame(
            {"time": times[rows], "margin": self.verdicts.margins[rows]}
        )
        trend = trend[np.isfinite(trend["margin"])]
        if len(trend) < 2:
            return None
        return draw_trend(trend, name, self.machines["usual"][name])

    def _number(self) -> np.ndarray:
        """Number the recordings of each machine from 1, in the order of the list."""
        numbers = np.zeros(len(self.names), dtype=int)
        for rows in group_recordings(self.verdicts).values():
            numbers[rows] = np.arange(1, len(rows) + 1)
        return numbers

    def _hear_normal(self, name: str, rows: np.ndarray) -> tuple[str, Sound | None]:
        """Choose the most normal recording of a machine, or else one of training."""
        if not self.has_sound:
            return "", None
        known = set(rows.tolist()) & set(self.normal) - set(self.verdicts.remarks)
        ranked = [row for row in reversed(self.normal) if row in known]
        if ranked:
            named, X = self.names[ranked[0]], self._take(ranked[0])
        elif self.normal_clips is not None:
            named, X = self.normal_clips.take_first(name)
        else:
            return "", None
        try:
            return named, None if X is None else self._encode([X])[0]
        except (BadClipError, OSError):  # gone since it was judged
            return "", None

    def _take(self, row: int) -> Any:
        """One recording, or the piece that was judged of a long one."""
        X = _safe_indexing(self.verdicts.X, [row])
        if row in self.verdicts.spans:
            start, stop = self.verdicts.spans[row]
            X = X.assign(start=start, stop=stop)
        return X
