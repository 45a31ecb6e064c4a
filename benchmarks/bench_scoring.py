"""Scoring of segments, and of a file, against the plain way and against PyOD."""

import argparse
import tempfile
from pathlib import Path

import bench_training
import measuring
import numpy as np
import plain
import soundfile
import torch
from sklearn.pipeline import make_pipeline

from sklearn_asd import ClipSpectrograms, IDConfidenceDetector, LogMelSegmenter
from sklearn_asd.audio import Clips

BOUNDS = {"pvmilk20": 6, "inouet18": 4}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument("--clips", type=int, default=154, help="default: 154")
    args = parser.parse_args()
    figures = [score_segments(name, args.repeats, args.clips) for name in BOUNDS]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.wav" for number in range(8)]
        for path, clip in zip(paths, measuring.make_clips(8), strict=True):
            soundfile.write(path, clip, measuring.RATE)
        figures += score_a_file(paths, 10 * args.repeats)
        figures += score_files_with_pyod(paths, args.repeats)
    measuring.keep("scoring", figures)


def fit_both(network, log_mels, y):
    """A detector and the plain network with the same weights."""
    X = ClipSpectrograms.from_arrays(log_mels, machine_id=y.astype(str))
    detector = IDConfidenceDetector(network=network, max_epochs=1, random_state=0)
    detector.fit(X)
    net = plain.NETWORKS[network](len(detector.classes_))
    net.load_state_dict(detector.net_.module_.state_dict())
    return X, detector, net


def score_segments(network, repeats, n_clips):
    log_mels, y = bench_training.make_data(n_clips)
    X, detector, net = fit_both(network, log_mels, y)
    segments = plain.Segments(list(log_mels), y)
    np.testing.assert_allclose(
        detector.anomaly_score(X), plain.score(net, segments, y), atol=1e-5
    )
    ways = {
        "plain": lambda: plain.score(net, segments, y),
        "ours": lambda: detector.score_samples(X),
    }
    return measuring.compare(
        f"{network}, log-mels to scores",
        "plain float32",
        measuring.take_turns(ways, repeats),
        "ours",
        "plain",
        len(segments),
        "segments/s",
        BOUNDS[network],
    )


def score_a_file(paths, repeats):
    """Latency of one file of 10 s, with one thread and with two."""
    log_mels, y = bench_training.make_data(12)
    _, detector, net = fit_both("pvmilk20", log_mels, y)
    segmenter = LogMelSegmenter().fit(paths)
    own = np.zeros(1, dtype=int)

    def ours():
        clip = Clips(paths[:1], machine_id=["0"])
        return detector.score_samples(segmenter.transform(clip))

    def theirs():
        log_mel = plain.read_log_mel(paths[0])
        return plain.score(net, plain.Segments([log_mel], own), own)

    figures = []
    n_threads = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds = measuring.take_turns({"ours": ours, "plain": theirs}, repeats)
        what = f"pvmilk20, a file of 10 s to its score, {threads} thread(s)"
        figures.append(
            measuring.compare_latency(what, "with librosa", seconds, "ours", "plain")
        )
    torch.set_num_threads(n_threads)
    return figures


def score_files_with_pyod(paths, repeats):
    """Files to scores, with the networks that PyOD offers for sound."""
    from pyod.models.audio_ae import AudioAE
    from pyod.models.embedding import EmbeddingOD

    ids = [str(number % 2) for number in range(len(paths))]
    ours = make_pipeline(
        LogMelSegmenter(), IDConfidenceDetector(max_epochs=1, random_state=0)
    ).fit(Clips(paths, machine_id=ids))
    names = [str(path) for path in paths]
    autoencoder = AudioAE(n_mels=128, sr=measuring.RATE, epoch_num=1).fit(names)
    embedding = EmbeddingOD.for_audio(quality="fast").fit(names)
    ways = {
        "ours": lambda: ours.score_samples(Clips(paths, machine_id=ids)),
        "PyOD's AudioAE": lambda: autoencoder.decision_function(names),
        "PyOD's EmbeddingOD (MFCC)": lambda: embedding.decision_function(names),
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


if __name__ == "__main__":
    main()
