"""From files to frames, against a loop of librosa."""

import argparse
import functools
import tempfile
from pathlib import Path

import measuring
import numpy as np
import plain
import soundfile

from sklearn_asd import LogMelSegmenter

PROFILE = (
    "One worker spends a third of its time for a WAV file on the FFT in float64, which "
    "quiet bands need and librosa computes too, a sixth on windows and power, and a "
    "seventh on the decoder, which librosa shares. Two workers are threads, and wait "
    "for each other while one holds the interpreter's lock."
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    args = parser.parse_args()
    measuring.keep("frontend", measure(args.repeats), [PROFILE])


def measure(repeats, n_files=128):
    figures = []
    for suffix in (".wav", ".flac"):
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(Path(folder), suffix, n_files)
            figures += time_files(paths, suffix[1:].upper(), repeats)
    return figures


def write_files(folder, suffix, n_files):
    clips = measuring.make_clips(8)
    paths = [folder / f"{number}{suffix}" for number in range(n_files)]
    for number, path in enumerate(paths):
        soundfile.write(path, clips[number % len(clips)], measuring.RATE)
    return paths


def time_files(paths, kind, repeats):
    X = LogMelSegmenter().transform(paths[:1])
    np.testing.assert_allclose(X.log_mel(0), plain.read_log_mel(paths[0]), atol=1e-3)
    ways = {"librosa": functools.partial(make_librosas_loop, paths)}
    for workers in (1, 2):
        ways[workers] = functools.partial(make_segmenter, paths, workers)
    seconds = measuring.take_turns(ways, repeats)
    what, bounds = f"{kind} files of 10 s to log-mels", {1: None, 2: 2}
    return [
        measuring.compare(
            f"{what}, {workers} worker(s)",
            "librosa's loop",
            seconds,
            workers,
            "librosa",
            len(paths),
            "clips/s",
            bound,
        )
        for workers, bound in bounds.items()
    ]


def make_librosas_loop(paths):
    return lambda: [plain.read_log_mel(path) for path in paths]


def make_segmenter(paths, workers):
    segmenter = LogMelSegmenter(n_jobs=workers)
    return lambda: segmenter.transform(paths)


if __name__ == "__main__":
    main()
