import numpy as np
import pytest

from sklearn_asd.audio.machines import count_held_out, hold_out


@pytest.mark.parametrize(
    ("share", "n_clips", "n_held_out"),
    [(0.2, 100, 20), (0.25, 12, 3), (0.1, 4, 1), (0.9, 3, 2), (0.5, 1, 0)],
)
def test_a_share_is_at_least_one_clip_and_never_all(share, n_clips, n_held_out):
    assert count_held_out(share, n_clips) == n_held_out


def test_the_first_rows_of_each_machine_are_held_out():
    machine = np.array(list("aabbbb"))
    held_out = hold_out(np.array([5, 1, 3, 0, 2]), machine, 0.5)  # not row 4
    assert np.flatnonzero(held_out).tolist() == [1, 3, 5]


def test_the_only_clip_of_a_machine_is_not_held_out():
    assert not hold_out(np.array([0]), np.array(["a"]), 0.5).any()
