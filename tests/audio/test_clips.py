import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing

from sklearn_asd import BadClipError, Clips

RATE = 16000
PATHS = ["a.wav", "b.wav", "c.wav"]
WAVES = np.arange(15, dtype=np.float32).reshape(3, 5) / 15


def sources_of(X):
    return list(Clips.from_X(X).sources)


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"path": PATHS}),
        pd.DataFrame({"path": PATHS, "weather": "fine", 7: 0.0}),
        pd.DataFrame({"path": PATHS}, index=[5, 5, 5]),
        pd.DataFrame({"path": PATHS, "audio": [np.nan, None, pd.NA]}),
        PATHS,
        tuple(PATHS),
        np.array(PATHS),
        np.array(PATHS, dtype=object),
        pd.Series(PATHS, index=[3, 1, 3]),
        Clips(PATHS),
    ],
)
def test_paths_come_in_many_forms(X):
    assert sources_of(X) == PATHS


def test_paths_may_be_path_objects():
    assert sources_of([Path(p) for p in PATHS]) == [Path(p) for p in PATHS]


def stack(waves):
    """An object array whose elements are arrays."""
    array = np.empty(len(waves), dtype=object)
    array[:] = waves
    return array


@pytest.mark.parametrize(
    "X",
    [
        WAVES,
        list(WAVES),
        WAVES.tolist(),
        stack(list(WAVES)),
        WAVES.astype(object),
        pd.Series(list(WAVES)),
        pd.DataFrame({"audio": list(WAVES)}, index=[1, 1, 0]),
        pd.DataFrame({"audio": list(WAVES), "path": PATHS}),
        Clips(WAVES),
    ],
)
def test_audio_comes_in_many_forms(X):
    clips = Clips.from_X(X)
    assert len(clips) == 3
    for row, wave in enumerate(WAVES):
        np.testing.assert_allclose(clips.read(row, RATE), wave, rtol=1e-6)


@pytest.mark.parametrize("make", [list, stack, lambda w: pd.DataFrame({"audio": w})])
def test_audio_may_have_clips_of_unequal_length(make):
    waves = [np.zeros(n, dtype=np.float32) for n in (3, 1, 2)]
    assert [len(source) for source in sources_of(make(waves))] == [3, 1, 2]


def test_nested_lists_may_have_clips_of_unequal_length():
    clips = Clips.from_X([[0.5, 0.25], [0.125]])
    np.testing.assert_array_equal(clips.read(0, RATE), [0.5, 0.25])
    np.testing.assert_array_equal(clips.read(1, RATE), [0.125])


def test_a_path_stands_in_where_audio_is_missing():
    table = pd.DataFrame({"path": PATHS, "audio": [np.nan, WAVES[1], None]})
    first, second, third = sources_of(table)
    assert (first, third) == ("a.wav", "c.wav")
    assert second is WAVES[1] or np.shares_memory(second, WAVES)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a.wav", TypeError, r"one path, 'a.wav'.* load_clips\(folder\)"),
        (Path("a.wav"), TypeError, r"one path, 'a.wav'.* load_clips\(folder\)"),
        (pd.DataFrame({"file": PATHS}), ValueError, r"columns are file: load_cl"),
        (pd.DataFrame({"path": []}), ValueError, "0 clips; at least 1"),
        ([], ValueError, "0 clips; at least 1"),
        (np.empty(0, dtype=object), ValueError, "0 clips; at least 1"),
        (np.empty((0, 5)), ValueError, "0 clips; at least 1"),
        (pd.Series([], dtype=object), ValueError, "0 clips; at least 1"),
        (Clips(PATHS)[:0], ValueError, "0 clips; at least 1"),
        (WAVES[0], ValueError, r"one array of 5 samples, .* pass \[samples\]"),
        (pd.Series(WAVES[0]), ValueError, r"one array of 5 .* pass \[samples\]"),
        (WAVES[None], ValueError, "dim 3"),
        ([0.5, 0.25], ValueError, r"one array of 2 samples, .* pass \[samples\]"),
        (None, TypeError, "of type NoneType; pass a table, a list of paths"),
        (0.5, TypeError, "of type float; pass a table, a list of paths"),
        ({"path": PATHS}, TypeError, "of type dict; pass a table, a list of paths"),
        (iter(PATHS), TypeError, "iterator; pass a table, a list of paths"),
        ([(WAVES[0], 16000)], TypeError, "clip 0 is a tuple: pass its samples alone"),
        (b"RIFF" * 999, TypeError, r"X is bytes, .*soundfile.read\(file\)\[0\]"),
        ([b"RIFF" * 999], TypeError, r"clip 0 is bytes, .*soundfile.read\(file\)"),
        (BytesIO(b"RIFF"), TypeError, r"X is BytesIO, .*soundfile.read\(file\)"),
        ([BytesIO(b"RIFF")], TypeError, r"clip 0 is BytesIO, .*soundfile.read"),
        ([WAVES[0], BytesIO()], TypeError, r"clip 1 is BytesIO, .*soundfile.read"),
        (pd.DataFrame({"audio": [b"RI"]}), TypeError, r"'audio' of clip 0 is bytes"),
        (pd.DataFrame({"path": [BytesIO()]}), TypeError, r"'path' of clip 0 is Byt"),
        (["a.wav", None], TypeError, "clip 1 is None, neither a path nor an array"),
        ([WAVES[0], 0.5], TypeError, "clip 1 is 0.5, neither a path nor an array"),
        (
            pd.DataFrame({"path": ["a.wav", None], "audio": [None, np.nan]}),
            ValueError,
            "clip 1 has neither samples .* nor a file name.* audio=nan and path=",
        ),
    ],
)
def test_what_is_not_a_list_of_clips_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        Clips.from_X(X)


def test_clips_with_channels_are_refused_by_the_reader_one_by_one():
    clips = Clips.from_X([np.zeros((2, 5)), np.zeros((2, 6))])
    with pytest.raises(BadClipError, match=r"shape \(2, 6\); one clip is a 1-D array"):
        clips.read(1, RATE)


@pytest.mark.parametrize("name", ["sample_rate", "machine_type", "machine_id"])
def test_columns_need_one_value_for_each_clip(name):
    with pytest.raises(ValueError, match=f"{name} has 2 values for 3 clips"):
        Clips(PATHS, **{name: [1, 2]})


@pytest.fixture
def clips():
    return Clips(
        PATHS, sample_rate=[1, 2, 3], machine_type=["fan"] * 3, machine_id=list("xyz")
    )


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (1, [1]),
        (-1, [2]),
        (np.int64(0), [0]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        ([True, False, True], [0, 2]),
        (pd.Series([True, False, True]), [0, 2]),
        (np.array([2, 0, 2]), [2, 0, 2]),
        ([-1, 0], [2, 0]),
        ([], []),
        (np.array([]), []),
        ((2, 1), [2, 1]),
        (([2, 1], ...), [2, 1]),
        ((slice(0, 2), ...), [0, 1]),
    ],
)
def test_indexing_gives_clips_with_their_columns(clips, index, rows):
    chosen = clips[index]
    assert isinstance(chosen, Clips)
    assert chosen.shape == (len(rows),)
    assert list(chosen.sources) == [PATHS[row] for row in rows]
    assert list(chosen.sample_rate) == [row + 1 for row in rows]
    if rows:  # no clips have no machines
        assert list(chosen.machine_type) == ["fan"] * len(rows)
        assert list(chosen.machine_id) == ["xyz"[row] for row in rows]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, "no clip 3 among 3"),
        (-4, "no clip -4 among 3"),
        ([0, 3], "3 is out of bounds"),
        ([True, False], "boolean index did not match"),
        (1.0, "not by 1.0"),
        ([0.0, 1.0], "must be of integer"),
        ("path", "not by 'path'"),
        ([[0, 1]], r"not by \[\[0, 1\]\]"),
        (None, "not by None"),
    ],
)
def test_indexes_that_name_no_clips_are_refused(clips, index, message):
    with pytest.raises(IndexError, match=message):
        clips[index]


def test_iterating_gives_each_clip_once(clips):
    assert [clip.sources[0] for clip in clips] == PATHS


def test_indexing_shares_the_audio():
    clips = Clips.from_X(WAVES)
    for chosen in (clips[1], clips[1:2], clips[[1]], clips[[False, True, False]]):
        assert np.shares_memory(chosen.sources[0], WAVES)
        assert np.shares_memory(chosen.read(0, RATE), WAVES)


def test_sklearn_splits_clips(clips):
    train, test = train_test_split(clips, test_size=1, random_state=0)
    assert {*train.sources, *test.sources} == set(PATHS)
    folds = [_safe_indexing(clips, test) for _, test in KFold(3).split(clips)]
    assert [list(fold.sources) for fold in folds] == [[path] for path in PATHS]


def test_names_tell_the_row_and_the_file():
    clips = Clips(["far/away/pump 03.wav", Path("x/b.flac"), WAVES[0]])
    assert [clips.name(row) for row in range(3)] == [
        "clip 0 (pump 03.wav)",
        "clip 1 (b.flac)",
        "clip 2",
    ]


@pytest.mark.parametrize(
    ("clips", "text"),
    [
        (Clips(PATHS), "Clips(3 clips)"),
        (Clips(PATHS[:1], machine_id=["x"]), "Clips(1 clip, 1 machine)"),
        (Clips(PATHS, machine_id=["x", "y", None]), "Clips(3 clips, 2 machines)"),
        (Clips([]), "Clips(0 clips)"),
    ],
)
def test_repr_counts_clips_and_machines(clips, text):
    assert repr(clips) == text


def test_domains_go_with_the_clips_and_a_pickle_from_before_has_none():
    table = pd.DataFrame({"path": ["a.wav", "b.wav"], "domain": ["source", "target"]})
    clips = Clips.from_X(table)
    assert clips[1:].domain.tolist() == ["target"]
    assert pickle.loads(pickle.dumps(clips)).domain.tolist() == ["source", "target"]
    old = Clips(["a.wav"])
    del old.domain
    assert pickle.loads(pickle.dumps(old))[:1].domain is None


def test_pickle_holds_names_and_no_audio(tmp_path):
    paths = [str(tmp_path / f"{row}.wav") for row in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros(RATE), RATE)
    clips = Clips(paths, machine_id=list("xyz"))
    clips.read(0, RATE)
    pickled = pickle.dumps(clips)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    assert list(again.sources) == paths
    assert list(again.machine_id) == list("xyz")


@pytest.mark.parametrize(
    "rates",
    [[32000, np.nan], [32000, None], pd.Series([32000, pd.NA], dtype="Int64")],
)
def test_a_stated_sample_rate_holds_for_its_row(rates):
    table = pd.DataFrame({"audio": [np.zeros(320)] * 2, "sample_rate": rates})
    clips = Clips.from_X(table)
    assert [len(clips.read(row, RATE)) for row in range(2)] == [160, 320]
    assert len(clips[1:].read(0, RATE)) == 320


def test_a_file_states_its_own_sample_rate(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(320), 32000)
    table = pd.DataFrame({"path": [path], "sample_rate": [8000]})
    assert len(Clips.from_X(table).read(0, RATE)) == 160


def test_views_are_checked():
    for views in ((), ["flip_time"]):
        with pytest.raises(ValueError, match="views is .* at least one View"):
            Clips(["a.wav"], views=views)


def test_as_an_array_it_is_waveforms_or_paths():
    waves = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(Clips(list(waves))), waves)
    assert np.asarray(Clips(["a.wav", "b.wav"])).tolist() == ["a.wav", "b.wav"]
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        np.asarray(Clips([waves[0], waves[1, :2]]))
    with pytest.raises(ValueError, match="always a copy"):
        Clips(["a.wav"]).__array__(copy=False)
