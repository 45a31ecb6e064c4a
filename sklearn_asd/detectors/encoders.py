"""Encoders: what turns clips into rows of numbers, between which others measure.

An encoder is an estimator with `fit` and either `embed`, such as a detector that learns
an embedding, or `transform`, such as SpectrumStatistics or a scaler.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import HasMethods
from sklearn_asd._utils.validation import refuse_masked
from sklearn_asd.features.pooling import Poolings, name_poolings

__all__ = ["ENCODER", "check_pooling", "embed_clips"]

# The constraint of a parameter that takes an encoder.
ENCODER = [HasMethods(["fit", "embed"]), HasMethods(["fit", "transform"])]


def check_pooling(encoder: Any, pooling: Poolings | None) -> None:
    """Refuse a pooling that the encoder does not take.

    Parameters
    ----------
    encoder : estimator
        Fitted or not.

    pooling : str, callable, sequence of these, or None
        What ``embed(X, pooling=...)`` would be given; None leaves it out.

    Raises
    ------
    ValueError
        If there is one, and `embed` is missing or has no such parameter.

    Examples
    --------
    >>> from sklearn_asd import IDConfidenceDetector
    >>> from sklearn_asd.detectors.encoders import check_pooling
    >>> check_pooling(IDConfidenceDetector(), "max")  # no error
    """
    if pooling is None:
        return
    name_poolings(pooling)
    kind = type(encoder).__name__
    if not hasattr(encoder, "embed"):
        raise ValueError(
            f"pooling={pooling!r:.200}, and {kind} has no embed(X, pooling=...) that "
            "takes "
            "it: use pooling=None, and let the encoder pool, as "
            "SpectrumStatistics(statistics=...) does"
        )
    if "pooling" not in signature(encoder.embed).parameters:
        raise ValueError(
            f"pooling={pooling!r:.200}, and {kind}.embed has no parameter pooling: add "
            "it, "
            "or use pooling=None"
        )


def embed_clips(encoder: Any, X: Any, pooling: Poolings | None = None) -> np.ndarray:
    """Turn clips into rows of numbers: by `embed` if the encoder has it.

    Parameters
    ----------
    encoder : estimator
        Fitted, with the method ``embed(X)`` or ``transform(X)``.

    X : any of n_clips
        Clips, as the encoder takes them.

    pooling : str, callable, sequence of these, or None, default=None
        How `embed` pools over time; None leaves that to the encoder.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_features), float64
        Rows of NaN for clips that cannot be used: those for which the encoder gives
        NaN anywhere.

    Raises
    ------
    ValueError
        If the encoder gives anything but an array of finite numbers and NaN with one
        row for each clip, or takes no pooling.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sklearn_asd.detectors.encoders import embed_clips
    >>> X = [[0.0, 1.0], [2.0, 5.0]]
    >>> embed_clips(MinMaxScaler().fit(X), X)
    array([[0., 0.],
           [1., 1.]])
    """
    check_pooling(encoder, pooling)
    options = {} if pooling is None else {"pooling": pooling}
    method = "embed" if hasattr(encoder, "embed") else "transform"
    name = f"{type(encoder).__name__}.{method}"
    given = getattr(encoder, method)(refuse_masked(X, "X"), **options)
    refuse_masked(given, f"what {name} gave")
    try:
        embedding = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} gave a {type(given).__name__}, which is no array of numbers "
            f"({error}); it must give a dense array of shape (n_clips, n_features)"
        ) from error
    n_clips = _num_samples(X)
    if embedding.ndim != 2 or len(embedding) != n_clips or not embedding.shape[1]:
        raise ValueError(
            f"{name} gave an array of shape {embedding.shape} for {n_clips} clips; it "
            f"must be ({n_clips}, n_features)"
        )
    infinite = np.flatnonzero(np.isinf(embedding).any(axis=1))
    if len(infinite):
        raise ValueError(
            f"{name} gave infinity for clips {abbreviate(list(map(str, infinite)))}: "
            "repair them or leave them out"
        )
    embedding[np.isnan(embedding).any(axis=1)] = np.nan
    return embedding
