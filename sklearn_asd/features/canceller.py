"""NoiseCanceller: takes the noise that a far microphone hears off the near one."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from sklearn_asd._utils.parameters import Interval
from sklearn_asd.audio import Clips
from sklearn_asd.audio.cancelling import ChannelPair
from sklearn_asd.features.base import ClipTransformer

__all__ = ["NoiseCanceller"]


@dataclass(kw_only=True, eq=False, repr=False)
class NoiseCanceller(ClipTransformer):  # numpydoc ignore=PR02
    """Take the noise that a far microphone hears off the signal of a near one.

    The near microphone hears the machine and some noise, the far one mostly the noise,
    as in recordings of DCASE Task 2 of 2026. In each frequency, the far signal times H
    is subtracted from the near one. H says how the noise arrives there, and is the
    least-squares fit over the clip, so a clip's result depends on that clip alone.

    Rows stay clips: they are marked here, and combined when :class:`LogMelSegmenter` or
    :class:`PowerSpectrum` reads them. It goes before these, whose `channel` then has no
    effect. To take one of the microphones instead, set their `channel` to 0 or 1.

    Parameters
    ----------
    near : int >= 0, default=0
        Channel of the microphone at the machine, counted from 0.

    far : int >= 0, default=1
        Channel of the microphone away from it.

    n_fft : int, default=2048
        Length of the windows in samples of the recording, divisible by 4: longer than
        the difference between the two ways of the noise through the room, echoes
        included. A clip needs 8 windows.

    See Also
    --------
    LogMelSegmenter : The next step.
    sklearn_asd.datasets.fetch_dcase : Recordings of two microphones, of 2026.

    Notes
    -----
    Stateless: `fit` checks parameters and the form of X only.

    The noise is cancelled as far as one filter explains it: of several sources in
    several places, what does not arrive alike is left. What the far microphone hears of
    the machine is taken for noise too, so it should stand where the machine is weak.
    A share of the machine's power is lost by chance as well, up to
    ``n_fft / n_samples``: 1 % for a clip of 10 s at 16 kHz.

    Clips are files of two channels or more, or arrays of shape (n_samples, n_channels).
    A clip without both channels is a bad clip, with an error that says so as it is
    read. Streams of one channel cannot be watched with it.

    Cost: three Fourier transforms of each window; windows overlap by three quarters.

    References
    ----------
    Widrow et al., "Adaptive Noise Cancelling: Principles and Applications", Proceedings
    of the IEEE 63, 1975. The filter is the Wiener filter of the clip.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter, NoiseCanceller
    >>> rng = np.random.default_rng(0)
    >>> noise, machine = rng.normal(size=(2, 5 * 16000)) * [[0.1], [0.01]]
    >>> clip = np.stack([machine + 0.5 * noise, noise], axis=1)  # near, far
    >>> segment = LogMelSegmenter()
    >>> cancel = make_pipeline(NoiseCanceller(), segment)
    >>> alone = segment.transform([machine]).frames.mean()  # dB
    >>> float((segment.transform([clip[:, 0]]).frames.mean() - alone).round())
    14.0
    >>> abs(float(cancel.fit_transform([clip]).frames.mean() - alone)) < 0.5
    True
    """

    near: int = 0
    far: int = 1
    n_fft: int = 2048

    _parameter_constraints = {
        "near": [Interval(Integral, 0, None, closed="left")],
        "far": [Interval(Integral, 0, None, closed="left")],
        "n_fft": [Interval(Integral, 16, None, closed="left")],
    }

    def transform(self, X):
        """Mark the clips, whose channels are combined as they are read.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, or list of arrays
            The clips; see :meth:`sklearn_asd.Clips.from_X`. Arrays are of shape
            (n_samples, n_channels).

        Returns
        -------
        clips : Clips
            One row for each clip, in the same order; nothing is read yet.

        Raises
        ------
        ValueError
            If a parameter is out of range, the channels are the same, `n_fft` is not
            divisible by 4, or X asks for channels to be combined already.
        """
        return self._check(X)

    def _check(self, X) -> Clips:
        self._validate_params()
        if self.near == self.far:
            raise ValueError(
                f"near and far are both channel {self.near}: they are two microphones, "
                "such as near=0 and far=1"
            )
        if self.n_fft % 4:
            raise ValueError(
                f"n_fft={self.n_fft} is not divisible by 4: choose "
                f"{self.n_fft - self.n_fft % 4}, say"
            )
        clips = Clips.from_X(X)
        if clips.pair is not None:
            raise ValueError(f"X asks for {clips.pair} already: use one NoiseCanceller")
        return clips.with_pair(
            ChannelPair(int(self.near), int(self.far), int(self.n_fft))
        )
