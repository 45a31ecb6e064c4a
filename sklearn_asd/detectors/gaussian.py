"""GaussianDetector: a clip is anomalous if it is far from its machine's mean."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import (
    JudgingMixin,
    adds_or_not,
    all_or_nothing,
    fit_clone,
    left_out_threshold,
)
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import Interval, StrOptions, validates_parameters
from sklearn_asd._utils.validation import (
    is_table_of_numbers,
    normal_rows,
    refuse_masked,
    validate_data,
)
from sklearn_asd.audio.machines import known_labels, machine_index
from sklearn_asd.detectors.adding import (
    append_known,
    choose_new,
    refuse_without_rows,
)
from sklearn_asd.detectors.constants import (
    are_copies,
    find_units,
    refuse_extremes,
    warn_of_copies,
)
from sklearn_asd.detectors.encoders import ENCODER, embed_clips
from sklearn_asd.detectors.labels import label_clips, label_training_clips
from sklearn_asd.detectors.shared_covariance import (
    SHARINGS,
    SHRINKAGES,
    STANDARDIZATIONS,
    Gaussians,
    fit_gaussians,
    list_settings,
)
from sklearn_asd.detectors.siblings import sibling_separation

__all__ = ["GaussianDetector"]

# Of `machines_`.
_COLUMNS = (
    "n_clips",
    "sharing",
    "shrinkage",
    "standardization",
    "sibling_auc",
    "sibling_gap",
)


class GaussianDetector(MetaEstimatorMixin, JudgingMixin, BaseEstimator):
    """A clip is anomalous if it is far from its machine's mean.

    The anomaly score is the Mahalanobis distance. Each machine has a mean of its own.
    Its covariance is shrunk between its own and one that is common to all machines of
    its type, and then towards the identity; how far is chosen by the likelihood of
    training clips that are left out. So few clips of many machines, and many clips of
    one, are both used well.

    Parameters
    ----------
    encoder : estimator or None, default=None
        Turns clips into rows of numbers; it is cloned. It has the method ``fit(X)``,
        and ``transform(X)`` as :class:`SpectrumStatistics` has it, or ``embed(X)`` as
        :class:`IDConfidenceDetector` has it. None takes X as rows of numbers of one
        machine.

    sharing : float in [0, 1] or "auto", default="auto"
        Weight of the covariance that is common to the machines of a type, where a
        machine has the median number of clips; those with fewer share more. 0 gives
        each machine its own covariance, 1 all the same. "auto" chooses by the
        likelihood.

    shrinkage : float in [0, 1] or "auto", default="auto"
        Weight of the identity, times the mean variance, as in
        :class:`sklearn.covariance.ShrunkCovariance`. "auto" chooses by the likelihood.

    standardization : float in [0, 1] or "auto", default=1
        Columns are first divided by this power of their standard deviation within
        machines: at 1 all vary alike, at 0 they stay as they are, so that shrinkage
        holds back the columns that vary least. "auto" chooses among 0, 0.5 and 1 by the
        likelihood, which takes three times as long.

    by_domain : bool, default=False
        Whether each domain of a machine has a mean and a covariance of its own, by the
        column `domain` of X, such as "source" and "target". A clip's score is that of
        the domain it is nearest to; the domain of a clip to score is not used. Domains
        share covariance as machines do, so a few clips of one are enough.

    contamination : float in (0, 0.5], default=0.1
        Share of new normal clips, like those of training, that the threshold calls
        anomalous, judged by training clips that are left out of the fit. Fewer than
        ``1 / contamination - 1`` clips promise nothing.

    Attributes
    ----------
    encoder_ : estimator or None
        The fitted encoder.

    classes_ : ndarray of shape (n_machines,), str
        Names of the machines, "type/id", sorted; absent if the training clips had no
        IDs.

    machines_ : DataFrame of n_means rows
        What was learnt of each machine, by its name ("" without IDs), or of each domain
        of it, such as "fan/00, domain target", with `by_domain`: `n_clips`; the
        chosen `sharing`, `shrinkage` and `standardization`; and how well the machine's
        Gaussian tells its own left-out clips from those of the other machines of its
        type, `sibling_auc`, an AUC, and `sibling_gap`, the difference of the mean
        log-distances in standard deviations. The last two are NaN if it is the only
        one, or its clips are all equal.

    means_ : ndarray of shape (n_means, n_columns)
        Mean of each machine's rows, or of each domain's, in the order of `machines_`.

    whitenings_ : ndarray of shape (n_means, n_columns, n_columns)
        The anomaly score of a row x is ``norm((x - mean) @ whitening)``.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, and then to `add_normals`, as if it
        had been left out of the means and covariances; NaN for anomalous and unusable
        clips, and for those of machines whose clips are all equal, if there are others.
        :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on it.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of columns, or of mel bands if the encoder counts these.

    feature_names_in_ : ndarray of str
        Names of the columns, where X has any.

    See Also
    --------
    SpectrumStatistics : The encoder for spectra, with a choice of statistics over time.
    MahalanobisDetector : The covariance of Ledoit and Wolf, for rows of one machine.

    Notes
    -----
    *Left-out clips* are exact for means and covariances: formulas for the removal of
    one clip take the place of a fit for each. The powers of standard deviations that
    columns are divided by, and the encoder, are those of all training clips.

    *Constant columns* deviate by rounding only: any other deviation from the constant
    is anomalous. `fit` warns of machines whose clips are all equal. They share no
    covariance, and scores of 0 say nothing of other machines' clips: if there are any,
    those of the copies are NaN in `training_score_samples_`.

    *Several machine types* are fitted separately. Their distances do not compare, and
    share one threshold: :class:`~sklearn_asd.ZScoreEnsemble` standardises them.

    Each machine, and with `by_domain` each of its domains, needs two clips; the only
    one of its type three.

    The rows of all training clips are kept for :meth:`add_normals`, 8 bytes for each
    number.

    Cost of `fit`, beside the encoder's: seven eigendecompositions for each machine.
    That takes seconds for 16,000 clips of 256 columns. Scoring a clip multiplies it
    with a matrix.

    References
    ----------
    Friedman, "Regularized Discriminant Analysis", Journal of the American Statistical
    Association 84, 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import GaussianDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 3)) * [10, 1, 1]
    >>> detector = GaussianDetector().fit(X)
    >>> detector.predict([[10, 0, 0], [0, 10, 0]])  # +1 is normal
    array([ 1, -1])

    Of recordings, by the loudest moments of each band:

    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter, SpectrumStatistics
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "valve", n_machines=2, n_train=8, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = GaussianDetector(SpectrumStatistics("rank"))
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)
    >>> detect.machines_["n_clips"].tolist()
    [8, 8]
    """

    _parameter_constraints: dict = {
        "encoder": [*ENCODER, None],
        "sharing": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "standardization": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "by_domain": ["boolean"],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "feature_names_in_": NotRequired[np.ndarray],
        "encoder_": BaseEstimator | None,
        "classes_": NotRequired[np.ndarray],
        "machines_": pd.DataFrame,
        "means_": np.ndarray,
        "whitenings_": np.ndarray,
        "_owners": NotRequired[np.ndarray],  # earlier files have none
        "training_score_samples_": np.ndarray,
        "offset_": Real,
        # Files of earlier versions have none of these.
        "_training_points": NotRequired[np.ndarray],
        "_training_machines": NotRequired[np.ndarray | None],
        "_training_types": NotRequired[np.ndarray | None],
        "_training_domains": NotRequired[np.ndarray | None],
        "_training_rows": NotRequired[np.ndarray],
    }

    # `training_score_samples_` and the threshold are of clips left out of the fit.
    leaves_clips_out = True

    def __init__(
        self,
        encoder=None,
        *,
        sharing="auto",
        shrinkage="auto",
        standardization=1.0,
        by_domain=False,
        contamination=0.1,
    ):
        self.encoder = encoder
        self.sharing = sharing
        self.shrinkage = shrinkage
        self.standardization = standardization
        self.by_domain = by_domain
        self.contamination = contamination

    @validates_parameters(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Estimate the means and covariances of the machines' normal clips.

        Parameters
        ----------
        X : any of n_clips
            Training clips, as the encoder takes them. Clips that cannot be used are
            left out. Machines and their types are read from X where it has them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never learnt from.
            None takes all clips as normal. So does, for a table of numbers, any other
            y, with a warning.

        Returns
        -------
        self : GaussianDetector
            Fitted.

        Raises
        ------
        ValueError
            If y holds anything but +1 and -1, no clip can be used, a machine has fewer
            than two usable normal clips, or three if it is the only one of its type, or
            some clips have a machine ID and others have none, or a number is beyond
            1e50, or `by_domain` is True and clips have no domain.

        Warns
        -----
        UserWarning
            If all training clips of a machine are equal.
        """
        lenient = is_table_of_numbers(X)
        if self.encoder is None:
            X = validate_data(self, X, dtype=np.float64, ensure_min_samples=3)
        n_clips = _num_samples(X)
        rows = np.flatnonzero(normal_rows(y, n_clips, lenient=lenient))
        X = _safe_indexing(X, rows) if len(rows) < n_clips else X
        embedding = self._fit_encoder(X)
        usable = np.flatnonzero(~np.isnan(embedding).any(axis=1))
        if not len(usable):
            raise ValueError(
                "X holds no usable normal clip: y is -1 for all, or no clip can be read"
            )
        self._training_points = refuse_extremes(embedding[usable])
        some = _safe_indexing(X, usable)
        self._training_machines = label_training_clips(some)
        self._training_types = None
        if self._training_machines is not None:  # types of nothing tell nothing apart
            index = machine_index(some)
            kinds = index.get_level_values("machine_type")
            self._training_types = kinds.to_numpy(dtype=str)
        self._training_domains = self._list_domains(some)
        self._training_rows = rows[usable]
        self._learn(n_clips)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Learn from more normal clips, exactly as if `fit` had been given them too.

        Means, covariances, what the likelihood chooses, training scores and threshold
        are computed again of the rows of all clips. The encoder stays as it is: a
        network learns nothing.

        Parameters
        ----------
        X : any of n_clips
            Normal clips of the machines fitted, as the encoder takes them. Clips that
            cannot be used are left out.

        Returns
        -------
        self : GaussianDetector
            Itself.

        Raises
        ------
        ValueError
            If no clip can be used, one is a copy of a clip that was learnt from or is
            of another machine, a number is beyond 1e50, or the detector comes from a
            file of an earlier version, which kept no rows.
        """
        refuse_without_rows(self, "_training_points")
        embedding = self._embed(X)
        usable = choose_new(embedding, self._training_points)
        some = _safe_indexing(X, usable)
        machines = label_clips(some, getattr(self, "classes_", None))
        append_known(
            self,
            usable,
            points=embedding[usable],
            types=self._look_up_types(machines),
            machines=machines,
            domains=self._list_domains(some),
        )
        self._learn(len(self.training_score_samples_) + len(embedding))
        return self

    def _list_domains(self, X: Any) -> np.ndarray | None:
        if not self.by_domain:
            return None
        return known_labels(X, "with by_domain=True", "domain").astype(str)

    def _look_up_types(self, machines: np.ndarray | None) -> list[str] | None:
        """Types of known machines; None if types are not known."""
        known: Any = self._training_machines
        if machines is None or self._training_types is None:
            return None
        types = dict(zip(known, self._training_types, strict=True))
        return [types[machine] for machine in machines]

    def _learn(self, n_clips: int) -> None:
        """Fit the Gaussians, and set what follows from their left-out distances."""
        points = self._training_points
        distances = self._fit_types(points)
        self.training_score_samples_ = np.full(n_clips, np.nan)
        self.training_score_samples_[self._training_rows] = -distances
        self.offset_ = left_out_threshold(-distances, self.contamination)
        if not (distances > 0).all():  # a copy may deviate by a unit in each column
            self.offset_ = min(self.offset_, -float(np.sqrt(points.shape[1])))

    def _fit_encoder(self, X: Any) -> np.ndarray:
        self.encoder_ = None
        if self.encoder is None:
            return X
        self.encoder_ = fit_clone(self.encoder, X)
        if hasattr(self.encoder_, "n_features_in_"):
            self.n_features_in_ = self.encoder_.n_features_in_
        return embed_clips(self.encoder_, X)

    def _fit_types(self, points: np.ndarray) -> np.ndarray:
        """Fit each machine type; return the distances of left-out clips."""
        names, machine, self._owners = self._name_means(len(points))
        n_columns = points.shape[1]
        self.means_ = np.empty((len(names), n_columns))
        self.whitenings_ = np.empty((len(names), n_columns, n_columns))
        types = _group_by_type(self._training_types, len(points))
        for rows in types:
            self._refuse_few(names, machine[rows])
        copies, table = self._fit_copies(points, machine, names)
        distances, tables = np.full(len(points), np.nan), [table]
        if copies.all():
            distances[:] = 0
        for rows in types:
            rows = rows[~copies[rows]]
            if not len(rows):
                continue
            self._refuse_few(names, machine[rows])
            own, number = np.unique(machine[rows], return_inverse=True)
            fitted = fit_gaussians(
                points[rows],
                number,
                list_settings(self.sharing, SHARINGS),
                list_settings(self.shrinkage, SHRINKAGES),
                list_settings(self.standardization, STANDARDIZATIONS),
            )
            self.means_[own], self.whitenings_[own] = fitted.means, fitted.whitenings
            owners = self._owners[own]
            distances[rows] = _find_nearest(fitted, number, owners)
            tables.append(_describe(fitted, number, names[own], owners))
        self.machines_ = pd.concat(tables).loc[list(names)]
        return distances

    def _name_means(self, n_clips: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Names of the means, the mean of each clip, and the machine of each mean."""
        labels: Any = self._training_machines
        if labels is None:
            labels = np.full(n_clips, "")
        else:
            self.classes_ = np.unique(labels)
        known, machine = np.unique(labels, return_inverse=True)
        domains: Any = self._training_domains
        if domains is None:
            return known, machine, np.arange(len(known))
        pairs = sorted(set(zip(machine.tolist(), domains.tolist(), strict=True)))
        place = {pair: number for number, pair in enumerate(pairs)}
        of_clip = [place[pair] for pair in zip(machine, domains, strict=True)]
        named = [f"{known[one]}, domain {domain}" for one, domain in pairs]
        names = np.array([name.removeprefix(", ") for name in named])
        return names, np.array(of_clip), np.array([one for one, _ in pairs])

    def _refuse_few(self, names: np.ndarray, machine: np.ndarray) -> None:
        """Refuse machines that have no covariance when a clip is left out."""
        own, counts = np.unique(machine, return_counts=True)
        least = 2 if len(own) > 1 else 3
        few = [name or "X" for name in names[own[counts < least]].tolist()]
        if few:
            other = ", or set by_domain=False" if self.by_domain else ""
            raise ValueError(
                f"{abbreviate(few)} has fewer than {least} usable normal clips, and "
                f"{least} are needed to leave one out: add recordings, or leave the "
                f"machine out{other}"
            )

    def _fit_copies(
        self, points: np.ndarray, machine: np.ndarray, names: np.ndarray
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """Fit machines whose clips are all equal, and warn of them.

        Returns which clips these are, and the rows of `machines_`.
        """
        copies, found, counts = np.zeros(len(points), dtype=bool), [], []
        for one in range(len(names)):
            rows = np.flatnonzero(machine == one)
            if are_copies(points[rows]):
                copies[rows] = True
                self.means_[one] = points[rows[0]]
                self.whitenings_[one] = np.diag(1 / find_units(points[rows]))
                found.append(names[one])
                counts.append(len(rows))
        warn_of_copies(sum(counts), [name for name in found if name], level=6)
        # They share nothing with other machines, and cannot be told from them.
        numbers = np.array(counts, dtype=int)
        columns = zip(_COLUMNS, (numbers, 0.0, 0.0, 1.0, np.nan, np.nan), strict=True)
        return copies, pd.DataFrame(dict(columns), index=found)

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : any of n_clips
            Clips to score, of the machines fitted.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the Mahalanobis distance to the machine's mean, or to the nearest of
            its domains; NaN for clips that could not be used.
        """
        check_is_fitted(self)
        points = refuse_extremes(self._embed(X))
        classes: Any = getattr(self, "classes_", None)
        labels = label_clips(X, classes)
        scores = np.full(len(points), np.nan)
        machine = np.zeros(len(points), dtype=int)
        if labels is not None:
            machine = np.searchsorted(classes, labels.astype(str))
        owners = getattr(self, "_owners", np.arange(len(self.means_)))
        for one in np.unique(machine):
            rows = machine == one
            distances = [
                np.linalg.norm(
                    (points[rows] - self.means_[mean]) @ self.whitenings_[mean], axis=1
                )
                for mean in np.flatnonzero(owners == one)
            ]
            scores[rows] = -np.min(distances, axis=0)
        return scores

    def _embed(self, X: Any) -> np.ndarray:
        """Rows of clips to score or to add."""
        if self.encoder_ is not None:
            return embed_clips(self.encoder_, X)
        refuse_masked(X, "X")
        return validate_data(self, X, dtype=np.float64, reset=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        with suppress(TypeError, AttributeError):  # fit refuses a wrong encoder
            if self.encoder is not None:
                inner = get_tags(self.encoder).input_tags
                tags.input_tags.two_d_array = inner.two_d_array
        return tags


def _group_by_type(kinds: np.ndarray | None, n_clips: int) -> list[np.ndarray]:
    """Rows of each machine type; one group where there are no machines."""
    if kinds is None:
        return [np.arange(n_clips)]
    return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]


def _find_nearest(
    fitted: Gaussians, number: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Distance of each left-out clip to the nearest domain of its machine."""
    if len(set(owners)) == len(owners):
        return fitted.left_out
    is_own = owners[:, None] == owners[number]
    return np.where(is_own, fitted.to_siblings, np.inf).min(axis=0)


def _describe(
    fitted: Gaussians, number: np.ndarray, names: np.ndarray, owners: np.ndarray
) -> pd.DataFrame:
    """Make the rows of `machines_`; domains of one machine are no siblings."""
    log_distances = np.log(np.maximum(fitted.to_siblings, np.finfo(float).tiny))
    separations = [
        sibling_separation(
            distances[number == one], distances[owners[number] != owners[one]]
        )
        for one, distances in enumerate(log_distances)
    ]
    aucs, gaps = zip(*separations, strict=True)
    values = (
        np.bincount(number),
        fitted.sharings,
        fitted.shrinkage,
        fitted.standardization,
        aucs,
        gaps,
    )
    return pd.DataFrame(dict(zip(_COLUMNS, values, strict=True)), index=names)
