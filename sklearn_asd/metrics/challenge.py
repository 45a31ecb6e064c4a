"""The official scores of DCASE Task 2, from 2020 to 2026.

**Conventions**

- Scores are ``score_samples``: higher is more normal. Anomalies are the positive class
  of every ROC curve. pAUC is up to a false positive rate of 0.1, standardised.
- A *section* is a machine whose clips are ranked together: a machine ID in 2020, a
  section of a machine type since 2021. It is the column `section` of X, which
  :func:`~sklearn_asd.load_clips` fills in, or `machine_id` if there is none.
- The *domain* of a clip, "source" or "target", says whether it was recorded under the
  conditions of most training clips.

**Rules**

=========  ==============================  ======================  ====================
year       AUC                             pAUC                    combination
=========  ==============================  ======================  ====================
2020       clips of the machine ID         the same                arithmetic means
                                                                   over IDs, then types
2021       clips of a section in a domain  the same                harmonic mean of all
2022 to    normal clips of a domain,       all clips of a section  harmonic mean of all
2026       all anomalies of the section                            (two AUCs and a pAUC
                                                                   for each section)
=========  ==============================  ======================  ====================

The challenge of 2020 ranked AUC and pAUC apart; one number for both is their mean, as
in the paper's section 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import roc_auc_score

from sklearn_asd._utils.messages import abbreviate
from sklearn_asd.metrics.areas import auc_table
from sklearn_asd.metrics.labelled import group_index, read_labelled

__all__ = [
    "check_year",
    "combine_areas",
    "dcase_score",
    "dcase_table",
    "harmonic_mean",
]

_YEARS = range(2020, 2027)
_DOMAINS = ("source", "target")
_AREAS = ("auc", "auc_source", "auc_target", "pauc")
_OFFICIAL = "official"


def check_year(year: int) -> int:
    """Refuse a year without a rule.

    Parameters
    ----------
    year : int
        The year.

    Returns
    -------
    year : int
        The same.

    Raises
    ------
    ValueError
        If it is not 2020 to 2026.
    """
    if year not in _YEARS:
        raise ValueError(
            f"year={year!r:.200} has no rule here: it is one of "
            f"{', '.join(map(str, _YEARS))}"
        )
    return int(year)


def dcase_score(
    X: Any,
    y: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    *,
    year: int,
) -> float:
    """Official score of DCASE Task 2 in a year.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Machine types, sections (see :func:`dcase_table`) and, since 2021, the column
        `domain`.

    y : array-like of shape (n_clips,), default=None
        +1 for normal clips, -1 for anomalous ones. None takes the column `label` of X.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    year : int
        2020 to 2026.

    Returns
    -------
    score : float in [0, 1]
        The last figure of :func:`dcase_table`. 0.5 is chance.

    Raises
    ------
    ValueError
        As :func:`dcase_table`; and if a section lacks normal clips, anomalous ones or a
        domain, so that the score is not defined. The message names it.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import dcase_score
    >>> clips = pd.DataFrame({
    ...     "machine_id": "00",
    ...     "domain": ["source", "source", "target", "target", "source", "target"],
    ...     "label": [1, 1, 1, 1, -1, -1]})
    >>> round(
    ...     dcase_score(clips, scores=[-.1, -.2, -.3, -.4, -.5, -.25], year=2023), 7)
    0.6885246
    """
    table = dcase_table(X, y, scores, year=year)
    areas = table[[name for name in _AREAS if name in table]]
    incomplete = table.index[areas.isna().any(axis=1)]
    incomplete = [one for one in incomplete if _OFFICIAL not in one]
    if incomplete:
        names = abbreviate(["/".join(filter(None, one)) for one in incomplete])
        raise ValueError(
            f"the score of {year} is not defined, as normal or anomalous clips are "
            f"missing for {names}: dcase_table shows the counts; add the clips, or "
            "leave the section out"
        )
    return float(table["score"].iloc[-1])


def dcase_table(
    X: Any,
    y: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    *,
    year: int,
) -> pd.DataFrame:
    """AUC and partial AUC of each section by the rule of a year, and the score.

    Parameters
    ----------
    X : DataFrame, Clips or ClipSpectrograms of n_clips
        Machine types, sections and, since 2021, the column `domain` with "source" or
        "target". The section is the column `section` if X has it, with any value, else
        `machine_id`.

    y : array-like of shape (n_clips,), default=None
        +1 for normal clips, -1 for anomalous ones. None takes the column `label` of X.

    scores : array-like of shape (n_clips,)
        ``score_samples`` of the clips: higher is more normal.

    year : int
        2020 to 2026.

    Returns
    -------
    table : DataFrame
        A row for each section of each machine type, in 2021 for each domain of it. The
        columns are `n_normal`, `n_anomalous`, the areas in [0, 1], and `score`: the
        section's own areas, combined in the way of the year. 2020 and 2021 have the
        areas `auc` and `pauc`; 2022 and later have `auc_source`, `auc_target` (the
        normal clips of the domain against *all* anomalies of the section) and `pauc`
        (all clips of the section, counted once). What lacks a class or domain is NaN.
        The last row is "official": each area averaged over the sections in the way of
        the year, and in `score` the official score; NaN if any area is.

    Raises
    ------
    ValueError
        If the year has no rule, X, y and scores differ in length, y holds other labels,
        scores hold NaN, or domains are missing or have other names.

    See Also
    --------
    auc_table : By machine or other columns, for recordings of your own.

    Notes
    -----
    Until 2021, and in some publications since, both classes of an AUC are of the same
    domain; ``auc_table(X, by=["machine_type", "machine_id", "domain"])`` gives that.

    References
    ----------
    The rules are those of the evaluators' published programs, see the module.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.metrics import dcase_table
    >>> clips = pd.DataFrame({
    ...     "machine_type": "fan", "machine_id": "00",
    ...     "domain": ["source", "source", "target", "target", "source", "target"],
    ...     "label": [1, 1, 1, 1, -1, -1]})
    >>> table = dcase_table(clips, scores=[-.1, -.2, -.3, -.4, -.5, -.25], year=2023)
    >>> table.filter(regex="auc").round(4)
                          auc_source  auc_target    pauc
    machine_type section
    fan          00              1.0         0.5  0.7368
    official                     1.0         0.5  0.7368
    """
    check_year(year)
    labelled = read_labelled(X, y, scores)
    clips = _tabulate(X, *labelled, with_domain=year > 2020)
    levels = ["machine_type", "section"]
    if year < 2022:
        levels += ["domain"] if year == 2021 else []
        table = auc_table(clips, clips["label"], clips["scores"], by=levels)
        table = table[~table.index.isin(["average"], level=1)]
        table = table[~table.index.isin(["average"], level=0)]
    else:
        columns = ["domain", "label", "scores"]
        table = clips.groupby(levels)[columns].apply(_rate_section)
    return combine_areas(table, year=year)


def combine_areas(table: pd.DataFrame, *, year: int) -> pd.DataFrame:
    """Add the column and the row that combine areas in the way of a year.

    Parameters
    ----------
    table : DataFrame of n_sections rows
        A row for each section, whose first index level is the machine type, with the
        areas of :func:`dcase_table`, and counts or none.

    year : int
        2020 to 2026.

    Returns
    -------
    table : DataFrame of n_sections + 1 rows
        As of :func:`dcase_table`.
    """
    areas = [name for name in _AREAS if name in table]
    table = table.assign(score=_combine(table[areas], axis=1, year=year))
    row = table.filter(like="n_").sum()
    if year == 2020:
        # IDs count the same within a type, and types count the same.
        of_types = table[areas].groupby(level=0).agg(_mean)
        row = pd.concat([row, of_types.agg(_mean)])
        row["score"] = row[areas].mean(skipna=False)
    else:
        row = pd.concat([row, _combine(table[areas], axis=0, year=year)])
        row["score"] = harmonic_mean(table[areas].to_numpy().ravel())
    name = (_OFFICIAL, *[""] * (table.index.nlevels - 1))
    index = pd.MultiIndex.from_tuples([name], names=table.index.names)
    official = row.to_frame().T.set_axis(index)
    counts = dict.fromkeys(table.filter(like="n_"), int)
    return pd.concat([table, official[table.columns]]).astype(counts)


def _tabulate(
    X: Any, normal: np.ndarray, scores: np.ndarray, with_domain: bool
) -> pd.DataFrame:
    """Make a table of what the rules ask for."""
    has_section = isinstance(X, pd.DataFrame) and "section" in X
    has_section = has_section and X["section"].notna().any()
    by = ["machine_type", "section" if has_section else "machine_id"]
    index = group_index(X, [*by, "domain"] if with_domain else by)
    clips = index.to_frame(index=False).set_axis(
        ["machine_type", "section", "domain"][: index.nlevels], axis=1
    )
    if with_domain:
        strange = sorted(set(clips["domain"]) - set(_DOMAINS))
        if strange:
            raise ValueError(
                f"domains are source or target; X holds {abbreviate(strange)} "
                '("" is a missing one): recode the column domain'
            )
    return clips.assign(label=np.where(normal, 1, -1), scores=scores)


def _rate_section(clips: pd.DataFrame) -> pd.Series:
    """Rate a section in the way of 2022 and later."""
    anomalous = clips["label"] == -1
    row = {"n_normal": (~anomalous).sum(), "n_anomalous": anomalous.sum()}
    for domain in _DOMAINS:
        row[f"auc_{domain}"] = _area(clips[anomalous | (clips["domain"] == domain)])
    return pd.Series(row | {"pauc": _area(clips, max_fpr=0.1)})


def _area(clips: pd.DataFrame, **options: float) -> float:
    anomalous = clips["label"] == -1
    if anomalous.all() or not anomalous.any():
        return np.nan
    return float(roc_auc_score(anomalous, -clips["scores"], **options))


def _combine(areas: pd.DataFrame, *, axis: int, year: int) -> pd.Series:
    if year == 2020:
        return areas.mean(axis=axis, skipna=False)
    return areas.apply(harmonic_mean, axis=axis)


def _mean(areas: pd.Series) -> float:
    return areas.mean(skipna=False)


def harmonic_mean(areas: ArrayLike) -> float:
    """Harmonic mean, in which 0 is machine epsilon, as for the evaluators.

    Parameters
    ----------
    areas : array-like of float
        Of areas or other measures, in [0, 1].

    Returns
    -------
    mean : float
        NaN if one of them is.
    """
    areas = np.asarray(areas, dtype=float)
    return float(stats.hmean(np.maximum(areas, np.finfo(float).eps)))
