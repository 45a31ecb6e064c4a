"""What a detector is made of, and what each part of it is given to hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_asd.audio.machines import known_labels, machine_columns
from sklearn_asd.detectors import EmbeddingNeighborDetector
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.ensemble import GammaProbabilityEnsemble
from sklearn_asd.meta.only_machine_types import OnlyMachineTypes
from sklearn_asd.meta.per_machine import PerMachine
from sklearn_asd.meta.scoring import anomaly_scores, decisions, final_step
from sklearn_asd.meta.thresholds import ThresholdTuner

__all__ = [
    "Part",
    "clip_embeddings",
    "clip_spectrograms",
    "clip_thresholds",
    "detector_parts",
    "open_pipeline",
    "open_until",
    "score_variants",
    "take_clip",
]


class Part(NamedTuple):
    """A fitted part of a detector, and a clip as that part is given it.

    Attributes
    ----------
    member : str
        Name of the member of an ensemble that it belongs to, or of the member's member
        as "outer/inner"; "" outside ensembles.

    estimator : estimator
        The part.

    X : any, of length 1
        The clip.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import MahalanobisDetector, ThresholdTuner
    >>> from sklearn_asd.explanation import detector_parts
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> tuner = ThresholdTuner(MahalanobisDetector(), random_state=0).fit(X)
    >>> [type(part.estimator).__name__ for part in detector_parts(tuner, X)]
    ['ThresholdTuner', 'MahalanobisDetector']
    """

    member: str
    estimator: Any
    X: Any


def detector_parts(detector, X, clip=0):
    """Take a detector apart, down to what judges a clip.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    Yields
    ------
    part : Part
        The detector itself, then what is inside it, from the outside in: the step
        after the transformers of a Pipeline, the members of an ensemble, the detector
        inside a :class:`~sklearn_asd.ThresholdTuner`, the one for the clip's machine
        of a :class:`~sklearn_asd.PerMachine`. What does not judge the clip is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_asd.explanation import detector_parts
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> detector = make_pipeline(StandardScaler(), IsolationForest()).fit(X)
    >>> [type(part.estimator).__name__ for part in detector_parts(detector, X)]
    ['Pipeline', 'IsolationForest']
    """
    yield from _take_apart("", detector, take_clip(X, clip))


def _take_apart(member: str, estimator: Any, X: Any) -> Iterator[Part]:
    yield Part(member, estimator, X)
    if isinstance(estimator, GammaProbabilityEnsemble):
        for name, inner in estimator.named_estimators_.items():
            yield from _take_apart(f"{member}/{name}".lstrip("/"), inner, X)
    elif _judges(estimator, X):
        inside = _open(estimator, X)
        if inside is not None:
            yield from _take_apart(member, *inside)


def clip_spectrograms(detector, X, clip=0):
    """Give a clip as the first part of a detector hears it.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    Returns
    -------
    spectrograms : ClipSpectrograms of length 1
        Its log-mel, with all views.

    Raises
    ------
    TypeError
        If no part of the detector is known to hear spectrograms.

    ValueError
        If the clip could not be used.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter, SpectrumStatistics
    >>> from sklearn_asd.explanation import clip_spectrograms
    >>> X = np.random.default_rng(0).normal(size=(9, 64000)) / 10  # 9 clips of 4 s
    >>> detector = make_pipeline(
    ...     LogMelSegmenter(), SpectrumStatistics(), IsolationForest()).fit(X)
    >>> clip_spectrograms(detector, X, clip=2)
    ClipSpectrograms(1 clip, 128 mels, 1 segments of 96 frames)
    """
    for part in detector_parts(detector, X, clip):
        if isinstance(part.X, ClipSpectrograms):
            return _usable(part.X)
    raise _hears_none(detector)


def score_variants(
    estimator: Any,
    X: Any,
    X_normal: Any,
    vary: Callable[[ClipSpectrograms, ClipSpectrograms | None], ClipSpectrograms],
) -> np.ndarray:
    """Score variants of a clip's spectrogram, made where the detector has one.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted.

    X : any, of length 1
        The clip, as the estimator takes it.

    X_normal : any or None
        Normal clips, as the estimator takes them.

    vary : callable
        Maps the spectrograms of the clip and of the normal clips to its variants. It
        is called for each member of an ensemble that has its own segmenter.

    Returns
    -------
    scores : ndarray of shape (n_variants,), float64
        The higher, the more anomalous.

    Raises
    ------
    TypeError, ValueError
        As in :func:`clip_spectrograms`.
    """
    if isinstance(X, ClipSpectrograms):
        variants = vary(_usable(X), _where_usable(X_normal))
        scores = anomaly_scores(estimator, variants)
        if np.isnan(scores).all():
            raise _gives_no_score(estimator)
        return scores
    if isinstance(estimator, GammaProbabilityEnsemble):
        columns = [
            score_variants(member, X, X_normal, vary)
            for member in estimator.estimators_
        ]
        if len({len(column) for column in columns}) > 1:
            columns = [column[:1] for column in columns]  # for the caller to refuse
        raw = np.column_stack(columns)
        return -estimator._aggregate(raw, np.repeat(estimator._groups(X), len(raw)))
    if not _judges(estimator, X):
        raise _gives_no_score(estimator)
    inside = _open(estimator, X, X_normal)
    if inside is None:
        raise _hears_none(estimator)
    return score_variants(*inside, vary)


def clip_embeddings(detector, X):
    """Give the clips' places in the embedding that a network of the detector learnt.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted, with a confidence detector somewhere inside; of an ensemble, the first
        member that has one.

    X : any
        Clips, of the kind that was passed to its `fit`.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_embedding), float64
        NaN for clips that could not be used, or whose machine type that network has
        not learnt.

    Raises
    ------
    TypeError
        If there is no such network, or one for each machine
        (:class:`~sklearn_asd.PerMachine`), whose embeddings have nothing in common.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
    >>> from sklearn_asd.explanation import clip_embeddings
    >>> X = ClipSpectrograms.from_arrays(
    ...     np.random.default_rng(0).normal(size=(4, 64, 96)), machine_id=list("aabb"))
    >>> detector = IDConfidenceDetector(max_epochs=1, random_state=0).fit(X)
    >>> clip_embeddings(detector, X).shape
    (4, 128)
    """
    embedding = _embed(detector, X)
    if embedding is None:
        raise TypeError(
            f"{type(final_step(detector)).__name__} has no embedding of all clips: fit "
            "a detector that trains a network for all machines, such as "
            "IDConfidenceDetector or AugmentConfidenceDetector"
        )
    return embedding


def _embed(estimator: Any, X: Any) -> np.ndarray | None:
    if hasattr(estimator, "embed"):
        return estimator.embed(X)
    if isinstance(estimator, GammaProbabilityEnsemble):
        found = (_embed(member, X) for member in estimator.estimators_)
        return next((one for one in found if one is not None), None)
    if isinstance(estimator, OnlyMachineTypes):
        return _embed_some(estimator, X)
    if isinstance(estimator, EmbeddingNeighborDetector):
        return estimator.detector_.embed(X)
    inside = None if isinstance(estimator, PerMachine) else _open(estimator, X)
    return None if inside is None else _embed(*inside)


def _embed_some(estimator: OnlyMachineTypes, X: Any) -> np.ndarray | None:
    """Embed the clips of some types, and leave the others NaN."""
    ours = estimator._are_ours(machine_columns(X)[0])
    some = _embed(estimator.estimator_, _safe_indexing(X, np.flatnonzero(ours)))
    if some is None:
        return None
    embedding = np.full((len(ours), some.shape[1]), np.nan)
    embedding[ours] = some
    return embedding


def open_pipeline(estimator: Any, *tables: Any) -> tuple[Any, ...]:
    """Run the transformers of a Pipeline up to the spectrograms, once for all.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted.

    *tables : any
        Clips, as it takes them, or None.

    Returns
    -------
    estimator : outlier detector or Pipeline
        What is left of it.

    *tables : any
        Clips, as that takes them. All are unchanged if the estimator is no Pipeline.
    """
    while isinstance(estimator, Pipeline) and not isinstance(
        tables[0], ClipSpectrograms
    ):
        estimator, *tables = _after_first_step(estimator, tables)
    return estimator, *tables


def open_until(kind: type, estimator: Any, *tables: Any) -> tuple[Any, ...]:
    """Look for a kind of estimator inside Pipelines and threshold tuners.

    Parameters
    ----------
    kind : type
        The kind.

    estimator : outlier detector or Pipeline
        Fitted.

    *tables : any
        Clips, as it takes them, or None.

    Returns
    -------
    estimator : object or None
        The first of that kind, or None if there is none.

    *tables : any
        Clips, as that takes them.
    """
    while not isinstance(estimator, kind):
        if not isinstance(estimator, Pipeline | FrozenEstimator | ThresholdTuner):
            return None, *tables
        estimator, *tables = _open(estimator, *tables)
    return estimator, *tables


def clip_thresholds(detector: Any, X: Any, scores: np.ndarray) -> np.ndarray:
    """Find the threshold that each clip's anomaly score is compared with.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted, with `decision_function`.

    X : any
        Clips, as it takes them.

    scores : ndarray of shape (n_clips,)
        Their anomaly scores.

    Returns
    -------
    thresholds : ndarray of shape (n_clips,), float64
        A clip with a higher score is anomalous. NaN for clips that score NaN, where
        machines have thresholds of their own.

    Raises
    ------
    TypeError
        If the detector has no threshold.
    """
    if not hasattr(detector, "decision_function"):
        raise TypeError(
            f"{type(final_step(detector)).__name__} has no threshold, so it judges no "
            "clip: put ThresholdTuner round it"
        )
    last = final_step(detector)
    if isinstance(getattr(last, "offset_", None), float) and hasattr(
        detector, "score_samples"
    ):
        return np.full(len(scores), -last.offset_)
    return scores + decisions(detector, X)  # which costs scoring once more


def take_clip(X: Any, clip: int) -> Any:
    """Choose one clip, as a table of length 1.

    Parameters
    ----------
    X : any
        Clips.

    clip : int
        Row of the clip; negative ones count from the end.

    Returns
    -------
    X : any, of length 1
        The clip.

    Raises
    ------
    IndexError
        If there is no such row.
    """
    n_clips = _num_samples(X)
    if not -n_clips <= clip < n_clips:
        raise IndexError(f"there is no clip {clip} among {n_clips}")
    return _safe_indexing(X, [clip % n_clips])


def _open(estimator: Any, *tables: Any) -> tuple[Any, ...] | None:
    """What is inside an estimator, and the tables as that takes them; or None."""
    if isinstance(estimator, Pipeline):
        return _after_first_step(estimator, tables)
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator, *tables
    if isinstance(estimator, ThresholdTuner):
        return estimator.detector_, *tables
    if isinstance(estimator, OnlyMachineTypes):
        return estimator.estimator_, *tables
    if isinstance(estimator, PerMachine):
        (label,) = known_labels(tables[0], "to choose the detector that scores a clip")
        return estimator.estimators_[label], *tables
    return None


def _after_first_step(pipeline: Pipeline, tables: Any) -> tuple[Any, ...]:
    first = pipeline.steps[0][1]
    if len(pipeline) == 1:
        return first, *tables
    if first is not None and first != "passthrough":
        tables = [None if X is None else first.transform(X) for X in tables]
    rest = pipeline[1:]
    return rest.steps[0][1] if len(rest) == 1 else rest, *tables


def _judges(estimator: Any, X: Any) -> bool:
    """Tell whether an estimator has an opinion on a clip."""
    if not isinstance(estimator, OnlyMachineTypes):
        return True
    kinds = machine_columns(X)[0]
    return kinds is not None and bool(estimator._are_ours(kinds).all())


def _usable(X: ClipSpectrograms) -> ClipSpectrograms:
    if not X.usable.all():
        raise ValueError(
            "the clip has no segments, as it could not be used: choose another"
        )
    return X


def _where_usable(X: ClipSpectrograms | None) -> ClipSpectrograms | None:
    if X is None:
        return None
    return X[X.usable] if X.usable.any() else None


def _gives_no_score(estimator: Any) -> ValueError:
    return ValueError(
        f"{type(final_step(estimator)).__name__} gives the clip no score, as its "
        "machine type was not learnt: choose another clip"
    )


def _hears_none(estimator: Any) -> TypeError:
    return TypeError(
        f"{type(final_step(estimator)).__name__} hears no spectrograms that could be "
        "cut into parts: use a detector on ClipSpectrograms, or a Pipeline with "
        "LogMelSegmenter"
    )
