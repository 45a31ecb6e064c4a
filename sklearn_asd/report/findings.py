"""Contents of the page: facts about all scored clips, and details of some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio import Clips
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.explanation.parts import find_spectrograms
from sklearn_asd.meta.scoring import honest_training_scores
from sklearn_asd.meta.structure import Opened, take_rows
from sklearn_asd.plotting import ClipScoreDisplay, ScoreDistributionDisplay
from sklearn_asd.plotting.clip import lay_out
from sklearn_asd.report import evidence
from sklearn_asd.report.head import describe_recordings
from sklearn_asd.report.kinds import label_members
from sklearn_asd.report.machines import MachineSummary, summarize_machines
from sklearn_asd.report.media import Image, Sound, draw, encode_sounds
from sklearn_asd.report.numbers import choose_decimals
from sklearn_asd.report.recordings import find_paths, find_segmenter, name_clips
from sklearn_asd.report.sentences import describe_place
from sklearn_asd.report.times import find_times
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["Findings"]

# Normal clips to listen to, so that the page stays small.
_MOST_SOUNDS = 12
_NORMAL_SECONDS = 6.0


class Findings:
    """Contents of the page about scored clips.

    Parameters
    ----------
    verdicts : Verdicts
        Verdicts on all clips.

    X_normal : any or None
        Normal clips, as the detector takes them.

    max_audio_duration : float, default=15.0
        Longest sound of each clip on the page, in s.

    training : DataFrame or None, default=None
        The training recordings, if they are known, also those that are gone.

    Attributes
    ----------
    names : list of str
        Names of the clips.

    segmenter : LogMelSegmenter, PowerSpectrum or None
        What reads the clips; None if there is no sound.

    times : Times
        When the clips were recorded.

    decimals : int
        Decimals of scores, thresholds and margins.

    anomalous, normal, unusable : list of int
        Rows of the clips with each verdict, those furthest above the threshold first.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        X_normal: Any,
        max_audio_duration: float = 15.0,
        training: Any = None,
    ) -> None:
        self.verdicts = verdicts
        self.detector = verdicts.detector
        self.segmenter = find_segmenter(self.detector, verdicts.X)
        self.names = name_clips(verdicts.X, self.segmenter)
        self.normal_clips = None
        if X_normal is not None:
            self.normal_clips = evidence.NormalClips(self.detector, X_normal)
        self.max_audio_duration = max_audio_duration
        self.training = training
        self._X_normal = X_normal
        paths = find_paths(verdicts.X, self.segmenter)
        self.times = find_times(paths.get(row) for row in range(len(self.names)))
        self.decimals = choose_decimals(verdicts.margins)
        usable = ~np.isnan(verdicts.scores)
        above = verdicts.scores > verdicts.thresholds
        self.anomalous = verdicts.rank(np.flatnonzero(usable & above)).tolist()
        self.normal = verdicts.rank(np.flatnonzero(usable & ~above)).tolist()
        self.unusable = np.flatnonzero(~usable).tolist()

    @property
    def common_threshold(self) -> float | None:
        """The threshold; None if each machine has its own."""
        known = self.verdicts.thresholds[~np.isnan(self.verdicts.thresholds)]
        if len(known) == 0 or not np.allclose(known, known[0], rtol=1e-9, atol=0):
            return None
        return float(known[0])

    def describe_source(self) -> dict[str, str]:
        """Describe the clips and those that the detector learnt from.

        Returns
        -------
        lines : dict of str to str
            For the head of the page.
        """
        n_machines = len(set(self.verdicts.machines or ()))
        paths = find_paths(self.verdicts.X, self.segmenter).values()
        judged = describe_recordings(len(self.names), paths, n_machines, self.times)
        learnt = self._X_normal if self.training is None else self.training
        if learnt is None:
            return {"Judged": judged}
        labels = machine_labels(learnt)
        text = describe_recordings(
            _num_samples(learnt),
            find_paths(learnt, self.segmenter).values(),
            0 if labels is None else len(set(labels)),
        )
        name = "Compared with" if self.training is None else "Trained on"
        return {name: text, "Judged": judged}

    def summarize_machines(self) -> list[MachineSummary]:
        """Summarize each machine, or all clips where no machine is known.

        Returns
        -------
        summaries : list of MachineSummary
            In the order of their names.
        """
        learnt = self._X_normal if self.training is None else self.training
        return list(summarize_machines(self.verdicts, self.times, learnt))

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
        if self.segmenter is not None:
            return (
                "has no score, as it is too short for the detector, or of a machine "
                "type that the detector was not trained on"
            )
        return "has no segments, or the detector gives it no score"

    def name_worst(self, row: int) -> str:
        """Name the worst piece of a clip that was judged in pieces.

        Parameters
        ----------
        row : int
            Row of the clip.

        Returns
        -------
        name : str
            Such as "worst piece from 12 to 24 s".
        """
        start, stop = self.verdicts.spans[row]
        return f"worst piece from {start:.6g} to {stop:.6g} s"

    def draw_scores(self) -> Image | None:
        """Draw a histogram of the scores, if they are comparable.

        Returns
        -------
        image : Image or None
            None if machines have different thresholds, or there is no finite score.
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
            f"Histogram of {len(finite)} anomaly scores from "
            f"{finite.min():.{self.decimals}f} to {finite.max():.{self.decimals}f}"
        )
        if np.isfinite(threshold):
            alt += f", with the threshold at {threshold:.{self.decimals}f}"
        return draw(display.plot, (4.6, 2.8), alt)

    def explain(self, row: int) -> dict[str, Any]:
        """Gather what is known about one clip.

        Parameters
        ----------
        row : int
            Row of one of the clips that the verdicts keep open.

        Returns
        -------
        details : dict of str to any
            Contents of the page; None or empty if nothing is known:

            - `row` of the clip;
            - `figure`, :class:`Image` of the clip, the nearest normal one and the
              difference;
            - `sound` and `nearest_sound`, :class:`Sound` of both;
            - `members`, `views`, `machines` and `nearest`: see
              :mod:`sklearn_asd.report.evidence`;
            - `labels`: plain names of the members of ensembles;
            - `place`: when and in which bands the clip is anomalous, in sentences;
            - `remarks`: sentences about what cannot be shown.
        """
        opened = self.verdicts.opened[row]
        remarks: list[str] = []
        display = self._locate(opened, remarks)
        if self.normal_clips is None:
            nearest = evidence.find_nearest_in_training(opened)
        else:
            nearest = self.normal_clips.find_nearest(opened)
        if display is not None and nearest is not None and nearest.opened is not None:
            normal = find_spectrograms(nearest.opened)
            display.normal = normal.log_mel(0, normal.main_view)
        sound, nearest_sound = self._encode_sounds(opened, nearest)
        return {
            "row": row,
            "figure": None if display is None else _draw_clip(display, self.names[row]),
            "sound": sound,
            "members": evidence.list_members(opened),
            "labels": label_members(
                {one.name: one.estimator for one in opened if one.name}
            ),
            "views": evidence.list_views(opened),
            "machines": evidence.recognise_machines(opened),
            "nearest": nearest,
            "nearest_sound": nearest_sound,
            "place": "" if display is None else describe_place(display),
            "remarks": remarks,
        }

    def _locate(self, opened: Opened, remarks: list[str]) -> ClipScoreDisplay | None:
        """Find what each time and band contributes, to draw it with the log-mel."""

        def _ask(question: Callable[[Opened], Any], missing: str) -> Any:
            try:
                return question(opened)
            except (TypeError, ValueError) as error:
                remarks.append(f"{missing}: {error}.")
                return None

        spectrograms = _ask(find_spectrograms, "There is no picture")
        if spectrograms is None:
            return None
        found = None
        if self.normal_clips is not None:
            missing = "When and at which frequencies it is anomalous is not known"
            found = _ask(self.normal_clips.locate, missing)
        return lay_out(spectrograms, *(found or ()))

    def choose_normal_sounds(self) -> list[NormalSound]:
        """Choose a normal clip of each machine to listen to.

        Returns
        -------
        sounds : list of NormalSound
            That of the clip with the middle margin, of twelve machines at most. Clips
            that were judged in pieces are left out.
        """
        if self.segmenter is None or self.max_audio_duration == 0:
            return []
        rate, channel = self.segmenter.sample_rate, self.segmenter.channel
        names = self.verdicts.machines or [""] * len(self.names)
        sounds = []
        for machine in sorted(set(names))[:_MOST_SOUNDS]:
            rows = [
                row
                for row in self.normal
                if names[row] == machine and row not in self.verdicts.spans
            ]
            if rows:
                row = rows[len(rows) // 2]
                clip = Clips.from_X(take_rows(self.verdicts.X, np.array([row])))
                recording = clip.read(0, rate, channel)
                seconds = min(_NORMAL_SECONDS, self.max_audio_duration)
                sounds += [
                    NormalSound(machine, row, sound)
                    for sound in encode_sounds([recording], rate, seconds)
                ]
        return sounds

    def _encode_sounds(
        self, opened: Opened, nearest: evidence.Nearest | None
    ) -> tuple[Sound | None, Sound | None]:
        """Sound of a clip, and of the normal one next to it."""
        if self.segmenter is None or self.max_audio_duration == 0:
            return None, None
        normal = None if nearest is None else nearest.opened
        rate, channel = self.segmenter.sample_rate, self.segmenter.channel
        recordings = [
            Clips.from_X(one.X).read(0, rate, channel)
            for one in (opened, normal)
            if one is not None
        ]
        sounds = encode_sounds(recordings, rate, self.max_audio_duration)
        return sounds[0], sounds[1] if len(sounds) > 1 else None


class NormalSound(NamedTuple):
    """Sound of a normal clip of a machine."""

    machine: str
    row: int
    sound: Sound


def _draw_clip(display: ClipScoreDisplay, name: str) -> Image:
    has_times = display.location is not None and display.location.times is not None
    height = 3.7 if has_times else 2.4
    alt = f"{_name_picture(display)} of {name}. {describe_place(display)}"
    if display.normal is not None:
        height += 3.8
        alt += " Below it the nearest normal clip and the difference of the two."
    return draw(display.plot, (4.6, height), alt)


def _name_picture(display: ClipScoreDisplay) -> str:
    return "Log-mel spectrogram" if display.band_scale == "mel" else "Power spectrum"
