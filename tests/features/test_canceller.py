"""Two microphones: noise goes, the machine stays."""

import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    BadClipError,
    Clips,
    GaussianDetector,
    LogMelSegmenter,
    NoiseCanceller,
    PowerSpectrum,
    SpectrumStatistics,
)
from sklearn_asd.audio.cancelling import ChannelPair, cancel_noise

RATE = 16000
WHOLE = LogMelSegmenter(segment_duration=None)


def decibels(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=float)))


def impulse_response(rng, delay, n_samples=400):
    """A room: the direct sound, then echoes that fade by 60 dB in 26 ms."""
    echoes = rng.normal(size=n_samples) * np.exp(-np.arange(n_samples) / 60)
    echoes[0] = 5
    return np.concatenate([np.zeros(delay), echoes]) / 5


def make_room(rng, duration=10.0, machine_at_far=0.0):
    """Give what both microphones hear of the noise and of a machine, each (n, 2)."""
    n_samples = round(duration * RATE)
    noise, machine = rng.normal(size=(2, n_samples + 4000)) * 0.1
    paths = [impulse_response(rng, delay) for delay in (40, 5, 0, 60)]
    heard = [
        np.convolve(sound, path)[2000 : 2000 + n_samples].astype(np.float32)
        for sound, path in zip([noise, noise, machine, machine], paths, strict=True)
    ]
    heard[3] *= machine_at_far
    return np.stack(heard[:2], axis=1), np.stack(heard[2:], axis=1)


def cancel(samples, n_fft=2048):
    return cancel_noise(samples[:, 0], samples[:, 1], n_fft)


# -- known answers -------------------------------------------------------------------


def test_a_noise_that_is_only_weaker_at_the_near_microphone_goes_whole(rng):
    noise = rng.normal(size=16000).astype(np.float32)
    assert decibels(cancel_noise(0.5 * noise, noise, 512)) < -120


def test_unrelated_signals_lose_the_share_that_chance_explains(rng):
    near, far = rng.normal(size=(2, 10 * RATE)).astype(np.float32)
    share = 1 - np.var(cancel_noise(near, far, 2048)) / np.var(near)
    assert 0.3 < share / (2048 / len(near)) < 1


def test_in_a_room_the_noise_loses_19_dB_and_the_machine_stays(rng):
    noise, machine = make_room(rng)
    left = cancel(noise + machine) - machine[:, 0]
    assert decibels(left) < decibels(noise[:, 0]) - 19
    # Without the machine, what is left is what the window cannot hold of the room.
    assert decibels(cancel(noise)) < decibels(noise[:, 0]) - 21
    assert decibels(cancel(noise + machine)) == pytest.approx(
        decibels(machine[:, 0]), abs=0.1
    )


def test_a_far_microphone_that_hears_the_machine_20_dB_weaker_still_helps(rng):
    noise, machine = make_room(rng, machine_at_far=0.1)
    left = cancel(noise + machine) - machine[:, 0]
    assert decibels(left) < decibels(noise[:, 0]) - 10


def test_a_tone_of_the_machine_stays_as_loud(rng):
    noise, _ = make_room(rng)
    t = np.arange(len(noise)) / RATE
    tone = np.zeros_like(noise)
    tone[:, 0] = 0.02 * np.sin(2 * np.pi * 440 * t)
    result = cancel(noise + tone)
    amplitude = 2 * np.abs(np.mean(result * np.exp(-2j * np.pi * 440 * t)))
    assert amplitude == pytest.approx(0.02, rel=0.05)


# -- laws ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [4096, 5000, 16001])
def test_the_length_stays_and_a_silent_far_microphone_changes_nothing(rng, n_samples):
    near = rng.normal(size=n_samples).astype(np.float32)
    result = cancel_noise(near, np.zeros_like(near), 512)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, near)


def test_a_frequency_that_the_far_microphone_does_not_hear_is_left_alone(rng):
    t = np.arange(RATE) / RATE
    far = np.sin(2 * np.pi * 1000 * t).astype(np.float32)
    near = (0.5 * far + np.sin(2 * np.pi * 5000 * t)).astype(np.float32)
    result = cancel_noise(near, far, 512)[512:-512]
    np.testing.assert_allclose(
        result, np.sin(2 * np.pi * 5000 * t)[512:-512], atol=2e-3
    )


def test_the_result_scales_with_the_near_signal_and_not_with_the_far_one(rng):
    noise, machine = make_room(rng, 2.0)
    near, far = (noise + machine).T
    result = cancel_noise(near, far, 512)
    np.testing.assert_allclose(cancel_noise(4 * near, far, 512), 4 * result, atol=1e-5)
    np.testing.assert_allclose(cancel_noise(near, 8 * far, 512), result, atol=1e-5)


def test_long_recordings_are_done_in_blocks_with_the_same_result(rng, monkeypatch):
    noise, machine = make_room(rng, 2.0)
    result = cancel(noise + machine, 512)
    monkeypatch.setattr("sklearn_asd.audio.cancelling._FRAMES_AT_ONCE", 7)
    np.testing.assert_allclose(cancel(noise + machine, 512), result, atol=1e-6)


# -- as a step of a pipeline ---------------------------------------------------------


@pytest.fixture
def clip(rng):
    noise, machine = make_room(rng, 2.0)
    return noise + machine


def test_files_and_arrays_of_two_channels_give_what_cancelling_gives(clip, tmp_path):
    soundfile.write(tmp_path / "a.wav", clip, RATE, subtype="FLOAT")
    table = pd.DataFrame({"audio": [clip], "sample_rate": [RATE]})
    expected = cancel(clip)
    for X in ([clip], [str(tmp_path / "a.wav")], table):
        clips = NoiseCanceller().fit_transform(X)
        np.testing.assert_allclose(clips.read(0, RATE), expected, atol=1e-6)


@pytest.mark.parametrize("front_end", [WHOLE, PowerSpectrum()])
def test_front_ends_read_the_combined_channels_whatever_their_channel(clip, front_end):
    front_end = clone(front_end)
    expected = front_end.fit_transform([cancel(clip)])
    for channel in ("mix", 1):
        front_end.set_params(channel=channel)
        result = make_pipeline(NoiseCanceller(), front_end).fit_transform([clip])
        np.testing.assert_allclose(result.frames, expected.frames, atol=1e-3)


def test_the_microphones_may_be_other_channels(clip):
    swapped = clip[:, [1, 0]]
    result = NoiseCanceller(near=1, far=0).transform([swapped]).read(0, RATE)
    np.testing.assert_array_equal(result, cancel(clip))


def test_pcm_samples_and_pieces_of_recordings_are_read(clip):
    pcm = np.round(clip * 2**15).astype(np.int16)
    table = pd.DataFrame({"audio": [pcm], "sample_rate": [RATE], "start": [0.5]})
    result = NoiseCanceller(n_fft=512).transform(table).read(0, RATE)
    np.testing.assert_allclose(result, cancel(clip[RATE // 2 :], 512), atol=1e-3)


def test_machines_domains_and_views_stay(clip):
    table = pd.DataFrame(
        {"audio": [clip], "machine_type": "fan", "machine_id": "00", "domain": "target"}
    )
    expand = AugmentationExpander(pitch_steps=[0], stretch_rates=[1, 1.1])
    for steps in ([NoiseCanceller(), expand], [expand, NoiseCanceller()]):
        spectrograms = make_pipeline(*steps, WHOLE).fit_transform(table)
        assert spectrograms.view_names == ("original", "stretch 1.1")
        assert list(spectrograms.domain) == ["target"]
        assert list(spectrograms.machine_id) == ["00"]


def test_a_clip_does_not_depend_on_the_others(rng):
    first, second = (sum(make_room(rng, 2.0)) for _ in range(2))
    alone = NoiseCanceller().transform([second]).read(0, RATE)
    together = NoiseCanceller().transform([first, second]).read(1, RATE)
    np.testing.assert_array_equal(alone, together)


def test_a_cache_keeps_the_microphones_apart(clip, tmp_path):
    soundfile.write(tmp_path / "a.wav", clip, RATE, subtype="FLOAT")
    X = [str(tmp_path / "a.wav")]
    segment = LogMelSegmenter(
        segment_duration=None, cache_dir=tmp_path / "cache", channel=0
    )
    steps = [[], [NoiseCanceller()], [NoiseCanceller(n_fft=512)], [NoiseCanceller()]]
    results = [
        make_pipeline(*some, segment).fit_transform(X).log_mel(0).tobytes()
        for some in steps
    ]
    assert results[3] == results[1]
    assert len(set(results)) == 3


def test_clips_of_earlier_versions_have_no_pair(clip):
    clips = Clips([clip[:, 0]])
    state = {k: v for k, v in vars(clips).items() if k != "pair"}
    old = Clips.__new__(Clips)
    vars(old).update(state)
    np.testing.assert_array_equal(old[[0]].read(0, RATE), clip[:, 0])


def test_marked_clips_can_be_pickled_and_indexed(clip):
    clips = NoiseCanceller(n_fft=512).transform([clip, clip])
    for one in (clips[1:], pickle.loads(pickle.dumps(clips))[[1]]):
        assert one.pair == ChannelPair(0, 1, 512)
        np.testing.assert_array_equal(one.read(0, RATE), cancel(clip, 512))


# -- what is refused -----------------------------------------------------------------


def test_one_channel_is_an_error_with_the_remedy(clip, tmp_path):
    soundfile.write(tmp_path / "mono.wav", clip[:, 0], RATE)
    pipe = make_pipeline(NoiseCanceller(), WHOLE)
    message = (
        r"clip 1 \(mono.wav\) has 1 channel\(s\), and NoiseCanceller needs the "
        "channels near=0 and far=1, counted from 0: record with two microphones, or "
    )
    with pytest.raises(BadClipError, match=message):
        pipe.fit_transform(
            pd.DataFrame(
                {"audio": [clip, None], "path": [None, str(tmp_path / "mono.wav")]}
            )
        )
    with pytest.raises(BadClipError, match=r"clip 0 has 1 channel\(s\), and Noise"):
        pipe.fit_transform([clip[:, 0]])


@pytest.mark.filterwarnings("ignore::sklearn_asd.audio.reading.UnusableClipWarning")
def test_a_clip_of_one_channel_can_score_nan_as_other_bad_clips(clip):
    pipe = make_pipeline(
        NoiseCanceller(), LogMelSegmenter(segment_duration=None, on_bad_clip="nan")
    )
    spectrograms = pipe.fit_transform([clip, clip[:, 0]])
    assert list(spectrograms.usable) == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: clip.T, r"array of shape \(2, 32000\); several .* transpose it"),
        (lambda clip: clip[:, :, None], r"has an array of shape \(32000, 2, 1\)"),
        (lambda clip: clip[:8000], "has 8000 samples, .* needs 16384 .* lower n_fft"),
        (lambda clip: clip[:0], "holds no samples"),
        (lambda clip: clip * [1, np.nan], "holds nan at sample 0 of 32000"),
        (lambda clip: clip * [np.inf, 1], "holds -?inf at sample 0 of 32000"),
        (lambda clip: clip.astype(complex), "samples of type complex128"),
    ],
)
def test_recordings_that_cannot_be_used_are_refused(clip, change, message):
    with pytest.raises(BadClipError, match=message):
        NoiseCanceller().transform([change(clip)]).read(0, RATE)


def test_a_third_microphone_that_is_not_there_is_named(clip):
    with pytest.raises(BadClipError, match=r"has 2 channel\(s\), .* far=2, counted"):
        NoiseCanceller(far=2).transform([clip]).read(0, RATE)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"near": 1}, "near and far are both channel 1"),
        ({"n_fft": 1022}, "n_fft=1022 is not divisible by 4: choose 1020"),
        ({"n_fft": 4}, "'n_fft' parameter of NoiseCanceller must be an int"),
        ({"far": -1}, "'far' parameter of NoiseCanceller must be an int"),
        ({"near": "left"}, "'near' parameter of NoiseCanceller must be an int"),
    ],
)
def test_wrong_parameters_are_refused(clip, parameters, message):
    with pytest.raises(ValueError, match=message):
        NoiseCanceller(**parameters).fit([clip])


def test_two_cancellers_are_refused(clip):
    with pytest.raises(ValueError, match="X asks for .* already: use one NoiseCanc"):
        make_pipeline(NoiseCanceller(), NoiseCanceller(far=2)).fit_transform([clip])


# -- what it is good for -------------------------------------------------------------


def test_a_fault_that_noise_hides_is_found_with_two_microphones(rng):
    """A machine of two harmonics, whose fault weakens one, in changing noise."""
    t = np.arange(2 * RATE) / RATE

    def record(fault):
        noise, _ = make_room(rng, 2.0)
        clip = noise * rng.uniform(0.5, 2)
        strengths = np.array([1, 0.5 if fault else 1]) * rng.uniform(0.95, 1.05, 2)
        tones = np.sin(2 * np.pi * np.array([[1000], [2300]]) * t)
        clip[:, 0] += 0.02 * strengths @ tones
        return clip

    train = [record(False) for _ in range(20)]
    test, label = [record(n % 2) for n in range(24)], np.arange(24) % 2
    detect = GaussianDetector(SpectrumStatistics("mean"))
    areas = []
    for first in (NoiseCanceller(), None):
        segment = LogMelSegmenter(segment_duration=None, channel=0)
        if first is None:
            X, Z = ([clip[:, 0] for clip in clips] for clips in (train, test))
            pipe = make_pipeline(segment, clone(detect))
        else:
            X, Z = train, test
            pipe = make_pipeline(first, segment, clone(detect))
        areas.append(roc_auc_score(label, -pipe.fit(X).score_samples(Z)))
    assert areas[0] > areas[1] + 0.1
    assert areas[0] > 0.9
