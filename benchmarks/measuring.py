"""What the benchmarks of speed share: timing in turn, and keeping results."""

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
AVX2 = "AVX2"  # what torch calls a processor without AVX-512
RESULTS = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One line of the table: the library and a reference in one run."""

    what: str
    reference: str
    unit: str
    ours: float
    theirs: float
    ratio: float  # how many times as fast; above 1 the library is faster
    bound: float | None = None  # the smallest acceptable ratio
    reason: str = ""  # why a processor may miss it

    @property
    def verdict(self):
        if self.bound is None:
            return ""
        if self.ratio >= self.bound:
            return f"held (at least {self.bound:g})"
        reason = f": {self.reason}" if self.reason else ""
        return f"MISSED (at least {self.bound:g}){reason}"


def take_turns(ways, repeats):
    """Median seconds of each way by name. All run in turn, once more to warm up.

    A way is a function that makes the function to be timed. Each runs in its own
    process, because the speed depends on how the process allocates memory.
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
    """Run a way in another process, as often as asked."""

    def __init__(self, make):
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=wait_and_run, args=(make, other_end))
        self._process.start()
        other_end.close()  # so that recv fails if the process dies

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


def judge(value, most, unit):
    """Say whether a figure is within its bound."""
    return f"{'held' if value <= most else 'MISSED'} (at most {most:g} {unit})"


def compare(
    what, reference, seconds, ours, theirs, amount, unit, bound=None, reason=""
):
    """Compare two of the ways that `take_turns` timed, as amounts per second."""
    return Figure(
        what,
        reference,
        unit,
        amount / seconds[ours],
        amount / seconds[theirs],
        seconds[theirs] / seconds[ours],
        bound,
        reason,
    )


def compare_latency(what, reference, seconds, ours, theirs, bound=None, reason=""):
    """The same in milliseconds, where less is better."""
    ms = {name: 1e3 * seconds[name] for name in (ours, theirs)}
    ratio = ms[theirs] / ms[ours]
    return Figure(what, reference, "ms", ms[ours], ms[theirs], ratio, bound, reason)


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


def computes_bfloat16():
    """False for a processor without it, and for an imitated one."""
    return has_bfloat16() and torch.backends.cpu.get_cpu_capability() != AVX2


# Features of processors that the libraries make use of.
FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd")
# What makes the libraries imitate an older processor.
LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
)


def describe_computer():
    """Name the processor, its features, and those that torch uses."""
    model = platform.processor() or platform.machine()
    found = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
        model = facts.get("model name", model)
        flags = f"{facts.get('flags', '')} {facts.get('Features', '')}".split()
        found = [feature for feature in FEATURES if feature in flags]
    text = f"{os.cpu_count()} cores of {model}"
    text += f" with {', '.join(found)}" if found else ""
    text += f"; torch uses {torch.backends.cpu.get_cpu_capability()}"
    text += " and bfloat16" if computes_bfloat16() else ""
    given = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    if given:
        text += f". Another processor is imitated by {', '.join(given)}"
    return text


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
    """Print the figures, and write them for the documentation.

    Those of an imitated processor have a page's section of their own.
    """
    if "ATEN_CPU_CAPABILITY" in os.environ:
        name = f"{name}_{os.environ['ATEN_CPU_CAPABILITY']}"
    if figures:
        print(tabulate(figures))
    print(*notes, sep="\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    result = {
        "computer": describe_computer(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "figures": [figure._asdict() for figure in figures],
        "notes": list(notes),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
