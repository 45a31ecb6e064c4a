"""EmbeddingNeighborDetector: a clip is anomalous if it is far from training clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from numbers import Integral, Real
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklearn_asd._base import JudgingMixin, adds_or_not, all_or_nothing, fit_clone
from sklearn_asd._utils.messages import abbreviate
from sklearn_asd._utils.parameters import (
    Interval,
    StrOptions,
    validates_parameters,
)
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows
from sklearn_asd.audio.machines import known_labels, machine_labels
from sklearn_asd.detectors.adding import (
    append_known,
    choose_new,
    refuse_without_rows,
)
from sklearn_asd.detectors.banks import BankMaker
from sklearn_asd.detectors.constants import (
    are_copies,
    measure_from_copies,
    refuse_extremes,
    warn_of_copies,
)
from sklearn_asd.detectors.density import (
    leave_one_out,
    mean_smallest,
    normalize,
    typical,
)
from sklearn_asd.detectors.distances import (
    DISTANCES,
    OwnShares,
    make_whitening,
    own_shares,
    unit_length,
)
from sklearn_asd.detectors.encoders import ENCODER, check_pooling, embed_clips
from sklearn_asd.detectors.labels import (
    find_banks,
    label_clips,
    label_training_clips,
    labels_or_zeros,
    name_banks,
    number_banks,
)
from sklearn_asd.features.pooling import POOLINGS

__all__ = ["EmbeddingNeighborDetector"]


class EmbeddingNeighborDetector(MetaEstimatorMixin, JudgingMixin, BaseEstimator):
    """A clip is anomalous if it is far from its machine's training clips.

    Fits an encoder, which turns each clip into a row of numbers, the embedding, and
    keeps that of each training clip. The anomaly score is the mean distance to the
    `n_neighbors` nearest training clips of the clip's own machine. With few training
    clips that finds more anomalies than the confidence of a classifier, which says
    little about clips far from all machines.

    Parameters
    ----------
    encoder : estimator
        Turns clips into embeddings; it is cloned. It has the method ``fit(X)``, and
        ``embed(X)`` as :class:`IDConfidenceDetector` and
        :class:`AugmentConfidenceDetector` have it, or ``transform(X)`` as
        :class:`SpectrumStatistics` and scikit-learn's transformers have it. Either
        gives an array (n_clips, n_features) with rows of NaN for clips that cannot be
        used. ``FrozenEstimator(fitted)`` takes an encoder that is fitted.

    metric : {"cosine", "mahalanobis"} or callable, default="cosine"
        "cosine" is one minus the cosine of the angle between two embeddings, in
        [0, 2]. "mahalanobis" is the distance after the embedding is whitened by the
        training clips' covariance around their machines' means (Ledoit-Wolf), with
        `by_domain` around the means of machine and domain. A callable is called with
        two arrays of embeddings, (n_points, n_features) and (n_others, n_features), and
        gives their distances (n_points, n_others).

    n_neighbors : int, default=1
        Number of nearest training clips whose distances are averaged; where a machine
        has fewer, all.

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous, each compared
        with the other ones.

    density : {None, "ratio", "varmin"}, default=None
        Whether distances are normalised by how densely the training clips lie there, so
        that a clip at the usual distance is normal in sparse regions as in dense ones.
        With d the distance to a training clip y, and b the *spread* of y, its mean
        distance to its `n_density_neighbors` nearest other training clips, the smallest
        of these values counts (or the mean of the `n_neighbors` smallest):

        - None: d;
        - "ratio": d / b. It has no unit: 1 is the usual distance between neighbours;
        - "varmin": d - a b, with ``a = Cov(d, b) / Var(b)`` over all pairs of training
          clips, each with the spread that y has without the other one. That makes the
          variance least. Values may be below 0; a is 0 where all spreads are equal.

    n_density_neighbors : int, default=1
        Number of nearest other training clips that make the spread, if `density` is not
        None; where there are fewer, all. Published results used 1 or 2.

    n_bands : int, default=1
        Number of groups that the columns of the embedding are cut into. Distances,
        whitening and `density` are computed in each group apart. A clip's score is the
        mean over the groups, each divided by its typical value (see Notes). Groups are
        neighbouring columns, and differ by one column at most. Where the columns are
        several statistics with a number for each mel band, as those of
        :class:`SpectrumStatistics` without "correlations", a group holds the same
        neighbouring bands of each statistic.

    by_domain : bool, default=False
        Whether the training clips of each domain of a machine are a bank of their own,
        by the column `domain` of X, such as "source" and "target". A clip's score is
        the smallest of those by each bank of its machine, divided by that bank's
        typical value (see Notes). The domain of a clip to score is not used.

    pooling : str, callable, sequence of these, or None, default=None
        How the embeddings of a clip's segments become one: passed to
        ``encoder.embed(X, pooling=...)``, which takes one or several of what
        :func:`~sklearn_asd.features.pool` takes, such as "max" or ["mean", "std"].
        None leaves it to the encoder: the mean, in the detectors of this library. An
        encoder that transforms pools by parameters of its own, as
        ``SpectrumStatistics(statistics="rank")``.

    n_centers : int or None, default=None
        Number of centres (k-means), at least 2, that take the place of a machine's
        training clips, or with `by_domain` of those of each of its domains, where there
        are more clips. So 16 centres stand for hundreds of clips of the source domain,
        as in published systems, and the few of the target domain count one by one. None
        keeps all clips.

    oversampling : {None, "smote"}, default=None
        "smote" fills up domains of a machine that have fewer points than its largest
        one, to the same number, by points that are drawn between a clip and one of its
        5 nearest neighbours of the same domain. Domains are those of the column
        `domain` of X, also if `by_domain` is False and they are one bank; `n_centers`
        then is for each of them.

    random_state : int, RandomState or None, default=None
        Decides the first centres of k-means, and what is drawn. An int makes `fit` give
        the same result each time. The encoder has its own.

    Attributes
    ----------
    encoder_ : estimator
        The fitted encoder.

    classes_ : ndarray of shape (n_machines,), str
        Names of the machines, "type/id", sorted; absent if the training clips had no
        IDs.

    training_score_samples_ : ndarray of shape (n_clips,)
        Score of each clip that was passed to `fit`, and then to `add_normals`, with the
        clip itself left out of the neighbours and of their spreads; NaN for anomalous
        and unusable clips, and for those of machines whose clips are all equal, if
        there are others.
        :class:`~sklearn_asd.GammaProbabilityEnsemble` calibrates on it.

    shifts_, scales_ : ndarray of shape (n_points, n_bands)
        What normalises distances to each point of the banks, which are the training
        clips or made of them, in the order of :meth:`training_points`:
        ``(distance - shift) / scale``. 0 and 1 by default.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of mel bands, or of what the encoder counts. Absent if it has none.

    See Also
    --------
    IDConfidenceDetector : Learns an embedding, and has a score of its own.
    SpectrumStatistics : An encoder that learns nothing.

    Notes
    -----
    X is passed to the encoder as it is: ClipSpectrograms for the detectors of this
    library. Machines are read from X where it has them (ClipSpectrograms, Clips, a
    table with the column `machine_id`); without IDs, all clips are one machine's.
    Clips fitted without IDs are scored without them.

    A trained network has seen the training clips, so they are closer together than new
    clips, even when each is compared with the other ones.

    *Clips left out.* What a training clip is compared with is what would remain without
    it: it counts in no spread, and a of "varmin" is computed anew. Its distances are
    whitened by the covariance without it; the weight of the Ledoit-Wolf shrinkage, the
    encoder and the typical values below are those of all training clips.

    *Centres and synthetic points* take the place of training clips in distances and
    spreads. They are made of directions (embeddings divided by their lengths, in each
    group of columns) for "cosine", of whitened embeddings for "mahalanobis", and of
    embeddings for a callable. No clip is compared with what was made of it: for its
    training score, the points of its bank are made anew without a tenth of its domain's
    clips, or without the clip alone where there are ten or fewer. All training clips
    are kept for :meth:`add_normals`, which makes all points anew.

    *Typical values.* The typical value of a group of columns, or of a bank, is the
    median score of its training clips, each left out; with "varmin", whose values may
    be below 0, the median of d instead. Medians are of what is above 0, and 1 where
    nothing is.

    *Copies.* A training clip with a copy has a spread of 0. "ratio" raises spreads to a
    hundredth of the bank's median, so scores stay finite. If all training clips of a
    bank are equal, but for rounding, `fit` warns, equal clips score 0 and all others
    are anomalous: distances are measured by what rounding explains, unless `metric` is
    a callable. Their training scores say nothing of other clips and are NaN, if there
    are other banks. So it is with a group of columns (`n_bands`) in which they are
    equal, and for "mahalanobis" with a constant column.

    A machine, and with `by_domain` or `oversampling` each of its domains, needs two
    training clips; with `density` three, so that two remain when one is left out.

    Cost: that of the encoder; then time and memory grow with the number of clips
    times the number of training clips of their machine, times `n_bands`. With
    `n_centers` or `oversampling`, `fit` makes the points of a bank some ten times for
    each of its domains.

    References
    ----------
    `n_centers`: Wilkinghoff, "Self-Supervised Learning for Anomalous Sound Detection",
    ICASSP 2024, arXiv:2312.09578.

    `oversampling`: Chawla, Bowyer, Hall and Kegelmeyer, "SMOTE: Synthetic Minority
    Over-sampling Technique", Journal of Artificial Intelligence Research 16, 2002.

    "ratio": Wilkinghoff, Yang, Ebbers, Germain, Wichern and Le Roux, "Local
    Density-Based Anomaly Score Normalization for Domain Generalization",
    arXiv:2509.10951, 2025.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     EmbeddingNeighborDetector, IDConfidenceDetector, LogMelSegmenter)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=4, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = EmbeddingNeighborDetector(
    ...     IDConfidenceDetector(mixup=0.5, max_epochs=2, random_state=0))
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)

    Rows of numbers, with distances in units of the spread:

    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from sklearn.metrics.pairwise import euclidean_distances
    >>> detect = EmbeddingNeighborDetector(
    ...     FunctionTransformer(), metric=euclidean_distances, density="ratio")
    >>> detect = detect.fit([[0.0], [1.0], [10.0], [14.0]])
    >>> detect.score_samples([[2.0], [18.0]])  # 1 / 1 and 4 / 4: both as usual
    array([-1., -1.])
    """

    _parameter_constraints: dict = {
        "encoder": ENCODER,
        "metric": [StrOptions(set(DISTANCES)), callable],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "density": [StrOptions({"ratio", "varmin"}), None],
        "n_density_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_bands": [Interval(Integral, 1, None, closed="left")],
        "by_domain": ["boolean"],
        "pooling": [StrOptions(set(POOLINGS)), callable, list, tuple, None],
        # One point would be a mean, for which there are other detectors.
        "n_centers": [Interval(Integral, 2, None, closed="left"), None],
        "oversampling": [StrOptions({"smote"}), None],
        "random_state": ["random_state"],
    }
    _fitted_attributes: dict = {
        "n_features_in_": NotRequired[Integral],
        "training_score_samples_": np.ndarray,
        "offset_": Real,
        "encoder_": BaseEstimator,
        "shifts_": np.ndarray,
        "scales_": np.ndarray,
        "_training_machines": np.ndarray | None,
        "_training_domains": np.ndarray | None,
        "_training_points": np.ndarray,
        "_training_rows": np.ndarray,
        "_whitening": np.ndarray | None,
        # What `_whitening` is of; files of earlier versions have none.
        "_training_embedding": NotRequired[np.ndarray | None],
        # None if the banks hold the training clips themselves.
        "_bank_points": NotRequired[np.ndarray | None],
        "_bank_clips": NotRequired[np.ndarray | None],
        "_seed": NotRequired[Integral | None],
    }

    @property
    def leaves_clips_out(self) -> bool:
        """Whether training clips are scored as if the detector had not learnt them.

        Returns
        -------
        leaves_out : bool
            False if the encoder is a detector too, such as a network, which has learnt
            the clips.
        """
        return not hasattr(self.encoder, "score_samples")

    def __init__(
        self,
        encoder,
        *,
        metric="cosine",
        n_neighbors=1,
        contamination=0.1,
        density=None,
        n_density_neighbors=1,
        n_bands=1,
        by_domain=False,
        pooling=None,
        n_centers=None,
        oversampling=None,
        random_state=None,
    ):
        self.encoder = encoder
        self.metric = metric
        self.n_neighbors = n_neighbors
        self.contamination = contamination
        self.density = density
        self.n_density_neighbors = n_density_neighbors
        self.n_bands = n_bands
        self.by_domain = by_domain
        self.pooling = pooling
        self.n_centers = n_centers
        self.oversampling = oversampling
        self.random_state = random_state

    @validates_parameters(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(self, X, y=None):
        """Fit the encoder, and keep the embedding of the normal clips.

        Parameters
        ----------
        X : any of n_clips
            Training clips, as the encoder takes them. Clips that cannot be used are
            left out.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are never trained on.
            None takes all clips as normal. So does, for a table of numbers, any other
            y, with a warning.

        Returns
        -------
        self : EmbeddingNeighborDetector
            Fitted.

        Raises
        ------
        ValueError
            If y holds anything but +1 and -1, no clip can be used, a machine, or with
            `by_domain` or `oversampling` a domain of it, has too few usable clips or
            clips have no domain, some clips have a machine ID and others have none,
            there are fewer columns than `n_bands`, a number is beyond 1e50, or the
            encoder does not take `pooling`.

        Warns
        -----
        UserWarning
            If all training clips of a machine, or of a domain of it, are equal.
        """
        check_pooling(self.encoder, self.pooling)  # before it is trained
        n_clips = _num_samples(X)
        numbers = is_table_of_numbers(X)
        normal = np.flatnonzero(normal_rows(y, n_clips, lenient=numbers))
        X = _safe_indexing(X, normal)
        domains = self._label_domains(X)
        self._refuse_few_clips(machine_labels(X), domains, len(normal))  # at once
        self.encoder_ = fit_clone(self.encoder, X)
        if hasattr(self.encoder_, "n_features_in_"):
            self.n_features_in_ = self.encoder_.n_features_in_
        embedding = self.embed(X)
        usable = np.flatnonzero(~np.isnan(embedding).any(axis=1))
        if not len(usable):
            raise ValueError("X holds no usable normal clip: all embeddings are NaN")
        some = _safe_indexing(X, usable)
        self._training_machines = label_training_clips(some)
        self._training_domains = self._label_domains(some)
        self._training_rows = normal[usable]
        self._seed = None
        if self._makes_points:
            rng = check_random_state(self.random_state)
            self._seed = rng.randint(2**31 - 1)
        self._learn(embedding[usable], n_clips)
        return self

    @adds_or_not
    def add_normals(self, X):
        """Keep more normal clips to compare with, exactly as `fit` would have.

        Whitening, centres, synthetic points, spreads, training scores and threshold are
        computed again of all clips. The encoder stays as it is: a network learns
        nothing.

        Parameters
        ----------
        X : any of n_clips
            Normal clips of the machines fitted, as the encoder takes them. Clips that
            cannot be used are left out.

        Returns
        -------
        self : EmbeddingNeighborDetector
            Itself.

        Raises
        ------
        ValueError
            If no clip can be used, one is a copy of a clip that was learnt from or is
            of another machine, a domain that is new has too few clips, a number is
            beyond 1e50, `by_domain` or `oversampling` was changed after `fit`, or the
            detector has ``metric="mahalanobis"`` and comes from a file of an earlier
            version.
        """
        domains = getattr(self, "_training_domains", None)  # which earlier files lack
        if (domains is None) == self._asks_domains:
            raise ValueError(
                f"by_domain={self.by_domain} or oversampling="
                f"{self.oversampling!r:.200} was set after fit: fit again"
            )
        known: Any = self._training_points
        if self.metric == "mahalanobis":
            refuse_without_rows(self, "_training_embedding")
            known = self._training_embedding
        embedding = self.embed(X)
        usable = choose_new(embedding, known)
        some = _safe_indexing(X, usable)
        append_known(
            self,
            usable,
            machines=label_clips(some, self._training_machines),
            domains=self._label_domains(some),
        )
        n_clips = len(self.training_score_samples_) + len(embedding)
        self._learn(np.concatenate([known, embedding[usable]]), n_clips)
        return self

    def _learn(self, embedding: np.ndarray, n_clips: int) -> None:
        """Set all that follows from the embedding of the usable normal clips."""
        self._keep_neighbors(embedding)
        self._bank_points = self._bank_clips = None
        maker = self._prepare_points()
        if maker is not None:
            clips = np.arange(len(embedding))
            self._bank_points, self._bank_clips = maker.make(clips)
        scores = -self._normalize(embedding, maker)
        self.offset_ = self._set_apart_copies(scores)
        self.training_score_samples_ = np.full(n_clips, np.nan)
        self.training_score_samples_[self._training_rows] = scores

    def _set_apart_copies(self, scores: np.ndarray) -> float:
        """Warn of banks of equal clips, which say nothing of the others' scores.

        Returns the threshold.
        """
        copies = np.zeros(len(scores), dtype=bool)
        for bank in self._find_banks():
            copies[bank] = are_copies(self._training_points[bank])
        threshold = float(np.percentile(scores, 100 * self.contamination))
        if not copies.any():
            return threshold
        machines = self._training_machines
        domains = self._training_domains if self.by_domain else None
        banks = np.array(name_banks(machines, domains, len(scores)))
        names = [] if machines is None else np.unique(banks[copies]).tolist()
        warn_of_copies(int(copies.sum()), names, level=5)
        if not copies.all():
            scores[copies] = np.nan
            threshold = float(np.nanpercentile(scores, 100 * self.contamination))
        return min(threshold, 0.0)  # the score of a copy

    def _label_domains(self, X: Any) -> np.ndarray | None:
        if not self._asks_domains:
            return None
        option = "by_domain=True"
        if not self.by_domain:
            option = f"oversampling={self.oversampling!r}"
        return known_labels(X, f"with {option}", "domain").astype(str)

    @property
    def _asks_domains(self) -> bool:
        return bool(self.by_domain or self.oversampling)

    @property
    def _makes_points(self) -> bool:
        return self.n_centers is not None or self.oversampling is not None

    def _prepare_points(self) -> BankMaker | None:
        """Prepare to make the points of banks; None if they are the training clips."""
        if not self._makes_points:
            return None
        points = self._training_points
        rows = points.copy()
        if self.metric == "cosine":
            groups = self._cut_columns(points.shape[1], self.n_bands)
            for bank, columns in product(self._find_banks(), groups):
                part = np.ix_(bank, columns)
                if not are_copies(points[part]):  # which are compared as they are
                    rows[part] = unit_length(points[part])
        machines, domains = (
            number_banks(find_banks(self._training_machines, labels, len(points)))
            for labels in (None, self._training_domains)
        )
        balanced = self.oversampling is not None
        options = self.n_centers, balanced, self._seed
        return BankMaker(points, rows, machines, domains, *options)

    def _keep_neighbors(self, embedding: np.ndarray) -> None:
        """Keep the points of the usable normal clips."""
        machines, domains = self._training_machines, self._training_domains
        self._refuse_few_clips(machines, domains, len(embedding))
        self._whitening = self._training_embedding = None
        if self.metric == "mahalanobis":
            self._training_embedding = embedding
            self._whitening = self._make_whitening(embedding)
        # A copy, as the points of copies change.
        self._training_points = np.array(self._place(embedding))
        for bank in self._find_banks():
            if are_copies(embedding[bank]):
                self._training_points[bank] = self._training_points[bank[0]]

    def _make_whitening(self, embedding: np.ndarray) -> np.ndarray:
        """Whiten each group of columns apart, around the means of the banks."""
        n_columns = embedding.shape[1]
        bank = number_banks(self._find_banks())
        groups = self._cut_columns(n_columns, self.n_bands)
        if len(groups) == 1:
            return make_whitening(embedding, bank)
        whitening = np.zeros((n_columns, n_columns))
        for columns in groups:
            own = make_whitening(embedding[:, columns], bank)
            whitening[np.ix_(columns, columns)] = own
        return whitening

    def _normalize(self, embedding: np.ndarray, maker: BankMaker | None) -> np.ndarray:
        """Set `shifts_` and `scales_`; score each training clip, left out."""
        n_clips, n_columns = embedding.shape
        groups = self._cut_columns(n_columns, self.n_bands)
        banks = self._find_banks()
        own = None
        if self._whitening is not None:
            bank = number_banks(banks)
            shares = [own_shares(part, bank) for part in _take(embedding, groups)]
            deviations = self._training_points.copy()
            for rows in banks:
                deviations[rows] -= deviations[rows].mean(axis=0)
            own = OwnShares(_take(deviations, groups), shares)
        points, nearest = self._list_points()
        self.shifts_ = np.zeros((len(points), len(groups)))
        self.scales_ = np.ones((len(points), len(groups)))
        scores = np.empty(n_clips)
        for clips in banks:
            rows = np.flatnonzero(np.isin(nearest, clips))
            made = None if np.array_equal(nearest[rows], clips) else maker
            scores[clips] = self._normalize_bank(clips, rows, groups, own, made)
        if not self.by_domain:
            return scores
        points, machines = self._training_points, self._training_machines
        return self._score(points, machines, scores, own)

    def _normalize_bank(
        self,
        clips: np.ndarray,
        rows: np.ndarray,
        groups: list[np.ndarray],
        own: OwnShares | None,
        maker: BankMaker | None,
    ) -> np.ndarray:
        """Set shifts and scales of the points of a bank; score its clips, left out.

        `maker` has made the points, unless they are the clips themselves.
        """
        left_out, usual = [], []
        known = _take(self._training_points[clips], groups)
        made = [] if maker is None else list(maker.leave_out(clips))
        for number, points in enumerate(_take(self._list_points()[0][rows], groups)):
            distances = self._measure(points, points, known[number])
            apart = distances.copy()
            np.fill_diagonal(distances, np.inf)
            shift, scale = normalize(distances, self.density, self.n_density_neighbors)
            if maker is None:
                if own is not None:
                    apart = own.leave_out(apart, points, points, clips, number)
                scores, levels = self._leave_one_out(apart, distances)
            else:
                parts = [(out, _take(rest, groups)[number]) for out, rest in made]
                scores, levels = self._leave_some_out(
                    known[number], parts, clips, number, own
                )
            level = typical(levels) if len(groups) > 1 else 1.0
            self.shifts_[rows, number] = shift
            self.scales_[rows, number] = scale * level
            left_out.append(scores / level)
            usual.append(levels / level)
        level = typical(np.mean(usual, axis=0)) if self.by_domain else 1.0
        self.scales_[rows] *= level
        return np.mean(left_out, axis=0) / level

    def _leave_one_out(
        self, apart: np.ndarray, distances: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the clips of a bank by the others, and what levels are of.

        `apart` are the distances of each clip left out, and `distances` those that make
        spreads.
        """
        np.fill_diagonal(apart, np.inf)
        numbers = self.n_density_neighbors, self.n_neighbors
        scores = levels = leave_one_out(apart, distances, self.density, *numbers)
        if self.density == "varmin":  # its scores may be 0 and below
            levels = leave_one_out(apart, distances, None, *numbers)
        return scores, levels

    def _leave_some_out(
        self,
        known: np.ndarray,
        parts: list[tuple[np.ndarray, np.ndarray]],
        clips: np.ndarray,
        number: int,
        own: OwnShares | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the clips of a bank by points made without them, and levels.

        `parts` are from :meth:`BankMaker.leave_out`, in a group of columns.
        """
        scores, levels = np.empty(len(known)), np.empty(len(known))
        for out, points in parts:
            asked = known[out], points, known
            apart = self._measure_left_out(*asked, clips[out], number, own)
            shift, scale = np.zeros(1), np.ones(1)
            if self.density is not None:
                between = self._measure(points, points, known)
                np.fill_diagonal(between, np.inf)
                shift, scale = normalize(
                    between, self.density, self.n_density_neighbors
                )
            n_neighbors = min(self.n_neighbors, len(points))
            scores[out] = mean_smallest((apart - shift) / scale, n_neighbors)
            levels[out] = mean_smallest(apart, n_neighbors)
        return scores, levels if self.density == "varmin" else scores

    @property
    def classes_(self) -> np.ndarray:
        """Names of the machines, sorted.

        Returns
        -------
        names : ndarray of shape (n_machines,), str
            "type/id", or "id" where there is no type.
        """
        if self._training_machines is None:
            raise AttributeError("the training clips had no machine IDs")
        return np.unique(self._training_machines)

    def embed(self, X):
        """Embed clips: the points between which distances are measured.

        Parameters
        ----------
        X : any of n_clips
            Clips, of known machines or not, as the encoder takes them.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_features), float64
            As the encoder gives it, before any whitening; NaN for clips that could
            not be used.

        Raises
        ------
        ValueError
            If the encoder gives an array of another shape, or infinity.
        """
        check_is_fitted(self, "encoder_")
        return refuse_extremes(embed_clips(self.encoder_, X, self.pooling))

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : any of n_clips
            Clips, as the encoder takes them.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the mean distance to the nearest training clips, normalised as the
            parameters say; at most 0, except with ``density="varmin"``. NaN for clips
            that could not be used.
        """
        check_is_fitted(self)
        points = self._place(self.embed(X))
        return -self._score(points, label_clips(X, self._training_machines))

    def nearest_training_clips(self, X):
        """Find the training clip nearest to each clip: the reason for its score.

        Parameters
        ----------
        X : any of n_clips
            Clips, as the encoder takes them.

        Returns
        -------
        nearest : DataFrame of n_clips rows
            `row` is the row of the nearest training clip of the clip's own machine, by
            normalised distances, in the X that was passed to `fit`, followed by those
            of `add_normals`. `distance` is its
            distance itself, before `density`, `n_bands` and `by_domain` normalise it:
            without these and with ``n_neighbors=1`` it is the anomaly score. With
            `n_bands` both are means over the groups of columns. If the nearest point is
            a centre or synthetic, `row` is the training clip nearest to that point, and
            `distance` is that to the point. <NA> and NaN for clips that could not be
            used.
        """
        check_is_fitted(self)
        points = self._place(self.embed(X))
        unknown = pd.array([pd.NA] * len(points), dtype="Int64")
        nearest = pd.DataFrame({"row": unknown, "distance": np.nan})
        least = np.full(len(points), np.nan)
        labels = label_clips(X, self._training_machines)
        for rows, bank, distances, values in self._compare(points, labels):
            clips = self._list_points()[1][bank]
            values = values.mean(axis=0)
            first = values.argmin(axis=1)
            place = np.arange(len(rows))
            value = values[place, first]
            nearer = ~(value >= least[rows])
            rows, first, place = rows[nearer], first[nearer], place[nearer]
            least[rows] = value[nearer]
            nearest.loc[rows, "row"] = self._training_rows[clips[first]]
            nearest.loc[rows, "distance"] = distances[:, place, first].mean(axis=0)
        return nearest

    def training_points(self):
        """Give the points that distances are measured to: the training clips.

        Returns
        -------
        points : ndarray of shape (n_points, n_features), float64
            Their embeddings, multiplied by `whitening` if there is one. With
            `n_centers` or `oversampling`, what is made of them.

        machines : ndarray of shape (n_points,), str, or None
            The machine of each; None if the training clips had no IDs.

        whitening : ndarray of shape (n_features, n_features) or None
            Of the metric "mahalanobis".
        """
        check_is_fitted(self)
        points, nearest = self._list_points()
        machines = self._training_machines
        if machines is not None:
            machines = machines[nearest]
        return points, machines, self._whitening

    def _place(self, embedding: np.ndarray) -> np.ndarray:
        """Turn embeddings into the points that the metric is for."""
        return embedding if self._whitening is None else embedding @ self._whitening

    def _score(
        self,
        points: np.ndarray,
        labels: np.ndarray | None,
        left_out: np.ndarray | None = None,
        own: OwnShares | None = None,
    ) -> np.ndarray:
        """Least anomaly score by a bank of the own machine.

        If the points are the training clips, `left_out` are their scores by their own
        banks.
        """
        scores = np.full(len(points), np.nan)
        nearest = self._list_points()[1]
        for rows, bank, _, values in self._compare(points, labels, own):
            n_neighbors = min(self.n_neighbors, len(bank))
            by_bank = mean_smallest(values, n_neighbors).mean(axis=0)
            if left_out is not None:
                domains: Any = self._training_domains
                is_own = domains[rows] == domains[nearest[bank[0]]]
                by_bank = np.where(is_own, left_out[rows], by_bank)
            scores[rows] = np.fmin(scores[rows], by_bank)
        return scores

    def _compare(
        self,
        points: np.ndarray,
        labels: np.ndarray | None,
        own: OwnShares | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Usable rows of a machine, a bank of it, distances, normalised distances.

        The last two are arrays (n_bands, n_rows, n_bank). There is one for each bank.
        """
        training = self._training_points
        groups = self._cut_columns(training.shape[1], self.scales_.shape[1])
        machine = labels_or_zeros(labels, len(points))
        training_machine = labels_or_zeros(self._training_machines, len(training))
        usable = ~np.isnan(points).any(axis=1)
        bank_points, nearest = self._list_points()
        for clips in self._find_banks():
            rows = np.flatnonzero((machine == training_machine[clips[0]]) & usable)
            if not len(rows):
                continue
            bank = np.flatnonzero(np.isin(nearest, clips))
            of_groups = zip(
                _take(points[rows], groups),
                _take(bank_points[bank], groups),
                _take(training[clips], groups),
                strict=True,
            )
            distances = np.stack(
                [
                    self._measure_left_out(*parts, rows, number, own)
                    for number, parts in enumerate(of_groups)
                ]
            )
            shift, scale = (n[bank].T[:, None] for n in (self.shifts_, self.scales_))
            yield rows, bank, distances, (distances - shift) / scale

    def _measure_left_out(
        self,
        points: np.ndarray,
        others: np.ndarray,
        clips: np.ndarray,
        rows: np.ndarray,
        number: int,
        own: OwnShares | None,
    ) -> np.ndarray:
        """Measure distances in a group of columns; with `own`, of training clips."""
        distances = self._measure(points, others, clips)
        if own is None:
            return distances
        return own.leave_out(distances, points, others, rows, number)

    def _measure(
        self, points: np.ndarray, others: np.ndarray, clips: np.ndarray
    ) -> np.ndarray:
        """Measure distances to others, which are clips of a bank or made of them."""
        # Two vectors may differ, and still have an angle of 0.
        if not callable(self.metric) and are_copies(clips):
            return measure_from_copies(points, others)
        distance = self.metric if callable(self.metric) else DISTANCES[self.metric]
        distances = np.array(distance(points, others), dtype=float)
        if distances.shape != (len(points), len(others)):
            raise ValueError(
                f"metric={self.metric!r:.200} gave an array of shape {distances.shape} "
                f"for {len(points)} and {len(others)} embeddings; it must be "
                f"({len(points)}, {len(others)})"
            )
        return distances

    def _find_banks(self) -> list[np.ndarray]:
        """Training clips of each machine, or of each of its domains."""
        domains = self._training_domains if self.by_domain else None
        return find_banks(self._training_machines, domains, len(self._training_rows))

    def _list_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points of all banks, and the place of the training clip nearest to each."""
        points: Any = getattr(self, "_bank_points", None)  # which earlier files lack
        if points is None:
            return self._training_points, np.arange(len(self._training_points))
        nearest: Any = self._bank_clips
        return points, nearest

    def _cut_columns(self, n_columns: int, n_bands: int) -> list[np.ndarray]:
        """Columns of each group: all statistics of neighbouring mel bands."""
        n_mels = getattr(self, "n_features_in_", n_columns)
        if n_columns % n_mels:
            n_mels = n_columns
        if n_bands > n_mels:
            raise ValueError(
                f"n_bands={n_bands} exceeds the {n_mels} columns, or mel bands, of the "
                f"embedding: lower it to {n_mels} or less"
            )
        columns = np.arange(n_columns).reshape(-1, n_mels)
        return [part.ravel() for part in np.array_split(columns, n_bands, axis=1)]

    def _refuse_few_clips(
        self, machines: np.ndarray | None, domains: np.ndarray | None, n_clips: int
    ) -> None:
        """Refuse banks whose clips would have too few neighbours when left out."""
        needed, fact = 2, "has one usable training clip, which has no neighbour"
        remedy = "add recordings, or leave it out"
        if self.by_domain:
            remedy += ", or set by_domain=False"
        if self.oversampling is not None:
            remedy += ", or set oversampling=None"
        if self.density is not None:
            needed, fact = 3, "has fewer than 3 usable training clips"
            fact += f", which density={self.density!r:.200} needs"
            remedy += ", or set density=None"
        counts = Counter(name_banks(machines, domains, n_clips))
        few = sorted(name for name, n in counts.items() if n < needed)
        if few:
            raise ValueError(f"{abbreviate(few)} {fact}: {remedy}")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        with suppress(TypeError, AttributeError):  # fit refuses a wrong encoder
            inner = get_tags(self.encoder).input_tags
            tags.input_tags.two_d_array = inner.two_d_array
        return tags


def _take(points: np.ndarray, groups: list[np.ndarray]) -> list[np.ndarray]:
    """Cut points into groups of columns; one group stays as it is, to the last bit."""
    return [points] if len(groups) == 1 else [points.take(g, axis=1) for g in groups]
