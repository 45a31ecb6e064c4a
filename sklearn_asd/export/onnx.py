"""Graphs: samples of a clip in, its score and verdict out, without Python."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_asd._utils.files import replacing
from sklearn_asd._version import __version__
from sklearn_asd.audio.reading import MAX_AMPLITUDE
from sklearn_asd.audio.remarks import SILENCE
from sklearn_asd.export.detectors import (
    ByMachine,
    SoundCheck,
    find_machines,
    make_module,
    walk_used,
)
from sklearn_asd.export.features import LogMel, Welch

__all__ = ["export_onnx"]


def export_onnx(estimator, path):
    """Write a fitted detector as an ONNX graph, which scores clips without Python.

    The graph takes the samples of one clip and does all that the detector does:
    spectrogram, segments, networks, distances, Gamma distributions, thresholds.

    Parameters
    ----------
    estimator : outlier detector or Pipeline
        Fitted on clips, such as ``sklearn-asd fit`` writes with ``--system default``
        or ``ensemble``. It consists of a :class:`LogMelSegmenter` or
        :class:`PowerSpectrum`, followed by

        - :class:`SpectrumStatistics` and :class:`MahalanobisDetector`, with or without
          scikit-learn's StandardScaler between them,
        - :class:`GaussianDetector` of rows, or of one of these as its encoder, with
          ``by_domain=False``,
        - :class:`IDConfidenceDetector`, or
        - :class:`EmbeddingNeighborDetector` of an :class:`IDConfidenceDetector` or of
          :class:`SpectrumStatistics`, with a metric that has a name, ``n_bands=1`` and
          ``by_domain=False``,

        in any nesting of Pipeline, :class:`PerMachine`, :class:`OnlyMachineTypes`,
        :class:`GammaProbabilityEnsemble`, :class:`ZScoreEnsemble`,
        :class:`ThresholdTuner` and FrozenEstimator.

    path : str or path-like
        The file, such as "pump.onnx".

    Returns
    -------
    machines : list of str
        Names of the machines in the order of the graph's input `machine`; those that
        all members of an ensemble know. Empty if nothing in the detector tells
        machines apart.

    Raises
    ------
    ImportError
        If onnx or onnxscript is missing.

    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    ValueError
        If it holds anything else; the message names it.

    See Also
    --------
    save_model : Keeps a model for Python.

    Notes
    -----
    Inputs of the graph:

    - `waveform`, float32 of shape (n_samples,): one clip of any length, one channel,
      in [-1, 1], at the model's `sample_rate`. The graph neither resamples nor mixes
      channels.
    - `machine`, int64 of shape (): which machine it is, by its place in `machines`.
      Absent if it makes no difference, as with ``confidence="msp"``.

    Runtimes refuse other types, and several machines. Give numbers in the byte order of
    the computer, which onnxruntime does not check.

    Outputs:

    - `anomaly_score`, float64 of shape (): ``-score_samples``. The higher, the more
      anomalous; of a :class:`GammaProbabilityEnsemble` ``-log(1 - f)``. NaN for what
      Python refuses: a clip without samples, shorter than a segment or than a network
      needs, or with a sample that is NaN, infinite or beyond 1e12 times full scale;
      and a `machine` below 0 or beyond the last.
    - `verdict`, int64 of shape (): +1 normal, -1 anomalous, as of `predict`; -1 where
      the score is NaN.

    The file's metadata holds JSON under "sklearn_asd": `version`, `sample_rate`,
    `machines`, and `thresholds`, above which the anomaly scores of each machine are
    anomalous (one for all if `machines` is empty).

    Scores differ from the model's by float32's rounding: by less than 1e-5 of
    themselves on recordings (3e-5 with the aggregations "mean" and "product"), more
    only next to a training clip, where distances are 0. The logarithms of a Gamma
    distribution's probabilities are within 1e-7 of themselves.

    A clip's frames are in memory at once, up to 25 kB each with a window of 1024: for
    hours of sound, pass it in pieces. In onnxruntime on one thread, a graph takes about
    as long as Python or less; with :class:`PowerSpectrum` about twice as long, as the
    runtime is slow at Fourier transforms. That of a log-mel is two products of
    matrices, which a window whose length is prime makes one large one.

    Examples
    --------
    >>> from sklearn_asd import export_onnx
    >>> export_onnx(pipe, "fans.onnx")  # doctest: +SKIP
    ['fan/00', 'fan/02']
    """
    onnx = _import_onnx()
    check_is_fitted(estimator)
    machines = find_machines(estimator)
    thresholds = _find_thresholds(estimator, machines)
    score = make_module(estimator, machines)
    graph = _Graph(score, ByMachine(thresholds), len(machines))
    front_ends = [p for p in graph.modules() if isinstance(p, LogMel | Welch)]
    sample_rate = _find_sample_rate(estimator, front_ends)
    model = _trace(graph.eval(), max(one.n_samples(3) for one in front_ends))
    about = {
        "version": __version__,
        "sample_rate": sample_rate,
        "machines": machines,
        "thresholds": [t if math.isfinite(t) else str(t) for t in thresholds],
    }
    model.metadata_props.add(key="sklearn_asd", value=json.dumps(about))
    with replacing(path) as file:
        onnx.save_model(model, file)
    return machines


class _Graph(nn.Module):
    """Score and verdict of one clip of a machine; NaN and -1 where Python refuses."""

    def __init__(self, score: nn.Module, threshold: nn.Module, n_machines: int) -> None:
        super().__init__()
        self.score = score
        self.threshold = threshold
        self.n_machines = n_machines
        of_machines = [part for part in self.modules() if isinstance(part, ByMachine)]
        self.asks_sound = any(isinstance(p, SoundCheck) for p in self.modules())
        self.asks_machine = not all(part.are_equal for part in of_machines)

    def forward(
        self, waveform: torch.Tensor, machine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        is_sound = waveform.abs() <= MAX_AMPLITUDE  # False for NaN
        # Runtimes add up floats many times as fast as integers.
        is_heard = ((~is_sound).float().sum() == 0) & (is_sound.float().sum() > 0)
        if self.asks_sound:
            rest = waveform - waveform.mean()
            is_heard = is_heard & ((rest * rest).mean() >= 10 ** (SILENCE / 10))
        if self.asks_machine:
            # Runtimes pass on several machines, which stop here, and take negative
            # places from the end.
            place = machine.reshape(1)
            is_known = (place >= 0) & (place < self.n_machines)
            machine = torch.where(is_known, place, 0).sum()
            is_heard = is_heard & is_known.all()
        score = torch.where(is_heard, self.score(waveform, machine), torch.nan)
        # As in Python: no comparison with NaN holds, so the clip counts as anomalous.
        return score, torch.where(score - self.threshold(machine) <= 0, 1, -1)


def _find_thresholds(estimator: Any, machines: list[str]) -> list[float]:
    """What each machine's anomaly scores are compared with, or those of all."""
    for one in walk_used(estimator):
        if hasattr(one, "offset_"):
            return [-float(one.offset_)] * max(1, len(machines))
        if hasattr(one, "group_by_"):
            raise ValueError(
                f"{type(one).__name__} has thresholds by {one.group_by_}, which a "
                "graph is not told: fit with group_by=None"
            )
        if hasattr(one, "offsets_"):
            return [-float(one.offsets_[machine]) for machine in machines]
    raise ValueError(
        f"{type(estimator).__name__} has no threshold, so it cannot be exported: "
        "export a fitted outlier detector"
    )


def _find_sample_rate(estimator: Any, front_ends: list[LogMel | Welch]) -> float:
    rates = sorted({one.sample_rate for one in front_ends})
    if not rates:
        raise ValueError(
            f"{type(estimator).__name__} takes no samples, and a graph does: export "
            "Pipeline([('segment', segmenter), ('detect', detector)]) of the "
            "LogMelSegmenter or PowerSpectrum that made its clips and the fitted "
            "detector"
        )
    if len(rates) > 1:
        raise ValueError(
            f"the members take sample rates of {rates} Hz, and a graph takes the "
            "samples of one: fit them at one rate, or export them one by one"
        )
    return rates[0]


def _trace(graph: _Graph, n_samples: int) -> Any:
    """Give the graph as onnx.ModelProto, for clips of any length."""
    any_length = {0: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                graph,
                (torch.zeros(n_samples), torch.tensor(0)),
                dynamo=True,
                dynamic_shapes={"waveform": any_length, "machine": None},
                output_names=["anomaly_score", "verdict"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        parts = [part for part in graph.modules() if hasattr(part, "network")]
        names = {type(part.network).__name__ for part in parts}
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ValueError(
            f"torch cannot export {' or '.join(sorted(names))} for clips of any length "
            f"({reason:.300}): use another network, or keep the model with save_model "
            "and score in Python"
        ) from error
    model = program.model_proto
    # Torch's sizes inside the graph hold from two samples on; runtimes find their own.
    del model.graph.value_info[:]
    if not graph.asks_machine:
        del model.graph.input[1]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter, which logs that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _import_onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch exports with it
    except ImportError as error:
        raise ImportError(
            f"export_onnx needs {error.name}, which is not installed: in a checkout "
            'of sklearn_asd, run pip install -e ".[onnx]"'
        ) from error
    return onnx
