import functools
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.base import clone

from sklearn_asd import (
    AugmentationExpander,
    BadClipError,
    Clips,
    ClipSpectrograms,
    LogMelSegmenter,
    LogMelView,
    MissingClipError,
    WaveformView,
    load_clips,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.audio import PhaseVocoder, read_file
from sklearn_asd.features import log_mel_spectrogram
from sklearn_asd.features.spectrograms import SEGMENT_FRAMES, SEGMENT_HOP_FRAMES

RATE = 16000

# Segments of 8 frames by 4.
Short = functools.partial(LogMelSegmenter, segment_duration=0.256, segment_hop=0.128)


@pytest.fixture
def waves(rng):
    """Clips of 0.3 to 1 s."""
    lengths = [5000, 16000, 7001, 12345, 5000]
    return [0.1 * rng.standard_normal(n).astype(np.float32) for n in lengths]


@pytest.fixture
def table(tmp_path, waves):
    """The same clips as files with machines."""
    paths = [tmp_path / f"{row}.wav" for row in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, RATE, subtype="FLOAT")
    return pd.DataFrame(
        {"path": paths, "machine_type": "fan", "machine_id": [0, 0, 2, 2, np.nan]},
        index=[7, 7, 3, 3, 3],
    )


def assert_same_frames(result, expected):
    """Equal to the bit, wherever the frames lie."""
    assert len(result) == len(expected)
    for clip in range(len(result)):
        np.testing.assert_array_equal(result.log_mel(clip), expected.log_mel(clip))


# -- what is computed ----------------------------------------------------------


@pytest.mark.parametrize("source", ["waves", "table"])
def test_each_clip_gets_its_log_mel(request, waves, source):
    X = Short().fit_transform(request.getfixturevalue(source))
    assert X.frames.dtype == np.float32
    for clip, wave in enumerate(waves):
        np.testing.assert_array_equal(X.log_mel(clip).T, log_mel_spectrogram(wave))


def test_settings_reach_the_log_mel(waves):
    settings = {
        "sample_rate": 8000,
        "n_fft": 512,
        "hop_length": 160,
        "n_mels": 20,
        "fmin": 100.0,
        "fmax": 3000.0,
    }
    X = Short(**settings).transform(waves)
    np.testing.assert_array_equal(
        X.log_mel(1).T, log_mel_spectrogram(waves[1], **settings)
    )


def test_machines_and_settings_travel_along(table):
    X = Short().transform(table.assign(domain="source"))
    assert list(X.machine_type) == ["fan"] * 5
    assert list(X.domain) == ["source"] * 5
    assert list(X.machine_id) == ["0", "0", "2", "2", None]
    assert (X.sample_rate, X.hop_length) == (RATE, 512)
    assert (X.segment_frames, X.segment_hop_frames) == (8, 4)


def test_default_segments_are_the_same_in_seconds_and_in_frames():
    X = LogMelSegmenter().transform([np.zeros(60_000)])
    assert (X.segment_frames, X.segment_hop_frames) == (96, 48)
    assert (SEGMENT_FRAMES, SEGMENT_HOP_FRAMES) == (96, 48)
    assert LogMelSegmenter().segment_frames() == (96, 48)
    assert LogMelSegmenter(segment_duration=None).segment_frames() == (None, 48)
    made = ClipSpectrograms.from_arrays([X.log_mel(0)])
    assert made.n_segments.tolist() == X.n_segments.tolist()


@pytest.mark.parametrize(("seconds", "n_segments"), [(10, 5), (11, 6), (3.072, 1)])
def test_default_segments_are_those_of_the_paper(seconds, n_segments):
    X = LogMelSegmenter().transform(np.zeros((1, round(seconds * RATE))))
    assert (X.segment_frames, X.segment_hop_frames, X.n_mels) == (96, 48, 128)
    assert X.n_segments.tolist() == [[n_segments]]


def test_whole_clips_are_one_segment_each(waves):
    X = LogMelSegmenter(segment_duration=None).transform(waves)
    assert X.segment_frames is None
    assert X.n_segments.tolist() == [[1]] * 5
    assert X.windows().n_frames.tolist() == [1 + len(w) // 512 for w in waves]


def test_float16_is_the_rounded_float32(waves):
    half = Short(dtype="float16").transform(waves)
    assert half.frames.dtype == np.float16
    np.testing.assert_array_equal(
        half.frames, Short().transform(waves).frames.astype(np.float16)
    )


def test_a_chosen_channel_is_read(tmp_path, waves):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([waves[0], waves[4]], axis=1), RATE, subtype="FLOAT")
    X = Short(channel=1).transform([path])
    np.testing.assert_array_equal(X.log_mel(0).T, log_mel_spectrogram(waves[4]))
    mean = (waves[0] + waves[4]) / 2
    X = Short(channel="mix").transform([path])
    np.testing.assert_allclose(X.log_mel(0).T, log_mel_spectrogram(mean), atol=1e-3)


def test_the_sample_rate_of_a_table_is_heeded(waves):
    rates = [16000, 48000, np.nan, 32000, 16000]
    X = Short().transform(pd.DataFrame({"audio": waves, "sample_rate": rates}))
    n_frames = (X.stops - X.starts)[:, 0].tolist()
    assert n_frames == [10, 1 + 5334 // 512, 14, 1 + 6173 // 512, 10]


def expand(X, **parameters):
    return AugmentationExpander(**parameters).transform(X)


def test_each_view_of_each_clip_gets_its_log_mel(waves):
    X = Short().transform(expand(waves, pitch_steps=(0, 1), extra=["rotate"]))
    assert X.view_names[3:] == (
        "pitch +1, stretch 0.9",
        "pitch +1",
        "pitch +1, stretch 1.1",
        "rotate",
    )
    for clip, wave in enumerate(waves):
        vocoder = PhaseVocoder(wave)
        for view, (steps, rate) in enumerate(
            [(0, 0.9), (0, 1), (0, 1.1), (1, 0.9), (1, 1), (1, 1.1)]
        ):
            made = wave if (steps, rate) == (0, 1) else vocoder.transform(steps, rate)
            np.testing.assert_array_equal(
                X.log_mel(clip, view).T, log_mel_spectrogram(made)
            )
        rotated = log_mel_spectrogram(wave)[::-1, ::-1]
        np.testing.assert_array_equal(X.log_mel(clip, 6).T, rotated)


def test_stretched_views_have_segments_of_their_own_number():
    X = LogMelSegmenter().transform(expand(np.zeros((1, 10 * RATE)), pitch_steps=(0,)))
    assert X.n_segments.tolist() == [[6, 5, 4]]  # 348, 313 and 285 frames


def test_real_recordings_of_10_and_11_s_mix(recordings):
    clips = load_clips(recordings("dcase2020_samples"))
    clips = clips.groupby("machine_type").head(2)
    X = LogMelSegmenter(n_jobs=2).transform(clips)
    assert set(X.n_segments[:, 0]) == {5, 6}
    assert set(X.machine_type) == set(clips["machine_type"])
    for clip, path in enumerate(clips["path"]):
        expected = log_mel_spectrogram(read_file(path, RATE))
        np.testing.assert_array_equal(X.log_mel(clip).T, expected)


# -- in parallel ---------------------------------------------------------------


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_workers_do_not_change_a_bit(table, backend, dtype):
    alone = Short(dtype=dtype, n_jobs=1).transform(table)
    with joblib.parallel_config(backend):
        together = Short(dtype=dtype, n_jobs=2).transform(table)
    np.testing.assert_array_equal(together.frames, alone.frames)
    np.testing.assert_array_equal(together.starts, alone.starts)


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("n_clips", [1, 5])
def test_workers_do_not_change_a_bit_of_the_views(table, backend, n_clips):
    """Also where they share the views of one clip."""
    clips = expand(table[:n_clips], extra=["harmonic", "flip_time"])
    alone = Short(n_jobs=1).transform(clips)
    with joblib.parallel_config(backend):
        together = Short(n_jobs=2).transform(clips)
    assert together.view_names == alone.view_names
    for name in ("frames", "starts", "stops"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))


def test_memory_does_not_grow_with_the_views_beyond_their_frames():
    """Of 60 s of sound, the views' samples would take 35 MB, and frames take 0.9 MB."""
    X = [np.zeros(RATE, dtype=np.float32)] * 60
    segment = Short(n_mels=8)
    beyond = []
    for n_views in (1, 9):
        clips = expand(X) if n_views == 9 else X
        segment.transform(clips[:2])  # filters and windows are kept
        tracemalloc.start()
        frames = segment.transform(clips).frames
        beyond.append(tracemalloc.get_traced_memory()[1] - frames.nbytes)
        tracemalloc.stop()
    one_vocoder_and_view = 2e6
    assert beyond[1] < beyond[0] + one_vocoder_and_view


def test_a_clip_does_not_depend_on_the_others(waves):
    order = [3, 1, 4, 0]
    X = Short().transform(waves)
    assert_same_frames(Short().transform([waves[row] for row in order]), X[order])
    assert_same_frames(Short().transform([waves[2]]), X[2])


def test_many_clips_are_read_in_blocks(monkeypatch, waves):
    expected = Short().transform(waves)
    monkeypatch.setattr("sklearn_asd.features.front_end._VIEWS_AT_ONCE", 2)
    assert_same_frames(Short().transform(waves), expected)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_on_request(capsys, waves, verbose):
    Short(verbose=verbose).transform(waves)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("5/5" in shown.err) == bool(verbose)


# -- bad clips -----------------------------------------------------------------

BAD_ROWS = {
    1: (MissingClipError, r"clip 1 \(gone\.wav\) does not exist: check the path"),
    2: (BadClipError, r"clip 2 \(empty\.wav\) is an empty file of 0 bytes: leave"),
    3: (BadClipError, r"clip 3 \(slow\.wav\) is sampled at 8000 Hz.*set sample_rate="),
    4: (
        BadClipError,
        r"clip 4 \(brief\.wav\) is about 0\.208 s \(7 frames\); segments need "
        r"0\.256 s \(8 frames\): lower segment_duration, pad, or leave it out",
    ),
    5: (BadClipError, r"clip 5 \(nan\.wav\) holds nan at sample 3 of 5000"),
}


@pytest.fixture
def spoilt(tmp_path, waves):
    """Paths of clips, of which the first and the last can be used."""
    (tmp_path / "empty.wav").touch()
    nan = waves[0].copy()
    nan[3:5] = np.nan
    for name, samples, rate in [
        ("good.wav", waves[0], RATE),
        ("slow.wav", waves[1], 8000),
        ("brief.wav", waves[0][:3500], RATE),
        ("nan.wav", nan, RATE),
        ("fine.wav", waves[1], RATE),
    ]:
        soundfile.write(tmp_path / name, samples, rate, subtype="FLOAT")
    names = ["good", "gone", "empty", "slow", "brief", "nan", "fine"]
    return [tmp_path / f"{name}.wav" for name in names]


@pytest.mark.parametrize("cached", [False, True])
def test_bad_clips_are_listed_in_one_warning_and_get_no_frames(
    spoilt, tmp_path, cached
):
    segmenter = Short(
        on_bad_clip="nan", cache_dir=tmp_path / "cache" if cached else None
    )
    for _ in range(2):  # bad clips are read again and judged the same
        with pytest.warns(UserWarning, match="5 of 7 clips cannot be used") as caught:
            X = segmenter.transform(spoilt)
        (warning,) = caught
        assert warning.filename == __file__
        for _, message in BAD_ROWS.values():
            assert pd.Series([str(warning.message)]).str.contains(message).all()
        assert X.n_segments[:, 0].astype(bool).tolist() == [True] + [False] * 5 + [True]
        assert_same_frames(X[[0, 6]], Short().transform([spoilt[0], spoilt[6]]))


def test_a_clip_is_too_short_if_a_view_of_it_is(waves):
    """0.256 s are needed; played 1.5 times as fast, 0.3125 s are less."""
    clips = expand(waves, pitch_steps=(0,), stretch_rates=(1, 1.5))
    message = (
        r"clip 0 has a view 'stretch 1.5' that is about 0.208 s \(7 frames\); segments "
        r"need 0.256 s \(8 frames\)"
    )
    with pytest.raises(BadClipError, match=message):
        Short().transform(clips)
    with pytest.warns(UserWarning, match="2 of 5 clips"):
        X = Short(on_bad_clip="nan").transform(clips)
    assert X.usable.tolist() == [False, True, True, True, False]
    assert not X.n_segments[0].any()  # the view that is long enough goes too


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_view_that_is_too_large_for_the_frames_is_named(waves):
    for view, dtype in [
        (WaveformView(lambda samples, rate: samples * 1e25, name="huge"), "float32"),
        (LogMelView(lambda log_mel: log_mel * 1e4, name="huge"), "float16"),
    ]:
        message = (
            f"clip 0 has a view 'huge' whose log-mel is NaN or infinite in {dtype}"
        )
        with pytest.raises(BadClipError, match=message):
            Short(dtype=dtype).transform(expand(waves, extra=[view]))


def test_a_clip_that_cannot_be_read_has_no_views(spoilt):
    with pytest.raises(MissingClipError, match=r"clip 1 \(gone"):
        Short().transform(expand(spoilt))
    with pytest.warns(UserWarning, match="5 of 7 clips"):
        X = Short(on_bad_clip="nan").transform(expand(spoilt, pitch_steps=(0,)))
    assert X.usable.tolist() == [True] + [False] * 5 + [True]


def test_the_reasons_for_unusable_clips_are_kept_by_row(spoilt):
    """Each completes "clip 3 (x.wav) ...", as in the warning that lists them."""
    with pytest.warns(UserWarning, match="5 of 7 clips") as caught:
        X = Short(on_bad_clip="nan").transform(spoilt)
    assert list(X.problems) == list(BAD_ROWS)
    clips = Clips.from_X(spoilt)
    lines = [f"  {clips.name(row)} {reason}" for row, reason in X.problems.items()]
    assert str(caught[0].message).splitlines()[1:] == lines


def test_good_clips_raise_no_warning(waves):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X = Short(on_bad_clip="nan").transform(waves)
    assert X.problems == {}


def test_clips_that_are_all_bad_get_no_frames(tmp_path):
    with pytest.warns(UserWarning, match="2 of 2 clips"):
        X = Short(on_bad_clip="nan").transform([tmp_path / "a.wav", tmp_path / "b.wav"])
    assert X.frames.shape == (0, 128)
    assert X.n_segments.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 9000)), r"shape \(2, 9000\); one clip is a 1-D array"),
        (np.zeros(9000, dtype=int), "samples of type int64; pass floats"),
        (np.zeros(9000, dtype=object), "samples of type object; pass floats"),
        (np.zeros(0), "holds no samples"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_bad_arrays_are_named(tmp_path, waves, audio, message, cached):
    X = pd.DataFrame({"audio": [waves[0], audio]})
    segmenter = Short(cache_dir=tmp_path if cached else None)
    with pytest.raises(BadClipError, match=f"^clip 1 .*{message}"):
        segmenter.transform(X)


def test_a_clip_of_exactly_one_segment_is_long_enough():
    X = Short().transform([np.zeros(7 * 512), np.zeros(8 * 512)])
    assert X.n_segments.tolist() == [[1], [1]]


# -- as an estimator -----------------------------------------------------------


@pytest.mark.parametrize(
    "parameter",
    [
        {"sample_rate": 0},
        {"n_fft": 1},
        {"hop_length": 0},
        {"hop_length": 512.0},
        {"n_mels": 0},
        {"fmin": -1.0},
        {"fmax": 0},
        {"segment_duration": 0},
        {"segment_hop": None},
        {"channel": "left"},
        {"channel": -1},
        {"on_bad_clip": "ignore"},
        {"dtype": "float64"},
        {"cache_dir": 3},
        {"n_jobs": "all"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_wrong_parameters_are_refused(waves, parameter, method):
    (name,) = parameter
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        getattr(LogMelSegmenter(**parameter), method)(waves)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"segment_duration": 0.01}, "segment_duration=0.01 s .* one frame, 0.032 s"),
        ({"segment_hop": 0.01}, "segment_hop=0.01 s .* one frame, 0.032 s"),
        ({"fmin": 4000, "fmax": 400}, "fmin=4000 to fmax=400 Hz .* choose fmin < fmax"),
        ({"fmax": 8001}, "fmax=8001 Hz .* half of sample_rate, 8000 Hz"),
        ({"fmin": 8000}, "fmin=8000 to fmax=8000 Hz"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_parameters_that_do_not_go_together_are_refused(
    waves, parameters, message, method
):
    with pytest.raises(ValueError, match=message):
        getattr(LogMelSegmenter(**parameters), method)(waves)


def test_a_clone_has_the_same_parameters(tmp_path):
    changed = {"n_mels": 64, "cache_dir": tmp_path, "channel": 2, "on_bad_clip": "nan"}
    segmenter = clone(LogMelSegmenter(**changed))
    assert segmenter.get_params() == LogMelSegmenter().get_params() | changed
    assert segmenter.set_params(n_mels=32).n_mels == 32


def test_fit_reads_nothing_and_learns_nothing(tmp_path):
    segmenter = LogMelSegmenter()
    before = vars(segmenter).copy()
    assert segmenter.fit([tmp_path / "gone.wav"]) is segmenter
    assert vars(segmenter) == before


def test_fit_refuses_what_is_not_a_list_of_clips():
    with pytest.raises(ValueError, match="0 clips"):
        LogMelSegmenter().fit([])
