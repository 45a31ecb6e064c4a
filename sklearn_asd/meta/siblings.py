"""How well a detector tells a machine's normal clips from those of its siblings.

Siblings are the other machines of the same type. No anomalies are needed: a detector
that takes a sibling's sound for the machine's own will hardly hear a fault either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd.audio.machines import (
    known_labels,
    machine_columns,
    machine_labels,
    relabel,
)
from sklearn_asd.detectors.siblings import sibling_separation
from sklearn_asd.meta.scoring import anomaly_scores, final_step
from sklearn_asd.meta.structure import Opened, take_rows

__all__ = ["own_table", "rank_members", "sibling_table"]

_COLUMNS = ["sibling_auc", "sibling_gap"]


def sibling_table(estimator: Any, X: Any) -> pd.DataFrame:
    """Measure for each machine how well a detector tells it from its siblings.

    The clips of the siblings, the other machines of its type, are scored as if they
    were clips of the machine. A machine without siblings is compared with machines of
    other types, which are easier to tell apart.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted; of this library, of scikit-learn or of PyOD.

    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Normal clips with machine IDs, as the detector takes them, that it was not
        fitted on.

    Returns
    -------
    table : DataFrame of n_machines rows
        Columns `sibling_auc`, in [0, 1], and `sibling_gap`, as of
        :func:`~sklearn_asd.detectors.siblings.sibling_separation`, indexed by the names
        of the machines, "type/id" or "id". NaN where the detector scores no clip of the
        machine or of its siblings.

    Raises
    ------
    ValueError
        If X lacks machine IDs, or holds a single machine.

    Notes
    -----
    A detector that does not ask for the machine gives a clip the same score whatever
    the machine, so it separates the machines only as far as some are unlike the rest.

    Each clip is scored once for each machine of its type. A transformer before the
    detector reads it once.

    References
    ----------
    Wilkinghoff and Tan, 2026, choose by several kinds of pseudo-anomalies, of which
    clips of other machines are one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     ClipSpectrograms, MahalanobisDetector, PerMachine, SpectrumStatistics)
    >>> from sklearn_asd.meta.siblings import sibling_table
    >>> levels = np.repeat([0.0, 3.0], 20)[:, None, None]
    >>> log_mel = np.random.default_rng(0).normal(size=(40, 4, 10)) + levels
    >>> X = ClipSpectrograms.from_arrays(
    ...     log_mel, machine_id=["00"] * 20 + ["01"] * 20, segment_frames=10)
    >>> detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    >>> sibling_table(detect.fit(X[::2]), X[1::2])["sibling_auc"]
    00    1.0
    01    1.0
    Name: sibling_auc, dtype: float64
    """
    labels = known_labels(X, "to tell machines from their siblings").astype(str)
    machines = np.unique(labels)
    if len(machines) < 2:
        raise ValueError(
            f"X holds clips of {len(machines)} machine ({', '.join(machines)}), and a "
            "sibling AUC needs two: add clips of other machines, or name the machine's "
            "operating patterns as machine_id. To choose for a single machine, use "
            "labelled anomalies with mean_auc_scorer, or the likelihood or false alarm "
            "rate of clips left out; an ensemble of all candidates needs no choice"
        )
    opened = _transform_once(estimator, X)
    own_scores = anomaly_scores(opened.estimator, opened.X)
    rows = [
        _compare(opened, labels, np.flatnonzero(labels == machine), own_scores)
        for machine in machines
    ]
    return pd.DataFrame(rows, index=machines.astype(object), columns=_COLUMNS)


def own_table(estimator: Any) -> pd.DataFrame | None:
    """Look up sibling AUCs that a detector computed itself.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted.

    Returns
    -------
    table : DataFrame or None
        As of :func:`sibling_table`, if the detector has an attribute `machines_` with
        these columns.
    """
    table: Any = getattr(final_step(estimator), "machines_", None)
    is_known = isinstance(table, pd.DataFrame) and set(_COLUMNS) <= set(table.columns)
    return table[_COLUMNS] if is_known else None


def rank_members(
    tables: list[pd.DataFrame], machines: set[str]
) -> tuple[list[int], list[float]]:
    """Order detectors by how well they tell machines from their siblings.

    Parameters
    ----------
    tables : list of DataFrame
        For each detector, as of :func:`sibling_table`.

    machines : set of str
        Names of the machines that count.

    Returns
    -------
    order : list of int
        Detectors from the largest to the lowest mean AUC. If means are equal to 3
        digits, the larger mean gap comes first, and then the first detector. Detectors
        without an AUC come last.

    aucs : list of float
        Mean AUC of each detector, in the order of `tables`.
    """
    means = [table.reindex(sorted(machines)).mean().tolist() for table in tables]
    keys = [
        (np.inf, 0.0) if np.isnan(auc) else (-round(auc, 3), -np.nan_to_num(gap))
        for auc, gap in means
    ]
    order = sorted(range(len(tables)), key=keys.__getitem__)  # keeps equal ones' order
    return order, [auc for auc, _ in means]


def _transform_once(estimator: Any, X: Any) -> Opened:
    """Run the transformers after which the clips still know their machines."""
    opened = Opened(estimator, X)
    while not hasattr(opened.estimator, "inner_detectors") and opened.inner:
        if machine_labels(opened.inner[0].X) is None:
            break
        opened = opened.inner[0]
    return opened


def _compare(
    opened: Opened, labels: np.ndarray, own: np.ndarray, own_scores: np.ndarray
) -> tuple[float, float]:
    """Separate the machine of some rows from its siblings, or else from all others."""
    machine_type, machine_id = machine_columns(opened.X)
    others = labels != labels[own[0]]
    kind = None if machine_type is None else machine_type[own[0]]
    if machine_type is not None and (others & (machine_type == kind)).any():
        others &= machine_type == kind
    siblings = take_rows(opened.X, np.flatnonzero(others))
    name = None if machine_id is None else machine_id[own[0]]
    scores = anomaly_scores(opened.estimator, relabel(siblings, kind, name))
    return sibling_separation(own_scores[own], scores)
