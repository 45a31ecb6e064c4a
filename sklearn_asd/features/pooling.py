"""Pooling over time: what remains of a clip's frames, or of its segments' outputs.

A pooling is a callable. It takes an array (n_times, n_columns) and gives a 1-D array. A
new one is one function or frozen dataclass: here, with a row in `POOLINGS` if it gets a
name, or in your own code. export/pooling.py computes the same in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from sklearn_asd._utils.messages import shorten
from sklearn_asd._utils.parameters import Interval, validate_parameter_constraints
from sklearn_asd._utils.validation import refuse_masked

__all__ = [
    "CONSTANT_SPREAD",
    "POOLINGS",
    "SCORE_POOLINGS",
    "BandCorrelations",
    "DeviationWeightedMean",
    "GeneralizedMean",
    "Percentile",
    "Pooling",
    "Poolings",
    "RankWeightedMean",
    "check_score_pooling",
    "is_mean",
    "keeps_differences",
    "list_own",
    "maximum",
    "mean",
    "median",
    "name_poolings",
    "pool",
    "pool_with",
    "relative_power",
    "skewness",
    "std",
]

Pooling = Callable[[np.ndarray], np.ndarray]
Poolings = str | Pooling | Sequence[str | Pooling]

# A column whose values differ by no more than this share of the largest is constant:
# the difference is rounding, of which no skewness or correlation should be computed.
CONSTANT_SPREAD = 1e-12

# Settings of the poolings.
_CONSTRAINTS: dict = {
    "decay": [Interval(Real, 0, 1, closed="both")],
    "q": [Interval(Real, 0, 100, closed="both")],
    "n_bands": [Interval(Integral, 2, None, closed="left")],
    "power": [Interval(Real, 1, None, closed="left")],
    "weight": [Interval(Real, 0, None, closed="left")],
}


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over time.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Frames, or outputs of segments.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        In the unit of the values.
    """
    return values.mean(axis=0)


def std(values: np.ndarray) -> np.ndarray:
    """Standard deviation over time (divided by n_times).

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Frames, or outputs of segments.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        In the unit of the values; 0 for a single frame.
    """
    return values.std(axis=0)


def maximum(values: np.ndarray) -> np.ndarray:
    """Largest value over time.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Frames, or outputs of segments.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        In the unit of the values.
    """
    return values.max(axis=0)


def median(values: np.ndarray) -> np.ndarray:
    """Median over time; of an even number, the mean of the two in the middle.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Frames, or outputs of segments.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        In the unit of the values.
    """
    return np.median(values, axis=0)


def skewness(values: np.ndarray) -> np.ndarray:
    """Skewness over time, the third moment divided by the cube of the deviation.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Frames, or outputs of segments.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        Without a unit: above 0 where rare values are high, 0 for constant columns.
    """
    centered, constant = _center(values)
    # In units of the largest, so that cubes neither overflow nor vanish.
    scaled = centered / np.where(constant, 1, np.abs(centered).max(axis=0))
    variance = np.where(constant, 1, (scaled**2).mean(axis=0))
    return (scaled**3).mean(axis=0) / variance**1.5


def relative_power(values: np.ndarray) -> np.ndarray:
    """Mean power over time of each column in dB, relative to the mean of all columns.

    It is ``10 log10(mean power)`` of each column, minus its mean over the columns: the
    shape of the spectrum, without the level. Short loud parts count for more than in
    a mean of dB.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Levels in dB.

    Returns
    -------
    pooled : ndarray of shape (n_columns,)
        In dB, with a mean of 0.
    """
    highest = values.max(axis=0)
    # Relative to the highest, so that no power overflows or vanishes.
    powers = np.exp(np.log(10) / 10 * (values - highest))
    level = highest + 10 * np.log10(powers.mean(axis=0))
    return level - level.mean()


@dataclass(frozen=True)
class RankWeightedMean:  # numpydoc ignore=PR02
    """Mean of the values over time in falling order, with falling weights.

    Each column is sorted on its own, from the largest value down. The value of rank k
    (0 is the largest) has the weight ``decay ** k``, divided by the sum of all. So a
    clip that is anomalous for a second is not averaged away, and a single frame does
    not decide alone.

    Parameters
    ----------
    decay : float in [0, 1], default=0.7
        Weight of each value relative to the next larger one. 1 is the mean, 0 the
        maximum. About ``1 / (1 - decay)`` values count.

    References
    ----------
    Guan et al., "Time-Weighted Frequency Domain Audio Representation with GMM
    Estimator for Anomalous Sound Detection", ICASSP 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import RankWeightedMean
    >>> values = np.array([[1.0], [4.0], [2.0]])  # 3 times, 1 column
    >>> RankWeightedMean(decay=0.5)(values)  # (4 + 2 / 2 + 1 / 4) / 1.75
    array([3.])
    """

    decay: float = 0.7

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "RankWeightedMean")

    @property
    def name(self) -> str:
        """Name of its columns.

        Returns
        -------
        name : str
            Such as "rank_weighted_mean_0.7".
        """
        return f"rank_weighted_mean_{float(self.decay)}"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Pool over time.

        Parameters
        ----------
        values : ndarray of shape (n_times, n_columns), float64
            Frames, or outputs of segments.

        Returns
        -------
        pooled : ndarray of shape (n_columns,)
            In the unit of the values.
        """
        weights = float(self.decay) ** np.arange(len(values))  # 0 ** 0 is 1
        columns = np.ascontiguousarray(values.T)  # sorting rows is faster
        # Frames come as float32, which sorts three times as fast.
        with np.errstate(over="ignore"):
            single = columns.astype(np.float32)
        if np.array_equal(single, columns):
            columns = single
        return np.sort(columns, axis=1)[:, ::-1] @ (weights / weights.sum())


@dataclass(frozen=True)
class Percentile:  # numpydoc ignore=PR02
    """Percentile over time, interpolated linearly between values.

    Parameters
    ----------
    q : float in [0, 100]
        Share of the values below it in per cent: 0 is the smallest value, 50 the
        median, and 100 the largest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import Percentile
    >>> values = np.array([[1.0], [4.0], [2.0]])  # 3 times, 1 column
    >>> Percentile(75)(values)  # half way from 2 to 4
    array([3.])
    """

    q: float

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "Percentile")

    @property
    def name(self) -> str:
        """Name of its columns.

        Returns
        -------
        name : str
            Such as "percentile_90.0".
        """
        return f"percentile_{float(self.q)}"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Pool over time.

        Parameters
        ----------
        values : ndarray of shape (n_times, n_columns), float64
            Frames, or outputs of segments.

        Returns
        -------
        pooled : ndarray of shape (n_columns,)
            In the unit of the values.
        """
        return np.percentile(values, self.q, axis=0)


@dataclass(frozen=True)
class BandCorrelations:  # numpydoc ignore=PR02
    """Correlations over time between bands: which of them rise and fall together.

    Columns are averaged in groups of neighbours, the bands, whose sizes differ by one
    at most.

    Parameters
    ----------
    n_bands : int >= 2, default=32
        Number of bands; where there are fewer columns, as many as these.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import BandCorrelations
    >>> rising = np.arange(4.0)
    >>> values = np.stack([rising, 2 * rising, -rising], axis=1)
    >>> BandCorrelations()(values)  # of columns 0 and 1, 0 and 2, 1 and 2
    array([ 1., -1., -1.])
    """

    n_bands: int = 32

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "BandCorrelations")

    @property
    def name(self) -> str:
        """Name of its columns.

        Returns
        -------
        name : str
            Such as "correlations_32".
        """
        return f"correlations_{self.n_bands}"

    def cut(self, n_columns: int) -> list[np.ndarray]:
        """Cut columns into bands.

        Parameters
        ----------
        n_columns : int
            Number of columns.

        Returns
        -------
        bands : list of ndarray
            The columns of each band.
        """
        return np.array_split(np.arange(n_columns), min(self.n_bands, n_columns))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Pool over time.

        Parameters
        ----------
        values : ndarray of shape (n_times, n_columns), float64
            Frames, or outputs of segments.

        Returns
        -------
        pooled : ndarray of shape (n_bands * (n_bands - 1) / 2,)
            In [-1, 1]: of the first band with each later one, then of the second with
            each later one, and so on. 0 where a band is constant.
        """
        bands = [values[:, band].mean(axis=1) for band in self.cut(values.shape[1])]
        centered, constant = _center(np.stack(bands, axis=1))
        length = np.sqrt((centered**2).sum(axis=0))
        unit = centered / np.where(constant, 1, length)
        upper = np.triu_indices(len(bands), 1)
        return np.clip((unit.T @ unit)[upper], -1, 1)


@dataclass(frozen=True)
class GeneralizedMean:  # numpydoc ignore=PR02
    """Generalised mean over time, between the mean and the largest value.

    It raises the values to a power, takes their mean, and of that the root. Values keep
    their signs: with ``f(x) = sign(x) |x| ** power``, the result is
    ``f^-1(mean(f(x)))``. It is meant for embeddings, whose large values tell of
    something heard. Levels in dB have no natural zero: see :class:`RankWeightedMean`.

    Parameters
    ----------
    power : float >= 1, default=3.0
        1 is the mean; the higher, the nearer to the value of the largest magnitude.

    References
    ----------
    Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human
    Annotation", IEEE Trans. Pattern Anal. Mach. Intell. 41 (7), 2019, for values that
    are not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import GeneralizedMean
    >>> values = np.array([[3.0], [5.0], [0.0], [0.0]])  # 4 times, 1 column
    >>> GeneralizedMean(power=3)(values).round(3)  # ((27 + 125) / 4) ** (1 / 3)
    array([3.362])
    """

    power: float = 3.0

    def __post_init__(self) -> None:
        validate_parameter_constraints(_CONSTRAINTS, vars(self), "GeneralizedMean")

    @property
    def name(self) -> str:
        """Name of its columns.

        Returns
        -------
        name : str
            Such as "generalized_mean_3.0".
        """
        return f"generalized_mean_{float(self.power)}"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Pool over time.

        Parameters
        ----------
        values : ndarray of shape (n_times, n_columns), float64
            Frames, or outputs of segments.

        Returns
        -------
        pooled : ndarray of shape (n_columns,)
            In the unit of the values.
        """
        largest = np.abs(values).max(axis=0)
        # In units of the largest, so that powers neither overflow nor all vanish.
        scaled = values / np.where(largest > 0, largest, 1)
        power = float(self.power)
        raised = (np.sign(scaled) * np.abs(scaled) ** power).mean(axis=0)
        return largest * np.sign(raised) * np.abs(raised) ** (1 / power)


@dataclass(frozen=True)
class DeviationWeightedMean:  # numpydoc ignore=PR02
    """Mean over time, in which frames count by how far they are from the mean frame.

    The weight of a frame is its Euclidean distance from the mean frame of the clip, to
    the power `weight`. So what is heard now and then is not averaged away. All columns
    of a frame have the same weight. Where all frames are equal, it is the mean.

    Parameters
    ----------
    weight : float >= 0, default=1.0
        0 is the mean; the higher, the more the most unusual frame decides.

    References
    ----------
    The idea, weights that grow with a frame's deviation relative to that of the others,
    is the "relative deviation pooling" of Wilkinghoff, Yadav and Tan, "Temporal Pooling
    Strategies for Training-Free Anomalous Sound Detection with Self-Supervised Audio
    Embeddings", arXiv:2603.04605, 2026. The formula is the one above.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd.features import DeviationWeightedMean
    >>> values = np.array([[0.0], [0.0], [0.0], [4.0]])  # 1, 1, 1 and 3 from the mean
    >>> DeviationWeightedMean()(values)  # 3 / 6 * 4
    array([2.])
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        validate_parameter_constraints(
            _CONSTRAINTS, vars(self), "DeviationWeightedMean"
        )

    @property
    def name(self) -> str:
        """Name of its columns.

        Returns
        -------
        name : str
            Such as "deviation_weighted_mean_1.0".
        """
        return f"deviation_weighted_mean_{float(self.weight)}"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Pool over time.

        Parameters
        ----------
        values : ndarray of shape (n_times, n_columns), float64
            Frames, or outputs of segments.

        Returns
        -------
        pooled : ndarray of shape (n_columns,)
            In the unit of the values.
        """
        deviations = np.abs(values - values.mean(axis=0))
        largest = deviations.max()
        if largest <= CONSTANT_SPREAD * np.abs(values).max():
            return values.mean(axis=0)
        distances = np.sqrt(np.square(deviations / largest).sum(axis=1))
        weights = (distances / distances.max()) ** float(self.weight)
        return weights @ values / weights.sum()


def _center(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the means; tell which columns are constant, and make these 0."""
    spread = values.max(axis=0) - values.min(axis=0)
    constant = spread <= CONSTANT_SPREAD * np.abs(values).max(axis=0)
    return np.where(constant, 0, values - values.mean(axis=0)), constant


POOLINGS: dict[str, Pooling] = {
    "mean": mean,
    "std": std,
    "max": maximum,
    "median": median,
    "skewness": skewness,
    "rank": RankWeightedMean(),
    "relative_power": relative_power,
    "correlations": BandCorrelations(),
    "generalized_mean": GeneralizedMean(),
    "deviation_weighted": DeviationWeightedMean(),
}

# Names of those that make one score of the scores of segments.
SCORE_POOLINGS = ("mean", "max", "median", "rank", "generalized_mean")


def name_poolings(poolings: Poolings) -> dict[str, Pooling]:
    """Look up poolings, and name them.

    Parameters
    ----------
    poolings : str, callable or sequence of these
        One or several: names in `POOLINGS`, or callables.

    Returns
    -------
    named : dict of str to callable
        In their order. A callable is named by its attribute `name` or `__name__`.

    Raises
    ------
    ValueError
        If there is none, one is neither, or two have the same name.

    Examples
    --------
    >>> from sklearn_asd.features.pooling import Percentile, name_poolings
    >>> list(name_poolings(["mean", Percentile(90)]))
    ['mean', 'percentile_90.0']
    """
    several = isinstance(poolings, list | tuple)
    named: dict[str, Pooling] = {}
    for one in poolings if several else [poolings]:  # type: ignore[union-attr]
        name, pooling = _name_pooling(one)
        if name in named:
            raise ValueError(
                f"two statistics over time are called {shorten(name)}: leave one out, "
                "or "
                "give your own function another __name__"
            )
        named[name] = pooling
    if not named:
        raise ValueError(
            "no statistic over time is given: choose one or several of "
            f"{', '.join(POOLINGS)}, or a function of yours"
        )
    return named


def _name_pooling(pooling: Any) -> tuple[str, Pooling]:
    if isinstance(pooling, str) and pooling in POOLINGS:
        return pooling, POOLINGS[pooling]
    if isinstance(pooling, type):
        name = pooling.__name__
        raise ValueError(
            f"the statistic over time is the class {name}; give an object, {name}(...)"
        )
    if not callable(pooling):
        raise ValueError(
            f"the statistic over time {pooling!r:.80} is unknown: choose of "
            f"{', '.join(POOLINGS)}, or give an object such as Percentile(90), or a "
            "function of yours"
        )
    unnamed = type(pooling).__name__  # such as partial
    return str(getattr(pooling, "name", getattr(pooling, "__name__", unnamed))), pooling


def list_own(poolings: Poolings) -> list[str]:
    """Name the poolings that are not of this library.

    Parameters
    ----------
    poolings : str, callable or sequence of these
        As :func:`pool` takes them.

    Returns
    -------
    names : list of str
        Empty if all are.
    """
    return [
        name
        for name, one in name_poolings(poolings).items()
        if type(one).__module__ != __name__ and one not in POOLINGS.values()
    ]


def pool(values: Any, poolings: Poolings) -> np.ndarray:
    """Pool values over time, in one or several ways.

    Parameters
    ----------
    values : array-like of shape (n_times, n_columns)
        Frames, or outputs of segments, in the order of time; finite.

    poolings : str, callable or sequence of these
        Names in `POOLINGS` ("mean", "std", "max", "median", "skewness", "rank",
        "relative_power", "correlations", "generalized_mean", "deviation_weighted"),
        objects such as :class:`RankWeightedMean`, or functions of yours that take
        `values` and give a 1-D array.

    Returns
    -------
    pooled : ndarray of shape (n_pooled,), float64
        The results, one after the other.

    Raises
    ------
    ValueError
        If the values are not finite numbers of that shape with at least one time, a
        pooling is unknown, or one gives anything but a 1-D array of finite numbers.

    See Also
    --------
    sklearn_asd.SpectrumStatistics : Pools the frames of clips.

    Notes
    -----
    Cost: grows with n_times times n_columns; with the median, percentiles and ranks
    the columns are sorted.

    Examples
    --------
    >>> from sklearn_asd.features import Percentile, pool
    >>> values = [[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]]  # 3 times, 2 columns
    >>> pool(values, ["mean", "max"])
    array([3., 1., 6., 3.])
    >>> pool(values, Percentile(50))
    array([2., 0.])
    """
    try:
        array = np.asarray(refuse_masked(values, "values"), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"values are no array of numbers ({error}); give (n_times, n_columns)"
        ) from error
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"values have the shape {array.shape}; it must be (n_times, n_columns), "
            "with at least one of each"
        )
    _refuse_infinite(array)
    named = name_poolings(poolings)
    return np.concatenate([pool_with(array, one, n) for n, one in named.items()])


def _refuse_infinite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError("values hold NaN or infinity: repair or leave them out")


def pool_with(
    values: np.ndarray, pooling: Pooling, name: str, n_pooled: int | None = None
) -> np.ndarray:
    """Call a pooling, and check what it gives.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_columns), float64
        Finite.

    pooling : callable
        The pooling.

    name : str
        Its name, for errors.

    n_pooled : int or None, default=None
        How many numbers it gave for other clips.

    Returns
    -------
    pooled : ndarray of shape (n_pooled,), float64
        Finite.

    Raises
    ------
    ValueError
        If it gives anything but a 1-D array of finite numbers of that length.
    """
    given = pooling(values)
    remedy = "it must give a 1-D array of numbers, as many for every clip"
    try:
        pooled = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the statistic over time {shorten(name)} gave a {type(given).__name__}, "
            "which "
            f"is no array of numbers ({error}); {remedy}"
        ) from error
    if pooled.ndim != 1:
        raise ValueError(
            f"the statistic over time {shorten(name)} gave an array of shape "
            f"{pooled.shape} "
            f"for values of shape {values.shape}; {remedy}"
        )
    if n_pooled is not None and len(pooled) != n_pooled:
        raise ValueError(
            f"the statistic over time {shorten(name)} gave {len(pooled)} numbers for "
            "values "
            f"of shape {values.shape}, and {n_pooled} before; {remedy}"
        )
    if not np.isfinite(pooled).all():
        _refuse_infinite(values)
        raise ValueError(
            f"the statistic over time {shorten(name)} gave NaN or infinity for values "
            "of "
            f"shape {values.shape}; it must give finite numbers: return 0 or another "
            "number where it is not defined"
        )
    return pooled


def is_mean(poolings: Any) -> bool:
    """Whether poolings are the mean alone.

    Parameters
    ----------
    poolings : str, callable or sequence of these
        As :func:`pool` takes them.

    Returns
    -------
    is_mean : bool
        True for "mean" and the function :func:`mean`.
    """
    return poolings is mean or (isinstance(poolings, str) and poolings == "mean")


def check_score_pooling(pooling: Any) -> None:
    """Refuse what makes no score of the scores of a clip's segments.

    Parameters
    ----------
    pooling : str or callable
        A name in `SCORE_POOLINGS`, or a callable.

    Raises
    ------
    ValueError
        If it is another name, a class, or a pooling that does not rise with the
        scores.
    """
    name, function = _name_pooling(pooling)
    unfit = [POOLINGS[n] for n in POOLINGS if n not in SCORE_POOLINGS]
    if function in unfit or isinstance(
        function, BandCorrelations | DeviationWeightedMean
    ):
        raise ValueError(
            f"pooling is {shorten(name)}, which does not rise with the scores of "
            "segments: "
            f"choose of {', '.join(SCORE_POOLINGS)}, or give an object such as "
            "Percentile(90), or a function of yours"
        )


def keeps_differences(pooling: Any) -> bool:
    """Whether a pooling of scores moves with them: all shifted by 1, it is too.

    Parameters
    ----------
    pooling : str or callable
        As :func:`check_score_pooling` takes it.

    Returns
    -------
    keeps_differences : bool
        True for those of the library but the generalised mean. Of a function of yours
        nothing is known.
    """
    _, function = _name_pooling(pooling)
    known = function in (mean, maximum, median)
    return known or isinstance(function, RankWeightedMean | Percentile)
