"""Parts of recordings as clips, and how recordings are cut into them."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from sklearn_asd import BadClipError, Clips, LogMelSegmenter, cut_into_pieces
from sklearn_asd.audio import reading
from sklearn_asd.audio.reading import Span, measure_duration, open_file

RATE = 16_000
SEGMENT = {"segment_duration": None, "n_mels": 16}


@pytest.fixture(scope="module")
def stereo():
    return np.random.default_rng(0).normal(scale=0.1, size=(10 * RATE, 2))


def write(path, samples, **how):
    try:
        soundfile.write(path, samples, RATE, **how)
    except soundfile.LibsndfileError:
        pytest.skip(f"this libsndfile writes no {path.suffix}")
    return path


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "ogg", "mp3"])
@pytest.mark.parametrize("span", [(0, 2), (1.2345, 3.4567), (7.00003, 10)])
@pytest.mark.parametrize("block", [2**20, 1000])
def test_a_part_is_exactly_that_part_of_the_whole(
    tmp_path, stereo, kind, span, block, monkeypatch
):
    path = write(tmp_path / f"a.{kind}", stereo)
    monkeypatch.setattr(reading, "_SAMPLES_AT_ONCE", block)
    whole = open_file(path, RATE).samples
    part = open_file(path, RATE, "mix", Span(*span)).samples
    start, stop = (round(seconds * RATE) for seconds in span)
    # The decoder of MP3 rounds in another way behind a seek.
    tolerance = 1e-6 if kind == "mp3" else 0
    np.testing.assert_allclose(part, whole[start:stop], rtol=0, atol=tolerance)


def test_of_a_long_file_only_the_part_is_decoded(tmp_path, stereo, monkeypatch):
    path, read, n_read = write(tmp_path / "a.flac", stereo), reading._blocks, []

    def count(*arguments):
        for block in read(*arguments):
            n_read.append(len(block))
            yield block

    monkeypatch.setattr(reading, "_blocks", count)
    open_file(path, RATE, "mix", Span(5.0, 6.0))
    assert sum(n_read) == RATE


def test_files_and_arrays_have_the_same_parts(tmp_path, stereo):
    mono = stereo[:, 0].astype(np.float32)
    path = write(tmp_path / "a.wav", mono, subtype="FLOAT")
    times = {"start": [None, 2.5, np.nan], "stop": [3.0, 4.25, None]}
    files = Clips.from_X(pd.DataFrame({"path": [path] * 3, **times}))
    arrays = Clips.from_X(pd.DataFrame({"audio": [mono] * 3, **times}))
    for row in range(3):
        expected = files.read(row, RATE)
        np.testing.assert_array_equal(arrays.read(row, RATE), expected)
    assert [len(files.read(row, RATE)) / RATE for row in range(3)] == [3, 1.75, 10]
    assert files[1:].name(0) == "clip 0 (a.wav from 2.5 s)"
    assert arrays.name(1) == "clip 1 (from 2.5 s)"
    assert files.name(2) == "clip 2 (a.wav)"


def test_a_recording_without_a_length_has_parts_too(recordings):
    folder = recordings("field_cases")
    names = (
        "avaudio_unfinished.wav",
        "unknown_length.flac",
        "unknown_length_no_md5.flac",
    )
    for name in names:
        path = folder / name
        whole = open_file(path, RATE)
        assert measure_duration(path) == len(whole.signal) / whole.file_rate
        part = open_file(path, whole.file_rate, "mix", Span(0.25, 0.75)).samples
        start, stop = (round(s * whole.file_rate) for s in (0.25, 0.75))
        np.testing.assert_array_equal(part, whole.signal[start:stop])


def test_a_cache_tells_parts_of_a_recording_apart(tmp_path, stereo, computed):
    path = write(tmp_path / "a.wav", stereo)
    table = pd.DataFrame(
        {"path": [path] * 3, "start": [0, 5, None], "stop": [5, 10, None]}
    )
    plain = LogMelSegmenter(**SEGMENT).transform(table)
    cached = LogMelSegmenter(**SEGMENT, cache_dir=tmp_path / "cache")
    for _ in range(2):
        again = cached.transform(table)
        np.testing.assert_array_equal(again.frames, plain.frames)
        np.testing.assert_array_equal(again.facts, plain.facts)
    assert plain.facts[:, 0].tolist() == [5, 5, 10]
    assert len(computed) == 6  # without a cache, and once with it


@pytest.mark.parametrize("kind", ["path", "audio"])
@pytest.mark.parametrize(
    ("start", "stop", "problem"),
    [
        (9, 11, "is 10 s long, and its piece reaches to 11 s"),
        (10, None, "is 10 s long, and its piece reaches to 10 s"),
        (1, 1.000001, "holds no samples"),
    ],
)
def test_parts_outside_of_the_recording_are_refused(
    tmp_path, stereo, kind, start, stop, problem
):
    mono = stereo[:, 0]
    source = write(tmp_path / "a.wav", mono) if kind == "path" else mono
    table = pd.DataFrame({kind: [source], "start": [start], "stop": [stop]})
    with pytest.raises(BadClipError, match=problem):
        LogMelSegmenter(**SEGMENT).transform(table)


@pytest.mark.parametrize(
    ("start", "stop", "problem"),
    [
        ([-1], [2], "from -1 to 2 s: 'start' must be 0 or more"),
        ([3], [2], "from 3 to 2 s"),
        (["soon"], [2], "the start of clip 0 is 'soon'; it must be a number in s"),
        ([1, 2], [2], "start has 2 values for 1 clips"),
    ],
)
def test_times_that_make_no_sense_are_refused(start, stop, problem):
    with pytest.raises(ValueError, match=problem):
        Clips(["a.wav"], start=start, stop=stop)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (9.0, [(np.nan, np.nan)]),
        (11.0, [(np.nan, np.nan)]),  # a tenth longer
        (11.5, [(0, 10), (1.5, 11.5)]),
        (30.0, [(0, 10), (10, 20), (20, 30)]),
        (30.5, [(0, 10), (10, 20), (20, 30), (20.5, 30.5)]),
    ],
)
def test_pieces_follow_each_other_and_reach_the_end(seconds, expected):
    table = pd.DataFrame({"audio": [np.zeros(round(seconds * 100))], "machine_id": "a"})
    pieces = cut_into_pieces(table, 10, sample_rate=100)
    np.testing.assert_allclose(pieces[["start", "stop"]], expected)
    assert set(pieces["machine_id"]) == {"a"}
    assert set(pieces.index) == {0}
    # Each can be read.
    clips = Clips.from_X(pieces)
    longest = 1100 if len(pieces) == 1 else 1000
    assert all(len(clips.read(row, 100)) <= longest for row in range(len(clips)))


def test_lengths_that_were_learnt_stay_whole(tmp_path, stereo):
    paths = [write(tmp_path / f"{n}.wav", stereo[: n * RATE]) for n in (2, 5, 9)]
    table = pd.DataFrame({"path": [*paths, tmp_path / "gone.wav"]}, index=[7, 8, 9, 10])
    pieces = cut_into_pieces(table, 4, longest=6)
    assert pieces.index.tolist() == [7, 8, 9, 9, 9, 10]
    assert pieces["start"].isna().tolist() == [True, True, False, False, False, True]
    assert pieces["stop"].tolist()[2:5] == [4, 8, 9]
    with pytest.raises(ValueError, match="are pieces already"):
        cut_into_pieces(pieces, 4)


def test_an_array_needs_a_rate_to_be_cut():
    with pytest.raises(ValueError, match="sample rate of clip 0 is not known"):
        cut_into_pieces(pd.DataFrame({"audio": [np.zeros(100)]}), 1)
