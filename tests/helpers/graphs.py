"""Run graphs of export_onnx, and compare what they take with what Python takes."""

import functools
import os
import warnings

import numpy as np
import onnxruntime

from sklearn_asd import Clips, PowerSpectrum
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.features.front_end import FrontEnd
from sklearn_asd.meta.structure import walk

N = 1024  # the default window
LENGTHS = [0, 1, N // 2 - 1, N // 2, N - 1, N, 4095, 4096]


def open_graph(path):
    """Give a session of the file, which is opened once as long as it is the same."""
    stat = os.stat(path)
    return _open(str(path), stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=4)
def _open(path, *_):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def run(path, waveforms, places):
    """Anomaly scores and verdicts of a graph."""
    session = open_graph(path)
    names = [one.name for one in session.get_inputs()]
    results = []
    for waveform, place in zip(waveforms, places, strict=True):
        inputs = {"waveform": np.float32(waveform), "machine": np.array(place)}
        results.append(session.run(None, {name: inputs[name] for name in names}))
    scores, verdicts = zip(*results, strict=True)
    return np.array(scores), np.array(verdicts)


def cut_at_the_edges(model, sound):
    """Cut a sound where the segments of a model begin and end, and a sample before."""
    lengths = set(LENGTHS)
    for one in find_front_ends(model):
        if isinstance(one, PowerSpectrum):
            lengths |= {one.n_fft - 1, one.n_fft, one.n_fft * 3 // 2}
        elif one.segment_duration is not None:
            segment, hop = one.segment_frames()
            # n frames are n - 1 hops and a sample that is in none
            for n_frames in (1, segment - hop, segment, segment + hop, 2 * segment):
                n_samples = (n_frames - 1) * one.hop_length
                lengths |= {n_samples, n_samples - 1 + (n_samples == 0)}
    assert max(lengths) <= len(sound)
    return [sound[:n] for n in sorted(lengths)]


def spoil(sound):
    """Put values into a sound that are no sound, and some that just are."""
    beyond = np.nextafter(np.float32(1e12), np.float32(np.inf))
    last = len(sound) - 1
    single = {0: np.nan, 5: np.inf, 77: -np.inf, 600: 1e13, last: beyond, 1: -1e30}
    spoilt = [
        np.where(np.arange(len(sound)) == place, np.float32(value), sound)
        for place, value in single.items()
    ]
    for level in (1e13, 1e20, 1e30, -1e30):
        spoilt.append(np.float32(level) * np.sign(sound))
    loudest = sound / np.abs(sound).max()
    for level in (1e12, 1e6, 1e-40, 0):
        spoilt.append(np.float32(level) * loudest)
    return [*spoilt, np.full_like(sound, 0.25), np.full_like(sound, np.nan)]


def find_front_ends(model):
    return [one for one in walk(model) if isinstance(one, FrontEnd)]


def score_in_python(model, waveforms, machine_type=None, machine_id=None):
    """Anomaly scores and verdicts; NaN and -1 of clips that Python refuses."""
    machine = {"machine_type": machine_type, "machine_id": machine_id}
    of_all = {k: [name] * len(waveforms) for k, name in machine.items() if name}
    clips = Clips(list(waveforms), **of_all)
    usable = np.ones(len(clips), dtype=bool)
    for one in find_front_ends(model):
        lenient = type(one)(**one.get_params()).set_params(on_bad_clip="nan")
        with warnings.catch_warnings(action="ignore", category=UnusableClipWarning):
            usable &= lenient.transform(clips).usable
    scores = np.full(len(clips), np.nan)
    verdicts = np.full(len(clips), -1)
    scores[usable] = -model.score_samples(clips[usable])
    verdicts[usable] = model.predict(clips[usable])
    return scores, verdicts
