"""EncoderEmbedding: recordings in, frames of a pretrained encoder out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np

from sklearn_asd._utils.messages import abbreviate, shorten
from sklearn_asd._utils.parameters import Interval, StrOptions
from sklearn_asd.audio import BadClipError, Clips, View
from sklearn_asd.audio.views import Sound
from sklearn_asd.features.cache import FileCache, MemoryCache
from sklearn_asd.features.front_end import FrontEnd, Made
from sklearn_asd.features.pooling import (
    POOLINGS,
    Poolings,
    list_own,
    name_poolings,
    pool,
)
from sklearn_asd.networks.devices import choose_device, choose_device_or_cpu
from sklearn_asd.networks.encoders import (
    Encoder,
    encode_all,
    name_code,
    open_encoder,
)

__all__ = ["EncoderEmbedding"]

_NAME_OF_CODE = re.compile(r"[\w.]+:[\w.<>]+")


@dataclass(eq=False, repr=False)
class EncoderEmbedding(FrontEnd):  # numpydoc ignore=PR02
    """Turn recordings into the frames of a pretrained encoder, in place of a log-mel.

    Reads each clip, resamples it to the rate that the encoder was trained on, and
    encodes its waveform. The encoder is frozen: nothing is trained. What follows is
    what follows a :class:`LogMelSegmenter`: :class:`SpectrumStatistics` pools over
    time, and any detector judges the result.

    Parameters
    ----------
    encoder : str, path-like, torch.nn.Module or callable
        - The folder of an audio model of Hugging Face's transformers, as
          ``save_pretrained`` of the model and of its feature extractor write it, or its
          name on the hub, from where it is downloaded if it is not on this computer.
          This needs the extra `encoders`. No code of the model is run, and its weights
          must be safetensors.
        - A torch module: from a tensor of waveforms (n_clips, n_samples), float32, to
          one of frames (n_clips, n_times, n_features).
        - Any other callable, the same from array to array.

        All waveforms of a call have the same length.

    revision : str or None, default=None
        Branch, tag or commit of a model on the hub; None is its main branch.

    pooling : str, callable, sequence of these, or None, default=None
        None keeps all frames, for :class:`SpectrumStatistics` to pool. Otherwise each
        clip keeps one frame, pooled over time by one or several of what
        :func:`~sklearn_asd.features.pool` takes, such as "mean" or ["mean", "max"]:
        a table of clips by features, which takes less memory.

    sample_rate : float > 0, default=16000
        Sample rate that the encoder was trained on, in Hz. Files with a higher rate are
        resampled; a lower one is an error, since the encoder would miss the upper
        frequencies. Arrays are taken to be at this rate unless the table has a column
        `sample_rate`. Another rate than a model of transformers states is refused.

    max_duration : float or None, default=None
        Longest sound that the encoder takes at once, in s: longer clips are encoded in
        pieces of this length, of which the last ends where the clip does, and their
        frames follow each other. None encodes whole clips.

    batch_size : int >= 1, default=8
        Clips, or pieces of them, that are encoded at once. Only those of equal length
        are encoded together, so none is padded to the length of another.

    device : str, default="auto"
        Where networks compute: "auto" takes "cuda" if there is a GPU, else "cpu".
        Callables that are no torch module decide for themselves.

    channel : "mix" or int, default="mix"
        Channel of files that have several: their average, or the one of this index.

    on_bad_clip : {"raise", "nan"}, default="raise"
        What to do about a clip that is missing, damaged, empty, too short or too long
        for the encoder, sampled at too low a rate, or holds NaN. "raise" stops with an
        error that names it; "nan" gives it no frames, so that it scores NaN and is not
        trained on, lists up to eight such clips in one warning, and keeps all reasons
        in the result's `problems`.

    dtype : {"float32", "float16"}, default="float32"
        Type of the frames.

    cache_dir : str, path-like or None, default=None
        Folder for the frames, which are then a memory map instead of an array, and
        are computed once for each recording (known by its content, under any name),
        setting, and weights of the encoder. A torch module is known by what it makes
        of a second of noise too, and any other callable by its name and by that. It
        may be the folder of a :class:`LogMelSegmenter`.

    n_jobs : int or None, default=None
        Clips read in parallel, on joblib's threads or the backend in force
        (``joblib.parallel_config``). None is 1 unless that says otherwise; -1 is all
        cores. Encoding uses torch's threads.

    verbose : int, default=0
        Above 0, show progress.

    Attributes
    ----------
    n_features_ : int
        Number of features of the encoder's frames.

    weights_ : str or None
        SHA-256 of the encoder's files, or of the state of a torch module; None for
        other callables. `transform` refuses a model of transformers with other files.

    revision_ : str or None
        Commit of a model from the hub.

    See Also
    --------
    LogMelSegmenter : Log-mels, which need no encoder.
    SpectrumStatistics : The next step; for embeddings also with
        :class:`~sklearn_asd.features.GeneralizedMean` and
        :class:`~sklearn_asd.features.DeviationWeightedMean`.
    ClipSpectrograms : What is returned: `n_mels` counts the features.

    Notes
    -----
    No frame is learnt from X: `fit` reads no audio, and `transform` works without it.
    Views of an :class:`AugmentationExpander` are encoded from their samples; those that
    change a log-mel are refused.

    An extractor of transformers that cuts off the end of longer clips, as for models
    that were trained on 10 s, is found out, and the clips are refused: set
    `max_duration`. Such extractors may pad shorter clips with silence.

    :func:`~sklearn_asd.save_model` keeps the encoder's name, revision and hash, and no
    weights: :func:`~sklearn_asd.load_model` looks for it again, and compares the hash.

    Cost: the encoder's. A model of 90 million weights takes about a second for a clip
    of 10 s on a core, and its frames (500 of 768 features) 1.5 MB.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     EncoderEmbedding, MahalanobisDetector, SpectrumStatistics)
    >>> def bands(waveforms):  # in place of a pretrained network: 25 frames per second
    ...     blocks = waveforms[:, : waveforms.shape[1] // 640 * 640]
    ...     power = np.abs(np.fft.rfft(blocks.reshape(len(blocks), -1, 640))) ** 2
    ...     return np.log(power[:, :, :320].reshape(*power.shape[:2], 16, 20).mean(3))
    >>> clips = np.random.default_rng(0).normal(size=(6, 16000))  # 1 s each
    >>> EncoderEmbedding(bands).fit_transform(clips)
    ClipSpectrograms(6 clips, 16 features, whole clips)
    >>> pipe = make_pipeline(
    ...     EncoderEmbedding(bands), SpectrumStatistics("max"), MahalanobisDetector())
    >>> pipe.fit(clips).score_samples(clips).shape  # higher is more normal
    (6,)
    """

    encoder: str | PathLike[str] | Callable[..., Any]
    _: KW_ONLY
    revision: str | None = None
    pooling: Poolings | None = None
    sample_rate: float = 16000
    max_duration: float | None = None
    batch_size: int = 8
    device: str = "auto"
    channel: Literal["mix"] | int = "mix"
    on_bad_clip: Literal["raise", "nan"] = "raise"
    dtype: str = "float32"
    cache_dir: str | PathLike[str] | None = None
    n_jobs: int | None = None
    verbose: int = 0

    _parameter_constraints = {
        **FrontEnd._parameter_constraints,
        "encoder": [str, PathLike, callable],
        "revision": [str, None],
        "pooling": [StrOptions(set(POOLINGS)), callable, list, tuple, None],
        "max_duration": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }
    _fitted_attributes = {
        "n_features_": Integral,
        "weights_": str | None,
        "revision_": str | None,
    }

    _computes = "embedding"
    _frames_version = 1
    _frame_settings = "sample_rate channel max_duration dtype"

    def fit(self, X, y=None):
        """Check the parameters, the form of X and the encoder; nothing is learnt.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips, which are not read; see :meth:`sklearn_asd.Clips.from_X`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : EncoderEmbedding
            Itself.

        Raises
        ------
        ValueError
            If there is no such encoder or device, the encoder was trained on another
            sample rate, or it gives anything but frames.

        ImportError
            If it is a model of transformers, which is not installed.
        """
        super().fit(X, y)
        opened = self._open(choose_device(self.device), self.revision)
        self.n_features_ = self._probe(opened)
        self.weights_, self.revision_ = opened.weights, opened.revision
        return self

    def check_weights(self):
        """Check that the encoder is there, and has the weights that it had in `fit`.

        Nothing is downloaded.

        Raises
        ------
        ValueError
            If the encoder is missing, has other weights, or gives other features.

        ImportError
            If it is a model of transformers, which is not installed.
        """
        if isinstance(self.encoder, str) and _NAME_OF_CODE.fullmatch(self.encoder):
            raise ValueError(
                f"the encoder {shorten(self.encoder)} is code of yours, which a model "
                "file does not hold: pass it as load_model(..., encoders="
                f"{{{shorten(self.encoder)}: encoder}})"
            )
        opened = self._open_to_score(download=False)
        self._refuse_other_weights(opened)
        n_features = self._probe(opened)
        if n_features != self.n_features_:
            raise ValueError(self._differ(opened, n_features))

    def _refuse_other_weights(self, opened: Encoder) -> None:
        if opened.weights != self.weights_:
            of = f" (revision {self.revision_})" if self.revision_ else ""
            raise ValueError(
                f"the encoder {opened.name} has the SHA-256 {opened.weights}, and it "
                f"was {self.weights_} in fit: give the same files{of}, or fit again"
            )

    def name_encoder(self):
        """Name the encoder, for a model file.

        Returns
        -------
        name : str
            Folder or name of a model of transformers; "module:name" of other code.
        """
        if isinstance(self.encoder, str | PathLike):
            return os.fspath(self.encoder)
        return name_code(self.encoder)

    def _open(
        self, device: str, revision: str | None, download: bool = True
    ) -> Encoder:
        opened = open_encoder(self.encoder, revision, device, download)
        if opened.sample_rate not in (None, self.sample_rate):
            raise ValueError(
                f"sample_rate={self.sample_rate:g}, and the encoder {opened.name} was "
                f"trained on {opened.sample_rate:g} Hz: set sample_rate="
                f"{opened.sample_rate:g}. For recordings of a lower rate take another "
                "encoder"
            )
        return opened

    def _open_to_score(self, download: bool = True) -> Encoder:
        revision = getattr(self, "revision_", None) or self.revision
        return self._open(choose_device_or_cpu(self.device), revision, download)

    def _probe(self, opened: Encoder) -> int:
        return opened.probe(self.sample_rate, self.max_duration).shape[1]

    def _count_features(self, opened: Encoder) -> int:
        known = getattr(self, "n_features_", None)
        return self._probe(opened) if known is None else known

    def _differ(self, opened: Encoder, n_features: int) -> str:
        return (
            f"the encoder {opened.name} gave {n_features} features, and "
            f"{getattr(self, 'n_features_', 'another number')} before: it must give as "
            "many for every clip, as the last axis; after a change of the encoder, fit "
            "again"
        )

    def _check_settings(self) -> None:
        if self.max_duration is not None and self.max_duration * self.sample_rate < 1:
            raise ValueError(
                f"max_duration={self.max_duration:g} s is less than a sample: raise it"
            )
        if self.pooling is None:
            return
        own = list_own(self.pooling)
        if own and self.cache_dir is not None:
            raise ValueError(
                f"pooling holds {abbreviate(own)}, a function of yours, whose changes "
                "the cache could not see: give it to SpectrumStatistics, with "
                "pooling=None, or set cache_dir=None"
            )

    def _open_cache(self) -> MemoryCache | FileCache:
        if isinstance(self.encoder, str | PathLike) and hasattr(self, "weights_"):
            self._refuse_other_weights(self._open_to_score())
        return super()._open_cache()

    def _count_bands(self) -> int:
        n_features = self._count_features(self._open_to_score())
        return self._pool(np.zeros((1, n_features))).shape[1]

    def _list_settings(self) -> dict[str, Any]:
        poolings = None if self.pooling is None else list(name_poolings(self.pooling))
        encoder = self._open_to_score()
        identity = encoder.describe(self.sample_rate, self.max_duration)
        return super()._list_settings() | {"encoder": identity, "pooling": poolings}

    def _compute_frames(self, sound: Sound, view: View) -> np.ndarray:
        """Give the waveform, which `_finish` encodes with those of other clips."""
        return view.waveform(sound).astype(np.float32, copy=False)

    def _round(self, sound: Sound, view: View) -> np.ndarray:
        """Leave the waveform as it is: its frames are what is rounded."""
        return self._compute_frames(sound, view)

    def _finish(
        self, clips: list[tuple[Clips, list[int]]], made: list[Made]
    ) -> list[Made]:
        """Encode the waveforms of all views of all clips."""
        opened = self._open_to_score()
        n_features = self._count_features(opened)
        limit = self.max_duration
        results = iter(
            encode_all(
                opened,
                [waveform for one in made for waveform in one.frames],
                self.batch_size,
                None if limit is None else round(limit * self.sample_rate),
            )
        )
        finished = []
        for (clip, views), one in zip(clips, made, strict=True):
            names = [clip.views[view].name for view in views]
            of_clip = zip(names, islice(results, len(one.frames)), strict=False)
            finished.append(self._collect(one, list(of_clip), opened, n_features))
        return finished

    def _collect(
        self,
        one: Made,
        results: list[tuple[str, np.ndarray | BadClipError]],
        opened: Encoder,
        n_features: int,
    ) -> Made:
        """Put the frames of a clip's views in place of their waveforms."""
        frames = []
        try:
            for view, result in results:
                if isinstance(result, BadClipError):
                    raise result
                if result.shape[1] != n_features:
                    raise ValueError(self._differ(opened, result.shape[1]))
                frames.append(self._convert(self._pool(result), view))
        except BadClipError as error:
            unknown = np.full_like(one.facts, np.nan)
            return one._replace(frames=[], facts=unknown, error=error)
        return one._replace(frames=frames)

    def _pool(self, frames: np.ndarray) -> np.ndarray:
        """Pool frames over time into one, where that is asked for."""
        if self.pooling is None or not np.isfinite(frames).all():
            return frames  # which `_convert` refuses if they are not finite
        return pool(frames, self.pooling)[None]

    def _describe_result(self) -> dict[str, Any]:
        return {"segment_frames": None, "band_scale": "feature"}
