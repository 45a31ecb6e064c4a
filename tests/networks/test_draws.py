"""A training draws random numbers that no other thread has a part in."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_asd import AutoencoderDetector, ClipSpectrograms, IDConfidenceDetector
from sklearn_asd.networks.draws import Draws, current_draws, own_draws, seeded

DRAWN = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3),
    "randint": lambda: torch.randint(2, 99, (3,)),
    "randperm": lambda: torch.randperm(5),
    "rand_like": lambda: torch.rand_like(torch.ones(3)),
    "in place": lambda: torch.empty(3).uniform_(),
    "normal": lambda: torch.normal(torch.zeros(3), 1.0),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 3),
    "beta": lambda: torch.distributions.Beta(0.5, 0.5).sample(),
    "weights": lambda: nn.Linear(2, 3).weight,
    "dropout": lambda: nn.Dropout(0.5)(torch.ones(9)),
    "dropout of maps": lambda: nn.Dropout2d(0.5)(torch.ones(1, 9, 2, 2)),
    "alpha dropout": lambda: nn.AlphaDropout(0.5)(torch.ones(9)),
    "rectifier": lambda: nn.RReLU()(-torch.ones(9)),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_the_numbers_are_those_of_the_seed_and_torchs_own_are_not_touched(draw):
    torch.manual_seed(3)
    expected = draw()
    before = torch.get_rng_state()
    with Draws(3):
        found = draw()
    assert found.equal(expected)
    assert torch.get_rng_state().equal(before)


def test_dropout_of_gpus_takes_the_seed_too():
    drop = torch.ops.aten.native_dropout
    with Draws(0):
        first, kept = drop(torch.ones(1000), 0.75, True)
    with Draws(0):
        again, _ = drop(torch.ones(1000), 0.75, True)
        assert not drop(torch.ones(1000), 0.75, True)[0].equal(first)
        assert drop(torch.ones(9), 0.75, False)[0].equal(torch.ones(9))
        assert drop(torch.ones(9), 1.0, True)[0].equal(torch.zeros(9))
    assert first.equal(again)
    assert first.equal(4 * kept.float())
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_operations_without_a_generator_are_drawn_apart():
    cell = nn.RNN(4, 4, num_layers=2, dropout=0.5)
    outputs = []
    for seed in (1, 1, 2):
        before = torch.get_rng_state()
        with Draws(seed):
            outputs.append(
                torch.randint_like(torch.ones(9), 99)
                + cell(torch.ones(9, 1, 4))[0].sum()
            )
        assert torch.get_rng_state().equal(before)
    assert outputs[0].equal(outputs[1])
    assert not outputs[0].equal(outputs[2])


def test_generators_go_on_where_they_were():
    with seeded(0) as draws:
        with own_draws():
            torch.rand(5)
        states = draws.states()
        with own_draws():
            expected = torch.rand(3)
    assert current_draws() is None
    with seeded(7) as draws:
        draws.restore(states | {"cuda:97": states["cpu"]})  # of another computer
        with own_draws():
            assert torch.rand(3).equal(expected)


def make_detectors():
    settings = {"max_epochs": 1, "batch_size": 8, "random_state": 0}
    return [
        IDConfidenceDetector(**settings),
        IDConfidenceDetector(
            network="inouet18",
            loss="arcface",
            mixup=0.5,
            random_starts=True,
            validation_fraction=0.3,
            **settings,
        ),
        AutoencoderDetector(max_epochs=1, batch_size=64, random_state=0),
    ]


@pytest.mark.parametrize("number", range(3))
def test_other_threads_may_draw_what_they_will(number):
    rng = np.random.default_rng(0)
    X = ClipSpectrograms.from_arrays(
        rng.normal(size=(8, 16, 24)), machine_id=["a", "b"] * 4, segment_frames=16
    )
    alone = make_detectors()[number].fit(X).score_samples(X)
    done = threading.Event()

    def draw():
        while not done.is_set():
            torch.rand(3)
            torch.manual_seed(1)
            np.random.rand(3)  # noqa: NPY002

    others = [
        threading.Thread(target=draw),
        threading.Thread(target=make_detectors()[0].fit, args=(X,)),
    ]
    for thread in others:
        thread.start()
    try:
        beside = make_detectors()[number].fit(X).score_samples(X)
    finally:
        done.set()
        for thread in others:
            thread.join()
    np.testing.assert_array_equal(beside, alone)
