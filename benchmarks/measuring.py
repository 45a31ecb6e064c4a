"""What the benchmarks of speed share: taking turns, describing, and keeping results."""

import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.networks.devices import has_bfloat16

RATE = 16000
RESULTS = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One line of the table: what the library and a reference reached in one run."""

    what: str
    reference: str
    unit: str
    ours: float
    theirs: float
    ratio: float  # how many times as fast, above 1 in favour of the library
    bound: float | None = None  # the least ratio asked for

    @property
    def verdict(self):
        if self.bound is None:
            return ""
        word = "held" if self.ratio >= self.bound else "MISSED"
        return f"{word} (at least {self.bound:g})"


def take_turns(ways, repeats):
    """Median seconds of each way by name, run in turn after once to warm up.

    A way is a function that makes what is timed. Each is called in a process of its
    own, as how memory is allocated is a matter of the process, and decides the speed.
    """
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(RunningApart(way)) for name, way in ways.items()
        }
        seconds = {name: [] for name in ways}
        for _ in range(1 + repeats):
            for name, process in running.items():
                seconds[name].append(process.run_once())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


class RunningApart:
    """Runs what a function makes in another process, whenever it is told to."""

    def __init__(self, make):
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=wait_and_run, args=(make, other_end))
        self._process.start()
        other_end.close()  # so that its death is noticed

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pipe.close()
        self._process.join()

    def run_once(self):
        self._pipe.send("run")
        return self._pipe.recv()


def wait_and_run(make, pipe):
    way = make()
    with contextlib.suppress(EOFError):
        while pipe.recv():
            started = time.perf_counter()
            way()
            pipe.send(time.perf_counter() - started)


def compare(what, reference, seconds, ours, theirs, amount, unit, bound=None):
    """Figure of two of the ways that `take_turns` timed, as amounts a second."""
    return Figure(
        what,
        reference,
        unit,
        amount / seconds[ours],
        amount / seconds[theirs],
        seconds[theirs] / seconds[ours],
        bound,
    )


def compare_latency(what, reference, seconds, ours, theirs, bound=None):
    """The same in milliseconds, of which less is better."""
    ms = {name: 1e3 * seconds[name] for name in (ours, theirs)}
    ratio = ms[theirs] / ms[ours]
    return Figure(what, reference, "ms", ms[ours], ms[theirs], ratio, bound)


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


def memory(name):
    """Memory of this process in MB (Linux): resident now or at its peak, or private."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(kilobytes) * 1024 / 1e6


def describe_machine():
    model = platform.processor() or platform.machine()
    flags = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if "model name" in line]
        model = names[0] if names else model
    if has_bfloat16():
        flags = " with avx512_bf16"
    return f"{os.cpu_count()} cores of {model}{flags}"


def tabulate(figures):
    """The figures as a Markdown table."""
    rows = ["| what | sklearn_asd | reference | times as fast | |"]
    rows.append("|---|---|---|---|---|")
    for f in figures:
        ours, theirs = map(show, (f.ours, f.theirs))
        rows.append(
            f"| {f.what} | {ours} {f.unit} | {theirs} {f.unit} ({f.reference}) | "
            f"{f.ratio:.1f} | {f.verdict} |"
        )
    return "\n".join(rows)


def show(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def keep(name, figures, notes=()):
    """Print the figures, and write them for the page of the documentation."""
    if figures:
        print(tabulate(figures))
    print(*notes, sep="\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    result = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "figures": [figure._asdict() for figure in figures],
        "notes": list(notes),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
