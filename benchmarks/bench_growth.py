"""Memory and time of extracting, fitting and scoring, as a collection grows.

Each number of clips runs in its own process. Private memory is what the system counts
as anonymous: pages of the mapped cache belong to the file and can be dropped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import measuring
import numpy as np
import soundfile

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter
from sklearn_asd.audio import Clips

BOUND = 200  # MB that the largest collection may take more than the smallest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--folder", type=Path, help="for files of 320 kB a clip")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write_files(Path(folder), max(args.clips))
        results = [in_own_process(n_clips, folder) for n_clips in args.clips]
    grown = results[-1]["peak_MB"] - results[0]["peak_MB"]
    verdict = "held" if grown <= BOUND else "MISSED"
    rows = [
        "| clips of 10 s | extract | fit, one epoch | score | private memory | cache |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        seconds = " | ".join(f"{r[step]:.0f} s" for step in ("extract", "fit", "score"))
        sizes = f"{r['peak_MB']:.0f} MB | {r['cache_MB']:,.0f} MB"
        rows.append(f"| {r['clips']:,} | {seconds} | {sizes} |")
    summary = f"Grown by {grown:.0f} MB: {verdict} (at most {BOUND} MB)."
    measuring.keep("growth", [], [*rows, "", summary])


def write_files(folder, n_clips):
    """Write recordings that differ, so that the cache keeps each of them."""
    noise = np.random.default_rng(0).integers(-3000, 3000, 11 * measuring.RATE)
    noise = noise.astype(np.int16)
    for number in range(n_clips):
        samples = noise[number : number + 10 * measuring.RATE]
        soundfile.write(folder / f"{number:06d}.wav", samples, measuring.RATE)


def in_own_process(n_clips, folder):
    command = [sys.executable, __file__, "--measure", str(n_clips), "--folder", folder]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def measure(n_clips, folder):
    paths = sorted(folder.glob("*.wav"))[:n_clips]
    clips = Clips(paths, machine_id=[str(number % 4) for number in range(n_clips)])
    detector = IDConfidenceDetector(max_epochs=1, random_state=0)
    seconds = {}
    with (
        tempfile.TemporaryDirectory(dir=folder) as cache,
        PeakOfPrivateMemory() as peak,
    ):
        started = time.perf_counter()
        X = LogMelSegmenter(cache_dir=cache, dtype="float16", n_jobs=-1).transform(
            clips
        )
        seconds["extract"] = time.perf_counter() - started
        started = time.perf_counter()
        detector.fit(X)
        seconds["fit"] = time.perf_counter() - started
        started = time.perf_counter()
        detector.score_samples(X)
        seconds["score"] = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(cache).iterdir()) / 1e6
    return {"clips": n_clips, "peak_MB": peak.megabytes, "cache_MB": size, **seconds}


class PeakOfPrivateMemory:
    """Watch this process's anonymous memory within the context (Linux)."""

    def __enter__(self):
        self.megabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.02):
            self.megabytes = max(self.megabytes, measuring.memory("RssAnon"))


if __name__ == "__main__":
    main()
