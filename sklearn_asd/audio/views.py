"""Views: the variants of a clip that a network learns to recognise.

To add one, write a function and pass it as a view::

    def reverse(samples, sample_rate):
        return samples[::-1]

    AugmentationExpander(extra=[WaveformView(reverse)])
"""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NoReturn

import joblib
import numpy as np

from sklearn_asd._utils.messages import cut, shorten
from sklearn_asd.audio.reading import BadClipError
from sklearn_asd.audio.resampling import fix_length
from sklearn_asd.audio.separation import separate
from sklearn_asd.audio.vocoder import PhaseVocoder

__all__ = [
    "BUILT_IN_VIEWS",
    "ORIGINAL",
    "LogMelView",
    "PitchStretchView",
    "Sound",
    "View",
    "VocodedView",
    "WaveformView",
]


class Sound:
    """One clip while its views are made, with the analysis that they share.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Samples in [-1, 1].

    sample_rate : float > 0
        Sample rate in Hz.
    """

    def __init__(self, samples: np.ndarray, sample_rate: float) -> None:
        self.samples = samples
        self.sample_rate = sample_rate

    @cached_property
    def vocoder(self) -> PhaseVocoder:
        """Created when the first view needs it."""
        return PhaseVocoder(self.samples)

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """Harmonic and percussive part.

        A clip that is shorter than the window of the separation is padded.
        """
        n = len(self.samples)
        harmonic, percussive = separate(fix_length(self.samples, max(n, 2048)))
        return {"harmonic": harmonic[:n], "percussive": percussive[:n]}


@dataclass(frozen=True)
class View:
    """A variant of a clip; this base class leaves the clip unchanged.

    Attributes
    ----------
    name : str
        Name of the view.

    Examples
    --------
    >>> from sklearn_asd import AugmentationExpander, Clips
    >>> expand = AugmentationExpander(pitch_steps=(0, 1), stretch_rates=(1.0,))
    >>> [view.name for view in expand.fit_transform(Clips(["monday.wav"])).views]
    ['original', 'pitch +1']
    """

    name: str

    @property
    def changes_log_mel(self) -> bool:
        """Whether it is more than the log-mel of its samples."""
        return type(self).log_mel is not View.log_mel

    def waveform(self, sound: Sound) -> np.ndarray:
        """Make this view's samples.

        Parameters
        ----------
        sound : Sound
            The clip.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            The view before its log-mel is taken.
        """
        return sound.samples

    def log_mel(self, log_mel: np.ndarray) -> np.ndarray:
        """Change the log-mel of those samples.

        Parameters
        ----------
        log_mel : ndarray of shape (n_mels, n_frames), float32
            Power in dB.

        Returns
        -------
        log_mel : ndarray of shape (n_mels, n_frames), float32
            The view.
        """
        return log_mel

    def key(self) -> str:
        """Identify the view in caches: all that it depends on besides the clip.

        Returns
        -------
        key : str
            Equal for equal views, also in another process.
        """
        return self._hash((type(self).__module__, type(self).__qualname__, vars(self)))

    def _hash(self, parts: tuple[Any, ...]) -> str:
        """Hash by content: a text would leave out digits, and which type it is."""
        try:
            return joblib.hash(_fingerprint(parts))
        except (pickle.PickleError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"the view {shorten(self.name)} closes over an object that cannot be "
                "hashed "
                f"({error}): make it with numbers, strings, arrays or functions"
            ) from error


ORIGINAL = View("original")
"""The view that is the clip as it is."""


@dataclass(frozen=True)
class PitchStretchView(View):
    """The clip with its pitch shifted and its time stretched.

    Attributes
    ----------
    name : str
        Name of the view.

    pitch_steps : float
        Half steps to shift up by.

    stretch_rate : float > 0
        How many times as fast.
    """

    pitch_steps: float
    stretch_rate: float

    def waveform(self, sound: Sound) -> np.ndarray:
        """Make this view's samples; see `View.waveform`."""
        return sound.vocoder.transform(self.pitch_steps, self.stretch_rate)


@dataclass(frozen=True)
class VocodedView(View):
    """The clip at its own pitch and speed, but with a vocoder's traces.

    Attributes
    ----------
    name : str
        Name of the view.

    stretch_rate : float > 0
        Rate of the stretch whose traces it gets.
    """

    stretch_rate: float

    def waveform(self, sound: Sound) -> np.ndarray:
        """Make this view's samples; see `View.waveform`."""
        return sound.vocoder.resynthesize(self.stretch_rate)


@dataclass(frozen=True)
class PartView(View):
    """The harmonic or the percussive part of a clip.

    Attributes
    ----------
    name : {"harmonic", "percussive"}
        Which of the two.
    """

    def waveform(self, sound: Sound) -> np.ndarray:
        """Make this view's samples; see `View.waveform`."""
        return sound.parts[self.name]


@dataclass(frozen=True)
class FunctionView(View):
    """What the two views made by a function have in common.

    Attributes
    ----------
    name : str
        Name of the view.

    function : function
        What makes it.
    """

    function: Callable[..., np.ndarray] = field(repr=False)
    name: str = field(default="", kw_only=True)

    takes: ClassVar[str]

    def __post_init__(self) -> None:
        if not inspect.isfunction(self.function):
            raise TypeError(
                f"a view is made by a plain function, got {shorten(self.function)}: "
                "call it "
                "inside a def"
            )
        name = self.name or self.function.__name__
        if name == "<lambda>":
            raise ValueError("a lambda has no name to call the view by: give name=...")
        object.__setattr__(self, "name", name)  # the class is frozen

    def key(self) -> str:
        """Name the function by its code, its defaults and what it closes over."""
        return self._hash((self.takes, self.function))

    def __getstate__(self) -> dict[str, Any]:
        # A function is pickled by its name. The key makes hashes of the pickle depend
        # on the code too, and shows on loading whether the code has changed.
        return {**vars(self), "_key": self.key()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_key")
        vars(self).update(state)
        if self.key() != saved:
            warnings.warn(
                f"the function of the view {shorten(self.name)} is not the one that "
                "was saved "
                "(or Python is another version), so scores may differ: use the old "
                "function, or fit again",
                stacklevel=2,
            )

    def _call(self, *arguments: Any) -> np.ndarray:
        try:
            result = np.asarray(self.function(*arguments), dtype=np.float32)
        except Exception as error:
            self._fail(f"raised {type(error).__name__}: {cut(str(error))}", error)
        if not np.isfinite(result).all():
            self._fail("returned NaN or infinity")
        return result

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise BadClipError(
            f"has no view {shorten(self.name)}: its function {what}; fix the function, "
            "or "
            "leave the clip out"
        ) from cause


class WaveformView(FunctionView):
    """A view of your own, made by a function of a clip's samples.

    Attributes
    ----------
    function : function
        ``function(samples, sample_rate)`` gives samples: 1-D, of any length, from
        float32 samples in [-1, 1] and Hz. It must not draw random numbers: the same
        clip has the same view every time.

    name : str, default=""
        Name of the view, other than those of the library's; if empty, the function's
        own.

    Raises
    ------
    TypeError
        If it is not a plain function, made by ``def`` or ``lambda``.

    ValueError
        If a lambda has no `name`.

    See Also
    --------
    AugmentationExpander : Takes it as one of `extra`.
    LogMelView : The same for a clip's log-mel.

    Notes
    -----
    Caches know a view by its function's code, defaults, and what it closes over. They
    do not notice changes of other functions and variables that it uses: delete the
    cache after such a change.

    A saved pipeline, and ``Pipeline(memory=...)``, name the function by the module it
    is defined in. To load such a pipeline elsewhere, define it in a module that can be
    imported there, not in a script or notebook.

    Examples
    --------
    >>> from sklearn_asd import AugmentationExpander, WaveformView
    >>> def reverse(samples, sample_rate):
    ...     return samples[::-1]
    >>> expand = AugmentationExpander(pitch_steps=[0], extra=[WaveformView(reverse)])
    >>> expand.get_view_names()
    ['stretch 0.9', 'original', 'stretch 1.1', 'reverse']
    """

    takes = "waveform"

    def waveform(self, sound: Sound) -> np.ndarray:
        """Make this view's samples; see `View.waveform`."""
        samples = self._call(sound.samples.copy(), sound.sample_rate)
        if samples.ndim != 1 or samples.size == 0:
            self._fail(f"returned shape {samples.shape} in place of (n_samples,)")
        return samples


class LogMelView(FunctionView):
    """A view of your own, made by a function of a clip's log-mel.

    Attributes
    ----------
    function : function
        ``function(log_mel)`` gives a log-mel of shape (n_mels, any number of frames)
        from one of shape (n_mels, n_frames), in dB. It must not draw random numbers:
        the same clip has the same view every time.

    name : str, default=""
        Name of the view, other than those of the library's; if empty, the function's
        own.

    Raises
    ------
    TypeError
        If it is not a plain function, made by ``def`` or ``lambda``.

    ValueError
        If a lambda has no `name`.

    See Also
    --------
    AugmentationExpander : Takes it as one of `extra`.
    WaveformView : The same for a clip's samples; its notes explain how caches and
        saved pipelines know a function.

    Examples
    --------
    >>> from sklearn_asd import AugmentationExpander, LogMelView
    >>> louder = LogMelView(lambda log_mel: log_mel + 6, name="louder")
    >>> expand = AugmentationExpander(pitch_steps=[0], extra=["harmonic", louder])
    >>> expand.get_view_names()
    ['stretch 0.9', 'original', 'stretch 1.1', 'harmonic', 'louder']
    """

    takes = "log_mel"

    def log_mel(self, log_mel: np.ndarray) -> np.ndarray:
        """Change the log-mel; see `View.log_mel`."""
        changed = self._call(log_mel.copy())
        if changed.ndim != 2 or len(changed) != len(log_mel) or changed.size == 0:
            self._fail(
                f"returned shape {changed.shape} in place of ({len(log_mel)}, n_frames)"
            )
        return changed


def _fingerprint(value: Any) -> Any:
    """Turn functions, also nested ones, into what can be hashed by content."""
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
        return ["function", _fingerprint(parts)]
    if inspect.iscode(value):
        code = (value.co_code, value.co_names, value.co_consts)
        return ["code", _fingerprint(code)]
    if isinstance(value, tuple | list):
        return [type(value).__name__, *map(_fingerprint, value)]
    if isinstance(value, dict):
        return {name: _fingerprint(part) for name, part in value.items()}
    return value


# Caches know the next five by their code, which includes the docstring: whoever edits
# one of these texts has that view computed again.


def flip_time(log_mel: np.ndarray) -> np.ndarray:
    """Play it backwards.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    Returns
    -------
    log_mel : ndarray of shape (n_mels, n_frames)
        The last frame first.
    """
    return log_mel[:, ::-1]


def flip_frequency(log_mel: np.ndarray) -> np.ndarray:
    """Turn it upside down.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    Returns
    -------
    log_mel : ndarray of shape (n_mels, n_frames)
        The highest band first.
    """
    return log_mel[::-1]


def shift_time(log_mel: np.ndarray) -> np.ndarray:
    """Shift it by a quarter of its length, and fill up with what falls off.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    Returns
    -------
    log_mel : ndarray of shape (n_mels, n_frames)
        Later by a quarter.
    """
    return np.roll(log_mel, log_mel.shape[1] // 4, axis=1)


def shift_frequency(log_mel: np.ndarray) -> np.ndarray:
    """Shift it by a quarter of its bands, and fill up with what falls off.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    Returns
    -------
    log_mel : ndarray of shape (n_mels, n_frames)
        Higher by a quarter.
    """
    return np.roll(log_mel, log_mel.shape[0] // 4, axis=0)


def rotate(log_mel: np.ndarray) -> np.ndarray:
    """Rotate it by 180 degrees: the only rotation that keeps its shape.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    Returns
    -------
    log_mel : ndarray of shape (n_mels, n_frames)
        Backwards and upside down.
    """
    return log_mel[::-1, ::-1]


_FUNCTIONS = (flip_time, flip_frequency, shift_time, shift_frequency, rotate)
_PARTS = (PartView("harmonic"), PartView("percussive"))
BUILT_IN_VIEWS: dict[str, View] = {
    view.name: view for view in (*_PARTS, *map(LogMelView, _FUNCTIONS))
}
