"""The whole way, on real recordings, where they are present."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    ClipSpectrograms,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
    ThresholdTuner,
    load_clips,
)
from sklearn_asd.metrics import auc_table
from sklearn_asd.presets import make_detector


def make_id_pipeline(segment_duration, **parameters):
    segment = LogMelSegmenter(segment_duration=segment_duration)
    detect = IDConfidenceDetector(max_epochs=1, random_state=0, **parameters)
    return Pipeline([("segment", segment), ("detect", detect)])


@pytest.mark.parametrize("segment_duration", [3.072, None])
def test_all_types_of_dcase_2020_fit_and_score_from_paths(recordings, segment_duration):
    """93 clips of six types and 23 machines, of 10 s and 11 s."""
    clips = load_clips(recordings("dcase2020_samples"))
    pipe = make_id_pipeline(segment_duration, batch_size=32).fit(clips, clips["label"])
    scores = pipe.score_samples(clips)
    assert len(pipe["detect"].classes_) == 23
    assert np.isfinite(scores).all()
    mixed = [0, 90, 40]  # 11 s and 10 s
    np.testing.assert_allclose(
        pipe.score_samples(clips.iloc[mixed]), scores[mixed], atol=1e-6
    )
    table = auc_table(clips, clips["label"], scores)
    assert table.loc[("pump", "02"), "n_anomalous"] == 0
    assert np.isfinite(table.loc[("average", ""), "auc"])


@pytest.mark.parametrize("segment_duration", [3.072, None])
def test_cars_of_dcase_2023_fit_and_score_from_paths(recordings, segment_duration):
    """FLAC of 12 s, with the attribute `car` for the machine ID."""
    clips = load_clips(recordings("toycar2023"))
    clips["machine_id"] = clips["car"]
    train = clips[clips["split"] == "train"]
    test = clips[clips["split"] == "test"]
    pipe = make_id_pipeline(segment_duration, batch_size=64).fit(train)
    assert len(pipe["detect"].classes_) == 6
    assert np.isfinite(pipe.score_samples(test)).all()


def load_split(folder, machine_id):
    """Clips to train on and to test, with what serves as machine ID, if anything."""
    clips = load_clips(folder)
    clips["machine_id"] = clips[machine_id] if machine_id else None
    return clips[clips["split"] == "train"], clips[clips["split"] == "test"]


def make_view_pipeline(**parameters):
    expand, segment = AugmentationExpander(), LogMelSegmenter(n_jobs=2)
    detect = AugmentConfidenceDetector(random_state=0, **parameters)
    return Pipeline([("expand", expand), ("segment", segment), ("detect", detect)])


@pytest.mark.parametrize(
    ("name", "machine_id", "n_classes"),
    [
        # 180 recordings in nine views.
        pytest.param("toycar2023", "car", 54, marks=pytest.mark.slow),
        ("valve2023", None, 9),
    ],
)
def test_views_of_dcase_2023_fit_and_score_from_paths(
    recordings, name, machine_id, n_classes
):
    train, test = load_split(recordings(name), machine_id)
    pipe = make_view_pipeline(max_epochs=1).fit(train[:: 3 if machine_id else 6])
    assert len(pipe["detect"].classes_) == n_classes
    assert np.isfinite(pipe.score_samples(test[::5])).all()


@pytest.fixture(scope="module")
def toycar(recordings):
    """DCASE 2020 ToyCar as log-mels: 200 normals an ID to train on, and the rest."""
    with np.load(recordings("toycar2020_logmel") / "clips.npz") as archive:
        log_mel, ids, y = (archive[k] for k in ("log_mel", "machine_id", "label"))
    X = ClipSpectrograms.from_arrays(log_mel, machine_id=ids)
    train = np.zeros(len(y), dtype=bool)
    for machine in np.unique(ids):
        train[np.flatnonzero((ids == machine) & (y == 1))[:200]] = True
    return X[train], X[~train], y[~train]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_id_confidence_finds_anomalous_toy_cars(toycar, precision):
    """Mean AUC of three seeds at least 0.78, each fit in under 3 minutes."""
    X_train, X_test, y_test = toycar
    aucs, seconds = [], []
    for seed in range(3):
        detector = IDConfidenceDetector(
            network="pvmilk20",
            center_loss_weight=0,
            max_epochs=25,
            precision=precision,
            random_state=seed,
        ).fit(X_train)
        scores = detector.score_samples(X_test)
        aucs.append(auc_table(X_test, y_test, scores)["auc"].iloc[-1])
        seconds.append(detector.history_["seconds"].sum())
    print(f"{precision}: AUC {np.round(aucs, 3)}, seconds {np.round(seconds)}")
    assert np.mean(aucs) >= 0.78
    assert max(seconds) < 180


@pytest.mark.slow
@pytest.mark.parametrize("center_loss_weight", [0, 0.0075, 0.1, 0.2])
def test_paper_weights_of_center_loss_train_toy_cars_without_nan(
    toycar, center_loss_weight
):
    X_train, X_test, _ = toycar
    detector = IDConfidenceDetector(
        center_loss_weight=center_loss_weight,
        center_lr=0.5,
        max_epochs=40,
        random_state=0,
    ).fit(X_train)
    assert np.isfinite(detector.history_["train_loss"]).all()
    assert np.isfinite(detector.score_samples(X_test)).all()
    assert detector.centers_ is None or np.isfinite(detector.centers_).all()


def mean_auc(detector, toycar):
    X_train, X_test, y_test = toycar
    scores = detector.fit(X_train).score_samples(X_test)
    return auc_table(X_test, y_test, scores)["auc"].iloc[-1]


def test_neighbours_of_each_machines_clips_find_anomalous_toy_cars(toycar):
    """Mean AUC was 0.914, in under a second."""
    factor = LocalOutlierFactor(n_neighbors=2, novelty=True)
    detector = PerMachine(make_pipeline(SpectrumStatistics(), factor))
    assert mean_auc(detector, toycar) > 0.89


@pytest.mark.slow
@pytest.mark.parametrize("per_machine", [False, True])
def test_the_baseline_finds_anomalous_toy_cars(toycar, per_machine):
    """Mean AUC was 0.82 either way."""
    detector = AutoencoderDetector(max_epochs=20, random_state=0)
    if per_machine:
        detector = PerMachine(detector)
    assert mean_auc(detector, toycar) > 0.78


def test_the_promised_false_alarms_hold_on_normal_toy_cars(recordings):
    """20 random splits of the normal clips: 800 to fit and to tune, 200 to test."""
    with np.load(recordings("toycar2020_logmel") / "clips.npz") as archive:
        normal = archive["label"] == 1
        log_mel, ids = archive["log_mel"][normal], archive["machine_id"][normal]
    X = ClipSpectrograms.from_arrays(log_mel, machine_id=ids)
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    rates, within = [], []
    splits = StratifiedShuffleSplit(20, test_size=200, random_state=0).split(ids, ids)
    for seed, (train, test) in enumerate(splits):
        tuner = ThresholdTuner(
            detector, false_alarm_rate=0.05, validation_fraction=0.25, random_state=seed
        ).fit(X[train])
        alarm = tuner.predict(X[test]) == -1
        rates.append(alarm.mean())
        for car in tuner.offsets_:
            own = alarm[ids[test] == car]
            low, high = tuner.false_alarm_interval(len(own), machine=car)
            within.append(low <= own.mean() <= high)
    print(
        f"mean {np.mean(rates):.3f} +- {np.std(rates):.3f}, {sum(within)} of 80 within"
    )
    # Splits of the same clips are not independent; at 95 % each, 68 is next to certain.
    assert sum(within) >= 68
    assert np.mean(rates) < 0.07


# -- the default, whose statistics are chosen by normal clips alone --------------------


def average(X, y, scores):
    return auc_table(X, y, scores).iloc[-1][["auc", "pauc"]].tolist()


@pytest.mark.parametrize(
    ("name", "machine_id", "least_auc", "least_pauc", "selected"),
    [
        ("valve2023", "pat", 0.99, 0.97, ["rank"]),
        ("valve2023", None, 0.92, 0.70, ["mean", "max", "rank", "mean_rank", "power"]),
        ("toycar2023", "car", 0.63, 0.60, ["power"]),
    ],
)
def test_the_default_finds_anomalous_valves_and_cars(
    recordings, name, machine_id, least_auc, least_pauc, selected
):
    train, test = load_split(recordings(name), machine_id)
    detector = make_detector(contamination=0.05)
    pipe = make_pipeline(LogMelSegmenter(n_jobs=2), detector).fit(train)
    auc, pauc = average(test, test["label"], pipe.score_samples(test))
    assert auc >= least_auc
    assert pauc >= least_pauc
    assert list(detector.selected_.values()) == [selected]


def test_the_threshold_of_the_default_holds_for_valves(recordings):
    """At 5 %: at most 3 of 20 normal valves raise an alarm, and 6 of 50 faults none."""
    train, test = load_split(recordings("valve2023"), "pat")
    detector = make_detector(contamination=0.05)
    pipe = make_pipeline(LogMelSegmenter(n_jobs=2), detector).fit(train)
    verdicts, label = pipe.predict(test), test["label"].to_numpy()
    assert (verdicts[label == 1] == -1).sum() <= 3
    assert (verdicts[label == -1] == 1).sum() <= 6


def test_the_default_finds_anomalous_toy_cars_of_2020(recordings):
    with np.load(recordings("toycar2020_logmel") / "clips.npz") as archive:
        log_mel, ids, y = (archive[k] for k in ("log_mel", "machine_id", "label"))
    X = ClipSpectrograms.from_arrays(log_mel, machine_id=ids)
    train = np.zeros(len(y), dtype=bool)
    for machine in np.unique(ids):
        train[np.flatnonzero((ids == machine) & (y == 1))[:200]] = True
    detector = make_detector().fit(X[train])
    auc, pauc = average(X[~train], y[~train], detector.score_samples(X[~train]))
    assert auc >= 0.98
    assert pauc >= 0.91
    assert (detector.named_estimators_["mean"].machines_["sharing"] == 1).all()
