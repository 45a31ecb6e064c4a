"""All that the page shows: facts about the scored clips, and details of some."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from sklearn_asd.explanation.localization import score_segments
from sklearn_asd.explanation.parts import find_spectrograms
from sklearn_asd.meta.scoring import honest_training_scores
from sklearn_asd.meta.structure import Opened
from sklearn_asd.plotting import ClipScoreDisplay, ScoreDistributionDisplay
from sklearn_asd.plotting.clip import lay_out
from sklearn_asd.report.evidence import (
    MemberVerdict,
    Nearest,
    NormalClips,
    ViewVerdict,
    find_nearest_in_training,
    list_members,
    list_views,
    recognise_machines,
)
from sklearn_asd.report.media import Image, Sound, draw, encode_sounds
from sklearn_asd.report.recordings import (
    find_segmenter,
    has_sound,
    name_clips,
    read_clip,
)
from sklearn_asd.report.sentences import describe_place
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["Details", "Findings"]


class Details(NamedTuple):
    """What is found out about one clip; None and empty where nothing is known.

    Attributes
    ----------
    row : int
        The clip.

    figure, nearest_figure : Image or None
        Pictures of it and of the nearest normal clip.

    sound, nearest_sound : Sound or None
        Both clips to listen to.

    members : list of MemberVerdict
        See :func:`~sklearn_asd.report.evidence.list_members`.

    views : dict of str to list of ViewVerdict
        See :func:`~sklearn_asd.report.evidence.list_views`.

    machines : dict of str to str
        See :func:`~sklearn_asd.report.evidence.recognise_machines`.

    nearest : Nearest or None
        The nearest normal clip.

    nearest_name : str
        Its name.

    place : str
        When and in which bands the clip is most anomalous, in sentences.

    remarks : list of str
        What cannot be shown, in sentences.
    """

    row: int
    figure: Image | None
    sound: Sound | None
    members: list[MemberVerdict]
    views: dict[str, list[ViewVerdict]]
    machines: dict[str, str]
    nearest: Nearest | None
    nearest_name: str
    nearest_figure: Image | None
    nearest_sound: Sound | None
    place: str
    remarks: list[str]


class Findings:
    """All that the page shows of scored clips.

    Parameters
    ----------
    verdicts : Verdicts
        On all clips.

    X_normal : any or None
        Normal clips, as the detector takes them.

    max_audio_duration : float, default=15.0
        How much of each clip can be listened to, in s.

    Attributes
    ----------
    names : list of str
        Names of the clips.

    have_sound : bool
        Whether there is something to listen to.

    sample_rate : float
        Sample rate of what can be listened to, in Hz.

    anomalous, normal, unusable : list of int
        Rows of the clips with each verdict, those furthest above the threshold first.
    """

    def __init__(
        self, verdicts: Verdicts, X_normal: Any, max_audio_duration: float = 15.0
    ) -> None:
        self.verdicts = verdicts
        self.detector = verdicts.detector
        self.names = name_clips(self.detector, verdicts.X)
        self.have_sound = has_sound(self.detector, verdicts.X)
        segmenter: Any = find_segmenter(self.detector)
        self.sample_rate = segmenter.sample_rate if self.have_sound else np.nan
        self.normal_clips = None
        if X_normal is not None:
            self.normal_clips = NormalClips(self.detector, X_normal)
            self._normal_names = name_clips(self.detector, X_normal)
        self.max_audio_duration = max_audio_duration
        usable = ~np.isnan(verdicts.scores)
        above = verdicts.scores > verdicts.thresholds
        self.anomalous, self.normal = (
            verdicts.rank(np.flatnonzero(usable & where)).tolist()
            for where in (above, ~above)
        )
        self.unusable = np.flatnonzero(~usable).tolist()

    @property
    def common_threshold(self) -> float | None:
        """The threshold, or None where machines have thresholds of their own."""
        known = self.verdicts.thresholds[~np.isnan(self.verdicts.thresholds)]
        if len(known) == 0 or not np.allclose(known, known[0], rtol=1e-9, atol=0):
            return None
        return float(known[0])

    def count_by_machine(self) -> list[tuple[str, int, int, int]]:
        """Count the clips of each machine that are anomalous, normal and unusable.

        Returns
        -------
        rows : list of (str, int, int, int)
            Empty where machines are not known.
        """
        machines = self.verdicts.machines
        if machines is None:
            return []
        counts = [
            Counter(machines[row] for row in rows)
            for rows in (self.anomalous, self.normal, self.unusable)
        ]
        return [
            (name, counts[0][name], counts[1][name], counts[2][name])
            for name in sorted(set(machines))
        ]

    def explain_unusable(self, row: int) -> str:
        """Explain why a clip has no score.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        reason : str
            To complete "the clip ...".
        """
        if row in self.verdicts.problems:
            return self.verdicts.problems[row]
        if self.have_sound:
            return "gets no score, as the detector has not learnt its machine type"
        return "has no segments, or the detector gives it no score"

    def draw_scores(self) -> Image | None:
        """Draw a histogram of the scores, where all have one scale.

        Returns
        -------
        image : Image or None
            None where they are not comparable.
        """
        scores = self.verdicts.scores
        finite = scores[np.isfinite(scores)]
        threshold = self.common_threshold
        if len(finite) == 0 or threshold is None:
            return None
        training = honest_training_scores(self.detector)
        if training is None and self.normal_clips is not None:
            training = self.normal_clips.score_all()
        display = ScoreDistributionDisplay(
            scores,
            training_scores=training,
            thresholds=[threshold] if np.isfinite(threshold) else [],
        )
        alt = (
            f"Histogram of {len(finite)} anomaly scores from {finite.min():.4g} to "
            f"{finite.max():.4g}"
        )
        if np.isfinite(threshold):
            alt += f", with the threshold at {threshold:.4g}"
        return draw(display.plot, (4.6, 2.8), alt)

    def explain(self, row: int) -> Details:
        """Gather what is known about one clip.

        Parameters
        ----------
        row : int
            Row of one of the clips that the verdicts keep open.

        Returns
        -------
        details : Details
            What to show of it.
        """
        opened = self.verdicts.opened[row]
        remarks: list[str] = []
        display = self._locate(row, opened, remarks)
        nearest, name, normal = self._find_nearest(opened)
        sound, nearest_sound = self._encode_sounds(opened, normal)
        return Details(
            row=row,
            figure=None if display is None else _draw_clip(display, self.names[row]),
            sound=sound,
            members=list_members(opened),
            views=list_views(opened),
            machines=recognise_machines(opened),
            nearest=nearest,
            nearest_name=name,
            nearest_figure=_draw_normal(display, normal, name),
            nearest_sound=nearest_sound,
            place="" if display is None else describe_place(display),
            remarks=remarks,
        )

    def _locate(
        self, row: int, opened: Opened, remarks: list[str]
    ) -> ClipScoreDisplay | None:
        """Scores of a clip's segments and mel bands, to be drawn on its log-mel."""
        try:
            heard = find_spectrograms(opened)
        except (TypeError, ValueError) as error:
            remarks.append(f"There is no picture: {error}.")
            return None
        segments = bands = None
        try:
            segments = score_segments(opened)
        except (TypeError, ValueError) as error:
            remarks.append(f"Segments have no scores: {error}.")
        if self.normal_clips is not None:
            try:
                bands = self.normal_clips.score_bands(opened)
            except (TypeError, ValueError) as error:
                remarks.append(f"Mel bands have no scores: {error}.")
        return lay_out(heard, segments, bands, self.verdicts.thresholds[row])

    def _find_nearest(
        self, opened: Opened
    ) -> tuple[Nearest | None, str, Opened | None]:
        """Most similar normal clip, its name, and the detector with it."""
        if self.normal_clips is None:
            nearest = find_nearest_in_training(opened)
            return nearest, "" if nearest is None else f"row {nearest.row}", None
        try:
            found = self.normal_clips.find_nearest(opened)
        except TypeError:  # no spectrograms to compare
            found = None
        if found is None:
            return None, "", None
        nearest, normal = found
        return nearest, self._normal_names[nearest.row], normal

    def _encode_sounds(
        self, opened: Opened, normal: Opened | None
    ) -> tuple[Sound | None, Sound | None]:
        """Sound of a clip, and of the normal one next to it."""
        if not self.have_sound or self.max_audio_duration == 0:
            return None, None
        pair = [one for one in (opened, normal) if one is not None]
        sounds = encode_sounds(
            [read_clip(self.detector, one.X) for one in pair],
            self.sample_rate,
            self.max_audio_duration,
        )
        return sounds[0], sounds[1] if len(sounds) > 1 else None


def _draw_clip(display: ClipScoreDisplay, name: str) -> Image:
    height = 2.4 if display.segments is None else 3.7
    alt = f"Log-mel spectrogram of {name}. {describe_place(display)}"
    return draw(display.plot, (4.6, height), alt)


def _draw_normal(
    display: ClipScoreDisplay | None, normal: Opened | None, name: str
) -> Image | None:
    """Draw the nearest normal clip, at the same levels as the clip."""
    if display is None or normal is None:
        return None
    low, high = np.percentile(display.log_mel.astype(np.float32), [1, 99.9])
    return draw(
        lambda ax: lay_out(find_spectrograms(normal)).plot(ax, vmin=low, vmax=high),
        (4.6, 2.2),
        f"Log-mel spectrogram of {name}, at the same levels.",
    )
