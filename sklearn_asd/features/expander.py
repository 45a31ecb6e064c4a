"""AugmentationExpander: asks for several views of every clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from numbers import Real
from typing import Any

import numpy as np

from sklearn_asd._utils.messages import abbreviate, did_you_mean, shorten
from sklearn_asd.audio import ORIGINAL, Clips, View
from sklearn_asd.audio.views import BUILT_IN_VIEWS, PitchStretchView, VocodedView
from sklearn_asd.audio.vocoder import vocoder_rate
from sklearn_asd.features.base import ClipTransformer

__all__ = ["AugmentationExpander"]


@dataclass(kw_only=True, eq=False, repr=False)
class AugmentationExpander(ClipTransformer):  # numpydoc ignore=PR02
    """Ask for several views of every clip: pitch-shifted and time-stretched ones.

    Rows stay clips: the views are marked here, made when :class:`LogMelSegmenter`
    reads the clip, and told apart by :class:`AugmentConfidenceDetector`. So memory
    grows with the frames of the views only, never with their sound.

    Parameters
    ----------
    pitch_steps : sequence of float in [-48, 48], default=(-0.1, 0, 0.1)
        Pitch shifts in half steps (semitones), upwards where positive.

    stretch_rates : sequence of float in [0.1, 10], default=(0.9, 1.0, 1.1)
        Time stretches: 1.1 is 1.1 times as fast, with the pitch kept. Every pitch
        shift is combined with every time stretch.

    extra : sequence of str, WaveformView and LogMelView, default=()
        Further views, each of the clip as it is. By name: of the waveform
        "harmonic" and "percussive" (librosa's separation); of the log-mel
        "flip_time", "flip_frequency", "shift_time" and "shift_frequency" (by a quarter,
        wrapping around) and "rotate" (by 180 degrees). Views of your own are objects:
        :class:`WaveformView` or :class:`LogMelView` of a function.

    vocode_identity : bool, default=False
        Whether the unchanged view goes through the vocoder too, there and back, so
        that a network cannot recognise it by its lack of the vocoder's traces. It is
        then called "vocoded" in place of "original".

    See Also
    --------
    LogMelSegmenter : The next step.
    AugmentConfidenceDetector : What learns to tell the views apart.
    WaveformView, LogMelView : Views of your own.

    Notes
    -----
    Stateless: `fit` checks parameters and X only. Pitch shifts and time stretches are
    those of ``librosa.effects`` (a phase vocoder with a window of 2048 samples, then
    soxr), computed together: one analysis for each clip, and one pass through the
    vocoder for each view, where librosa takes two. So the cost grows with the clip's
    length times the number of views; the separation takes longer than a view.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, sections 2.2 and 4.1.4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import AugmentationExpander, LogMelSegmenter
    >>> waveforms = np.zeros((2, 10 * 16000))  # two clips of 10 s
    >>> expand = AugmentationExpander(pitch_steps=[0, 0.1], stretch_rates=[1])
    >>> expand.get_view_names()
    ['original', 'pitch +0.1']
    >>> LogMelSegmenter().fit_transform(expand.fit_transform(waveforms))
    ClipSpectrograms(2 clips, 2 views, 128 mels, 20 segments of 96 frames)
    """

    pitch_steps: Sequence[float] = (-0.1, 0, 0.1)
    stretch_rates: Sequence[float] = (0.9, 1.0, 1.1)
    extra: Sequence[str | View] = ()
    vocode_identity: bool = False

    _parameter_constraints = {
        "pitch_steps": ["array-like"],
        "stretch_rates": ["array-like"],
        "extra": [list, tuple, np.ndarray],
        "vocode_identity": ["boolean"],
    }

    def transform(self, X):
        """Mark the views that are wanted of every clip.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        Returns
        -------
        clips : Clips
            One row for each clip, in the same order; nothing is computed yet.

        Raises
        ------
        ValueError
            If a parameter is out of range, a view is unknown or asked for twice, or X
            has views already.
        """
        return self._check(X)

    def _check(self, X: Any) -> Clips:
        views = self._views()
        clips = Clips.from_X(X)
        if clips.views != (ORIGINAL,):
            raise ValueError(
                f"X already asks for the views {abbreviate(_names(clips.views))}: use "
                "one AugmentationExpander"
            )
        return clips.with_views(views)

    def get_view_names(self):
        """Name the views in their order.

        Returns
        -------
        names : list of str
            For each pitch shift every time stretch, such as "original",
            "pitch -0.1" or "pitch +0.1, stretch 0.9"; then `extra`.
        """
        return _names(self._views())

    def _views(self) -> list[View]:
        self._validate_params()
        # Beyond these no machine is recognised, and values meant as percentages lie.
        steps = _check_numbers("pitch_steps", self.pitch_steps, -48, 48)
        rates = _check_numbers("stretch_rates", self.stretch_rates, 0.1, 10)
        shifted = [_shift_and_stretch(s, r) for s, r in product(steps, rates)]
        if self.vocode_identity:
            vocoded = _vocode_like(shifted)
            shifted = [vocoded if view == ORIGINAL else view for view in shifted]
        views = shifted + [_find_extra(view) for view in self.extra]
        names = _names(views)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"views are asked for twice: {abbreviate(twice)}")
        if not views:
            raise ValueError(
                "pitch_steps and stretch_rates must not be empty without extra views: "
                "(0,) and (1,) keep the clip as it is"
            )
        return views


def _check_numbers(name: str, values: Any, low: float, high: float) -> list[float]:
    """Refuse values that are not numbers, or out of bounds."""
    if np.ndim(values) != 1:
        raise ValueError(
            f"{name} is {shorten(values)}; it must be a sequence of numbers"
        )
    for value in values:
        if not (isinstance(value, Real) and low <= float(value) <= high):
            raise ValueError(
                f"{name} holds {shorten(value)}, which is not a number in [{low:g}, "
                f"{high:g}]"
            )
    return [float(value) for value in values]


def _shift_and_stretch(pitch_steps: float, stretch_rate: float) -> View:
    changes = []
    if pitch_steps != 0:
        changes.append(f"pitch {pitch_steps:+.6g}")
    if stretch_rate != 1:
        changes.append(f"stretch {stretch_rate:.6g}")
    if not changes:
        return ORIGINAL
    return PitchStretchView(", ".join(changes), pitch_steps, stretch_rate)


def _vocode_like(views: list[View]) -> VocodedView:
    """Vocode the unchanged clip as strongly as the most changed view."""
    changed = [view for view in views if isinstance(view, PitchStretchView)]
    rates = [vocoder_rate(view.pitch_steps, view.stretch_rate) for view in changed]
    return VocodedView("vocoded", max(rates, key=lambda r: abs(log(r)), default=1.0))


def _find_extra(view: Any) -> View:
    if isinstance(view, str) and view in BUILT_IN_VIEWS:
        return BUILT_IN_VIEWS[view]
    if not isinstance(view, View):
        raise ValueError(
            f"extra holds {shorten(view)}, which is neither a view nor one of "
            f"{sorted(BUILT_IN_VIEWS)}:{did_you_mean(view, BUILT_IN_VIEWS)} a function "
            "of your own becomes a view as WaveformView(function) or "
            "LogMelView(function)"
        )
    taken = BUILT_IN_VIEWS | {ORIGINAL.name: ORIGINAL}
    if taken.get(view.name, view) != view:
        raise ValueError(
            f"extra holds a view called {shorten(view.name)}, as one of the library's "
            "is: "
            "give it another name"
        )
    return view


def _names(views: Any) -> list[str]:
    return [view.name for view in views]
