"""AugmentationExpander: asks for several views of every clip."""

from __future__ import annotations

import warnings
from itertools import product
from math import log
from numbers import Real
from typing import Any

import numpy as np

from sklearn_asd._utils.messages import abbreviate, did_you_mean
from sklearn_asd._utils.parameters import validates_parameters
from sklearn_asd.audio import Clips
from sklearn_asd.audio.views import (
    EXTRA_VIEWS,
    ORIGINAL,
    PitchStretchView,
    View,
    VocodedView,
)
from sklearn_asd.features.base import ClipTransformer

__all__ = ["AugmentationExpander"]

# Beyond these no machine is recognised; what is meant in percent is beyond them too.
_PITCH_STEPS = (-48, 48)
_STRETCH_RATES = (0.1, 10)


class AugmentationExpander(ClipTransformer):
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

    extra : sequence of str, default=()
        Further views, by name, each of the clip as it is. Of the waveform
        "harmonic" and "percussive" (librosa's separation); of the log-mel
        "flip_time", "flip_frequency", "shift_time" and "shift_frequency" (by a quarter,
        round the edge) and "rotate" (by 180 degrees); and those that you registered
        with :func:`register_view`. The separation takes 0.25 s for a 10 s clip.

    vocode_identity : bool, default=False
        Whether the unchanged view goes through the vocoder too, there and back, so
        that a network cannot recognise it by its lack of the vocoder's traces. It is
        then called "vocoded" in place of "original".

    See Also
    --------
    LogMelSegmenter : The next step.
    AugmentConfidenceDetector : What learns to tell the views apart.
    register_view : Adds a view.

    Notes
    -----
    Stateless: `fit` checks parameters and X only. Pitch shifts and time stretches are
    those of ``librosa.effects`` (a phase vocoder with a window of 2048 samples, then
    soxr), computed together: one analysis for each clip, and one pass through the
    vocoder for each view, where librosa takes two. Nine views with their log-mels take
    about 60 ms for a 10 s clip at 16 kHz.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, sections 2.2 and 4.1.3.

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

    _parameter_constraints: dict = {
        "pitch_steps": ["array-like"],
        "stretch_rates": ["array-like"],
        "extra": [list, tuple, np.ndarray],
        "vocode_identity": ["boolean"],
    }

    def __init__(
        self,
        *,
        pitch_steps=(-0.1, 0, 0.1),
        stretch_rates=(0.9, 1.0, 1.1),
        extra=(),
        vocode_identity=False,
    ):
        self.pitch_steps = pitch_steps
        self.stretch_rates = stretch_rates
        self.extra = extra
        self.vocode_identity = vocode_identity

    @validates_parameters(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters and the form of X; nothing is learnt or read.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : AugmentationExpander
            Itself.
        """
        self.transform(X)
        return self

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
        steps = _check_numbers("pitch_steps", self.pitch_steps, _PITCH_STEPS)
        rates = _check_numbers("stretch_rates", self.stretch_rates, _STRETCH_RATES)
        shifted = [_shift_and_stretch(s, r) for s, r in product(steps, rates)]
        if self.vocode_identity:
            vocoded = _vocode_like(shifted)
            shifted = [vocoded if view == ORIGINAL else view for view in shifted]
        views = shifted + [_find_extra(name) for name in self.extra]
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

    def __getstate__(self):
        # Views that the user registered travel along: a worker, or the process that
        # loads a saved pipeline, has not registered them.
        state = super().__getstate__()
        names = [name for name in self.extra or () if isinstance(name, str)]
        registered = {name: EXTRA_VIEWS[name] for name in names if name in EXTRA_VIEWS}
        return {**state, "_registered": registered}

    def __setstate__(self, state):
        for name, view in state.pop("_registered", {}).items():
            if EXTRA_VIEWS.setdefault(name, view).key() != view.key():
                warnings.warn(
                    f"another view is registered here as {name!r} than the one that "
                    "was saved, and takes its place, so scores will differ: register "
                    "it under another name",
                    stacklevel=2,
                )
        super().__setstate__(state)


def _check_numbers(name: str, values: Any, bounds: tuple[float, float]) -> list[float]:
    """Refuse what is no number or out of bounds."""
    low, high = bounds
    if np.ndim(values) != 1:
        raise ValueError(f"{name} is {values!r}; it must be a sequence of numbers")
    for value in values:
        if not (isinstance(value, Real) and low <= float(value) <= high):
            raise ValueError(
                f"{name} holds {value!r}, which is no number in [{low:g}, {high:g}]"
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
    """Vocode without changing, as much as the view that the vocoder changes most."""
    rates = [v.vocoder_rate for v in views if isinstance(v, PitchStretchView)]
    return VocodedView("vocoded", max(rates, key=lambda r: abs(log(r)), default=1.0))


def _find_extra(name: Any) -> View:
    if not isinstance(name, str) or name not in EXTRA_VIEWS:
        raise ValueError(
            f"extra holds {name!r}, which is none of {sorted(EXTRA_VIEWS)}:"
            f"{did_you_mean(name, EXTRA_VIEWS)} give a function that name with "
            "register_view"
        )
    return EXTRA_VIEWS[name]


def _names(views: Any) -> list[str]:
    return [view.name for view in views]
