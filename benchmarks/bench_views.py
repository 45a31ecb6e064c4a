"""Nine views and their log-mels of 10 s clips, against librosa's way to them.

Time: a loop of ``librosa.effects`` and ``librosa.feature`` over the same clips, spread
over as many workers, is run in turn with the library. Memory: each number of views has
a process of its own, whose peak is compared with the frames that result.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import librosa
import numpy as np
from joblib import Parallel, delayed

from sklearn_asd import AugmentationExpander, LogMelSegmenter
from sklearn_asd.datasets import make_machine_sounds

RATE = 16000
VIEWS = list(itertools.product((-0.1, 0, 0.1), (0.9, 1.0, 1.1)))
RESULTS = Path(__file__).parent / "results"
BOUND = 3  # times as fast as librosa
MEMORY_BOUND = 30  # MB that nine views may take more than one, beyond their frames


def main():
    args = parse_arguments()
    if args.memory_of is not None:
        print(json.dumps(measure_memory(args.memory_of, args.clips)))
        return
    result = {"machine": describe_machine()}
    clips = make_clips(8)
    for n_jobs in (1, 2):
        result[f"n_jobs={n_jobs}"] = compare(clips, n_jobs, args.repeats)
    result["memory"] = [in_own_process(k, args.clips) for k in (1, 9)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "views.json").write_text(json.dumps(result, indent=2) + "\n")
    report(result)
    sys.exit(0 if all(verdicts(result)) else 1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--clips", type=int, default=200, help="whose memory is measured (default: 200)"
    )
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_clips(n_clips):
    """Built-in fans, valves and others of 10 s."""
    sounds = make_machine_sounds(
        n_machines=2,
        n_train=1,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=10.0,
        random_state=0,
    )
    return [np.asarray(samples, np.float32) for samples in sounds["audio"][:n_clips]]


def librosas_views(y):
    """Log-mels of nine views of one clip, as anyone would write it."""
    log_mels = []
    for steps, rate in VIEWS:
        view = y
        if steps != 0:
            view = librosa.effects.pitch_shift(view, sr=RATE, n_steps=steps)
        if rate != 1:
            view = librosa.effects.time_stretch(view, rate=rate)
        power = librosa.feature.melspectrogram(
            y=view, sr=RATE, n_fft=1024, hop_length=512, n_mels=128
        )
        log_mels.append(librosa.power_to_db(power, top_db=None))
    return log_mels


def compare(clips, n_jobs, repeats):
    """Seconds a clip, each way in turn, and the ratio of the medians."""
    views = AugmentationExpander().transform(clips)
    segment = LogMelSegmenter(n_jobs=n_jobs)
    seconds = {"librosa": [], "sklearn_asd": []}
    # Processes, which librosa's loop is faster in than in threads.
    with Parallel(n_jobs=n_jobs) as parallel:
        ways = {
            "librosa": lambda: parallel(delayed(librosas_views)(y) for y in clips),
            "sklearn_asd": lambda: segment.transform(views),
        }
        for way in ways.values():
            way()  # workers, filters and windows are made once
        for _ in range(repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append((time.perf_counter() - started) / len(clips))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "seconds_a_clip": medians,
        "ratio": medians["librosa"] / medians["sklearn_asd"],
        "repeats": repeats,
    }


def measure_memory(n_views, n_clips):
    """Peak of this process above what it began with, and the frames, in MB (Linux)."""
    (clip,) = make_clips(1)
    clips = [clip] * n_clips
    segment = LogMelSegmenter()
    expand = AugmentationExpander()
    segment.transform(expand.transform(clips[:1]))  # libraries and filters are loaded
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = memory("VmRSS")
    X = segment.transform(expand.transform(clips) if n_views == 9 else clips)
    beyond = memory("VmHWM") - before - X.frames.nbytes / 1e6
    return {
        "views": n_views,
        "clips": n_clips,
        "frames_MB": X.frames.nbytes / 1e6,
        "beyond_frames_MB": beyond,
    }


def memory(name):
    """Resident memory of this process in MB: now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(kilobytes) * 1024 / 1e6


def in_own_process(n_views, n_clips):
    command = [sys.executable, __file__, "--memory-of", str(n_views)]
    command += ["--clips", str(n_clips)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def describe_machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def verdicts(result):
    """Whether each bound holds."""
    one, nine = (figures["beyond_frames_MB"] for figures in result["memory"])
    yield from (result[f"n_jobs={n_jobs}"]["ratio"] >= BOUND for n_jobs in (1, 2))
    yield nine - one <= MEMORY_BOUND


def report(result):
    print(f"Nine views and log-mels of a 10 s clip, on {result['machine']}:")
    for n_jobs in (1, 2):
        figures = result[f"n_jobs={n_jobs}"]
        ours, theirs = (
            1000 * figures["seconds_a_clip"][way] for way in ("sklearn_asd", "librosa")
        )
        print(
            f"  {n_jobs} worker(s): {ours:.0f} ms, librosa {theirs:.0f} ms: "
            f"{figures['ratio']:.1f} times as fast (at least {BOUND})"
        )
    print("Peak memory beyond the frames:")
    for figures in result["memory"]:
        print(
            f"  {figures['views']} view(s) of {figures['clips']} clips: "
            f"{figures['beyond_frames_MB']:.0f} MB beyond frames of "
            f"{figures['frames_MB']:.0f} MB"
        )
    held = ["held" if holds else "MISSED" for holds in verdicts(result)]
    print(f"Bounds of time with 1 and 2 workers, and of memory: {', '.join(held)}")


if __name__ == "__main__":
    main()
