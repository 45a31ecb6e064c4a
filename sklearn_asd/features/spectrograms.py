"""ClipSpectrograms: the log-mels of many clips, ready to be cut into segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sklearn_asd._utils.messages import abbreviate, check_choice, shorten
from sklearn_asd._utils.validation import refuse_masked
from sklearn_asd.audio.machines import as_labels, machine_labels
from sklearn_asd.audio.rows import ClipTable, as_row_index, count_clips
from sklearn_asd.audio.views import ORIGINAL
from sklearn_asd.features.mapping import FileFrames, maps_a_file

__all__ = [
    "BAND_NAMES",
    "SEGMENT_FRAMES",
    "SEGMENT_HOP_FRAMES",
    "ClipSpectrograms",
    "Windows",
    "check_spectrograms",
    "find_used_frames",
]

# Segments of the paper's systems in frames; LogMelSegmenter states them in seconds.
SEGMENT_FRAMES = 96
SEGMENT_HOP_FRAMES = 48

# What a band is called, by how the bands are spaced.
BAND_NAMES = {"mel": "mel", "log": "band", "linear": "bin", "feature": "feature"}


class Windows(NamedTuple):
    """Windows into the frames of :class:`~sklearn_asd.ClipSpectrograms`.

    Attributes
    ----------
    clip : ndarray of shape (n_windows,), int
        Row of the clip that each window lies in.

    view : ndarray of shape (n_windows,), int
        View of that clip.

    start : ndarray of shape (n_windows,), int
        First row of each window in `frames`.

    n_frames : ndarray of shape (n_windows,), int
        Length of each window.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms
    >>> log_mels = [np.zeros((128, 96)), np.zeros((128, 144))]
    >>> windows = ClipSpectrograms.from_arrays(log_mels).windows()
    >>> windows.clip, windows.start
    (array([0, 1, 1]), array([  0,  96, 144]))
    """

    clip: np.ndarray
    view: np.ndarray
    start: np.ndarray
    n_frames: np.ndarray


class ClipSpectrograms(ClipTable):
    """Log-mels of many clips in one array, with each clip's bounds and machine.

    What travels from :class:`LogMelSegmenter`, :class:`PowerSpectrum`,
    :class:`LinearSpectrogram` or :class:`EncoderEmbedding` to the detectors. A row is a
    clip; its segments are windows into the shared `frames`, so overlapping segments
    cost nothing and clips of any length mix. Indexing by integer, slice, mask or index
    array gives the same kind and shares the frames. ``np.asarray`` gives a dense array
    where all clips are equally long.

    Parameters
    ----------
    frames : ndarray or memmap of shape (total_frames, n_mels), float32 or float16
        Log-mels in dB, power spectra in dB (one frame for each clip), linear
        magnitudes, or the frames of an encoder.

    starts, stops : ndarray of shape (n_clips,) or (n_clips, n_views), int
        Each clip's rows in `frames`, for every view of it. No frames
        (``start == stop``) mark a clip that could not be used: it scores NaN.

    machine_type, machine_id : sequence of str or None, default=None
        Which machine each clip was recorded from.

    domain : sequence of str or None, default=None
        Conditions that each clip was recorded in, such as "source" or "target".

    segment_frames : int or None, default=96
        Length of a segment in frames; None takes the whole clip as one segment.

    segment_hop_frames : int, default=48
        Frames between the starts of successive segments.

    view_names : sequence of str, default=("original",)
        Names of the views; see :class:`AugmentationExpander`.

    sample_rate, hop_length : number or None, default=None
        What the frames were made with: Hz, and samples between frames. Detectors
        refuse to score frames of another rate than those they were fitted on; None
        is not compared.

    fmin, fmax : float or None, default=None
        Edges of the mel bands in Hz, for axes of plots; None where they are not known.

    band_scale : {"mel", "log", "linear", "feature"}, default="mel"
        How the bands between `fmin` and `fmax` are spaced: as those of log-mels;
        evenly in log-frequency, as those of :class:`PowerSpectrum`; or evenly, as the
        bins of :class:`LinearSpectrogram`. "feature": the columns are features of an
        :class:`EncoderEmbedding`, not bands.

    problems : mapping of int to str or None, default=None
        Why clips cannot be used, by row: each text completes "clip 3 (x.wav) ...".

    facts : ndarray of shape (n_clips, n_facts) or None, default=None
        What was measured on each recording, for :class:`RecordingCheck`; NaN for clips
        that could not be used.

    spectra : ndarray of shape (n_clips, n_views, n_spectrum) or None, default=None
        The spectrum of each whole clip, which :class:`LinearSpectrogram` computes for
        :class:`~sklearn_asd.networks.DualPathNetwork`, float32 or float16.

    Attributes
    ----------
    n_mels : int
        Number of mel bands, or of those of another `band_scale`.

    n_segments : ndarray of shape (n_clips, n_views)
        Number of segments of each clip and view; 0 where the clip is unusable.

    usable : ndarray of shape (n_clips,), bool
        Which clips have a segment in every view.

    problems : dict of int to str
        Why clips cannot be used, by row, as :class:`LogMelSegmenter` reports it with
        ``on_bad_clip="nan"``; empty otherwise.

    main_view : int
        Index of the original view, or 0 where there is none: it stands for the clip.

    n_spectrum : int
        Number of values of `spectra`; 0 without.

    shape : tuple of int
        ``(n_clips,)``.

    Notes
    -----
    A clip of F frames has ``1 + (F - segment_frames) // segment_hop_frames``
    segments, counted from its start: a 10 s clip has 313 frames and 5 segments. What
    is left over at its end, less than a hop, is not used, as in the paper.

    A pickle holds the frames of its own clips only. It holds none if `frames` is a
    memory map of a file: loading the pickle opens that file, and checks that the frames
    have not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms
    >>> log_mels = [np.zeros((128, 313)), np.zeros((128, 344))]  # 10 s and 11 s
    >>> X = ClipSpectrograms.from_arrays(log_mels, machine_id=["00", "02"])
    >>> X
    ClipSpectrograms(2 clips, 2 machines, 128 mels, 11 segments of 96 frames)
    >>> X[1:].n_segments
    array([[6]])
    """

    _columns = (
        "starts",
        "stops",
        "machine_type",
        "machine_id",
        "domain",
        "facts",
        "spectra",
    )

    def __init__(
        self,
        frames: np.ndarray,
        starts: np.ndarray,
        stops: np.ndarray,
        *,
        machine_type: Iterable[Any] | None = None,
        machine_id: Iterable[Any] | None = None,
        domain: Iterable[Any] | None = None,
        segment_frames: int | None = SEGMENT_FRAMES,
        segment_hop_frames: int = SEGMENT_HOP_FRAMES,
        view_names: Sequence[str] = ("original",),
        sample_rate: float | None = None,
        hop_length: int | None = None,
        fmin: float | None = None,
        fmax: float | None = None,
        band_scale: str = "mel",
        problems: Mapping[int, str] | None = None,
        facts: np.ndarray | None = None,
        spectra: np.ndarray | None = None,
    ) -> None:
        self.frames = refuse_masked(frames, "frames")
        self.starts = _as_clips_by_views(starts)
        self.stops = _as_clips_by_views(stops)
        self.machine_type = as_labels(machine_type)
        self.machine_id = as_labels(machine_id)
        self.domain = as_labels(domain)
        self.facts = facts
        self.spectra = spectra
        self._check_lengths()
        self.segment_frames = segment_frames
        self.segment_hop_frames = segment_hop_frames
        self.view_names = tuple(view_names)
        self._check_views()
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.fmin = fmin
        self.fmax = fmax
        check_choice("band_scale", band_scale, BAND_NAMES)
        self.band_scale = band_scale
        self.problems = dict(problems or {})

    def _check_views(self) -> None:
        shape = self.starts.shape
        if len(self.view_names) != shape[1]:
            n_names = len(self.view_names)
            raise ValueError(f"view_names has {n_names} names for {shape[1]} views")
        if self.spectra is not None and np.shape(self.spectra)[:-1] != shape:
            raise ValueError(
                f"spectra has the shape {np.shape(self.spectra)}; it must be "
                f"{(*shape, 'n_spectrum')}: clips, views, values"
            )

    @classmethod
    def from_arrays(
        cls,
        log_mels: Iterable[np.ndarray],
        machine_type: Iterable[Any] | None = None,
        machine_id: Iterable[Any] | None = None,
        segment_frames: int | None = SEGMENT_FRAMES,
        segment_hop_frames: int = SEGMENT_HOP_FRAMES,
        domain: Iterable[Any] | None = None,
    ) -> ClipSpectrograms:
        """Build from precomputed log-mels.

        Parameters
        ----------
        log_mels : array of shape (n_clips, n_mels, n_frames), or sequence of arrays
            Log-mels in dB, one (n_mels, n_frames) array for each clip; lengths may
            differ. float16 is kept; anything else becomes float32.

        machine_type, machine_id : sequence of str or None, default=None
            Which machine each clip was recorded from.

        segment_frames : int or None, default=96
            Length of a segment in frames; None takes the whole clip as one segment.

        segment_hop_frames : int, default=48
            Frames between the starts of successive segments.

        domain : sequence of str or None, default=None
            Conditions that each clip was recorded in, such as "source" or "target".

        Returns
        -------
        spectrograms : ClipSpectrograms
            The frames copied into one array.

        Raises
        ------
        ValueError
            If there is no clip, if an array is not 2-D, holds NaN or infinity, has
            another number of mel bands than the first or fewer frames than a
            segment, or if there are not as many machines or domains as clips.
        """
        arrays = [np.asarray(refuse_masked(array, "log_mels")) for array in log_mels]
        _check_segments(segment_frames, segment_hop_frames)
        _check_log_mels(arrays, segment_frames)
        half = all(array.dtype == np.float16 for array in arrays)
        dtype = np.float16 if half else np.float32
        frames = np.concatenate([array.T for array in arrays], dtype=dtype)
        stops = np.cumsum([array.shape[1] for array in arrays])
        return cls(
            frames,
            np.concatenate([[0], stops[:-1]]),
            stops,
            machine_type=machine_type,
            machine_id=machine_id,
            domain=domain,
            segment_frames=segment_frames,
            segment_hop_frames=segment_hop_frames,
        )

    @property
    def n_mels(self) -> int:
        """Number of mel bands."""
        return self.frames.shape[1]

    @property
    def n_spectrum(self) -> int:
        """Number of values of the whole clips' spectra.

        Returns
        -------
        n_spectrum : int
            0 where there are none.
        """
        return 0 if self.spectra is None else self.spectra.shape[-1]

    @property
    def main_view(self) -> int:
        """Index of the view that stands for the clip: the original, or the first."""
        names = self.view_names
        return names.index(ORIGINAL.name) if ORIGINAL.name in names else 0

    @property
    def n_segments(self) -> np.ndarray:
        """Number of segments of each clip and view, shape (n_clips, n_views)."""
        n_frames = self.stops - self.starts
        if self.segment_frames is None:
            return (n_frames > 0).astype(int)
        n_segments = 1 + (n_frames - self.segment_frames) // self.segment_hop_frames
        return np.maximum(n_segments, 0)

    @property
    def usable(self) -> np.ndarray:
        """Which clips have a segment in every view, shape (n_clips,)."""
        return np.all(self.n_segments, axis=1)

    def __getitem__(self, index: Any) -> ClipSpectrograms:
        chosen = super().__getitem__(index)
        old_rows = np.arange(len(self))[as_row_index(index, len(self))].tolist()
        chosen.problems = {
            new: self.problems[old]
            for new, old in enumerate(old_rows)
            if old in self.problems
        }
        return chosen

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        if maps_a_file(self.frames):
            n_frames = max(1, self.stops.max(initial=0))  # 0 cannot be mapped
            rows = self._sample_rows()
            state["frames"] = FileFrames.of(self.frames, int(n_frames), rows)
        else:
            used = find_used_frames(len(self.frames), self.starts, self.stops)
            if not used.all():
                place = np.concatenate([[0], np.cumsum(used)])
                starts, stops = place[self.starts], place[self.stops]
                state |= {"frames": self.frames[used], "starts": starts, "stops": stops}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        vars(self).setdefault("problems", {})  # missing from older pickles
        vars(self).setdefault("band_scale", "mel")
        vars(self).setdefault("facts", None)
        vars(self).setdefault("spectra", None)
        if isinstance(self.frames, FileFrames):
            self.frames = self.frames.open(self._sample_rows())

    def _sample_rows(self) -> np.ndarray:
        """One row from the middle of each clip's views."""
        return ((self.starts + self.stops) // 2)[self.stops > self.starts]

    def __repr__(self) -> str:
        clips = count_clips(len(self), machine_labels(self))
        views = f", {len(self.view_names)} views" if len(self.view_names) > 1 else ""
        segments = "whole clips"
        if self.segment_frames is not None:
            n_segments = self.n_segments.sum()
            segments = f"{n_segments} segments of {self.segment_frames} frames"
        bands = f"{self.n_mels} {BAND_NAMES[self.band_scale]}s"
        return f"ClipSpectrograms({clips}{views}, {bands}, {segments})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("clips as one dense array are always a copy")
        lengths = np.unique(self.stops - self.starts)
        if len(lengths) > 1:
            raise ValueError(
                f"clips of {lengths[0]} to {lengths[-1]} frames do not fit one array; "
                "take them one by one with log_mel(clip)"
            )
        rows = self.starts[..., None] + np.arange(lengths.max(initial=0))
        dense = np.moveaxis(self.frames[rows], -1, -2)  # mel bands before time
        dense = dense[:, 0] if len(self.view_names) == 1 else dense
        return dense.astype(dtype or self.frames.dtype, copy=False)

    def log_mel(self, clip: int, view: int = 0) -> np.ndarray:
        """Log-mel of one clip.

        Parameters
        ----------
        clip : int
            Row of the clip.

        view : int, default=0
            Index into `view_names`.

        Returns
        -------
        log_mel : ndarray of shape (n_mels, n_frames)
            Power in dB, sharing the memory of `frames`.
        """
        return self.frames[self.starts[clip, view] : self.stops[clip, view]].T

    def select_view(self, name: str) -> ClipSpectrograms:
        """Choose one view of every clip.

        Parameters
        ----------
        name : str
            One of `view_names`.

        Returns
        -------
        spectrograms : ClipSpectrograms
            The same clips with that view only, sharing the frames.

        Raises
        ------
        ValueError
            If there is no such view.
        """
        if name not in self.view_names:
            raise ValueError(
                f"X has no view {shorten(name)}; its views are "
                f"{abbreviate(self.view_names)}"
            )
        view = self.view_names.index(name)
        starts, stops = self.starts[:, view], self.stops[:, view]
        spectra = self.spectra
        if spectra is not None:
            spectra = spectra[:, view : view + 1]
        return self._with(
            starts=starts, stops=stops, spectra=spectra, view_names=(name,)
        )

    def select_original(self, estimator: str) -> ClipSpectrograms:
        """Choose the unchanged view of every clip.

        Parameters
        ----------
        estimator : str
            Name of the estimator that uses that view only, for the message.

        Returns
        -------
        spectrograms : ClipSpectrograms
            The same clips with that view only, sharing the frames.

        Raises
        ------
        ValueError
            If there is no such view.
        """
        if ORIGINAL.name not in self.view_names:
            raise ValueError(
                f"X has the views {abbreviate(self.view_names)}; {estimator} uses "
                f"the view {ORIGINAL.name!r} only: leave AugmentationExpander out "
                "before it, or give it 0 among pitch_steps, 1 among stretch_rates, and "
                "vocode_identity=False"
            )
        return self.select_view(ORIGINAL.name)

    def resegment(
        self, segment_frames: int | None, segment_hop_frames: int
    ) -> ClipSpectrograms:
        """Cut the same clips into other segments.

        Parameters
        ----------
        segment_frames : int or None
            Length of a segment in frames; None takes the whole clip as one segment.

        segment_hop_frames : int
            Frames between the starts of successive segments.

        Returns
        -------
        spectrograms : ClipSpectrograms
            The same clips, sharing the frames. Clips shorter than a segment have none.

        Raises
        ------
        ValueError
            If a number is below 1.
        """
        _check_segments(segment_frames, segment_hop_frames)
        return self._with(
            segment_frames=segment_frames, segment_hop_frames=segment_hop_frames
        )

    def leave_out(self, rows: np.ndarray, problem: str) -> ClipSpectrograms:
        """Make some clips unusable.

        Parameters
        ----------
        rows : ndarray of int
            Their rows.

        problem : str
            Why they are, to complete "the clip ...".

        Returns
        -------
        spectrograms : ClipSpectrograms
            The same number of clips, sharing the frames; those left out have none.
        """
        starts, stops = self.starts.copy(), self.stops.copy()
        starts[rows] = stops[rows] = 0
        problems = self.problems | dict.fromkeys(rows.tolist(), problem)
        return self._with(starts=starts, stops=stops, problems=problems)

    def windows(self) -> Windows:
        """List the segments, in the order of clips, views and time.

        Returns
        -------
        windows : Windows
            One for each segment.
        """
        n_segments = self.n_segments.ravel()
        row = np.repeat(np.arange(len(n_segments)), n_segments)  # of a clip's view
        clip, view = np.divmod(row, len(self.view_names))
        start = self.starts[clip, view]
        n_frames = self.stops[clip, view] - start
        if self.segment_frames is not None:
            n_frames[:] = self.segment_frames
        first = np.cumsum(n_segments) - n_segments
        number = np.arange(len(row)) - first[row]  # 0 for whole clips
        start += number * self.segment_hop_frames
        return Windows(clip, view, start, n_frames)

    def split_segments(self) -> ClipSpectrograms:
        """Make each segment a clip.

        So any detector scores segments one by one, each as if it were a whole clip.

        Returns
        -------
        segments : ClipSpectrograms of n_segments
            In the order of clips and time, sharing the frames. There is one for each
            segment of the original view, or of the first view where there is no
            original; other views contribute the segment at the same relative position.
            Views that move time, such as "flip_time", are not reversed.
        """
        timed = self.main_view
        windows = self.windows()
        of_timed = windows.view == timed
        clip = windows.clip[of_timed]
        starts, lengths = self.starts[clip], (self.stops - self.starts)[clip]
        n_frames: Any = self.segment_frames or lengths  # or whole clips
        spare = lengths - n_frames
        passed = windows.start[of_timed] - starts[:, timed]
        share = passed / np.maximum(spare[:, timed], 1)
        starts = starts + np.rint(share[:, None] * spare).astype(np.int64)
        return self[clip].with_frames(self.frames, starts, starts + n_frames)

    def with_frames(
        self, frames: np.ndarray, starts: np.ndarray, stops: np.ndarray
    ) -> ClipSpectrograms:
        """Give the same clips other frames.

        Parameters
        ----------
        frames : ndarray of shape (total_frames, n_mels)
            Log-mel frames in dB.

        starts, stops : ndarray of shape (n_clips, n_views), int
            Each clip's rows in `frames`, for every view of it.

        Returns
        -------
        spectrograms : ClipSpectrograms
            With the same machines, views and segments.
        """
        return self._with(frames=frames, starts=starts, stops=stops)


def check_spectrograms(X: Any, estimator: str) -> ClipSpectrograms:
    """Refuse anything but ClipSpectrograms.

    Parameters
    ----------
    X : any
        The clips.

    estimator : str
        Name of the estimator that takes them, for the message.

    Returns
    -------
    X : ClipSpectrograms
        The same.

    Raises
    ------
    TypeError
        If X is anything else.
    """
    if not isinstance(X, ClipSpectrograms):
        raise TypeError(
            f"{estimator} takes ClipSpectrograms, got {type(X).__name__}: put "
            "LogMelSegmenter() before it in a Pipeline, or use "
            "ClipSpectrograms.from_arrays for precomputed log-mels"
        )
    return X


def find_used_frames(
    n_frames: int, starts: np.ndarray, stops: np.ndarray
) -> np.ndarray:
    """Find which frames lie in a clip or window.

    Parameters
    ----------
    n_frames : int
        Number of frames.

    starts, stops : ndarray of one shape, int
        Bounds of the clips or windows, which may overlap.

    Returns
    -------
    used : ndarray of shape (n_frames,), bool
        Which frames do.
    """
    begun = np.zeros(n_frames + 1, dtype=np.int64)
    np.add.at(begun, starts, 1)
    np.add.at(begun, stops, -1)
    return np.cumsum(begun[:-1]) > 0


def _as_clips_by_views(bounds: np.ndarray) -> np.ndarray:
    bounds = np.asarray(bounds, dtype=np.int64)
    return bounds[:, None] if bounds.ndim == 1 else bounds


def _check_segments(segment_frames: int | None, segment_hop_frames: int) -> None:
    if segment_hop_frames < 1 or (segment_frames is not None and segment_frames < 1):
        raise ValueError(
            f"segment_frames is {segment_frames} and segment_hop_frames is "
            f"{segment_hop_frames}; each must be at least 1, or segment_frames None "
            "for whole clips"
        )


def _check_log_mels(arrays: list[np.ndarray], segment_frames: int | None) -> None:
    if not arrays:
        raise ValueError("log_mels holds 0 clips; at least 1 is needed")
    shortest = segment_frames or 1
    for clip, array in enumerate(arrays):
        if array.ndim != 2:
            raise ValueError(
                f"clip {clip} has shape {array.shape}; a log-mel is a 2-D array "
                "(n_mels, n_frames)"
            )
        if array.shape[0] != arrays[0].shape[0]:
            raise ValueError(
                f"clip {clip} has {array.shape[0]} mel bands and clip 0 has "
                f"{arrays[0].shape[0]}; log-mels are (n_mels, n_frames) arrays made "
                "with one setting"
            )
        if array.shape[1] < shortest:
            raise ValueError(
                f"clip {clip} has {array.shape[1]} frames; segments need {shortest}: "
                "lower segment_frames, pad, or leave it out"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"clip {clip} holds NaN or infinity: repair or leave it out"
            )
