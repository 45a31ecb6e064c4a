"""IDConfidenceDetector: anomalous is what does not sound like its own machine."""

from __future__ import annotations

import numpy as np

from sklearn_asd._utils.parameters import StrOptions
from sklearn_asd.audio.machines import known_labels, refuse_unseen
from sklearn_asd.detectors.confidence import ConfidenceDetector
from sklearn_asd.features import ClipSpectrograms

__all__ = ["IDConfidenceDetector"]


class IDConfidenceDetector(ConfidenceDetector):
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

    loss : {"softmax", "arcface", "adacos"} or loss, default="softmax"
        What separates the classes. "softmax" is the paper's dense layer. The others
        give each class a direction in the embedding and tell classes apart by angle.
        An object sets more than its name: :class:`~sklearn_asd.networks.ArcFace`,
        :class:`~sklearn_asd.networks.AdaCos`, or one of your own with their two
        methods.

    center_loss_weight : float >= 0, default=0.1
        Weight of the centre loss, lambda_c in Eq. (4); see
        :class:`~sklearn_asd.networks.CenterLoss`. The paper uses 0.0075 to 0.2.

    center_lr : float > 0, default=0.5
        Learning rate of the centres.

    lr : float > 0, default=1e-3
        Learning rate of AdamW.

    weight_decay : float >= 0, default=0.0
        Weight decay of AdamW; at 0 it is Adam, as in the paper.

    batch_size : int, default=384
        Largest number of segments in a training batch. The paper's, for thousands of
        clips; with few clips use less, say 32, as each batch is one step of learning.

    max_epochs : int, default=100
        Number of passes over the training clips.

    mixup : float >= 0, default=0.0
        Above 0, training hears mixtures of two segments of a batch, with shares drawn
        from Beta(mixup, mixup), and is to tell both: for embeddings in which to find
        neighbours.

    random_starts : bool, default=False
        Whether training segments start anywhere in their clip, drawn anew for each
        epoch, in place of every `segment_hop`. In whole-clip mode it does nothing.

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

    checkpoint_dir : str, path-like or None, default=None
        Folder in which training is saved after each epoch. Should the process be
        stopped or killed, the same fit run again goes on from there, and gives the
        weights that it would have given. "Same" is by parameters and clips: a fit that
        differs in any leaves the file alone and begins its own. It is removed when
        training is done. Needs an integer `random_state`.

    random_state : int, RandomState or None, default=None
        Decides weights, batches, dropout and the validation clips. An int gives the
        same fit again on the same machine.

    verbose : int, default=0
        Above 0, print a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_machines,), str
        Names of the machines, sorted: "type/id", or "id" where there is no type.

    machines_ : ndarray of shape (n_machines,), str
        The same as `classes_`.

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
    AugmentConfidenceDetector : Asks instead which view of the clip is heard.

    Notes
    -----
    Machines to be told apart must differ in what they are, not in how they were
    recorded: a microphone of its own for each machine teaches the network the
    microphones.

    Of clips that :class:`~sklearn_asd.AugmentationExpander` has made views of, it
    hears the original only, as in the paper.

    Probabilities are computed in float64 from the logits, 1 - p as the sum of the
    other machines' probabilities, so that the most normal clips are not tied at 0.

    In whole-clip mode (``segment_duration=None``), training takes from each clip a
    random window as long as the shortest training clip; scoring takes whole clips.

    Cost: pvmilk20 trains on about 400 segments a second on two cores, inouet18 on
    about 500 (700 in bfloat16).

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
        **ConfidenceDetector._parameter_constraints,
        "confidence": [StrOptions({"id", "msp"})],
    }

    def __init__(
        self,
        *,
        network="pvmilk20",
        confidence="id",
        loss="softmax",
        center_loss_weight=0.1,
        center_lr=0.5,
        lr=1e-3,
        weight_decay=0.0,
        batch_size=384,
        max_epochs=100,
        mixup=0.0,
        random_starts=False,
        validation_fraction=0.0,
        contamination=0.1,
        device="auto",
        precision="auto",
        checkpoint_dir=None,
        random_state=None,
        verbose=0,
    ):
        self.network = network
        self.confidence = confidence
        self.loss = loss
        self.center_loss_weight = center_loss_weight
        self.center_lr = center_lr
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.mixup = mixup
        self.random_starts = random_starts
        self.validation_fraction = validation_fraction
        self.contamination = contamination
        self.device = device
        self.precision = precision
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state
        self.verbose = verbose

    def _select_views(self, X: ClipSpectrograms) -> ClipSpectrograms:
        return X.select_original(type(self).__name__)

    def _label_training_clips(self, X: ClipSpectrograms) -> np.ndarray:
        labels = known_labels(X, "to learn to tell machines apart")
        if len(set(labels)) < 2:
            raise ValueError(
                f"X holds one machine only ({labels[0]}); IDConfidenceDetector learns "
                "to tell machines apart: add normal recordings of another machine of "
                "the kind, or make an attribute the machine_id. In a search, give "
                "folds that hold every machine"
            )
        return labels

    def _label_clips(self, X: ClipSpectrograms) -> np.ndarray:
        by_id = self.confidence == "id"
        purpose = 'to score clips with confidence="id"' if by_id else "to be recognised"
        labels = known_labels(X, purpose)
        refuse_unseen(labels, self.machines_, ', or with confidence="msp"')
        return labels

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score, whose machines are known unless ``confidence="msp"``.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the doubt 1 - p, averaged over a clip's segments, in [-1, 0]; NaN for
            clips that could not be used.
        """
        if self.confidence == "id":
            return super().score_samples(X)
        return -self._average_doubt(self._check_clips(X), None)

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
        X = self._check_clips(X)
        probabilities = self._average_probabilities(X)[:, 0]
        machines = self.classes_.astype(object)[probabilities.argmax(axis=1)]
        machines[np.isnan(probabilities[:, 0])] = None
        return machines
