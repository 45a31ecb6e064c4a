"""Long recordings, cut into pieces as long as those of training."""

from __future__ import annotations

from math import ceil
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from sklearn_asd.audio.clips import Clips
from sklearn_asd.audio.reading import BadClipError, measure_duration

__all__ = ["TOLERANCE", "cut_into_pieces", "measure_durations"]

# A recording that is longer by a smaller share is like those of training, and whole.
TOLERANCE = 0.1

# In pieces. Rounding of seconds makes no further piece.
_ROUNDING = 1e-6


def cut_into_pieces(X, duration, *, longest=None, sample_rate=None):
    """Cut long recordings into pieces, each of which is a clip.

    A model that learnt from recordings of 10 s hears a fault of 10 s in an hour only if
    it judges the hour piece by piece.

    Parameters
    ----------
    X : DataFrame of n_clips rows
        Recordings, with a column `path` or `audio`, and `sample_rate` (Hz) of `audio`.

    duration : float > 0
        Length of a piece in s.

    longest : float or None, default=None
        Recordings up to this length in s stay whole. None is `duration` and a tenth.

    sample_rate : float > 0 or None, default=None
        Sample rate in Hz of `audio` without one in the table.

    Returns
    -------
    pieces : DataFrame of n_pieces rows
        The rows of X, as often as they have pieces, with the columns `start` and `stop`
        in s; both are NaN for a recording that stays whole. The index tells whose piece
        a row is, as of ``DataFrame.explode``. Pieces follow each other, and the last
        one ends with the recording: it may overlap the one before, so that nothing is
        left out.

    Raises
    ------
    ValueError
        If X has pieces already, `duration` or `longest` is out of range, or the sample
        rate of `audio` is not known.

    Notes
    -----
    Only headers of files are read. A file that cannot be opened stays whole: whatever
    reads it next names it and the reason.

    The worst of many pieces lies below the threshold of one clip more often than one
    clip does. ``sklearn-asd score`` takes this into account; `predict` does not.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn_asd import cut_into_pieces
    >>> X = pd.DataFrame({"audio": [np.zeros(16_000 * 25), np.zeros(16_000 * 10)]})
    >>> cut_into_pieces(X, 10, sample_rate=16_000)[["start", "stop"]]
       start  stop
    0    0.0  10.0
    0   10.0  20.0
    0   15.0  25.0
    1    NaN   NaN
    """
    check_scalar(duration, "duration", Real, min_val=0, include_boundaries="neither")
    if longest is None:
        longest = duration * (1 + TOLERANCE)
    check_scalar(longest, "longest", Real, min_val=duration)
    if {"start", "stop"} & set(X.columns):
        raise ValueError(
            "X has a column 'start' or 'stop', so its clips are pieces already: pass "
            "whole recordings"
        )
    rows, starts, stops = [], [], []
    for row, length in enumerate(measure_durations(X, sample_rate)):
        # Of a file that cannot be opened the length is NaN, which is not longer.
        begins = _spread(length, duration) if length > longest else [np.nan]
        rows += [row] * len(begins)
        starts += begins
        stops += [min(begin + duration, length) for begin in begins]
    start = np.array(starts, dtype=float)
    stop = np.where(np.isnan(start), np.nan, stops)
    return X.iloc[rows].assign(start=start, stop=stop)


def _spread(length: float, duration: float) -> list[float]:
    """Begin pieces one after the other, and the last so that it ends with the whole."""
    n_pieces = ceil(length / duration - _ROUNDING)
    return [*(number * duration for number in range(n_pieces - 1)), length - duration]


def measure_durations(X: pd.DataFrame, sample_rate: float | None = None) -> list[float]:
    """Find how long recordings are.

    Parameters
    ----------
    X : DataFrame of n_clips rows
        Recordings; see :func:`cut_into_pieces`.

    sample_rate : float > 0 or None, default=None
        Sample rate in Hz of `audio` without one in the table.

    Returns
    -------
    durations : list of float
        In s; NaN for files that cannot be opened.

    Raises
    ------
    ValueError
        If the sample rate of `audio` is not known.
    """
    if len(X) == 0:
        return []
    clips = Clips.from_X(X)
    return [_measure(clips, row, sample_rate) for row in range(len(clips))]


def _measure(clips: Clips, row: int, sample_rate: float | None) -> float:
    source = clips.sources[row]
    if clips.names_a_file(row):
        try:
            return measure_duration(source)
        except BadClipError:
            return np.nan
    rate = np.nan if clips.sample_rate is None else clips.sample_rate[row]
    rate = sample_rate if np.isnan(rate) else rate
    if rate is None:
        raise ValueError(
            f"the sample rate of {clips.name(row)} is not known: pass sample_rate, or "
            "a column 'sample_rate'"
        )
    return len(source) / rate
