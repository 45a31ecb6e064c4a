"""What was found out about the scored clips: all that the page tells."""

from __future__ import annotations

from collections import Counter
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.detectors.mahalanobis import MahalanobisDetector
from sklearn_asd.explanation import (
    band_scores,
    clip_spectrograms,
    detector_parts,
    segment_scores,
)
from sklearn_asd.explanation.parts import (
    clip_thresholds,
    open_pipeline,
    open_until,
    take_clip,
)
from sklearn_asd.meta.per_machine import PerMachine
from sklearn_asd.meta.scoring import anomaly_scores, final_step, honest_training_scores
from sklearn_asd.meta.thresholds import ThresholdTuner
from sklearn_asd.plotting import ClipScoreDisplay, ScoreDistributionDisplay
from sklearn_asd.plotting.clip import lay_out
from sklearn_asd.report.evidence import (
    Nearest,
    NormalClips,
    ask_members,
    ask_views,
    nearest_in_training,
    recognise,
)
from sklearn_asd.report.media import Image, Sound, draw, encode_sounds
from sklearn_asd.report.recordings import Recordings

__all__ = ["Explanation", "Findings"]


class Explanation(NamedTuple):
    """What is said about one clip in detail; None and empty where nothing is known.

    Attributes
    ----------
    row : int
        The clip.

    figure, nearest_figure : Image or None
        Pictures of it and of the nearest normal clip.

    sound, nearest_sound : Sound or None
        The two to listen to.

    members : list of MemberVerdict
        See :func:`~sklearn_asd.report.evidence.ask_members`.

    views : dict of str to list of ViewVerdict
        See :func:`~sklearn_asd.report.evidence.ask_views`.

    machines : dict of str to str
        See :func:`~sklearn_asd.report.evidence.recognise`.

    nearest : Nearest or None
        The nearest normal clip.

    nearest_name : str
        Its name.

    where : str
        When and in which bands the clip is most anomalous, in sentences.

    remarks : list of str
        What cannot be told, in sentences.
    """

    row: int
    figure: Image | None
    sound: Sound | None
    members: list[Any]
    views: dict[str, list[Any]]
    machines: dict[str, str]
    nearest: Nearest | None
    nearest_name: str
    nearest_figure: Image | None
    nearest_sound: Sound | None
    where: str
    remarks: list[str]


class Findings:
    """All that the page tells of scored clips; the template asks for it.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    X : any
        Clips to score, as it takes them.

    X_normal : any or None
        Normal clips of the same kind.

    max_audio_duration : float
        How much of each clip can be listened to, in s.

    Attributes
    ----------
    names : list of str
        Names of the clips.

    machines : list of str or None
        Machine of each clip; "" where it is not known, None where none is.

    scores, thresholds, margins : ndarray of shape (n_clips,)
        Anomaly scores, what they are compared with, and the difference.

    anomalous, normal, unusable : list of int
        Rows of the clips with each verdict, those furthest above the threshold first.
    """

    def __init__(
        self, detector: Any, X: Any, X_normal: Any, max_audio_duration: float
    ) -> None:
        self.description = repr(detector)
        self.recordings = Recordings(detector, X)
        self.normal_recordings = (
            None if X_normal is None else Recordings(detector, X_normal)
        )
        self.names = self.recordings.names
        self._max_audio_duration = max_audio_duration
        # Files are read once for all that follows, if the detector is a Pipeline.
        self._detector, self._X, self._X_normal = open_pipeline(detector, X, X_normal)
        self._normal_clips: NormalClips | None = None
        self.scores = anomaly_scores(self._detector, self._X)
        self.thresholds = clip_thresholds(self._detector, self._X, self.scores)
        self.margins = self.scores - self.thresholds
        labels = machine_labels(X)
        self.machines = None if labels is None else [label or "" for label in labels]
        self._sort()

    def _sort(self) -> None:
        order = np.lexsort([-self.scores, -self.margins])
        usable = ~np.isnan(self.scores)
        above = self.scores > self.thresholds
        self.anomalous = order[(usable & above)[order]].tolist()
        self.normal = order[(usable & ~above)[order]].tolist()
        self.unusable = np.flatnonzero(~usable).tolist()

    @property
    def common_threshold(self) -> float | None:
        """The threshold, if it is one for all clips.

        Returns
        -------
        threshold : float or None
            None where machines have thresholds of their own.
        """
        known = self.thresholds[~np.isnan(self.thresholds)]
        if len(known) == 0 or not np.allclose(known, known[0], rtol=1e-9, atol=0):
            return None
        return float(known[0])

    def by_machine(self) -> list[tuple[str, int, int, int]]:
        """Count the clips of each machine that are anomalous, normal and unusable.

        Returns
        -------
        rows : list of (str, int, int, int)
            Empty where machines are not known.
        """
        if self.machines is None:
            return []
        counts = [
            Counter(self.machines[row] for row in rows)
            for rows in (self.anomalous, self.normal, self.unusable)
        ]
        return [
            (name, counts[0][name], counts[1][name], counts[2][name])
            for name in sorted(set(self.machines))
        ]

    def promise(self) -> list[str]:
        """Tell what the threshold means.

        Returns
        -------
        sentences : list of str
            That of a ThresholdTuner, of contamination by left-out clips, or none.
        """
        tuner, *_ = open_until(ThresholdTuner, self._detector, None)
        if tuner is not None:
            said = [f"{tuner.promise_[0].upper()}{tuner.promise_[1:]}."]
            n_clips = len(self.anomalous) + len(self.normal)
            tuned = tuner.policy == "false_alarm_rate" and np.isfinite(tuner.offset_)
            if tuned and n_clips:
                low, high = tuner.false_alarm_interval(n_clips)
                said.append(
                    f"If all {n_clips} clips here were normal, between "
                    f"{100 * low:.3g} and {100 * high:.3g} % of them would be called "
                    "anomalous in 95 of 100 cases."
                )
            return said
        return self._explain_contamination()

    def _explain_contamination(self) -> list[str]:
        last, each = final_step(self._detector), ""
        if isinstance(last, PerMachine):
            last, each = final_step(last.estimator), " of each machine"
        share = getattr(last, "contamination", None)
        if isinstance(last, MahalanobisDetector):  # its rows were left out in turn
            return [
                f"About {100 * share:.3g} % of normal clips{each} are called "
                "anomalous, by training clips that were left out in turn "
                "(contamination). Machines of few clips may have more."
            ]
        said = [
            "Nothing is promised about new clips: ThresholdTuner sets a threshold by "
            "clips that were not trained on, and says what to expect of it."
        ]
        if isinstance(share, Real):
            said.insert(
                0,
                f"The detector's own: {share:.3g} of its training clips{each} are "
                "called anomalous (contamination).",
            )
        return said

    @staticmethod
    def format_share(share: float) -> str:
        """Write a share of all in per cent, without rounding it up to all.

        Parameters
        ----------
        share : float
            In [0, 1].

        Returns
        -------
        text : str
            Such as "99.1 %".
        """
        return "over 99.99 %" if share > 0.9999 else f"{100 * share:.4g} %"

    def draw_scores(self) -> Image | None:
        """Draw a histogram of the scores, where all have one scale.

        Returns
        -------
        image : Image or None
            None where they are not comparable.
        """
        finite = self.scores[np.isfinite(self.scores)]
        threshold = self.common_threshold
        if len(finite) == 0 or threshold is None:
            return None
        training = honest_training_scores(self._detector)
        if training is None and self._X_normal is not None:
            training = anomaly_scores(self._detector, self._X_normal)
        display = ScoreDistributionDisplay(
            self.scores,
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

    def explain(self, row: int) -> Explanation:
        """Gather what is known about one clip.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        explanation : Explanation
            What to say of it in detail.
        """
        parts = list(detector_parts(self._detector, self._X, row))
        remarks: list[str] = []
        display, where = self._locate(row, remarks)
        nearest, name, normal_display = self._find_nearest(row, parts)
        sound, normal_sound = self._listen(row, nearest)
        figure = nearest_figure = None
        if display is not None:
            figure = draw(
                display.plot,
                (4.6, 3.7 if display.segments is not None else 2.4),
                f"Log-mel spectrogram of {self.names[row]}. {where}",
            )
        if display is not None and normal_display is not None:
            levels = np.percentile(display.log_mel.astype(np.float32), [1, 99.9])
            nearest_figure = draw(
                lambda ax: normal_display.plot(ax, vmin=levels[0], vmax=levels[1]),
                (4.6, 2.2),
                f"Log-mel spectrogram of {name}, at the same levels.",
            )
        return Explanation(
            row,
            figure,
            sound,
            ask_members(parts),
            ask_views(parts),
            recognise(parts),
            nearest,
            name,
            nearest_figure,
            normal_sound,
            where,
            remarks,
        )

    def _locate(
        self, row: int, remarks: list[str]
    ) -> tuple[ClipScoreDisplay | None, str]:
        """Picture of a clip, and when and in which bands it is anomalous, in words."""
        one = take_clip(self._X, row)
        try:
            heard = clip_spectrograms(self._detector, one)
        except (TypeError, ValueError) as error:
            remarks.append(f"There is no picture: {error}.")
            return None, ""
        segments = bands = None
        try:
            segments = segment_scores(self._detector, one)
        except (TypeError, ValueError) as error:
            remarks.append(f"Segments have no scores: {error}.")
        if self._X_normal is not None:
            try:
                bands = band_scores(self._detector, one, X_normal=self._X_normal)
            except (TypeError, ValueError) as error:
                remarks.append(f"Mel bands have no scores: {error}.")
        display = lay_out(heard, segments, bands, self.thresholds[row])
        return display, _say_where(display)

    def _find_nearest(
        self, row: int, parts: list[Any]
    ) -> tuple[Nearest | None, str, ClipScoreDisplay | None]:
        """Most similar normal clip, its name, and its picture."""
        if self._X_normal is None:
            nearest = nearest_in_training(parts)
            return nearest, "" if nearest is None else f"row {nearest.row}", None
        try:
            if self._normal_clips is None:
                self._normal_clips = NormalClips(self._detector, self._X_normal)
            nearest = self._normal_clips.nearest_to(take_clip(self._X, row))
        except TypeError:  # no spectrograms to compare
            return None, "", None
        if nearest is None:
            return None, "", None
        heard = clip_spectrograms(self._detector, self._X_normal, nearest.row)
        name = self.normal_recordings.names[nearest.row]
        return nearest, name, lay_out(heard)

    def _listen(
        self, row: int, nearest: Nearest | None
    ) -> tuple[Sound | None, Sound | None]:
        """Sound of a clip, and of the normal one next to it."""
        if not self.recordings.have_sound or self._max_audio_duration == 0:
            return None, None
        samples = [self.recordings.read(row)]
        if nearest is not None and self.normal_recordings is not None:
            samples.append(self.normal_recordings.read(nearest.row))
        sounds = encode_sounds(
            samples, self.recordings.sample_rate, self._max_audio_duration
        )
        return sounds[0], sounds[1] if len(sounds) > 1 else None


def _say_where(display: ClipScoreDisplay) -> str:
    """When, and in which bands, a clip is most anomalous."""
    said = []
    segments, bands = display.segments, display.bands
    if segments is not None and len(segments) > 1:
        worst = segments.iloc[segments["anomaly_score"].argmax()]
        unit = "frames" if display.frame_duration is None else "s"
        said.append(
            f"The most anomalous segment lies at {worst['start']:.3g} to "
            f"{worst['stop']:.3g} {unit}."
        )
    if bands is not None:
        worst = bands.iloc[bands["drop"].argmax()]
        limits = f"{worst['low']:.0f} to {worst['high']:.0f}"
        which = f"Mel bands {limits}"
        if display.edges is not None:
            which = f"Of the frequencies, {limits} Hz"
        said.append(
            f"{which} carry most of the anomaly."
            if worst["drop"] > 0
            else "No mel band on its own carries the anomaly."
        )
    return " ".join(said)
