"""From files to frames, against a loop of librosa."""

import argparse
import functools
import tempfile
from pathlib import Path

import measuring
import numpy as np
import plain
import soundfile
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter
from sklearn_asd.features import RecordingCheck
from sklearn_asd.presets import make_detector

BOUND = 3  # times as fast as librosa's loop, with two workers
MOST_MS = 3  # from a file to its verdict

REASONS = {
    "WAV": "two threads share the interpreter's lock",
    "FLAC": "most of the time is the decoder's, which librosa shares",
}

PROFILE = (
    "One worker spends half of its time for a WAV file on the log-mel, of which the "
    "FFT in single precision is half, a quarter on what remarks are made of, and an "
    "eighth on reading. Frames with a band more than 47 dB below their mean are "
    "transformed again in double precision, as quiet bands need: none of these, and "
    "three in five of DCASE 2020's toy conveyors. Two workers are threads, and wait "
    "for each other while one holds the interpreter's lock."
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    args = parser.parse_args()
    figures = measure(args.repeats)
    measuring.keep("frontend", figures, [PROFILE, "", time_verdict(10 * args.repeats)])


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
    what, bounds = f"{kind} files of 10 s to log-mels", {1: None, 2: BOUND}
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
            REASONS[kind],
        )
        for workers, bound in bounds.items()
    ]


def time_verdict(repeats):
    """One file, judged by the detector that the command trains by default."""
    seconds = measuring.take_turns({"predict": make_verdict}, repeats)["predict"]
    held = measuring.judge(1e3 * seconds, MOST_MS, "ms")
    return (
        "The default detector of one machine takes "
        f"{1e3 * seconds:.1f} ms from a WAV file of 10 s to its verdict: {held}."
    )


def make_verdict():
    clips = measuring.make_clips(12)
    segmenter = LogMelSegmenter(segment_duration=None)
    detector = make_detector("default", contamination=0.05)
    model = make_pipeline(segmenter, RecordingCheck(), detector).fit(clips)
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "clip.wav"
    soundfile.write(path, clips[0], measuring.RATE)
    return lambda folder=folder: model.predict([path])


def make_librosas_loop(paths):
    return lambda: [plain.read_log_mel(path) for path in paths]


def make_segmenter(paths, workers):
    segmenter = LogMelSegmenter(n_jobs=workers)
    return lambda: segmenter.transform(paths)


if __name__ == "__main__":
    main()
