"""Scores of the segments of a clip, for detectors that pool them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd.explanation.axes import frame_duration
from sklearn_asd.explanation.parts import score_variants, take_clip
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.features.spectrograms import SEGMENT_FRAMES, SEGMENT_HOP_FRAMES
from sklearn_asd.meta.structure import Opened

__all__ = ["segment_scores"]


def segment_scores(detector, X, clip=0):
    """Score each segment of a clip, for detectors that pool the scores of segments.

    These are the confidence detectors, the autoencoder, and detectors made of them.
    Detectors of whole clips, such as :class:`~sklearn_asd.GaussianDetector`, score
    segments higher than clips, as short sounds vary more: :func:`time_scores` tells
    when in a clip any detector finds the anomaly.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted. It may be inside Pipelines, ensembles,
        :class:`~sklearn_asd.ThresholdTuner`, :class:`~sklearn_asd.PerMachine` and so
        on. A detector of your own says that it pools segments by the class attribute
        ``pools_segments = True``.

    X : any
        Clips, of the kind that was passed to its `fit`.

    clip : int, default=0
        Row of the clip.

    Returns
    -------
    scores : DataFrame of n_segments rows
        `start` and `stop` of each segment in s, or in frames if the frame rate is not
        known, and its `anomaly_score`: the higher, the more anomalous. Detectors in
        whole-clip mode get segments of 96 frames, or the whole clip if it is shorter.

    Raises
    ------
    TypeError
        If no detector inside takes spectrograms, or one does not pool segments.

    ValueError
        If the clip could not be used, or members of an ensemble cut it into different
        segments.

    See Also
    --------
    time_scores : What each piece of a clip contributes to its score.

    Notes
    -----
    Compare the segments of a clip with each other, not with the threshold of clips:
    single segments vary more than their mean.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
    >>> from sklearn_asd.explanation import segment_scores
    >>> X = ClipSpectrograms.from_arrays(
    ...     np.random.default_rng(0).normal(size=(4, 64, 200)), machine_id=list("aabb"))
    >>> detector = IDConfidenceDetector(max_epochs=1, random_state=0).fit(X)
    >>> segment_scores(detector, X)[["start", "stop"]]
       start  stop
    0      0    96
    1     48   144
    2     96   192
    """
    opened = Opened(detector, take_clip(X, clip))
    scores, grid = score_variants(opened, None, _split_clip)
    _check_pools_segments(opened)
    start, stop = grid.T
    return pd.DataFrame({"start": start, "stop": stop, "anomaly_score": scores})


def _check_pools_segments(opened: Opened) -> None:
    """Refuse detectors whose scores of segments and of clips cannot be compared."""
    for one in opened:
        kind = type(one.estimator)
        if not one.inner and not getattr(kind, "pools_segments", False):
            raise TypeError(
                f"{kind.__name__} does not pool the scores of segments, so a single "
                "segment has no score that could be compared: use time_scores, or set "
                f"pools_segments = True in class {kind.__name__} if it does"
            )


def _split_clip(X: ClipSpectrograms, _: Any) -> tuple[list[Any], np.ndarray]:
    """Segments of one clip as clips, and when each starts and stops."""
    if X.segment_frames is None:
        # Whole-clip detectors score the segments of the paper's other systems.
        shortest = int((X.stops - X.starts).min())
        segmented = X.resegment(min(SEGMENT_FRAMES, shortest), SEGMENT_HOP_FRAMES)
        segments = segmented.split_segments().resegment(None, X.segment_hop_frames)
    else:
        segments = X.split_segments()
    view = X.main_view
    frames = np.column_stack([segments.starts[:, view], segments.stops[:, view]])
    return [segments], (frames - X.starts[0, view]) * (frame_duration(X) or 1)
