"""AutoencoderDetector: a clip is anomalous if it cannot be reconstructed."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from os import PathLike

import numpy as np
from sklearn.utils import check_random_state
from skorch import NeuralNet

from sklearn_asd._utils.parameters import Interval, StrOptions
from sklearn_asd.detectors.base import BaseDetector
from sklearn_asd.detectors.constants import warn_of_copies
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.networks.checkpoint import open_checkpoint
from sklearn_asd.networks.reconstruction import (
    always_give,
    make_autoencoder_net,
    reconstruction_errors,
)
from sklearn_asd.networks.training import fit_net
from sklearn_asd.networks.windows import WindowDataset

__all__ = ["AutoencoderDetector"]


@dataclass(kw_only=True, eq=False, repr=False)
class AutoencoderDetector(BaseDetector):  # numpydoc ignore=PR02
    """A clip is anomalous if an autoencoder of normal sounds cannot reconstruct it.

    The baseline of the DCASE 2020 challenge. A few successive log-mel frames pass
    through a bottleneck that leaves room for normal sounds only. The anomaly score of a
    clip is the mean squared error of the reconstruction, averaged over all its frames.
    Machine IDs are not used.

    With ``target="middle"`` the network is not shown the frame that it must give, so it
    cannot learn to copy it.

    Parameters
    ----------
    target : {"window", "middle"}, default="window"
        What the network gives: "window" is the baseline, which reconstructs all
        `n_frames` frames that it is shown. "middle" predicts the middle one of
        `n_frames` frames from the others (an interpolation DNN), which is meant for
        sounds that change from frame to frame, such as a valve's.

    n_frames : int, default=5
        Number of successive frames in a window. With ``target="middle"`` odd and at
        least 3.

    n_hidden : int, default=128
        Number of units of each hidden layer; there are four on either side of the
        bottleneck.

    n_bottleneck : int, default=8
        Number of units in the middle.

    lr : float > 0, default=1e-3
        Learning rate of Adam.

    batch_size : int >= 3, default=512
        Largest number of windows in a training batch. With few clips use less, say
        64, as each batch is one step of learning. Below 3 a batch could have a single
        window, and the batch norm needs more.

    max_epochs : int, default=100
        Number of passes over the training clips.

    contamination : float in (0, 0.5], default=0.1
        Share of the training clips that the threshold calls anomalous. Training
        clips are reconstructed better than new ones, so expect more false alarms
        than that.

    device : str, default="auto"
        Where to compute: "cpu", "cuda", "cuda:1"... "auto" is CUDA if available.

    checkpoint_dir : str, path-like or None, default=None
        Folder in which training is saved after each epoch. If the process is stopped
        or killed, running the same fit again resumes the training, and gives the same
        weights as without the interruption. A fit with other parameters or clips has
        a file of its own. The file is removed after the training. Needs an integer
        `random_state`.

    random_state : int, RandomState or None, default=None
        Decides weights and batches. An int gives the same fit again on the same
        computer.

    verbose : int, default=0
        Above 0, a line is printed for each epoch.

    Attributes
    ----------
    net_ : skorch net
        The trained autoencoder.

    history_ : DataFrame
        A row for each epoch: `epoch`, `train_loss`, `seconds`, `kept`.

    offset_ : float
        Threshold: ``decision_function = score_samples - offset_``.

    n_features_in_ : int
        Number of mel bands.

    See Also
    --------
    PerMachine : Fits one for each machine; the baseline has one for each type.
    IDConfidenceDetector : Also learns from the other machines of the type.

    Notes
    -----
    `anomaly_score` is in dB squared. Frames are not standardised, as in the baseline:
    the batch norm after the first layer scales them. The last layer needs some hundred
    steps to learn their level; until then `train_loss` is in the hundreds.

    Whole clips are used: a window of `n_frames` starts at every frame, whatever the
    length and hop of the segments. Only the original view of each clip is used.

    With ``target="middle"`` the error is averaged over the middle frames of all
    windows: the first and the last ``n_frames // 2`` frames of a clip only help to
    predict others.

    Cost: time grows with the number of frames, and for training times `max_epochs`.
    Training needs some 60 bytes of memory per window besides the frames themselves;
    docs/benchmarks.md has figures.

    If all frames of the training clips are equal, as of silence, `fit` warns, and the
    network gives this frame whatever it is shown: any other frame is anomalous.

    References
    ----------
    Koizumi et al., "Description and Discussion on DCASE2020 Challenge Task2:
    Unsupervised Anomalous Sound Detection for Machine Condition Monitoring", DCASE
    2020 Workshop, section 4.

    Suefusa et al., "Anomalous Sound Detection Based on Interpolation Deep Neural
    Network", ICASSP 2020, for ``target="middle"``.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.detectors import AutoencoderDetector
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=1, n_train=4, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detect = AutoencoderDetector(max_epochs=2, batch_size=32, random_state=0)
    >>> pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
    >>> pipe.score_samples(test).shape  # higher is more normal
    (2,)
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "target": [StrOptions({"window", "middle"})],
        "n_frames": [Interval(Integral, 1, None, closed="left")],
        "n_hidden": [Interval(Integral, 1, None, closed="left")],
        "n_bottleneck": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 3, None, closed="left")],
    }

    target: str = "window"
    n_frames: int = 5
    n_hidden: int = 128
    n_bottleneck: int = 8
    lr: float = 1e-3
    batch_size: int = 512
    max_epochs: int = 100
    contamination: float = 0.1
    device: str = "auto"
    checkpoint_dir: str | PathLike | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    def _select_views(self, X: ClipSpectrograms) -> ClipSpectrograms:
        """Make segments of a few frames of the original view, one at each frame."""
        return X.select_original(type(self).__name__).resegment(self.n_frames, 1)

    @property
    def _min_frames(self) -> int:
        return self.n_frames

    def _fit(self, X: ClipSpectrograms) -> None:
        dataset = WindowDataset(X, X.windows())
        if len(dataset) < 2:
            raise ValueError(
                f"X holds 1 window of n_frames={self.n_frames} frames; at least 2 are "
                "needed: add normal clips, or lower n_frames"
            )
        self.net_ = self._make_net(self.device)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        checkpoint = open_checkpoint(self, X)
        self.history_, _ = fit_net(self.net_, dataset, seed, checkpoint=checkpoint)
        if (frame := _find_only_frame(X)) is not None:
            # What is best known; learnt, it would take hundreds of steps.
            always_give(self.net_, frame)
            warn_of_copies(len(X), level=4)

    def _make_net(self, device: str) -> NeuralNet:
        if self.target == "middle" and (self.n_frames < 3 or self.n_frames % 2 == 0):
            raise ValueError(
                f"n_frames={self.n_frames} has no middle frame between others, which "
                'target="middle" predicts: set n_frames to an odd number from 3 on, or '
                'target="window"'
            )
        return make_autoencoder_net(self, self.n_features_in_, device)

    def score_samples(self, X):
        """Score clips: the higher, the more normal.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Clips to score.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            Minus the mean squared error of what the network gives, in dB squared; NaN
            for clips that could not be used.
        """
        X = self._check_clips(X)
        return -reconstruction_errors(self.net_, X, self.n_frames)


def _find_only_frame(X: ClipSpectrograms) -> np.ndarray | None:
    """Find the frame that all frames are equal to, as in silence; None if they vary."""
    first = X.frames[X.starts[0, 0]].astype(np.float32)
    for start, stop in zip(X.starts[:, 0], X.stops[:, 0], strict=True):
        # The first frame tells of most clips.
        if (X.frames[start] != first).any() or (X.frames[start:stop] != first).any():
            return None
    return first
