import inspect

import librosa
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from sklearn_asd.datasets.machine_kinds import MACHINE_KINDS
from sklearn_asd.datasets.machine_sounds import (
    _Clip,
    _record,
    _run_machine,
    make_machine_sounds,
)
from sklearn_asd.datasets.synthesis import rms

SAMPLE_RATE = 16000
KINDS = list(MACHINE_KINDS)
FAULTS = [(kind, fault) for kind in KINDS for fault in MACHINE_KINDS[kind].faults]
TINY = {
    "n_machines": 2,
    "n_train": 2,
    "n_test_normal": 1,
    "n_test_anomalous": 3,
    "duration": 0.5,
    "random_state": 7,
}
CLIP_KEY = ["machine_type", "machine_id", "split", "label"]


def keyed_audio(clips):
    """Audio by what a clip depends on: its machine, split, label and number."""
    numbers = clips.groupby(CLIP_KEY).cumcount()
    keys = zip(*(clips[name] for name in CLIP_KEY), numbers, strict=True)
    return dict(zip(keys, clips["audio"], strict=True))


def hiss_between_strokes(sound):
    """Power above 4 kHz in the median frame, which no click or puff reaches."""
    power = np.abs(librosa.stft(sound.astype(np.float32), n_fft=1024)) ** 2
    high = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=1024) > 4000
    return np.median(power[high].sum(axis=0))


def healthy_and_faulty(kind, fault, duration=4.0):
    """Sounds of the same machine in the same clip without and with the fault."""
    number = list(MACHINE_KINDS[kind].faults).index(fault)
    clip = _Clip(3, kind, 0, "test", -1, number)
    n_samples = round(duration * SAMPLE_RATE)
    names = ("none", fault)
    return [_run_machine(clip, name, n_samples, SAMPLE_RATE) for name in names]


# -- the table -------------------------------------------------------------------------


def test_the_default_types_are_all_kinds_of_machine():
    default = inspect.signature(make_machine_sounds).parameters["machine_types"].default
    assert list(default) == KINDS


def test_columns_come_in_order_with_their_types():
    clips = make_machine_sounds("pump", **TINY)
    assert list(clips.columns) == [
        "audio",
        "sample_rate",
        "machine_type",
        "machine_id",
        "split",
        "label",
        "fault",
    ]
    assert clips["label"].dtype == "Int64"
    assert clips["sample_rate"].dtype.kind == "i"
    assert clips.index.equals(clips.reset_index(drop=True).index)
    for audio in clips["audio"]:
        assert audio.dtype == np.float32
        assert audio.shape == (8000,)


def test_counts_are_those_asked_for():
    clips = make_machine_sounds(["fan", "valve"], **TINY)
    counts = clips.groupby(CLIP_KEY).size().unstack(["split", "label"])
    assert counts.index.tolist() == [
        ("fan", "00"),
        ("fan", "01"),
        ("valve", "00"),
        ("valve", "01"),
    ]
    assert (counts["train", 1] == 2).all()
    assert (counts["test", 1] == 1).all()
    assert (counts["test", -1] == 3).all()


def test_only_anomalous_clips_have_a_fault_and_every_fault_has_its_turn():
    clips = make_machine_sounds("slider", **TINY)
    normal = clips["label"] == 1
    assert set(clips["fault"][normal]) == {"none"}
    faults = clips[~normal].groupby("machine_id")["fault"].agg(set)
    assert all(names == set(MACHINE_KINDS["slider"].faults) for names in faults)


def test_a_table_without_clips_keeps_its_columns():
    clips = make_machine_sounds(n_train=0, n_test_normal=0, n_test_anomalous=0)
    assert clips.shape == (0, 7)
    assert clips["label"].dtype == "Int64"


# -- randomness ------------------------------------------------------------------------


def test_the_same_random_state_gives_the_same_sounds_to_the_bit():
    first, second = (make_machine_sounds(**TINY) for _ in range(2))
    for one, other in zip(first["audio"], second["audio"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_number_of_workers_changes_no_sound():
    options = {"n_machines": 2, "n_train": 2, "duration": 1.0, "random_state": 0}
    one, two = (
        make_machine_sounds("fan", n_jobs=n_jobs, **options) for n_jobs in (1, 2)
    )
    for audio, other in zip(one["audio"], two["audio"], strict=True):
        np.testing.assert_array_equal(audio, other)


def test_another_random_state_gives_other_sounds():
    seven = make_machine_sounds("fan", **TINY)
    eight = make_machine_sounds("fan", **(TINY | {"random_state": 8}))
    assert not np.array_equal(seven["audio"][0], eight["audio"][0])


def test_no_two_clips_are_alike():
    audio = make_machine_sounds(["fan", "pump"], **TINY)["audio"]
    assert len({clip.tobytes() for clip in audio}) == len(audio)


@pytest.mark.parametrize("random_state", [None, 0])
def test_the_global_generator_is_not_touched(random_state):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_machine_sounds("fan", **(TINY | {"random_state": random_state}))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_other_types_machines_and_counts_leave_a_clip_as_it_is():
    few = keyed_audio(make_machine_sounds("ToyCar", **TINY))
    larger = {"n_machines": 3, "n_train": 4, "n_test_normal": 2, "n_test_anomalous": 5}
    many = keyed_audio(make_machine_sounds(["valve", "ToyCar"], **(TINY | larger)))
    assert len(many) > len(few)
    for key, audio in few.items():
        np.testing.assert_array_equal(audio, many[key])


# -- levels ----------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [-6.0, 6.0])
@pytest.mark.parametrize("kind", KINDS)
def test_normal_clips_have_the_snr_asked_for(kind, snr):
    machine, noise = _record(_Clip(0, kind, 1, "train", 1, 0), 32000, SAMPLE_RATE, snr)
    assert 20 * np.log10(rms(machine) / rms(noise)) == pytest.approx(snr, abs=0.5)


def test_a_fault_leaves_the_factory_as_loud_as_it_was():
    clip = _Clip(0, "pump", 0, "test", -1, 0)
    machine, noise = _record(clip, 64000, SAMPLE_RATE, 0.0)
    healthy = _run_machine(clip, "none", 64000, SAMPLE_RATE)
    faulty = _run_machine(clip, clip.fault, 64000, SAMPLE_RATE)
    expected = rms(faulty) / rms(healthy)
    assert rms(machine) / rms(noise) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("snr", [-60.0, 0.0, 60.0])
def test_no_clip_overloads(snr):
    clips = make_machine_sounds(snr=snr, **TINY)
    assert max(np.abs(audio).max() for audio in clips["audio"]) <= 0.9 + 1e-6


def test_normal_clips_are_within_the_stated_loudness():
    clips = make_machine_sounds(**TINY)
    levels = [rms(audio) for audio in clips["audio"][clips["label"] == 1]]
    assert min(levels) > 0.03 * 10 ** (-2 / 20)
    assert max(levels) < 0.03 * 10 ** (2 / 20)


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_other_sample_rates_and_lengths_work(sample_rate):
    clips = make_machine_sounds(**(TINY | {"duration": 0.7}), sample_rate=sample_rate)
    assert {audio.shape for audio in clips["audio"]} == {(round(0.7 * sample_rate),)}
    assert all(np.isfinite(audio).all() for audio in clips["audio"])


# -- faults ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_a_fault_changes_traits_that_the_machine_has(kind, fault):
    assert MACHINE_KINDS[kind].faults[fault].keys() <= MACHINE_KINDS[kind].traits.keys()


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_every_fault_changes_the_sound_of_the_same_clip(kind, fault):
    healthy, faulty = healthy_and_faulty(kind, fault)
    assert rms(faulty - healthy) > 0.05 * rms(healthy)
    np.testing.assert_array_equal(healthy, healthy_and_faulty(kind, fault)[0])


@pytest.mark.parametrize("kind", ["pump", "valve"])
def test_a_leak_hisses_between_the_strokes(kind):
    healthy, faulty = healthy_and_faulty(kind, "leak")
    assert hiss_between_strokes(faulty) > 2 * hiss_between_strokes(healthy)


def test_an_unbalanced_conveyor_swells_more_at_the_rate_of_its_rollers():
    def swell(sound):
        envelope = np.sqrt(np.mean(sound.reshape(-1, 160) ** 2, axis=1))  # 100 Hz
        power = np.abs(np.fft.rfft(envelope / envelope.mean() - 1)) ** 2
        rates = np.fft.rfftfreq(envelope.size, 0.01)
        return power[(rates > 5) & (rates < 11)].max()

    healthy, faulty = healthy_and_faulty("ToyConveyor", "imbalance")
    assert swell(faulty) > 1.5 * swell(healthy)


def test_a_valve_that_misses_strokes_sounds_with_less_energy():
    healthy, faulty = healthy_and_faulty("valve", "missed stroke", duration=6.0)
    assert rms(faulty) < 0.95 * rms(healthy)


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"machine_types": "pmup"}, "'pmup' is unknown: did you mean 'pump'"),
        ({"machine_types": ["fan", "zzz"]}, "'zzz' is unknown: choose from fan, pump"),
        ({"machine_types": []}, "name one type or more"),
        ({"machine_types": ["fan", "fan"]}, "each of them once"),
        ({"n_machines": 0}, "'n_machines' .* int in the range .1, 100.. Got 0"),
        ({"n_machines": 2.0}, "'n_machines' .* must be an int .* Got 2.0"),
        ({"n_train": -1}, "'n_train' .* in the range .0, inf.. Got -1"),
        ({"n_test_normal": "10"}, "'n_test_normal' .* must be an int .* Got '10'"),
        ({"n_test_anomalous": 2.5}, "'n_test_anomalous' .* must be an int"),
        ({"duration": 0.0}, "'duration' .* float in the range .0.5, inf.. Got 0.0"),
        ({"duration": np.inf}, "'duration' .* Got inf"),
        ({"sample_rate": 4000}, "'sample_rate' .* in the range .8000, inf"),
        ({"snr": np.nan}, "'snr' .* in the range .-60.0, 60.0.. Got nan"),
        ({"random_state": "seven"}, "'random_state' .* Got 'seven'"),
    ],
)
def test_wrong_values_are_named_with_a_remedy(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_machine_sounds(**parameters)


# -- difficulty ------------------------------------------------------------------------


def mean_spectra(clips):
    """Mean and standard deviation over time of each clip's log-mel; (n_clips, 256)."""
    mels = [
        librosa.power_to_db(
            librosa.feature.melspectrogram(
                y=audio, sr=SAMPLE_RATE, n_fft=1024, hop_length=512
            ),
            top_db=None,
        )
        for audio in clips["audio"]
    ]
    return np.array([np.concatenate([mel.mean(1), mel.std(1)]) for mel in mels])


def test_a_distance_on_mean_spectra_finds_some_faults_but_not_all():
    clips = make_machine_sounds(
        ["fan", "pump"],
        n_machines=2,
        n_train=15,
        n_test_normal=8,
        n_test_anomalous=9,
        duration=5.0,
        random_state=0,
    )
    clips["spectrum"] = list(mean_spectra(clips))
    aucs = []
    for _, machine in clips.groupby(["machine_type", "machine_id"]):
        train, test = (machine[machine["split"] == name] for name in ("train", "test"))
        model = LedoitWolf().fit(np.stack(train["spectrum"]))
        distance = model.mahalanobis(np.stack(test["spectrum"]))
        aucs.append(roc_auc_score(test["label"] == -1, distance))
    assert 0.6 < np.mean(aucs) < 0.93


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True)])
def test_progress_is_shown_when_asked_for(capsys, verbose, shown):
    make_machine_sounds("fan", n_machines=1, duration=0.5, verbose=verbose)
    output, errors = capsys.readouterr()
    assert output == ""
    assert ("sounds: 100%" in errors) == shown
