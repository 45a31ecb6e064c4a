"""A forked process computes as its parent does, whatever the parent did before.

All takes place in one process with two threads, as the tests' own has but one.
"""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="nothing can fork"
)

PROGRAM = '''
import json, multiprocessing, os, sys, threading, time
import joblib, numpy as np, torch
from sklearn.base import clone
from sklearn.metrics import pairwise_distances_argmin
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn_asd import (
    AutoencoderDetector, ClipSpectrograms, IDConfidenceDetector, PerMachine,
    SpectrumStatistics,
)
from sklearn_asd._utils import forking
from sklearn_asd.networks import PVMilk20

fork = multiprocessing.get_context("fork")
torch.set_num_threads(2)
rng = np.random.default_rng(0)
X = ClipSpectrograms.from_arrays(
    rng.normal(size=(8, 32, 96)), machine_id=list("aaaabbbb")
)
settings = {"max_epochs": 1, "batch_size": 4, "device": "cpu", "random_state": 0}
networks = IDConfidenceDetector(**settings)
systems = {
    "networks": networks,
    "autoencoder": PerMachine(AutoencoderDetector(**settings | {"batch_size": 512})),
    "neighbors": make_pipeline(SpectrumStatistics(), LocalOutlierFactor(novelty=True)),
}


def in_child(work, limit=30):
    """Tell whether a forked process did it, rather than hang or die."""
    process = fork.Process(target=work)
    process.start()
    process.join(limit)
    done = process.exitcode == 0
    process.kill()
    process.join()
    return done


def equal(system, expected):
    assert np.allclose(system.score_samples(X), expected, rtol=1e-6)


def report(name, outcome):
    print(json.dumps([name, bool(outcome)]), flush=True)


for name, system in systems.items():
    system.fit(X)
    report(f"{name}: fit, score", in_child(lambda: system.score_samples(X)))
    expected = system.score_samples(X)
    report(f"{name}: score, score", in_child(lambda: equal(system, expected)))
    report(f"{name}: score, fit", in_child(lambda: clone(system).fit(X)))
    report(f"{name}: parent goes on", np.array_equal(system.score_samples(X), expected))

expected = networks.score_samples(X)


def more_threads():
    torch.set_num_threads(3)
    equal(networks, expected)


def many_threads():
    with joblib.parallel_config("threading"):
        for scores in joblib.Parallel(2)(
            joblib.delayed(networks.score_samples)(X) for _ in range(4)
        ):
            assert np.allclose(scores, expected, rtol=1e-6)


report("more threads", in_child(more_threads))
report("threads in a child", in_child(many_threads))
report("child of a child", in_child(lambda: equal(networks, expected) or sys.exit(
    not in_child(lambda: equal(networks, expected)))))

from_thread = []
thread = threading.Thread(target=lambda: from_thread.append(
    networks.score_samples(X) is not None
    and in_child(lambda: equal(networks, expected))))
thread.start()
thread.join()
report("fork in a thread", from_thread == [True])

begun, stop = threading.Event(), threading.Event()


class Slow(PVMilk20):
    """Its fit waits in the middle, where another one may not begin."""

    def forward(self, log_mel):
        if not begun.is_set():
            begun.set()
            stop.wait()
        return super().forward(log_mel)


slow = clone(networks).set_params(network=Slow)
thread = threading.Thread(target=slow.fit, args=(X,))
thread.start()
begun.wait()
report("fork while a thread fits", in_child(lambda: clone(networks).fit(X)))
stop.set()
thread.join()

with fork.Pool(2) as pool:
    scores = pool.map_async(networks.score_samples, [X[:4], X[4:]]).get(30)
report("pool", np.allclose(np.concatenate(scores), expected, rtol=1e-6))

with joblib.parallel_config("multiprocessing", n_jobs=2):
    scores = joblib.Parallel(timeout=30)(
        joblib.delayed(networks.score_samples)(X) for _ in range(4))
    machines = clone(systems["autoencoder"]).fit(X)
report("joblib", np.allclose(scores, expected, rtol=1e-6))
report("joblib, fit", np.isfinite(machines.score_samples(X)).all())

points = rng.normal(size=(3000, 8))
pairwise_distances_argmin(points, points)
pause = forking._pause
forking._pause = lambda one: "scikit_learn" not in one.filepath and pause(one)
report("old runtime", in_child(lambda: pairwise_distances_argmin(points, points)))
'''


@pytest.fixture(scope="module")
def outcomes():
    # Threads that spin while they wait would take the cores from other tests.
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | threads,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return dict(map(json.loads, run.stdout.splitlines()))


SYSTEMS = ("networks", "autoencoder", "neighbors")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "before_and_after", ["fit, score", "score, score", "score, fit"]
)
def test_a_forked_process_fits_and_scores(outcomes, system, before_and_after):
    assert outcomes[f"{system}: {before_and_after}"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_process_scores_the_same_after_a_fork(outcomes, system):
    assert outcomes[f"{system}: parent goes on"]


@pytest.mark.parametrize(
    "case",
    [
        "more threads",
        "threads in a child",
        "child of a child",
        "fork in a thread",
        "fork while a thread fits",
        "pool",
        "joblib",
        "joblib, fit",
        "old runtime",
    ],
)
def test_a_forked_process_computes_whoever_forked(outcomes, case):
    assert outcomes[case]
