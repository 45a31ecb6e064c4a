import joblib
import numpy as np
import pandas as pd
import pytest
from fixed_network import FixedLogits, spell
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    LogMelSegmenter,
)

RATE = 16000


def spell_clips(*clips, machine_id=None, view_names=("original", "slow")):
    """Clips whose views' segments have the given probabilities of the classes."""
    views = [spell(view).T for clip in clips for view in clip]
    stops = np.cumsum([len(view) for view in views]).reshape(len(clips), -1)
    starts = stops - np.reshape([len(view) for view in views], stops.shape)
    return ClipSpectrograms(
        np.concatenate(views).astype(np.float32),
        starts,
        stops,
        machine_id=machine_id,
        segment_frames=2,
        segment_hop_frames=2,
        view_names=view_names,
    )


def fit_fixed(X):
    return AugmentConfidenceDetector(
        network=FixedLogits, max_epochs=1, center_loss_weight=0, precision="float32"
    ).fit(X)


@pytest.fixture(scope="module")
def fixed():
    """Machines a and b with two views each, whose probabilities are known."""
    sure = np.eye(4) * 0.6 + 0.1
    return fit_fixed(
        spell_clips(
            [[sure[0]], [sure[1]]], [[sure[2]], [sure[3]]], machine_id=["a", "b"]
        )
    )


@pytest.fixture(scope="module")
def fixed_without_ids():
    return fit_fixed(spell_clips([[[0.9, 0.1]], [[0.1, 0.9]]]))


# -- known answers ---------------------------------------------------------------


def test_score_is_equation_2_worked_by_hand_with_unequal_numbers_of_segments(fixed):
    X = spell_clips(
        # machine a: p of class 0 in three segments, then p of class 1 in one
        [
            [[0.5, 0.2, 0.2, 0.1], [0.6, 0.1, 0.1, 0.2], [0.4, 0.2, 0.3, 0.1]],
            [[0.1, 0.9, 1e-9, 1e-9]],
        ],
        # machine b: p of class 2 in one segment, then p of class 3 in two
        [
            [[0.1, 0.1, 0.7, 0.1]],
            [[0.3, 0.3, 0.1, 0.3], [0.1, 0.1, 0.1, 0.7]],
        ],
        machine_id=["a", "b"],
    )
    expected = [1 - ((0.5 + 0.6 + 0.4) / 3 + 0.9) / 2, 1 - (0.7 + (0.3 + 0.7) / 2) / 2]
    np.testing.assert_allclose(fixed.anomaly_score(X), expected, atol=1e-6)
    np.testing.assert_array_equal(fixed.score_samples(X), -fixed.anomaly_score(X))


def test_without_ids_the_views_alone_are_the_classes(fixed_without_ids):
    X = spell_clips([[[0.75, 0.25]], [[0.5, 0.5], [0.25, 0.75]]])
    assert fixed_without_ids.classes_.tolist() == ["original", "slow"]
    expected = 1 - (0.75 + (0.5 + 0.75) / 2) / 2
    assert fixed_without_ids.anomaly_score(X)[0] == pytest.approx(expected, abs=1e-6)


def test_very_normal_clips_are_not_tied(fixed_without_ids):
    tails = np.array([1e-12, 1e-13, 1e-20, 1e-30])
    X = spell_clips(*[[[[1, t]], [[t, 1]]] for t in tails])
    np.testing.assert_allclose(fixed_without_ids.anomaly_score(X), tails, rtol=1e-4)


def test_view_scores_say_how_sure_and_what_it_was_mistaken_for(fixed):
    X = spell_clips(
        [[[0.5, 0.3, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1]], [[0.1, 0.7, 0.1, 0.1]]],
        [[[0.1, 0.1, 0.6, 0.2]], [[0.1, 0.4, 0.2, 0.3]]],
        machine_id=["a", "b"],
    )
    scores = fixed.view_scores(X)
    assert scores["confidence"].columns.tolist() == ["original", "slow"]
    np.testing.assert_allclose(scores["confidence"], [[0.35, 0.7], [0.6, 0.3]])
    assert scores["heard_as"].to_numpy().tolist() == [
        ["slow", "slow"],  # by the mean of the segments
        ["original", "a: slow"],  # another machine's is named with it
    ]
    np.testing.assert_allclose(
        1 - scores["confidence"].mean(axis=1), fixed.anomaly_score(X)
    )


def test_accuracy_counts_views(fixed):
    X = spell_clips([[[0.7, 0.1, 0.1, 0.1]], [[0.7, 0.1, 0.1, 0.1]]], machine_id=["a"])
    assert fixed.score(X) == 0.5
    other = spell_clips(*[[[[0.1, 0.1, 0.7, 0.1]]] * 2], machine_id=["b"])
    assert fixed.score(other) == 0.5


@pytest.mark.parametrize(("n_machines", "n_classes"), [(7, 63), (6, 54)])
def test_classes_are_machines_times_views_in_an_order_that_joblib_keeps(
    tmp_path, n_machines, n_classes
):
    names = AugmentationExpander().get_view_names()
    machines = [f"{number:02d}" for number in range(n_machines)]
    clips = [
        [[row] for row in (np.eye(n_classes) + 0.01)[9 * j : 9 * j + 9]]
        for j in reversed(range(n_machines))
    ]
    X = spell_clips(*clips, machine_id=machines[::-1], view_names=names)
    detector = fit_fixed(X)
    expected = [f"{machine}: {view}" for machine in machines for view in names]
    assert detector.classes_.tolist() == expected
    joblib.dump(detector, tmp_path / "detector.joblib")
    loaded = joblib.load(tmp_path / "detector.joblib")
    assert loaded.classes_.tolist() == expected
    np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))
    assert (loaded.view_scores(X)["heard_as"] == names).all(axis=None)


# -- small trained models --------------------------------------------------------


def make_tones(pitches, n=4, seed=0, machine_id=None):
    """Table of 1.1 s tones in noise, n of each pitch."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(1.1 * RATE)) / RATE
    audio = [
        np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6))
        + 0.1 * rng.normal(size=len(t))
        for pitch in np.repeat(pitches, n)
    ]
    table = pd.DataFrame({"audio": audio})
    if machine_id is not None:
        table["machine_id"] = np.repeat(machine_id, n)
    return table


SHIFTS = AugmentationExpander(pitch_steps=(-4, 0, 4), stretch_rates=(1,))


def make_pipeline(expand=SHIFTS, memory=None, cache_dir=None, **parameters):
    segment = LogMelSegmenter(
        segment_duration=0.512, segment_hop=0.256, n_mels=32, cache_dir=cache_dir
    )
    defaults = {"network": "pvmilk20", "batch_size": 32, "max_epochs": 15}
    detect = AugmentConfidenceDetector(**defaults | parameters, random_state=0)
    steps = [("expand", expand), ("segment", segment), ("detect", detect)]
    return Pipeline(steps, memory=memory)


@pytest.fixture(scope="module")
def trained():
    """Careful: shared by the module, so neither fit it again nor set its parameters."""
    tones = make_tones([1000, 400], machine_id=["a", "b"])
    return make_pipeline().fit(tones)


def test_a_machine_that_runs_fast_sounds_as_if_shifted_up(trained):
    normal = make_tones([1000, 400], seed=1, machine_id=["a", "b"])
    fast = make_tones([1000 * 2 ** (4 / 12)], seed=1, machine_id=["a"])
    assert (trained.predict(fast) == -1).all()
    assert trained.score_samples(fast).max() < trained.score_samples(normal).min()
    assert trained.score(normal) == 1.0
    scores = trained["detect"].view_scores(trained[:-1].transform(fast))
    assert set(scores["heard_as"]["original"]) == {"pitch +4"}
    assert (scores["confidence"]["original"] < 0.5).all()


def test_waveforms_without_ids_need_no_table():
    tones = make_tones([1000])["audio"]
    pipe = make_pipeline().fit(list(tones))
    assert pipe["detect"].classes_.tolist() == ["pitch -4", "original", "pitch +4"]
    assert pipe.score(np.stack(tones)) == 1.0


def test_the_epoch_that_classifies_held_out_clips_best_is_kept():
    tones = make_tones([1000, 400], machine_id=["a", "b"])
    history = make_pipeline(validation_fraction=0.25).fit(tones)["detect"].history_
    best = history.loc[history["kept"], ["valid_accuracy", "valid_loss"]].iloc[0]
    assert best["valid_accuracy"] == history["valid_accuracy"].max()
    tied = history["valid_accuracy"] == best["valid_accuracy"]
    assert best["valid_loss"] == history.loc[tied, "valid_loss"].min()


def test_defaults_are_those_of_the_paper():
    defaults = AugmentConfidenceDetector().get_params()
    expected = {
        "network": "inouet18",
        "weight_decay": 1e-3,
        "center_loss_weight": 0.005,
        "batch_size": 300,
        "lr": 1e-3,
        "max_epochs": 100,
    }
    assert defaults | expected == defaults


# -- searches, and views computed once -------------------------------------------


def search(pipe, tones):
    folds = StratifiedKFold(2).split(tones, tones["machine_id"])
    return GridSearchCV(
        pipe,
        {"detect__center_loss_weight": [0.0, 0.005]},
        cv=list(folds),
        error_score="raise",
    ).fit(tones)


def test_with_a_cache_each_view_of_a_clip_is_computed_once(tmp_path, computed):
    tones = make_tones([1000, 400], machine_id=["a", "b"])
    pipe = make_pipeline(cache_dir=tmp_path, max_epochs=2).fit(tones)
    scores = pipe.score_samples(tones)
    assert len(computed) == 8 * 3
    search(pipe, tones)
    assert len(computed) == 8 * 3
    np.testing.assert_array_equal(
        make_pipeline(max_epochs=2).fit(tones).score_samples(tones), scores
    )


def test_with_memory_a_search_computes_the_views_of_a_fold_once(tmp_path, computed):
    """What is scored is computed anew: a Pipeline's memory is for fitting."""
    tones = make_tones([1000, 400], machine_id=["a", "b"])
    search(make_pipeline(max_epochs=1), tones)
    without = len(computed)
    computed.clear()
    found = search(make_pipeline(max_epochs=1, memory=str(tmp_path)), tones)
    candidates, folds, views = 2, 2, 3
    # Half of the clips of each fold are trained on, half are scored; then the refit.
    assert without == candidates * folds * 8 * views + 8 * views
    assert len(computed) == without - folds * 4 * views
    assert np.isfinite(found.score_samples(tones)).all()


def test_clone_and_set_params_reach_the_views(trained):
    copy = clone(trained).set_params(
        expand__pitch_steps=(0, 1), detect__center_loss_weight=0.01
    )
    assert copy["expand"].get_view_names() == ["original", "pitch +1"]
    assert copy["detect"].center_loss_weight == 0.01
    assert not hasattr(copy["detect"], "net_")


def test_a_saved_pipeline_scores_the_same(trained, tmp_path):
    tones = make_tones([1000, 400, 700], machine_id=["a", "b", "a"])
    joblib.dump(trained, tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(
        joblib.load(tmp_path / "pipe.joblib").score_samples(tones),
        trained.score_samples(tones),
    )


# -- bad clips and errors --------------------------------------------------------


def test_a_clip_that_cannot_be_used_scores_nan_and_has_no_view_scores(trained):
    tones = make_tones([1000, 400], n=1, machine_id=["a", "b"])
    X = trained[:-1].transform(tones)
    X.stops[1] = X.starts[1]
    detect = trained["detect"]
    np.testing.assert_array_equal(np.isnan(detect.score_samples(X)), [False, True])
    assert detect.predict(X)[1] == -1
    scores = detect.view_scores(X)
    assert scores["confidence"].isna().all(axis=1).tolist() == [False, True]
    assert scores["heard_as"].isna().all(axis=1).tolist() == [False, True]


def test_an_empty_selection_has_empty_results(trained):
    X = trained[:-1].transform(make_tones([1000], machine_id=["a"]))[:0]
    assert trained["detect"].score_samples(X).shape == (0,)
    assert trained["detect"].view_scores(X).shape == (0, 6)


@pytest.mark.parametrize("method", ["fit", "score_samples", "view_scores"])
def test_clips_without_views_are_refused_with_the_pipeline_to_write(trained, method):
    X = trained["segment"].transform(make_tones([1000], machine_id=["a"]))
    message = (
        r"one view only, 'original'.*Pipeline\(\[\('expand', AugmentationExpander\(\)\)"
    )
    with pytest.raises(ValueError, match=message):
        getattr(trained["detect"], method)(X)


def test_other_views_than_those_fitted_are_refused(trained):
    X = make_pipeline(AugmentationExpander())[:-1].transform(
        make_tones([1000], machine_id=["a"])
    )
    with pytest.raises(ValueError, match="fitted on view_names="):
        trained["detect"].score_samples(X)


def test_ids_are_needed_for_all_clips_or_for_none(trained):
    tones = make_tones([1000, 400], machine_id=["a", "b"])
    with pytest.raises(ValueError, match="no machine IDs.*training clips had IDs"):
        trained.score_samples(tones.drop(columns="machine_id"))
    with pytest.raises(ValueError, match="not among those fitted: z; known are a, b"):
        trained.score_samples(tones.assign(machine_id="z"))
    tones.loc[3, "machine_id"] = None
    with pytest.raises(
        ValueError,
        match="missing for clips 3 of .*for all training clips or none",
    ):
        make_pipeline().fit(tones)
    one = make_pipeline(max_epochs=1).fit(tones.drop(columns="machine_id"))
    assert np.isfinite(one.score_samples(tones)).all()  # IDs are ignored then
