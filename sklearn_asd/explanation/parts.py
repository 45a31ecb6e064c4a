"""Spectrograms, embeddings and scores of clips inside a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta import PerMachine
from sklearn_asd.meta.scoring import anomaly_scores, final_step
from sklearn_asd.meta.structure import Opened, scatter

__all__ = [
    "Part",
    "clip_embeddings",
    "clip_spectrograms",
    "detector_parts",
    "embed_clips",
    "find_spectrograms",
    "score_variants",
    "take_clip",
]


class Part(NamedTuple):
    """A fitted detector inside another one, and a clip as it takes it.

    Attributes
    ----------
    member : str
        Name of the member of an ensemble that it belongs to, or of the member's member
        as "outer/inner"; "" outside ensembles.

    estimator : estimator
        The inner detector.

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
    """List a detector and the detectors inside it that score a clip.

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
        The detector itself, then those inside it, from the outside in: the step after
        the transformers of a Pipeline, the members of an ensemble, the detector inside
        a :class:`~sklearn_asd.ThresholdTuner`, the one for the clip's machine of a
        :class:`~sklearn_asd.PerMachine`. Detectors that do not score the clip are left
        out.

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
    for one in Opened(detector, take_clip(X, clip)):
        yield Part(one.name, one.estimator, one.X)


def clip_spectrograms(detector, X, clip=0):
    """Compute the spectrogram of a clip that a detector uses.

    That of the first segmenter, if members of an ensemble have different ones.

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
        If no detector inside takes spectrograms.

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
    return find_spectrograms(Opened(detector, take_clip(X, clip)))


def find_spectrograms(opened: Opened) -> ClipSpectrograms:
    """Find the outermost log-mel of one clip; see :func:`clip_spectrograms`.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    Returns
    -------
    spectrograms : ClipSpectrograms of length 1
        Its log-mel, with all views.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms.

    ValueError
        If the clip could not be used.
    """
    for one in opened:
        # An encoder's features are no bands of frequency.
        if isinstance(one.X, ClipSpectrograms) and one.X.band_scale != "feature":
            return _check_usable(one.X)
    raise _make_no_spectrograms_error(opened.estimator)


def score_variants(
    opened: Opened,
    normal: Opened | None,
    vary: Callable[
        [ClipSpectrograms, ClipSpectrograms | None],
        tuple[Iterable[ClipSpectrograms], np.ndarray],
    ],
) -> tuple[np.ndarray, np.ndarray]:
    """Score variants of a clip's spectrogram, which replace it inside the detector.

    Parameters
    ----------
    opened : Opened
        The detector with one clip.

    normal : Opened or None
        The same detector with normal clips of the same machine.

    vary : callable
        Maps the spectrograms of the clip and of the normal clips to variants of the
        clip, in batches, and to the grid of segments or cells that they stand for. It
        is called for each member of an ensemble that has its own segmenter.

    Returns
    -------
    scores : ndarray of shape (n_variants,), float64
        The higher, the more anomalous.

    grid : ndarray
        The grid, which all members share.

    Raises
    ------
    TypeError, ValueError
        As in :func:`clip_spectrograms`; or if members have different grids.
    """
    estimator = opened.estimator
    if isinstance(opened.X, ClipSpectrograms):
        batches, grid = vary(_check_usable(opened.X), _select_usable(normal))
        return _score_batches(estimator, batches), grid
    if not opened.inner:
        if hasattr(estimator, "inner_detectors"):
            raise _make_no_score_error(estimator)
        raise _make_no_spectrograms_error(estimator)
    # Detectors that score no row are left out: clips and normal clips may have others.
    others = getattr(normal, "inner", [])  # none without normal clips
    normals = {id(final_step(other.estimator)): other for other in others}
    scored = [
        score_variants(one, normals.get(id(final_step(one.estimator))), vary)
        for one in opened.inner
    ]
    columns, grids = map(list, zip(*scored, strict=True))
    if not all(np.array_equal(grid, grids[0]) for grid in grids):
        raise ValueError(
            "the members of the ensemble use different segments or mel bands, so these "
            "have no common score: put one LogMelSegmenter before the ensemble, or "
            "explain one of its members"
        )
    if not hasattr(estimator, "combine_scores"):
        return columns[0], grids[0]
    same_clip = _safe_indexing(opened.X, np.zeros(len(columns[0]), dtype=int))
    scores = -estimator.combine_scores(columns, [None] * len(columns), same_clip)
    return scores, grids[0]


def clip_embeddings(detector, X):
    """Embed clips by a network of the detector.

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
        NaN for clips that could not be used, or whose machine type the network was not
        trained on.

    Raises
    ------
    TypeError
        If there is no such network, or one for each machine
        (:class:`~sklearn_asd.PerMachine`), as their embeddings cannot be compared.

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
    embedding = embed_clips(Opened(detector, X))
    if embedding is None:
        raise TypeError(
            f"{type(final_step(detector)).__name__} has no embedding of all clips: fit "
            "a detector that trains a network for all machines, such as "
            "IDConfidenceDetector or AugmentConfidenceDetector"
        )
    return embedding


def embed_clips(opened: Opened) -> np.ndarray | None:
    """Embed clips by the first network of a detector that scores all machines.

    Parameters
    ----------
    opened : Opened
        The detector with the clips.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_embedding), float64, or None
        NaN for clips that could not be used, or whose machine type the network was not
        trained on; None if there is no such network.
    """
    if hasattr(opened.estimator, "embed"):
        return opened.estimator.embed(opened.X)
    if isinstance(opened.estimator, PerMachine):  # embeddings cannot be compared
        return None
    for one in opened.inner:
        embedding = embed_clips(one)
        if embedding is not None:
            return scatter([(one.rows, embedding)], _num_samples(opened.X))
    return None


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


def _score_batches(estimator: Any, batches: Iterable[ClipSpectrograms]) -> np.ndarray:
    scores = np.concatenate([anomaly_scores(estimator, one) for one in batches])
    if np.isnan(scores).all():
        raise _make_no_score_error(estimator)
    return scores


def _check_usable(X: ClipSpectrograms) -> ClipSpectrograms:
    if not X.usable.all():
        raise ValueError(
            "the clip has no segments, as it could not be used: choose another one"
        )
    return X


def _select_usable(normal: Opened | None) -> ClipSpectrograms | None:
    if normal is None or not normal.X.usable.any():
        return None
    return normal.X[normal.X.usable]


def _make_no_score_error(estimator: Any) -> ValueError:
    return ValueError(
        f"{type(final_step(estimator)).__name__} gives the clip no score, as it was "
        "not trained on its machine type: choose another clip"
    )


def _make_no_spectrograms_error(estimator: Any) -> TypeError:
    return TypeError(
        f"{type(final_step(estimator)).__name__} takes no spectrograms that could be "
        "cut into pieces: use a detector on ClipSpectrograms, or a Pipeline with "
        "LogMelSegmenter"
    )
