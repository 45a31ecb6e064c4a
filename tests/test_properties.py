"""What holds for containers and metrics whatever is put in, searched by hypothesis."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sklearn_asd import Clips, ClipSpectrograms
from sklearn_asd.metrics import auc_table, pauc_score

settings.register_profile("here", deadline=None, max_examples=60, database=None)
settings.load_profile("here")

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@st.composite
def spectrograms(draw):
    """Clips of all lengths, frames that count up, machines that repeat."""
    n_frames = draw(lengths)
    stops = np.cumsum(n_frames)
    return ClipSpectrograms(
        np.arange(2 * stops[-1], dtype=np.float32).reshape(-1, 2),
        stops - n_frames,
        stops,
        machine_id=draw(
            st.none()
            | st.lists(
                st.sampled_from("ab"), min_size=len(n_frames), max_size=len(n_frames)
            )
        ),
        segment_frames=draw(st.none() | st.integers(1, 5)),
        segment_hop_frames=draw(st.integers(1, 4)),
    )


@st.composite
def clips_and_index(draw, containers):
    X = draw(containers)
    n = len(X)
    index = draw(
        st.integers(-n, n - 1)
        | st.slices(n)
        | st.lists(st.integers(-n, n - 1), max_size=6)
        | arrays.arrays(bool, n)
    )
    return X, index


def clips():
    return lengths.map(
        lambda sizes: Clips(
            [np.full(n, float(row)) for row, n in enumerate(sizes)],
            machine_id=[str(row % 3) for row in range(len(sizes))],
            sample_rate=[8000.0 + row for row in range(len(sizes))],
        )
    )


def rows_of(index, n):
    return np.atleast_1d(np.arange(n)[index]).astype(int)


@given(clips_and_index(spectrograms()))
def test_indexed_spectrograms_are_those_of_the_rows(both):
    X, index = both
    part, rows = X[index], rows_of(index, len(X))
    assert part.frames is X.frames
    assert len(part) == part.shape[0] == len(rows)
    for own, row in enumerate(rows):
        np.testing.assert_array_equal(part.log_mel(own), X.log_mel(row))
        if X.machine_id is not None:
            assert part.machine_id[own] == X.machine_id[row]
    np.testing.assert_array_equal(part.n_segments, X.n_segments[rows])


@given(clips_and_index(clips()))
def test_indexed_clips_are_those_of_the_rows(both):
    X, index = both
    part, rows = X[index], rows_of(index, len(X))
    assert len(part) == len(rows)
    assert all(part.sources[own] is X.sources[row] for own, row in enumerate(rows))
    assert part.machine_id is None or list(part.machine_id) == list(X.machine_id[rows])
    np.testing.assert_array_equal(part.sample_rate, X.sample_rate[rows])


@given(spectrograms())
def test_windows_lie_in_their_clips_in_order_and_none_is_missing(X):
    windows = X.windows()
    assert len(windows.clip) == X.n_segments.sum()
    starts, stops = X.starts[windows.clip, 0], X.stops[windows.clip, 0]
    assert (windows.start >= starts).all()
    assert (windows.start + windows.n_frames <= stops).all()
    order = list(zip(windows.clip, windows.start, strict=True))
    assert order == sorted(set(order))
    for clip in range(len(X)):
        length = X.stops[clip, 0] - X.starts[clip, 0]
        size = X.segment_frames or max(length, 1)
        step = X.segment_hop_frames if X.segment_frames else size
        assert X.n_segments[clip, 0] == len(range(0, length - size + 1, step))


# Few values, so that scores are tied.
scored = st.lists(
    st.tuples(st.sampled_from([1, -1]), st.integers(-3, 3).map(float)),
    min_size=2,
    max_size=12,
).filter(lambda rows: len({y for y, _ in rows}) == 2)


def roc_by_hand(y, scores):
    """Every threshold's share of false alarms and of anomalies found."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(scores):
        alarm = scores <= threshold
        points.append((alarm[y == 1].mean(), alarm[y == -1].mean()))
    return np.array(points)


@given(scored)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    y, scores = (np.array(column) for column in zip(*rows, strict=True))
    pairs = list(product(scores[y == 1], scores[y == -1]))
    right = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    table = auc_table(np.empty(len(y)), y, scores)
    assert table["auc"].iloc[0] == pytest.approx(right)


@given(scored, st.floats(0.05, 1))
def test_pauc_is_the_standardised_area_left_of_the_limit(rows, max_fpr):
    y, scores = (np.array(column) for column in zip(*rows, strict=True))
    area = 0.0
    for (fpr, tpr), (next_fpr, next_tpr) in pairwise(roc_by_hand(y, scores)):
        width = min(next_fpr, max_fpr) - fpr
        if width > 0:
            slope = (next_tpr - tpr) / (next_fpr - fpr)
            area += width * (tpr + slope * width / 2)
    chance = max_fpr**2 / 2
    expected = (1 + (area - chance) / (max_fpr - chance)) / 2
    assert pauc_score(y, scores, max_fpr=max_fpr) == pytest.approx(expected)


@given(scored, st.floats(0.1, 1), st.randoms())
def test_metrics_ignore_order_and_any_rising_function_of_the_scores(rows, limit, draw):
    y, scores = (np.array(column) for column in zip(*rows, strict=True))
    value = pauc_score(y, scores, max_fpr=limit)
    order = list(range(len(y)))
    draw.shuffle(order)
    assert pauc_score(y[order], scores[order], max_fpr=limit) == pytest.approx(value)
    assert pauc_score(y, np.exp(scores), max_fpr=limit) == pytest.approx(value)
