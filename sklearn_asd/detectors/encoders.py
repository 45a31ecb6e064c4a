"""Encoders: what turns clips into rows of numbers, between which others measure.

An encoder is an estimator with `fit` and either `embed`, such as a detector that learns
an embedding, or `transform`, such as SpectrumStatistics or a scaler.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import HasMethods

__all__ = ["ENCODER", "embed_clips"]

# The constraint of a parameter that takes an encoder.
ENCODER = [HasMethods(["fit", "embed"]), HasMethods(["fit", "transform"])]


def embed_clips(encoder: Any, X: Any) -> np.ndarray:
    """Turn clips into rows of numbers: by `embed` if the encoder has it.

    Parameters
    ----------
    encoder : estimator
        Fitted, with the method ``embed(X)`` or ``transform(X)``.

    X : any of n_clips
        Clips, as the encoder takes them.

    Returns
    -------
    embedding : ndarray of shape (n_clips, n_features), float64
        Rows of NaN for clips that cannot be used: those for which the encoder gives
        NaN anywhere.

    Raises
    ------
    ValueError
        If the encoder gives anything but an array of finite numbers and NaN with one
        row for each clip.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sklearn_asd.detectors.encoders import embed_clips
    >>> X = [[0.0, 1.0], [2.0, 5.0]]
    >>> embed_clips(MinMaxScaler().fit(X), X)
    array([[0., 0.],
           [1., 1.]])
    """
    method = "embed" if hasattr(encoder, "embed") else "transform"
    name = f"{type(encoder).__name__}.{method}"
    given = getattr(encoder, method)(X)
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
