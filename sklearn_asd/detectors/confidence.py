"""Detectors that ask how confidently a classifier recognises a clip."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.utils import check_random_state

from sklearn_asd._parameters import Interval, StrOptions
from sklearn_asd._validation import abbreviate
from sklearn_asd.audio.clips import machine_labels
from sklearn_asd.detectors.base import BaseDetector, usable_normal_clips
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.training import NETWORKS, KeepBestEpoch, fit_net, make_net
from sklearn_asd.networks.windows import (
    WindowDataset,
    average_over_clips,
    predict_windows,
)

__all__ = ["IDConfidenceDetector", "log_doubt"]


class IDConfidenceDetector(BaseDetector):
    """Anomalous is what a classifier of machine IDs does not recognise.

    A network learns from normal clips which machine, that is which pair of machine
    type and machine ID, a segment comes from. A clip scores ``1 - p``, where p is the
    probability of its own machine, averaged over its segments (Eq. (1)). Centre loss
    draws each machine's clips together, which leaves less room for anomalies.

    Parameters
    ----------
    network : {"pvmilk20", "inouet18"} or callable, default="pvmilk20"
        The classifier: a name, or a torch module class, or anything called as
        ``network(n_classes=..., n_mels=...)`` that gives a module mapping
        (batch, n_mels, n_frames) to (logits, embedding). Use ``functools.partial`` to
        set more: ``partial(PVMilk20, dropout=0.5)``.

    confidence : {"id", "msp"}, default="id"
        Whose probability counts: "id" that of the clip's own machine, "msp" the
        largest (maximum softmax probability), for clips whose machine is not known.

    center_loss_weight : float >= 0, default=0.1
        Weight of the centre loss, lambda_c in Eq. (4); see
        :class:`~sklearn_asd.networks.CenterLoss`. The paper uses 0.0075 to 0.2.

    center_lr : float > 0, default=0.5
        Learning rate of the centres.

    lr : float > 0, default=1e-3
        Learning rate of Adam.

    batch_size : int, default=384
        Largest number of segments in a training batch. The paper's, for thousands of
        clips; with few clips use less, say 32, as each batch is one step of learning.

    max_epochs : int, default=100
        Number of passes over the training clips.

    validation_fraction : float in [0, 1), default=0.0
        Share of each machine's normal clips that is not trained on; the epoch that
        classifies them best is kept (ties: the lower loss). 0 trains on all clips and
        keeps the last epoch, which is better with few clips.

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous. Training
        clips are recognised better than new ones of the same machine, so expect
        more false alarms than that.

    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1"... "auto" takes CUDA where there
        is one.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of training; scoring is in float32. "auto" is bfloat16 where the
        processor computes in it, which is about 1.5 times as fast.

    random_state : int, RandomState or None, default=None
        Decides weights, batches, dropout and the validation clips. An int gives the
        same fit again on the same machine.

    verbose : int, default=0
        Above 0, print a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_machines,), str
        Names of the machines, sorted: "type/id", or "id" where there is no type.

    net_ : skorch net
        The trained network.

    centers_ : ndarray of shape (n_machines, n_embedding)
        Centres of the machines in the embedding, in the order of `classes_`; None if
        `center_loss_weight` is 0.

    history_ : DataFrame
        A row for each epoch: `epoch`, `train_loss`, `seconds`, `kept`, and with
        validation clips `valid_loss` and `valid_accuracy`.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of mel bands.

    See Also
    --------
    sklearn_asd.LogMelSegmenter : Makes its input.

    Notes
    -----
    Machines to be told apart must differ in what they are, not in how they were
    recorded: a microphone of its own for each machine teaches the network the
    microphones.

    Probabilities are computed in float64 from the logits, 1 - p as the sum of the
    other machines' probabilities, so that the most normal clips are not tied at 0.

    In whole-clip mode (``segment_duration=None``), training takes from each clip a
    random window as long as the shortest training clip; scoring takes whole clips.

    Cost: pvmilk20 trains on about 400 segments a second on two cores, inouet18 on
    about 150.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, sections 2.1 and 3.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import IDConfidenceDetector, LogMelSegmenter
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=4, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = IDConfidenceDetector(max_epochs=2, random_state=0)
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (4,)
    >>> detect.classes_
    array(['fan/00', 'fan/01'], dtype='<U6')
    """

    _parameter_constraints: dict = {
        "network": [StrOptions(set(NETWORKS)), callable],
        "confidence": [StrOptions({"id", "msp"})],
        "center_loss_weight": [Interval(Real, 0, None, closed="left")],
        "center_lr": [Interval(Real, 0, None, closed="neither")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        network="pvmilk20",
        confidence="id",
        center_loss_weight=0.1,
        center_lr=0.5,
        lr=1e-3,
        batch_size=384,
        max_epochs=100,
        validation_fraction=0.0,
        contamination=0.1,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.network = network
        self.confidence = confidence
        self.center_loss_weight = center_loss_weight
        self.center_lr = center_lr
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.contamination = contamination
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X: ClipSpectrograms) -> None:
        labels = _known_labels(X, "to learn to tell machines apart")
        classes, y = np.unique(labels.astype(str), return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"X holds one machine only ({classes[0]}); IDConfidenceDetector learns "
                "to tell machines apart: add normal recordings of another machine of "
                "the kind, or make an attribute the machine_id. In a search, give "
                "folds that hold every machine"
            )
        rng = check_random_state(self.random_state)
        train, held_out = self._split(y, rng)
        seed = rng.randint(2**31 - 1)
        X_train = X[train]
        windows = X_train.windows()
        dataset = WindowDataset(X_train, windows, y[train][windows.clip])
        net = make_net(
            self.network,
            n_classes=len(classes),
            n_mels=X.n_mels,
            n_frames=dataset.n_frames,
            n_windows=len(dataset),
            center_loss_weight=self.center_loss_weight,
            center_lr=self.center_lr,
            lr=self.lr,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            device=self.device,
            precision=self.precision,
            verbose=self.verbose,
        )
        validation = KeepBestEpoch(X[held_out], y[held_out]) if len(held_out) else None
        self.history_, self.centers_ = fit_net(net, dataset, seed, validation)
        self.net_ = net
        self.classes_ = classes

    def _split(
        self, y: np.ndarray, rng: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on, and rows of every machine to choose the epoch by."""
        shuffled = rng.permutation(len(y))
        held_out = np.zeros(len(y), dtype=bool)
        if self.validation_fraction > 0:
            for machine in np.unique(y):
                rows = shuffled[y[shuffled] == machine]
                n_held_out = max(1, round(self.validation_fraction * len(rows)))
                held_out[rows[: min(n_held_out, len(rows) - 1)]] = True
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def _anomaly_score(self, X: ClipSpectrograms) -> np.ndarray:
        own = self._own_classes(X) if self.confidence == "id" else None
        logits, _, clip = self._predict_segments(X)
        asked = logits.argmax(axis=1) if own is None else own[clip]
        return average_over_clips(np.exp(log_doubt(logits, asked)), clip, len(X))

    def _own_classes(self, X: ClipSpectrograms) -> np.ndarray:
        """Index into `classes_` of each clip's own machine."""
        labels = _known_labels(X, 'to score clips with confidence="id"')
        unseen = sorted(set(labels) - set(self.classes_))
        if unseen:
            raise ValueError(
                f"X holds machines that were not among those fitted: "
                f"{abbreviate(unseen)}; known are {abbreviate(self.classes_)}. Give "
                "machine_type and machine_id as in fit, or fit again with the new "
                'machines\' normal recordings, or with confidence="msp"'
            )
        return np.searchsorted(self.classes_, labels.astype(str))

    def _predict_segments(
        self, X: ClipSpectrograms
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, embedding and clip of every segment."""
        windows = X.windows()
        return *predict_windows(self.net_, X, windows), windows.clip

    def predict_id(self, X):
        """Tell which machine each clip sounds like.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips, of machines known or not.

        Returns
        -------
        machines : ndarray of shape (n_clips,), object
            Names as in `classes_`, from the probabilities averaged over a clip's
            segments; None for clips that could not be used.
        """
        X = self._check(X)
        logits, _, clip = self._predict_segments(X)
        probabilities = average_over_clips(softmax(logits, axis=1), clip, len(X))
        machines = self.classes_.astype(object)[probabilities.argmax(axis=1)]
        machines[np.isnan(probabilities[:, 0])] = None
        return machines

    def score(self, X, y=None):
        """Accuracy of :meth:`predict_id` on normal clips.

        What a search without anomalies goes by: the better the classifier, the
        better the detector (section 4.1.3).

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips whose machines are known.

        y : array-like of shape (n_clips,) or None, default=None
            Clips marked -1 do not count; None takes all as normal.

        Returns
        -------
        accuracy : float in [0, 1]
            Share of the usable normal clips that were recognised.
        """
        X = usable_normal_clips(self._check(X), y)
        labels = _known_labels(X, "to score the classifier")
        return float(np.mean(self.predict_id(X) == labels))

    def embed(self, X, *, average=True):
        """Give the network's view of the clips, before the classes are told apart.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips, of machines known or not.

        average : bool, default=True
            Whether to average over a clip's segments.

        Returns
        -------
        embedding : ndarray of shape (n_clips, n_embedding), float64
            Or, without averaging, of shape (n_clips, n_segments, n_embedding) for
            the largest number of segments. What a clip lacks is NaN.
        """
        X = self._check(X)
        _, embedding, clip = self._predict_segments(X)
        if average:
            return average_over_clips(embedding, clip, len(X))
        n_segments = X.n_segments[:, 0]
        number = np.arange(len(clip)) - (np.cumsum(n_segments) - n_segments)[clip]
        padded = np.full(
            (len(X), n_segments.max(initial=0), embedding.shape[1]), np.nan
        )
        padded[clip, number] = embedding
        return padded


def log_doubt(logits: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Logarithm of 1 - p for the class asked for, without cancellation.

    1 - p is the sum of the other classes' probabilities. Subtracting p from 1 would
    lose all digits for the most normal clips, and tie them.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes), float64
        Class scores before the softmax.

    asked : ndarray of shape (n,), int
        The class asked for.

    Returns
    -------
    log_doubt : ndarray of shape (n,), float64
        ``log(1 - softmax(logits)[asked])``.
    """
    others = logits.copy()
    others[np.arange(len(logits)), asked] = -np.inf
    return logsumexp(others, axis=1) - logsumexp(logits, axis=1)


def _known_labels(X: ClipSpectrograms, purpose: str) -> np.ndarray:
    """Name each clip's machine, or say which clips lack an ID."""
    labels = machine_labels(X)
    if labels is None:
        raise ValueError(
            f"X has no machine IDs, which are needed {purpose}: give X as a table "
            "with the column machine_id, or pass machine_id= to from_arrays"
        )
    missing = [str(row) for row, label in enumerate(labels) if label is None]
    if missing:
        raise ValueError(
            f"machine_id is missing for clips {abbreviate(missing)}, and is needed "
            f"{purpose}: fill it in or leave them out"
        )
    return labels
