import itertools

import numpy as np
import pytest
import torch
from small_training import make_small_net

from sklearn_asd import ClipSpectrograms
from sklearn_asd.features import POOLINGS, RankWeightedMean, Windows
from sklearn_asd.networks.training import (
    fit_net,
)
from sklearn_asd.networks.windows import (
    WindowDataset,
    average_segments,
    gather,
    pool_segments,
    predict_windows,
    summarize_windows,
)


def test_a_batch_is_the_windows_asked_for_with_mel_bands_first():
    frames = np.arange(40.0).reshape(20, 2)  # frame t holds 2 t and 2 t + 1
    batch = gather(frames, np.array([0, 7]), 3)
    expected = [[[0, 2, 4], [1, 3, 5]], [[14, 16, 18], [15, 17, 19]]]
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch, expected)


def test_a_dataset_gathers_windows_with_their_classes(spectrograms, dataset):
    log_mel, y = dataset[[0, 19]]
    np.testing.assert_array_equal(log_mel[1], spectrograms.log_mel(19)[:, :12])
    assert y.tolist() == [0, 1]


def test_a_dataset_that_holds_its_frames_itself_gives_the_same_batches(spectrograms):
    def gather_all(room):
        X = spectrograms[[3, 12, 5]]
        dataset = WindowDataset(X, X.windows(), np.arange(3))
        dataset.hold_frames(room)
        return dataset.frames, dataset[[2, 0, 1]]

    n_bytes = 3 * 12 * 8 * spectrograms.frames.itemsize
    frames, (log_mel, y) = gather_all(n_bytes - 1)
    assert frames is spectrograms.frames
    held, (held_log_mel, held_y) = gather_all(n_bytes)
    assert isinstance(held, torch.Tensor)
    assert held.shape == (3 * 12, 8)  # of 20 frames, 12 lie in a window
    torch.testing.assert_close(held_log_mel, log_mel, atol=0, rtol=0)
    assert held_y.tolist() == y.tolist() == [2, 0, 1]


def test_longer_windows_are_cut_at_random_to_the_shortest():
    log_mels = [np.arange(5.0)[None], np.arange(9.0)[None]]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    dataset = WindowDataset(X, X.windows(), np.array([0, 1]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batches = [dataset[[0, 1]][0][:, 0].numpy() for _ in range(99)]
    for short, long in batches:
        np.testing.assert_array_equal(short, np.arange(5.0))
        np.testing.assert_array_equal(long, long[0] + np.arange(5.0))
    assert {float(long[0]) for _, long in batches} == {0, 1, 2, 3, 4}


def test_one_short_clip_among_long_ones_is_warned_of():
    log_mels = [np.zeros((1, n)) for n in (4, 10, 12)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    with pytest.warns(
        UserWarning, match="shortest training clip, or view of one, has 4 frames"
    ):
        WindowDataset(X, X.windows(), np.array([0, 1, 1]))


def test_windows_of_mixed_lengths_come_back_in_order(dataset):
    net = make_small_net()
    fit_net(net, dataset, seed=0)
    rng = np.random.default_rng(0)
    log_mels = [rng.normal(size=(8, n)) for n in (12, 30, 12, 17, 30)]
    X = ClipSpectrograms.from_arrays(log_mels, segment_frames=None)
    together = predict_windows(net, X, X.windows())
    for clip in range(5):
        alone = predict_windows(net, X[clip], X[clip].windows())
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_[clip], atol=1e-5)


def test_no_windows_give_empty_predictions(spectrograms, dataset):
    net = make_small_net()
    fit_net(net, dataset, seed=0)
    windows = spectrograms[:0].windows()
    logits, embedding = predict_windows(net, spectrograms, windows)
    assert logits.shape == (0, 2)
    assert embedding.shape == (0, 128)


@pytest.mark.parametrize("n_at_once", [1, 7, 19, 20, 100])
def test_windows_are_summarized_a_few_at_a_time(
    spectrograms, dataset, monkeypatch, n_at_once
):
    net = make_small_net()
    fit_net(net, dataset, seed=0)
    windows = spectrograms.windows()
    logits, embedding = predict_windows(net, spectrograms, windows)
    module = "sklearn_asd.networks.windows._WINDOWS_SUMMARIZED_AT_ONCE"
    monkeypatch.setattr(module, n_at_once)
    calls = []

    def summarize(logits, embedding, some):
        calls.append(some.clip.tolist())
        return np.hstack([logits, embedding])

    summary = summarize_windows(net, spectrograms, windows, summarize)
    assert max(map(len, calls)) == min(n_at_once, 20)
    assert list(itertools.chain(*calls)) == windows.clip.tolist()
    np.testing.assert_allclose(summary, np.hstack([logits, embedding]), atol=1e-5)


def make_windows(clip, view):
    unused = np.zeros(len(clip), dtype=int)
    return Windows(np.array(clip), np.array(view), unused, unused)


def test_segments_of_views_are_pooled_by_hand():
    # The first view of clip 0 has the segments 0, 1 and 4; clip 1 has none.
    windows = make_windows([0, 0, 0, 2, 0, 2], [0, 0, 1, 0, 0, 1])
    values = np.array([1.0, 3.0, 5.0, 7.0, 8.0, 9.0])
    most = pool_segments(values, windows, 3, 2, "max")
    np.testing.assert_array_equal(most, [[8, 5], [np.nan, np.nan], [7, 9]])
    rows = np.stack([values, -values], axis=1)
    pooled = pool_segments(rows, windows, 3, 2, ["max", "mean"])
    assert pooled.shape == (3, 2, 4)
    np.testing.assert_array_equal(pooled[0, 0], [8, -1, 4, -4])
    assert np.isnan(pooled[1]).all()
    first = pool_segments(values, windows, 3, 2, lambda segments: segments[0])
    np.testing.assert_array_equal(first[[0, 2]], [[1, 5], [7, 9]])  # in time


def test_the_mean_is_that_of_earlier_versions_to_the_bit(rng):
    windows = make_windows(rng.integers(0, 4, 99), rng.integers(0, 2, 99))
    values = rng.normal(size=(99, 3)).astype(np.float32)
    expected = average_segments(values, windows, 4, 2)
    for mean in ("mean", POOLINGS["mean"]):
        np.testing.assert_array_equal(
            pool_segments(values, windows, 4, 2, mean), expected
        )
    pooled = pool_segments(values, windows, 4, 2, RankWeightedMean(1))
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_no_segments_are_pooled_to_nan_of_the_same_shape():
    windows = make_windows([], [])
    pooled = pool_segments(np.empty((0, 3)), windows, 2, 1, ["max", "correlations"])
    assert np.isnan(pooled).all()
    assert pooled.shape == (2, 1, 6)
    assert pool_segments(np.empty(0), windows, 2, 1, "max").shape == (2, 1)


def test_scores_are_pooled_to_one_number():
    windows = make_windows([0, 0], [0, 0])
    with pytest.raises(ValueError, match="gives 2 numbers for the scores of a clip's"):
        pool_segments(np.ones(2), windows, 1, 1, ["max", "mean"])


def test_averages_of_views_by_hand():
    values = np.array([[1.0, 10.0], [3.0, 20.0], [5.0, 0.0], [7.0, 7.0]])
    nowhere = np.zeros(4, dtype=int)
    windows = Windows(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]), nowhere, nowhere)
    means = average_segments(values, windows, n_clips=3, n_views=2)
    missing = [np.nan, np.nan]
    np.testing.assert_array_equal(
        means, [[[2, 15], [5, 0]], [missing, missing], [missing, [7, 7]]]
    )
