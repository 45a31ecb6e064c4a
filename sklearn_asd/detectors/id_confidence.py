"""IDConfidenceDetector: a clip is anomalous if it is not taken for its machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_asd._utils.parameters import StrOptions
from sklearn_asd.audio.machines import known_labels, refuse_unseen
from sklearn_asd.detectors.confidence import ConfidenceDetector
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.architectures import Network

__all__ = ["IDConfidenceDetector"]


@dataclass(kw_only=True, eq=False, repr=False)
class IDConfidenceDetector(ConfidenceDetector):  # numpydoc ignore=PR02
    """A clip is anomalous if a classifier of machine IDs does not recognise it.

    A network learns from normal clips which machine (a pair of machine type and
    machine ID) a segment comes from. The anomaly score of a clip is ``1 - p``, where p
    is the probability of its own machine, averaged over its segments (Eq. (1)). Centre
    loss draws each machine's clips together, which leaves less room for anomalies.

    Parameters
    ----------
    network : {"pvmilk20", "inouet18", "dualpath"} or callable, default="pvmilk20"
        The classifier: a name, a torch module class, or any callable that is called
        as ``network(n_classes=..., n_mels=...)`` and returns a module mapping
        (batch, n_mels, n_frames) to (logits, embedding). "dualpath" also hears the
        spectra of whole clips, as :class:`~sklearn_asd.LinearSpectrogram` computes
        them. Use ``functools.partial`` for
        more settings: ``partial(PVMilk20, dropout=0.5)``.

    confidence : {"id", "msp"}, default="id"
        Which probability counts: "id" is that of the clip's own machine, "msp" the
        largest (maximum softmax probability), for clips whose machine is not known.

    loss : {"softmax", "arcface", "adacos", "subcluster_adacos", "adaproj"} or loss, \
            default="softmax"
        What separates the classes. "softmax" is the paper's dense layer. The others
        give each class directions in the embedding and classify by angle.
        An object sets more than its name: :class:`~sklearn_asd.networks.ArcFace`,
        :class:`~sklearn_asd.networks.AdaCos`,
        :class:`~sklearn_asd.networks.SubClusterAdaCos`,
        :class:`~sklearn_asd.networks.AdaProj`, or one of your own with their two
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
        Above 0, the network is trained on mixtures of two segments of a batch, with
        shares drawn from Beta(mixup, mixup), and must recognise both. That improves
        embeddings for :class:`EmbeddingNeighborDetector`.

    self_supervision : {None, "statex", "featex"}, default=None
        Whether the network also learns to tell clips from those that are made of two:
        for each class there are two more, of the first and of the second clip.
        "statex" gives a segment the mean and the standard deviation over time of
        another one, at each frequency; "featex" exchanges the paths' embeddings of
        ``network="dualpath"``. Half of each batch is exchanged. Scores use the classes
        as they are.

    n_networks : int >= 1, default=1
        Number of networks, trained on the same batches from random starts of their own
        and averaged: probabilities by their mean, embeddings side by side, each divided
        by its length. Time grows with it.

    random_starts : bool, default=False
        Whether training segments start at random places in their clip, redrawn in
        each epoch, instead of every `segment_hop`. No effect in whole-clip mode.

    validation_fraction : float in [0, 1), default=0.0
        Share of each machine's normal clips that is not trained on; the epoch that
        classifies them best is kept (ties: the lower loss). 0 trains on all clips and
        keeps the last epoch, which is better with few clips.

    pooling : {"mean", "max", "median", "rank", "generalized_mean"} or callable, \
            default="mean"
        How the doubts ``1 - p`` of a clip's segments become its score.
        "mean" is the paper's. "max" and "rank" do not average away what sounds for
        a second. Objects have settings:
        :class:`~sklearn_asd.features.RankWeightedMean`,
        :class:`~sklearn_asd.features.Percentile`. A function of yours takes an array
        (n_segments, 1) and gives one of shape (1,).

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous. Training
        clips are recognised better than new ones of the same machine, so expect
        more false alarms than that.

    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1"... "auto" is CUDA if available.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of training; scoring is in float32. "auto" is bfloat16, which is
        faster, if the processor supports it.

    checkpoint_dir : str, path-like or None, default=None
        Folder in which training is saved after each epoch. If the process is stopped
        or killed, running the same fit again resumes the training, and gives the same
        weights as without the interruption. A fit with other parameters or clips has
        a file of its own. The file is removed after the training. Needs an integer
        `random_state`.

    random_state : int, RandomState or None, default=None
        Decides weights (of all networks), batches, dropout, mixtures and the
        validation clips. An int gives the
        same fit again on the same computer.

    verbose : int, default=0
        Above 0, a line is printed for each epoch.

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
        `center_loss_weight` is 0. Those of several networks stand side by side.

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
    AugmentConfidenceDetector : Classifies the views of a clip instead.

    Notes
    -----
    Machines must differ in what they are, not in how they were recorded: if each
    machine has its own microphone, the network learns the microphones.

    Only the original view of each clip is used, as in the paper; other views of
    :class:`~sklearn_asd.AugmentationExpander` are ignored.

    Probabilities are computed from the logits in float64, and 1 - p is the sum of the
    other machines' probabilities, so that the most normal clips are not tied at 0. Nor
    are the most anomalous ones at 1: where p is below 1e-8, and 1 - p loses its digits,
    the anomaly score is ``1 + 2**-21 * log(log(p) / log(1e-8))``. It differs from
    1 - p by less than 1e-6 down to p = 1e-64.

    In whole-clip mode (``segment_duration=None``), training takes from each clip a
    random window as long as the shortest training clip; scoring takes whole clips.

    Cost: training time grows with the number of segments times `max_epochs`, scoring
    time with the number of segments; docs/benchmarks.md has figures.

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

    _parameter_constraints = {
        **ConfidenceDetector._parameter_constraints,
        "confidence": [StrOptions({"id", "msp"})],
    }

    network: Network = "pvmilk20"
    confidence: str = "id"
    center_loss_weight: float = 0.1
    weight_decay: float = 0.0
    batch_size: int = 384

    def _select_views(self, X: ClipSpectrograms) -> ClipSpectrograms:
        return X.select_original(type(self).__name__)

    def _label_training_clips(self, X: ClipSpectrograms) -> np.ndarray:
        labels = known_labels(X, "to learn to distinguish machines")
        if len(set(labels)) < 2:
            raise ValueError(
                f"X holds one machine only ({labels[0]}); IDConfidenceDetector learns "
                "to distinguish machines: add normal recordings of another machine of "
                "the same type, or use an attribute as machine_id. In a search, use "
                "folds that contain every machine"
            )
        return labels

    def _label_clips(self, X: ClipSpectrograms) -> np.ndarray:
        by_id = self.confidence == "id"
        purpose = 'to score clips with confidence="id"' if by_id else "to be recognised"
        labels = known_labels(X, purpose)
        refuse_unseen(labels, self.classes_, ', or with confidence="msp"')
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
            Minus the doubt 1 - p, pooled over a clip's segments (`pooling`), from
            -1.00005 to 0; NaN for clips that could not be used. See Notes for scores
            below -1.
        """
        if self.confidence == "id":
            return super().score_samples(X)
        return -self._pool_doubt(self._check_clips(X), None)

    def predict_id(self, X):
        """Predict which machine each clip sounds like.

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
