"""Machines that one core can watch, and how soon a window's event comes."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, RecordingCheck, save_model
from sklearn_asd._utils.messages import count
from sklearn_asd.monitoring import Monitor
from sklearn_asd.presets import make_detector

SECONDS = 10  # of a window
LEAST_MACHINES, MOST_MS = 500, 50


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=200, help="default: 200")
    args = parser.parse_args()
    notes = []
    for n_machines in (1, 4):
        seconds = time_windows(make_monitor(n_machines), args.windows)
        notes.append(describe(n_machines, seconds))
    notes.append(describe_process(time_process(args.windows // 4)))
    measuring.keep("monitor", [], notes)


def make_monitor(n_machines):
    """A monitor with the default detector, fitted to 40 recordings of each machine."""
    n_clips = 40 * n_machines
    X = pd.DataFrame(
        {
            "audio": list(make_noise(n_clips)),
            "machine_type": "fan",
            "machine_id": [str(row % n_machines) for row in range(n_clips)],
        }
    )
    segmenter = LogMelSegmenter(segment_duration=None)
    pipe = make_pipeline(segmenter, RecordingCheck(), make_detector()).fit(X)
    return Monitor(pipe, machine="fan/0")


def make_noise(n_windows):
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=1000, size=(n_windows, SECONDS * measuring.RATE))
    return noise.astype(np.int16)


def time_windows(monitor, n_windows):
    """Seconds from the bytes of each window to its event, and of the processor."""
    seconds = []
    for window in make_noise(20)[np.arange(1 + n_windows) % 20]:
        content = window.tobytes()
        started, busy = time.perf_counter(), time.process_time()
        monitor.push(np.frombuffer(content, np.int16))
        seconds.append((time.perf_counter() - started, time.process_time() - busy))
    return seconds[1:]


def describe(n_machines, seconds):
    elapsed, busy = zip(*seconds, strict=True)
    n_watched = SECONDS / statistics.mean(busy)
    latest = 1e3 * np.percentile(elapsed, 99)
    watched = "held" if n_watched >= LEAST_MACHINES else "MISSED"
    soon = "held" if latest <= MOST_MS else "MISSED"
    return (
        f"`Monitor` with the default detector of {count(n_machines, 'machine')} and "
        f"windows of {SECONDS} s: one core watches {n_watched:,.0f} machines: "
        f"{watched} (at least {LEAST_MACHINES}). From the end of a window to its event "
        f"it takes {1e3 * statistics.median(elapsed):.0f} ms, and 99 % at most "
        f"{latest:.0f} ms: {soon} (at most {MOST_MS} ms)."
    )


def time_process(n_windows):
    """Seconds from the last byte of each window to its line, by a process at rest."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "fan.asd")
        save_model(make_monitor(1).detector, model)
        options = ["--format", "s16le", "--rate", str(measuring.RATE)]
        process = subprocess.Popen(
            [sys.executable, "-m", "sklearn_asd", "watch", model, "-", *options],
            cwd=folder,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        seconds = []
        for window in make_noise(20)[np.arange(1 + n_windows) % 20]:
            content = window.tobytes()
            process.stdin.write(content[:-3200])
            time.sleep(0.2)  # it has read these
            process.stdin.write(content[-3200:])  # the last 0.1 s
            started = time.perf_counter()
            process.stdout.readline()
            seconds.append(time.perf_counter() - started)
        process.stdin.close()
        process.stdout.close()
        process.wait()
    return seconds[1:]


def describe_process(seconds):
    latest = 1e3 * np.percentile(seconds, 99)
    soon = "held" if latest <= MOST_MS else "MISSED"
    return (
        f"A process of `sklearn-asd watch` that listens to a stream writes the line of "
        f"a window of {SECONDS} s, log included, "
        f"{1e3 * statistics.median(seconds):.0f} ms after its last sample came, and "
        f"99 % at most {latest:.0f} ms: {soon} (at most {MOST_MS} ms)."
    )


if __name__ == "__main__":
    main()
