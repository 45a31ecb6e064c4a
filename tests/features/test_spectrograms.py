import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing

from sklearn_asd import ClipSpectrograms

N_MELS = 4


def log_mels_of(*n_frames, dtype=np.float32):
    """Clips whose values spell clip, mel band and frame."""
    return [
        (1000 * clip + 100 * np.arange(N_MELS)[:, None] + np.arange(n)).astype(dtype)
        for clip, n in enumerate(n_frames)
    ]


def make(*n_frames, segment_frames=3, segment_hop_frames=2, **columns):
    return ClipSpectrograms.from_arrays(
        log_mels_of(*n_frames),
        segment_frames=segment_frames,
        segment_hop_frames=segment_hop_frames,
        **columns,
    )


@pytest.fixture
def two_views():
    """Two clips with two views each, laid out view by view."""
    return ClipSpectrograms(
        np.arange(20 * N_MELS, dtype=np.float32).reshape(20, N_MELS),
        starts=np.array([[0, 10], [5, 14]]),
        stops=np.array([[5, 14], [10, 20]]),
        machine_id=["x", "y"],
        segment_frames=3,
        segment_hop_frames=2,
        view_names=["original", "slow"],
    )


# -- building ------------------------------------------------------------------


@pytest.mark.parametrize("make_log_mels", [list, tuple, np.stack, iter])
def test_arrays_are_kept_clip_by_clip(make_log_mels):
    arrays = log_mels_of(5, 5, 5)
    X = ClipSpectrograms.from_arrays(make_log_mels(arrays), segment_frames=3)
    assert len(X) == 3
    assert X.shape == (3,)
    assert X.n_mels == N_MELS
    for clip, array in enumerate(arrays):
        np.testing.assert_array_equal(X.log_mel(clip), array)


def test_clips_may_differ_in_length():
    X = make(5, 9, 3)
    for clip, array in enumerate(log_mels_of(5, 9, 3)):
        np.testing.assert_array_equal(X.log_mel(clip), array)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float16", "float16"], "float16"),
        (["float16", "float32"], "float32"),
        (["float32", "float16"], "float32"),
        (["float64", "float64"], "float32"),
        (["int64", "int16"], "float32"),
    ],
)
def test_float16_is_kept_and_the_rest_becomes_float32(dtypes, expected):
    arrays = [np.ones((N_MELS, 5), dtype=dtype) for dtype in dtypes]
    X = ClipSpectrograms.from_arrays(arrays, segment_frames=3)
    assert X.frames.dtype == expected


def test_frames_are_a_copy():
    arrays = log_mels_of(5)
    X = ClipSpectrograms.from_arrays(arrays, segment_frames=3)
    arrays[0][:] = 0
    assert X.frames.any()


ONE = np.zeros((N_MELS, 100))


@pytest.mark.parametrize(
    ("log_mels", "settings", "message"),
    [
        ([], {}, "0 clips; at least 1"),
        (ONE, {}, r"clip 0 has shape \(100,\); a log-mel is a 2-D array"),
        ([ONE, ONE[None]], {}, r"clip 1 has shape \(1, 4, 100\)"),
        ([ONE, ONE[:3]], {}, "clip 1 has 3 mel bands and clip 0 has 4"),
        ([ONE, ONE[:, :95]], {}, "clip 1 has 95 frames; segments need 96: lower segm"),
        ([ONE[:, :0]], {"segment_frames": None}, "clip 0 has 0 frames; .* need 1"),
        ([ONE, ONE * np.nan], {}, "clip 1 holds NaN or infinity: repair"),
        ([ONE, ONE - np.inf], {}, "clip 1 holds NaN or infinity: repair"),
        ([ONE], {"segment_frames": 0}, "segment_frames is 0 .* None for whole clips"),
        ([ONE], {"segment_hop_frames": 0}, "segment_hop_frames is 0; .* at least 1"),
        ([ONE], {"machine_id": ["x", "y"]}, "machine_id has 2 values for 1 clips"),
        ([ONE], {"machine_type": ["x", "y"]}, "machine_type has 2 values for 1 clips"),
    ],
)
def test_what_are_no_log_mels_is_refused(log_mels, settings, message):
    with pytest.raises(ValueError, match=message):
        ClipSpectrograms.from_arrays(log_mels, **settings)


def test_bounds_need_one_row_for_each_clip():
    with pytest.raises(ValueError, match="stops has 1 values for 2 clips"):
        ClipSpectrograms(np.zeros((9, N_MELS)), [0, 4], [4])


# -- segments ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_frames", "n_segments"),
    [(96, 1), (143, 1), (144, 2), (200, 3), (313, 5), (344, 6)],
)
def test_segments_are_counted_as_in_the_paper(n_frames, n_segments):
    X = ClipSpectrograms.from_arrays([np.zeros((N_MELS, n_frames))])
    assert X.n_segments.tolist() == [[n_segments]]
    assert len(X.windows().clip) == n_segments


def test_windows_are_what_is_worked_out_by_hand():
    windows = make(5, 8, 3).windows()  # 2, 3 and 1 segments of 3 by 2
    clip, view, start, n_frames = windows
    assert clip.tolist() == [0, 0, 1, 1, 1, 2]
    assert view.tolist() == [0] * 6
    assert start.tolist() == [0, 2, 5, 7, 9, 13]
    assert n_frames.tolist() == [3] * 6


def test_windows_may_leave_gaps():
    windows = make(5, 8, segment_frames=2, segment_hop_frames=5).windows()
    assert windows.clip.tolist() == [0, 1, 1]
    assert windows.start.tolist() == [0, 5, 10]


def test_a_whole_clip_is_one_window():
    X = make(5, 8, segment_frames=None)
    clip, _, start, n_frames = X.windows()
    assert X.n_segments.tolist() == [[1], [1]]
    assert clip.tolist() == [0, 1]
    assert start.tolist() == [0, 5]
    assert n_frames.tolist() == [5, 8]


def test_windows_of_chosen_clips_point_into_the_same_frames():
    windows = make(5, 8, 3)[[2, 0]].windows()
    assert windows.clip.tolist() == [0, 1, 1]
    assert windows.start.tolist() == [13, 0, 2]


@pytest.mark.parametrize("segment_frames", [3, None])
def test_a_clip_without_frames_has_no_windows(segment_frames):
    X = ClipSpectrograms(
        np.zeros((5, N_MELS)), [0, 0, 0], [0, 5, 0], segment_frames=segment_frames
    )
    assert X.n_segments[:, 0].astype(bool).tolist() == [False, True, False]
    assert set(X.windows().clip) == {1}


def test_windows_are_in_the_order_of_clips_views_and_time(two_views):
    assert two_views.n_segments.tolist() == [[2, 1], [2, 2]]
    windows = two_views.windows()
    assert windows.clip.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert windows.view.tolist() == [0, 0, 1, 0, 0, 1, 1]
    assert windows.start.tolist() == [0, 2, 10, 5, 7, 14, 16]
    np.testing.assert_array_equal(
        two_views.log_mel(1, view=1), two_views.frames[14:20].T
    )
    assert two_views[1].windows().start.tolist() == [5, 7, 14, 16]


def test_one_view_is_chosen_by_name_and_shares_the_frames(two_views):
    first, second = two_views.view_names
    X = two_views.select_view(second)
    assert X.frames is two_views.frames
    assert X.view_names == (second,)
    assert X.windows().start.tolist() == [10, 14, 16]
    assert X.windows().view.tolist() == [0, 0, 0]
    assert two_views[1:].select_view(first).windows().start.tolist() == [5, 7]
    with pytest.raises(ValueError, match=f"no view 'third'; its views are {first}"):
        two_views.select_view("third")


def test_the_main_view_is_the_original_or_the_first(two_views):
    assert two_views.main_view == 0
    two_views.view_names = ("slow", "original")
    assert two_views.main_view == 1
    assert two_views.select_original("Any").view_names == ("original",)
    two_views.view_names = ("slow", "fast")
    assert two_views.main_view == 0
    message = "X has the views slow, fast; Any uses the view 'original' only: leave"
    with pytest.raises(ValueError, match=message):
        two_views.select_original("Any")


def test_views_without_a_name_each_are_refused():
    with pytest.raises(ValueError, match="view_names has 1 names for 2 views"):
        ClipSpectrograms(np.zeros((4, N_MELS)), [[0, 2]], [[2, 4]])


# -- indexing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        ([True, False, True], [0, 2]),
        (np.array([2, 0, 2]), [2, 0, 2]),
        (([1], ...), [1]),
    ],
)
def test_indexing_gives_the_same_kind_and_shares_the_frames(index, rows):
    X = make(5, 9, 3, machine_type=["fan"] * 3, machine_id=list("xyz"))
    X.sample_rate, X.hop_length = 16000, 512
    chosen = X[index]
    assert isinstance(chosen, ClipSpectrograms)
    assert chosen.frames is X.frames
    assert list(chosen.machine_id) == ["xyz"[row] for row in rows]
    assert list(chosen.machine_type) == ["fan"] * len(rows)
    for name in ("segment_frames", "segment_hop_frames", "view_names"):
        assert getattr(chosen, name) == getattr(X, name)
    assert (chosen.sample_rate, chosen.hop_length) == (16000, 512)
    for clip, row in enumerate(rows):
        np.testing.assert_array_equal(chosen.log_mel(clip), X.log_mel(row))


@pytest.mark.parametrize("index", [3, -4, [0, 3], [True, False], 1.0, "x"])
def test_indexes_that_name_no_clips_are_refused(index):
    with pytest.raises(IndexError):
        make(5, 9, 3)[index]


def test_no_clips_are_still_a_table_of_clips():
    X = make(5, 9)[:0]
    assert len(X) == 0
    assert X.n_segments.shape == (0, 1)
    assert len(X.windows().clip) == 0
    assert repr(X) == "ClipSpectrograms(0 clips, 4 mels, 0 segments of 3 frames)"


def test_sklearn_splits_share_the_frames():
    X = make(*range(3, 13), machine_id=np.arange(10))
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    assert sorted([*train.machine_id, *test.machine_id]) == [str(i) for i in range(10)]
    assert train.frames is X.frames
    for fold, (_, rows) in enumerate(KFold(5).split(X)):
        chosen = _safe_indexing(X, rows)
        assert list(chosen.machine_id) == [str(2 * fold), str(2 * fold + 1)]
        assert chosen.frames is X.frames


@pytest.mark.parametrize("clip", [1, -2])
def test_a_clips_log_mel_shares_the_frames(clip):
    X = make(5, 9, 3)
    log_mel = X.log_mel(clip)
    assert np.shares_memory(log_mel, X.frames)
    np.testing.assert_array_equal(log_mel, log_mels_of(5, 9, 3)[1])


def test_a_clip_that_does_not_exist_has_no_log_mel():
    with pytest.raises(IndexError):
        make(5, 9, 3).log_mel(3)


# -- clips that cannot be used ---------------------------------------------------


@pytest.fixture
def with_problems():
    """Clips 0 and 2 could not be used; clip 3 has one view that is too short."""
    return ClipSpectrograms(
        np.zeros((30, N_MELS), dtype=np.float32),
        starts=[[0, 0], [0, 5], [0, 0], [10, 15]],
        stops=[[0, 0], [5, 10], [0, 0], [15, 17]],
        machine_id=list("wxyz"),
        segment_frames=3,
        segment_hop_frames=2,
        view_names=["original", "fast"],
        problems={0: "does not exist", 2: "holds no samples"},
    )


def test_usable_clips_have_a_segment_in_every_view(with_problems):
    assert with_problems.usable.tolist() == [False, True, False, False]
    assert with_problems.select_view("original").usable.tolist() == [0, 1, 0, 1]
    assert with_problems.resegment(6, 1).usable.tolist() == [False] * 4
    assert make(5, 9)[:0].usable.shape == (0,)


def test_log_mels_have_no_problems():
    assert make(5, 9).problems == {}


@pytest.mark.parametrize(
    ("index", "problems"),
    [
        (slice(None), {0: "does not exist", 2: "holds no samples"}),
        (slice(1, None), {1: "holds no samples"}),
        (-2, {0: "holds no samples"}),
        ([2, 1, 2], {0: "holds no samples", 2: "holds no samples"}),
        ([True, True, False, False], {0: "does not exist"}),
        ([1, 3], {}),
    ],
)
def test_problems_follow_their_clips(with_problems, index, problems):
    assert with_problems[index].problems == problems


def test_problems_survive_what_keeps_the_rows(with_problems):
    for again in (
        with_problems.select_view("fast"),
        with_problems.resegment(None, 1),
        with_problems.with_frames(
            with_problems.frames, with_problems.starts, with_problems.stops
        ),
        pickle.loads(pickle.dumps(with_problems)),
    ):
        assert again.problems == with_problems.problems
        assert again.problems is not with_problems.problems


def test_segments_are_clips_without_problems(with_problems):
    segments = with_problems.split_segments()
    assert segments.problems == {}
    assert segments.machine_id.tolist() == ["x", "x", "z", "z"]


def test_a_pickle_from_before_problems_were_kept_has_none(with_problems):
    state = with_problems.__getstate__()
    del state["problems"]
    again = ClipSpectrograms.__new__(ClipSpectrograms)
    again.__setstate__(state)
    assert again.problems == {}
    assert again[1:].problems == {}


def test_a_pickle_from_before_there_were_other_bands_has_mel_bands(two_views):
    state = two_views.__getstate__()
    del state["band_scale"]
    again = ClipSpectrograms.__new__(ClipSpectrograms)
    again.__setstate__(state)
    assert again.band_scale == "mel"
    assert repr(again) == repr(two_views)


def test_an_unknown_scale_of_bands_is_refused():
    frames = np.zeros((1, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="band_scale 'logs' is unknown: did you mean"):
        ClipSpectrograms(frames, [0], [1], band_scale="logs")


# -- as one array --------------------------------------------------------------


def test_clips_of_one_length_make_one_array():
    arrays = np.stack(log_mels_of(5, 5, 5))
    dense = np.asarray(make(5, 5, 5)[[2, 0]])
    assert dense.dtype == np.float32
    np.testing.assert_array_equal(dense, arrays[[2, 0]])


def test_the_array_is_a_copy_of_the_wanted_type():
    X = make(5, 5)
    dense = np.array(X, dtype=np.float64, copy=True)
    assert dense.dtype == np.float64
    assert not np.shares_memory(np.asarray(X[0]), X.frames)
    with pytest.raises(ValueError, match="always a copy"):
        X.__array__(copy=False)


def test_views_are_an_axis_of_the_array(two_views):
    two_views.stops = two_views.starts + 4
    dense = np.asarray(two_views)
    assert dense.shape == (2, 2, N_MELS, 4)
    np.testing.assert_array_equal(dense[1, 1], two_views.log_mel(1, view=1))


def test_clips_without_frames_make_an_array_without_frames():
    X = ClipSpectrograms(np.zeros((0, N_MELS)), [0, 0], [0, 0])
    assert np.asarray(X).shape == (2, N_MELS, 0)
    assert np.asarray(X[:0]).shape == (0, N_MELS, 0)


def test_clips_that_do_not_fit_one_array_are_refused():
    message = r"5 to 9 frames do not fit one array; .* log_mel\(clip\)"
    with pytest.raises(ValueError, match=message):
        np.asarray(make(5, 9))


# -- people and pickles --------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "text"),
    [
        (make(5, 8), "2 clips, 4 mels, 5 segments of 3 frames"),
        (make(5, machine_id=["x"]), "1 clip, 1 machine, 4 mels, 2 segments of 3"),
        (make(5, 8, segment_frames=None), "2 clips, 4 mels, whole clips"),
    ],
)
def test_repr_counts_what_there_is(X, text):
    assert repr(X).startswith(f"ClipSpectrograms({text}")


def test_repr_counts_views(two_views):
    text = "2 clips, 2 machines, 2 views, 4 mels, 7 segments of 3 frames"
    assert repr(two_views) == f"ClipSpectrograms({text})"


def test_labels_become_strings():
    X = make(5, 9, machine_type=[np.nan, "fan"], machine_id=pd.Series([2.0, None]))
    assert list(X.machine_id) == ["2", None]
    assert list(X.machine_type) == [None, "fan"]


def test_pickles_come_back_equal(two_views):
    again = pickle.loads(pickle.dumps(two_views))
    np.testing.assert_array_equal(again.frames, two_views.frames)
    assert again.windows().start.tolist() == two_views.windows().start.tolist()
    assert again.view_names == ("original", "slow")
    assert list(again.machine_id) == ["x", "y"]


def test_domains_go_with_the_clips_and_a_pickle_from_before_has_none(two_views):
    X = make(5, 7, 3, domain=["source", None, 2])
    assert X[[2, 1]].domain.tolist() == ["2", None]
    assert X.split_segments().domain.tolist() == ["source"] * 2 + [None] * 3 + ["2"]
    assert pickle.loads(pickle.dumps(X)).domain.tolist() == ["source", None, "2"]
    with pytest.raises(ValueError, match="domain has 2 values for 3 clips"):
        make(5, 7, 3, domain=["source", "target"])
    state = two_views.__getstate__()
    del state["domain"]
    again = ClipSpectrograms.__new__(ClipSpectrograms)
    again.__setstate__(state)
    assert again[1:].domain is None


def test_a_pickle_of_some_clips_holds_their_frames_only(two_views):
    X = make(5, 900, 7, machine_id=["x", "y", "z"])[[2, 0, 2]]
    again = pickle.loads(pickle.dumps(X))
    assert len(again.frames) == 5 + 7
    assert list(again.machine_id) == ["z", "x", "z"]
    for clip in range(3):
        np.testing.assert_array_equal(again.log_mel(clip), X.log_mel(clip))
    assert len(pickle.dumps(X)) < len(pickle.dumps(make(5, 900, 7))) / 10
    first = pickle.loads(pickle.dumps(two_views[:1]))
    np.testing.assert_array_equal(first.log_mel(0, 1), two_views.log_mel(0, 1))


def test_the_same_clips_are_cut_into_other_segments_without_a_copy():
    X = ClipSpectrograms.from_arrays(
        [np.zeros((2, 10)), np.zeros((2, 4))],
        machine_id=["00", "02"],
        segment_frames=None,
    )
    cut = X.resegment(5, 1)
    assert cut.n_segments.tolist() == [[6], [0]]
    assert cut.windows().start.tolist() == [0, 1, 2, 3, 4, 5]
    assert cut.frames is X.frames
    assert cut.machine_id.tolist() == ["00", "02"]
    with pytest.raises(ValueError, match="segment_frames is 0"):
        X.resegment(0, 1)
