"""AugmentConfidenceDetector: a clip is anomalous if its views are not recognised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklearn_asd.detectors.confidence import ConfidenceDetector
from sklearn_asd.detectors.labels import label_clips, label_training_clips
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.architectures import Network

__all__ = ["AugmentConfidenceDetector"]


@dataclass(kw_only=True, eq=False, repr=False)
class AugmentConfidenceDetector(ConfidenceDetector):  # numpydoc ignore=PR02
    """A clip is anomalous if a classifier does not recognise its views.

    A network learns from normal clips which view (which pitch shift and time stretch)
    a segment is, and which machine it comes from. The anomaly score of a clip is
    ``1 - mean_j p_j``, where p_j is the probability of view j of its own machine, given
    its view j, averaged over the view's segments (Eq. (2)). Machine IDs are optional:
    without them, the network distinguishes views only.

    Parameters
    ----------
    network : {"pvmilk20", "inouet18", "dualpath"} or callable, default="inouet18"
        The classifier: a name, a torch module class, or any callable that is called
        as ``network(n_classes=..., n_mels=...)`` and returns a module mapping
        (batch, n_mels, n_frames) to (logits, embedding). "dualpath" also hears the
        spectra of whole clips, as :class:`~sklearn_asd.LinearSpectrogram` computes
        them. Use ``functools.partial`` for
        more settings: ``partial(InoueT18, dropout=(0.2, 0.2))``.

    loss : {"softmax", "arcface", "adacos", "subcluster_adacos", "adaproj"} or loss, \
            default="softmax"
        What separates the classes. "softmax" is the paper's dense layer. The others
        give each class directions in the embedding and classify by angle.
        An object sets more than its name: :class:`~sklearn_asd.networks.ArcFace`,
        :class:`~sklearn_asd.networks.AdaCos`,
        :class:`~sklearn_asd.networks.SubClusterAdaCos`,
        :class:`~sklearn_asd.networks.AdaProj`, or one of your own with their two
        methods.

    center_loss_weight : float >= 0, default=0.005
        Weight of the centre loss, lambda_c in Eq. (4); see
        :class:`~sklearn_asd.networks.CenterLoss`.

    center_lr : float > 0, default=0.5
        Learning rate of the centres.

    lr : float > 0, default=1e-3
        Learning rate of AdamW.

    weight_decay : float >= 0, default=1e-3
        Weight decay of AdamW; at 0 it is Adam.

    batch_size : int, default=300
        Largest number of segments in a training batch. The paper's, for thousands of
        clips; with few clips use less, as each batch is one step of learning.

    max_epochs : int, default=100
        Number of passes over all views of the training clips.

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
        classifies their views best is kept (ties: the lower loss). 0 trains on all
        clips and keeps the last epoch, which is better with few clips.

    pooling : {"mean", "max", "median", "rank", "generalized_mean"} or callable, \
            default="mean"
        How the doubts ``1 - p`` of a clip's segments become that of a view.
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
    classes_ : ndarray of shape (n_machines * n_views,), str
        Names of the classes: "machine: view", all views of the first machine, then
        all of the second; machines are sorted, and views in the order of the
        :class:`~sklearn_asd.AugmentationExpander`. Without machine IDs the names of
        the views.

    machines_ : ndarray of shape (n_machines,), str, or None
        Names of the machines, sorted; None without machine IDs.

    net_ : skorch net
        The trained network.

    centers_ : ndarray of shape (n_machines * n_views, n_embedding)
        Centres of the classes in the embedding, in the order of `classes_`; None if
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
    sklearn_asd.AugmentationExpander : Adds the views.
    IDConfidenceDetector : Distinguishes machines only, and is faster.

    Notes
    -----
    If any training clip has a machine ID, all must have one, and so must all clips
    that are scored. A detector fitted without IDs ignores the IDs of clips to score.

    Probabilities are computed from the logits in float64, and 1 - p is the sum of the
    other classes' probabilities, so that the most normal clips are not tied at 0. Nor
    are the most anomalous ones at 1; see :class:`IDConfidenceDetector`. Each view
    counts the same, however many segments it has.

    In whole-clip mode (``segment_duration=None``), training takes from each view a
    random window as long as the shortest view of a training clip; scoring takes all.

    Cost: time grows with the number of segments times the number of views (nine by
    default), and for training times `max_epochs`; docs/benchmarks.md has figures.

    References
    ----------
    Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
    using Classification Confidence", DCASE 2020 Workshop, sections 2.2 and 3.

    Examples
    --------
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn_asd import (
    ...     AugmentationExpander, AugmentConfidenceDetector, LogMelSegmenter)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=2, n_train=4, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> expand = AugmentationExpander(pitch_steps=[-1, 0, 1], stretch_rates=[1])
    >>> detect = AugmentConfidenceDetector(max_epochs=2, random_state=0)
    >>> pipe = Pipeline([
    ...     ("expand", expand), ("segment", LogMelSegmenter()), ("detect", detect)])
    >>> pipe.fit(train).score_samples(test).shape  # higher is more normal
    (4,)
    >>> detect.classes_[:2]
    array(['fan/00: pitch -1', 'fan/00: original'], dtype='<U16')
    """

    network: Network = "inouet18"
    center_loss_weight: float = 0.005
    weight_decay: float = 1e-3
    batch_size: int = 300

    def _select_views(self, X: ClipSpectrograms) -> ClipSpectrograms:
        if len(X.view_names) < 2:
            raise ValueError(
                f"X has one view only, {X.view_names[0]!r:.200}; "
                "AugmentConfidenceDetector "
                "needs several: use Pipeline([('expand', AugmentationExpander()), "
                "('segment', LogMelSegmenter()), "
                "('detect', AugmentConfidenceDetector())])"
            )
        return X

    def _label_training_clips(self, X: ClipSpectrograms) -> np.ndarray | None:
        return label_training_clips(X)

    def _label_clips(self, X: ClipSpectrograms) -> np.ndarray | None:
        return label_clips(X, self.machines_)

    def view_scores(self, X):
        """Score each view of each clip: the reasons for a clip's score.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score.

        Returns
        -------
        scores : DataFrame of n_clips rows
            ``scores["confidence"]`` has a column for each view: the probability of
            that view of the clip's own machine, in [0, 1], averaged over the view's
            segments. ``1 - scores["confidence"].mean(axis=1)`` is the anomaly score
            with ``pooling="mean"``.
            ``scores["heard_as"]`` has the same columns: the name of the view that it
            is taken for, or "machine: view" if that is another machine's. If the
            original is taken for "pitch +0.1", the machine sounds as if it were
            shifted up by a tenth of a half step. NaN and None for clips that could not
            be used.
        """
        X = self._check_clips(X)
        own = self._find_own_classes(X)
        p = self._average_probabilities(X)
        confidence = np.take_along_axis(p, own[..., None], axis=-1)[..., 0]
        heard = p.argmax(axis=-1)
        n_views = len(X.view_names)
        same_machine = heard // n_views == own // n_views
        heard_as = np.where(
            same_machine, np.array(X.view_names)[heard % n_views], self.classes_[heard]
        ).astype(object)
        heard_as[np.isnan(confidence)] = None
        return pd.concat(
            {
                "confidence": pd.DataFrame(confidence, columns=X.view_names),
                "heard_as": pd.DataFrame(heard_as, columns=X.view_names, dtype=object),
            },
            axis=1,
        )
