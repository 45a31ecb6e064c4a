"""How long a process takes to start: the import, help, and a score of one file.

The reference is a process that imports NumPy and pandas, which most programs of the
field do. All are CPU times, of files that are in the cache.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measuring
import soundfile
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, RecordingCheck, save_model
from sklearn_asd.presets import make_detector

REFERENCE = "importing NumPy and pandas"

# What is run, and how many times as long as the reference it may take.
BOUNDS = {
    "import sklearn_asd": 0.5,
    "sklearn-asd --version": 0.5,
    "sklearn-asd --help": 0.5,
    "sklearn-asd score, one file, no network": 3,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=11, help="default: 11")
    args = parser.parse_args()
    measuring.keep("startup", compare(args.repeats))


def compare(repeats):
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "sklearn_asd"]
        arguments = [
            ["-c", "import sklearn_asd"],
            [*command, "--version"],
            [*command, "--help"],
            [*command, "score", *write_model(Path(folder))],
        ]
        starts = {REFERENCE: ["-c", "import numpy, pandas"]}
        starts |= zip(BOUNDS, arguments, strict=True)
        seconds = take_turns(starts, repeats)
    return [
        measuring.compare_latency(name, REFERENCE, seconds, name, REFERENCE, 1 / most)
        for name, most in BOUNDS.items()
    ]


def take_turns(starts, repeats):
    """Median CPU seconds of each process by name. All run in turn, once to warm up."""
    seconds = {name: [] for name in starts}
    for _ in range(1 + repeats):
        for name, arguments in starts.items():
            before = count_seconds()
            command = [sys.executable, *arguments]
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(count_seconds() - before)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def count_seconds():
    """CPU seconds of all processes that this one has started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_model(folder):
    """Fit what `sklearn-asd fit` fits, and write it and a recording that is normal."""
    paths = []
    for number, audio in enumerate(measuring.make_clips(4)):
        paths.append(str(folder / f"{number}.wav"))
        soundfile.write(paths[-1], audio, measuring.RATE)
    segmenter = LogMelSegmenter(segment_duration=None)
    detector = make_detector("default", contamination=0.05)
    model = make_pipeline(segmenter, RecordingCheck(), detector).fit(paths)
    best = max(zip(model.decision_function(paths), paths, strict=True))[1]
    save_model(model, folder / "model.asd")
    return str(folder / "model.asd"), best


if __name__ == "__main__":
    main()
