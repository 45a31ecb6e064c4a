"""Scoring of segments and of a file, compared to the plain way and to PyOD."""

import argparse
import functools
import tempfile
from pathlib import Path

import bench_training
import measuring
import numpy as np
import plain
import roofline
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    ClipSpectrograms,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.audio import Clips
from sklearn_asd.presets import make_detector

BOUNDS = {"pvmilk20": 6, "inouet18": 4}
N_CLIPS = 800
MOST_SECONDS, MOST_MS = 2, 1  # to fit the default to them, and to score a clip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument("--clips", type=int, default=76, help="default: 76")
    args = parser.parse_args()
    figures = [score_segments(name, args.repeats, args.clips) for name in BOUNDS]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.wav" for number in range(8)]
        for path, clip in zip(paths, measuring.make_clips(8), strict=True):
            soundfile.write(path, clip, measuring.RATE)
        figures += score_a_file(paths[0], 10 * args.repeats)
        figures += score_files_with_pyod(paths, args.repeats)
    limits = roofline.measure_limits(args.repeats)
    shares = [
        roofline.describe(name, "scoring", figure.ours, limits)
        for name, figure in zip(BOUNDS, figures, strict=False)
    ]
    default, notes = fit_and_score_default(args.repeats)
    measuring.keep("scoring", figures + default, [*notes, "", *shares])


def fit_and_score_default(repeats):
    """The default of the command, from log-mels of 800 clips of 6.4 s."""
    ways = {
        "fit": make_default_fit,
        "score": make_default_scoring,
        "score one machine": functools.partial(make_default_scoring, n_machines=1),
        "folds": make_folds_of_ledoit_wolf,
    }
    seconds = measuring.take_turns(ways, repeats)
    what = "the default, fit to the log-mels of 800 clips of 6.4 s"
    reference = "LedoitWolf in five folds"
    figure = measuring.compare_latency(what, reference, seconds, "fit", "folds")
    of_four, of_one = (
        1e3 * seconds[way] / N_CLIPS for way in ("score", "score one machine")
    )
    fits = measuring.judge(seconds["fit"], MOST_SECONDS, "s")
    scores = measuring.judge(of_one, MOST_MS, "ms")
    notes = [
        f"The default takes {seconds['fit']:.2f} s to fit these 800 clips: {fits}. To "
        f"score a clip, it takes {of_four:.2f} ms with the one statistic chosen, and "
        f"{of_one:.2f} ms with the five that it keeps of a single machine: {scores}."
    ]
    return [figure], notes


def make_spectra(n_machines=4):
    """Log-mels of some machines, whose bands vary together."""
    rng = np.random.default_rng(0)
    machine = np.repeat(np.arange(n_machines), N_CLIPS // n_machines)
    level = rng.normal(size=(N_CLIPS, 128)) @ rng.normal(size=(128, 128)) / 10
    noise = rng.normal(scale=5, size=(N_CLIPS, 128, 200)).astype(np.float32)
    log_mels = noise + np.float32(level + 3 * machine[:, None])[:, :, None] - 40
    return ClipSpectrograms.from_arrays(log_mels, machine_id=machine)


def make_default_fit():
    X = make_spectra()
    return lambda: make_detector().fit(X)


def make_default_scoring(n_machines=4):
    X = make_spectra(n_machines)
    detector = make_detector().fit(X)
    return lambda: detector.score_samples(X)


def make_folds_of_ledoit_wolf():
    """The same statistics, scored by scikit-learn's covariance of other folds."""
    X = make_spectra()
    statistics = ["mean", "max", "rank", ("mean", "rank"), "relative_power"]

    def fit():
        for one in statistics:
            detector = make_pipeline(SpectrumStatistics(one), MahalanobisDetector())
            PerMachine(detector).fit(X)

    return fit


def make_plain(network):
    torch.manual_seed(0)
    return plain.NETWORKS[network](bench_training.N_CLASSES)


def make_fitted(network, n_clips):
    """Make a detector, and log-mels to score."""
    log_mels, y = bench_training.make_data(n_clips)
    X = ClipSpectrograms.from_arrays(log_mels, machine_id=y.astype(str))
    detector = IDConfidenceDetector(network=network, max_epochs=1, random_state=0)
    return detector.fit(X), X


def score_segments(network, repeats, n_clips):
    ways = {
        "plain": functools.partial(make_plain_scoring, network, n_clips),
        "ours": functools.partial(make_scoring, network, n_clips),
    }
    return measuring.compare(
        f"{network}, log-mels to scores",
        "plain float32",
        measuring.take_turns(ways, repeats),
        "ours",
        "plain",
        5 * n_clips,
        "segments/s",
        BOUNDS[network],
    )


def make_plain_scoring(network, n_clips):
    log_mels, y = bench_training.make_data(n_clips)
    net, segments = make_plain(network), plain.Segments(list(log_mels), y)
    return lambda: plain.score(net, segments, y)


def make_scoring(network, n_clips):
    detector, X = make_fitted(network, n_clips)
    return lambda: detector.score_samples(X)


def score_a_file(path, repeats):
    """Latency of one file of 10 s, with one thread and with two."""
    figures = []
    for threads in (1, 2):
        ways = {
            "plain": functools.partial(make_plain_latency, path, threads),
            "ours": functools.partial(make_latency, path, threads),
        }
        what = f"pvmilk20, a file of 10 s to its score, {threads} thread(s)"
        seconds = measuring.take_turns(ways, repeats)
        figures.append(
            measuring.compare_latency(what, "with librosa", seconds, "ours", "plain")
        )
    return figures


def make_plain_latency(path, threads):
    torch.set_num_threads(threads)
    net, own = make_plain("pvmilk20"), np.zeros(1, dtype=int)

    def score():
        log_mel = plain.read_log_mel(path)
        return plain.score(net, plain.Segments([log_mel], own), own)

    return score


def make_latency(path, threads):
    torch.set_num_threads(threads)
    detector, _ = make_fitted("pvmilk20", 12)
    segmenter, clip = LogMelSegmenter(), Clips([path], machine_id=["0"])
    return lambda: detector.score_samples(segmenter.transform(clip))


def score_files_with_pyod(paths, repeats):
    """Files to scores, with the detectors that PyOD offers for sound."""
    ways = {
        "ours": functools.partial(make_file_scoring, paths),
        "PyOD's AudioAE": functools.partial(make_audio_ae, paths),
        "PyOD's EmbeddingOD (MFCC)": functools.partial(make_embedding_od, paths),
    }
    seconds = measuring.take_turns(ways, repeats)
    return [
        measuring.compare(
            "pvmilk20, files of 10 s to scores",
            way,
            seconds,
            "ours",
            way,
            len(paths),
            "clips/s",
        )
        for way in list(ways)[1:]
    ]


def make_file_scoring(paths):
    clips = Clips(paths, machine_id=[str(number % 2) for number in range(len(paths))])
    detector = IDConfidenceDetector(max_epochs=1, random_state=0)
    system = make_pipeline(LogMelSegmenter(), detector).fit(clips)
    return lambda: system.score_samples(clips)


def make_audio_ae(paths):
    from pyod.models.audio_ae import AudioAE

    names = [str(path) for path in paths]
    detector = AudioAE(n_mels=128, sr=measuring.RATE, epoch_num=1).fit(names)
    return lambda: detector.decision_function(names)


def make_embedding_od(paths):
    from pyod.models.embedding import EmbeddingOD

    names = [str(path) for path in paths]
    detector = EmbeddingOD.for_audio(quality="fast").fit(names)
    return lambda: detector.decision_function(names)


if __name__ == "__main__":
    main()
