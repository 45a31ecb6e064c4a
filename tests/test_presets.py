import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    OnlyMachineTypes,
    PerMachineType,
    ZScoreEnsemble,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.meta.structure import walk
from sklearn_asd.presets import (
    DETECTORS,
    ID_SYSTEMS,
    NETWORK_DETECTORS,
    PAPER_SYSTEMS,
    make_detector,
    make_paper_system,
    scored_types,
    training_types,
)

MIMII = ("fan", "pump", "slider", "valve")
ALL = ("ToyCar", "ToyConveyor", *MIMII)

# Type, training data, network, seconds of a segment, lambda_c and batch size.
TABLE_2 = [
    ("ToyCar", ("ToyCar", "ToyConveyor"), "pvmilk20", 3.072, 0.1, 384),
    ("ToyConveyor", ("ToyConveyor",), "pvmilk20", 3.072, 0.2, 384),
    ("fan", MIMII, "pvmilk20", 3.072, 0.1, 384),
    ("pump", ALL, "pvmilk20", None, 0.0075, 384),
    ("slider", MIMII, "pvmilk20", 3.072, 0.1, 384),
    ("valve", ALL, "inouet18", None, 0.15, 256),
]


def check_id_system(built, types, network, duration, weight, batch_size):
    assert isinstance(built, OnlyMachineTypes)
    assert built.machine_types == types
    segment, detect = (step for _, step in built.estimator.steps)
    assert isinstance(segment, LogMelSegmenter)
    assert segment.segment_duration == duration
    assert segment.segment_hop == 1.536
    assert isinstance(detect, IDConfidenceDetector)
    assert detect.network == network
    assert detect.center_loss_weight == weight
    assert detect.batch_size == batch_size
    assert (detect.lr, detect.center_lr, detect.weight_decay) == (1e-3, 0.5, 0)
    assert detect.confidence == "id"
    assert detect.validation_fraction > 0  # by which the epoch is chosen


def check_augment_system(built, machine_type):
    assert isinstance(built, OnlyMachineTypes)
    assert built.machine_types == (machine_type,)
    expand, segment, detect = (step for _, step in built.estimator.steps)
    assert isinstance(expand, AugmentationExpander)
    assert expand.pitch_steps == (-0.1, 0, 0.1)
    assert expand.stretch_rates == (0.9, 1.0, 1.1)
    assert (segment.segment_duration, segment.segment_hop) == (3.072, 1.536)
    assert isinstance(detect, AugmentConfidenceDetector)
    assert (detect.network, detect.center_loss_weight) == ("inouet18", 0.005)
    assert (detect.batch_size, detect.max_epochs) == (300, 100)
    assert (detect.lr, detect.center_lr, detect.weight_decay) == (1e-3, 0.5, 1e-3)


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: row[0])
def test_the_id_system_has_the_values_of_table_2(row):
    machine_type, *values = row
    check_id_system(make_paper_system(machine_type, "iii"), *values)


@pytest.mark.parametrize("machine_type", ALL)
def test_the_augmentation_system_is_the_same_for_all_types(machine_type):
    check_augment_system(make_paper_system(machine_type, "iv"), machine_type)


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: row[0])
@pytest.mark.parametrize(("system", "scaling"), [("i", None), ("ii", "gamma")])
def test_the_ensembles_combine_the_two(row, system, scaling):
    machine_type, *values = row
    ensemble = make_paper_system(machine_type, system)
    assert isinstance(ensemble, GammaProbabilityEnsemble)
    assert (ensemble.scaling, ensemble.aggregation) == (scaling, "probability")
    assert ensemble.group_by is None  # the paper's MI
    members = dict(ensemble.estimators)
    assert list(members) == ["id", "augment"]
    check_id_system(members["id"], *values)
    check_augment_system(members["augment"], machine_type)


@pytest.mark.parametrize("machine_type", ALL)
def test_the_baseline_is_the_autoencoder_of_the_type(machine_type):
    built = make_paper_system(machine_type, "baseline")
    assert built.machine_types == (machine_type,)
    detect = built.estimator[-1]
    assert isinstance(detect, AutoencoderDetector)
    assert (detect.n_frames, detect.n_hidden, detect.n_bottleneck) == (5, 128, 8)
    assert (detect.batch_size, detect.max_epochs, detect.lr) == (512, 100, 1e-3)


@pytest.mark.parametrize("system", ["iii", "iv", "baseline"])
def test_one_detector_of_all_types_has_the_system_of_each(system):
    built = make_paper_system("all", system)
    assert isinstance(built, PerMachineType)
    assert [kind for kind, _ in built.estimators] == list(ALL)
    for kind, pipe in built.estimators:
        alone = make_paper_system(kind, system)
        assert repr(pipe) == repr(alone.estimator)
        assert built.training_types[kind] == alone.machine_types


@pytest.mark.parametrize(("system", "scaling"), [("i", None), ("ii", "gamma")])
def test_the_ensembles_of_all_types_have_two_members_and_not_twelve(system, scaling):
    ensemble = make_paper_system("all", system, max_epochs=3)
    assert (ensemble.scaling, ensemble.group_by) == (scaling, None)
    for (name, member), one in zip(ensemble.estimators, ("iii", "iv"), strict=True):
        assert name in ("id", "augment")
        assert repr(member) == repr(make_paper_system("all", one, max_epochs=3))
    by_type = make_paper_system(["fan", "pump"], "ii", group_by="machine_type")
    assert by_type.group_by == "machine_type"
    assert [kind for kind, _ in dict(by_type.estimators)["id"].estimators] == [
        "fan",
        "pump",
    ]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["fan", "Pump"], "'Pump' is unknown: did you mean 'pump'"),
        ((), "machine_type is empty: name one or more types"),
        ("al", "'al' is unknown"),
    ],
)
def test_unknown_types_among_several_are_refused(types, message):
    with pytest.raises(ValueError, match=message):
        make_paper_system(types)


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: row[0])
def test_training_types_are_those_of_table_2_or_the_type_itself(row):
    machine_type, types, *_ = row
    for system in ("i", "ii", "iii"):
        assert training_types(machine_type, system) == types
    for system in ("iv", "baseline"):
        assert training_types(machine_type, system) == (machine_type,)


@pytest.mark.parametrize("system", PAPER_SYSTEMS)
def test_a_system_scores_the_types_that_it_says(system):
    built = make_paper_system("ToyCar", system)
    members = [member for _, member in getattr(built, "estimators", [("", built)])]
    scored = set.intersection(*(set(member.machine_types) for member in members))
    assert set(scored_types("ToyCar", system)) == scored


@pytest.mark.parametrize("system", PAPER_SYSTEMS)
def test_the_id_systems_are_those_with_a_classifier_of_ids(system):
    parameters = make_paper_system("fan", system).get_params().values()
    has_ids = any(isinstance(value, IDConfidenceDetector) for value in parameters)
    assert has_ids == (system in ID_SYSTEMS)


# -- overrides -------------------------------------------------------------------


def test_an_override_reaches_every_estimator_that_has_it():
    built = make_paper_system(
        "pump",
        "ii",
        max_epochs=5,
        random_state=3,
        n_jobs=2,
        verbose=1,
        cache_dir="frames",
        on_bad_clip="nan",
        pitch_steps=(0, 1),
        aggregation="mean",
    )
    parameters = built.get_params()
    assert (built.n_jobs, built.aggregation) == (2, "mean")
    assert parameters["augment__estimator__expand__pitch_steps"] == (0, 1)
    for member in ("id", "augment"):
        detect, segment = (
            {
                name.rpartition("__")[2]: value
                for name, value in parameters.items()
                if name.startswith(f"{member}__estimator__{step}__")
            }
            for step in ("detect", "segment")
        )
        assert (detect["max_epochs"], detect["random_state"]) == (5, 3)
        assert (segment["n_jobs"], segment["cache_dir"]) == (2, "frames")
        assert segment["on_bad_clip"] == "nan"
        assert detect["verbose"] == segment["verbose"] == 1
    assert parameters["id__estimator__detect__center_loss_weight"] == 0.0075


@pytest.mark.parametrize(
    ("system", "name", "message"),
    [
        ("iii", "max_epoch", "'max_epoch': did you mean 'max_epochs'"),
        ("i", "agregation", "did you mean 'aggregation'"),
        ("iii", "pitch_steps", "It takes those of IDConfidenceDetector, LogMelSeg"),
        ("baseline", "center_loss_weight", "'baseline' has no parameter"),
        ("i", "estimators", "has no parameter 'estimators'"),
        ("iv", "machine_types", "has no parameter 'machine_types'"),
    ],
)
def test_an_override_that_no_estimator_has_is_refused(system, name, message):
    with pytest.raises(TypeError, match=message):
        make_paper_system("fan", system, **{name: 1})


@pytest.mark.parametrize("function", [make_paper_system, training_types, scored_types])
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"machine_type": "Fan"}, "'Fan' is unknown: did you mean 'fan'.* ToyConv"),
        ({"machine_type": "toycar"}, "did you mean 'ToyCar'"),
        ({"machine_type": "fan", "system": "III"}, "did you mean 'iii'"),
        ({"machine_type": "fan", "system": "x"}, "choose from i, ii, iii, iv, base"),
        ({"machine_type": None}, "machine_type None is unknown"),
        ({"machine_type": "fan", "system": ["i"]}, "system .'i'. is unknown"),
    ],
)
def test_unknown_types_and_systems_are_refused_with_what_there_is(
    function, choice, message
):
    with pytest.raises(ValueError, match=message):
        function(**choice)


# -- fitted ----------------------------------------------------------------------

SMALL = {
    "max_epochs": 1,
    "batch_size": 16,
    "random_state": 0,
    "pitch_steps": (0, 2),
    "stretch_rates": (1,),
}


@pytest.fixture(scope="module")
def clips():
    sounds = make_machine_sounds(
        ["ToyCar", "ToyConveyor", "fan"],
        n_machines=2,
        n_train=3,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=4.0,
        random_state=0,
    )
    return dict(list(sounds.groupby("split")))


@pytest.mark.parametrize("system", ["i", "ii"])
def test_one_fit_on_all_clips_scores_those_of_the_type(clips, system, tmp_path):
    train, test = clips["train"], clips["test"]
    ensemble = clone(make_paper_system("ToyCar", system, **SMALL)).fit(train)
    members = ensemble.named_estimators_
    assert members["id"].estimator_[-1].classes_.tolist() == [
        "ToyCar/00",
        "ToyCar/01",
        "ToyConveyor/00",
        "ToyConveyor/01",
    ]
    assert members["augment"].estimator_[-1].classes_.tolist() == [
        "ToyCar/00: original",
        "ToyCar/00: pitch +2",
        "ToyCar/01: original",
        "ToyCar/01: pitch +2",
    ]
    own = test[test["machine_type"] == "ToyCar"]
    scores = ensemble.score_samples(own)
    assert np.isfinite(scores).all()
    assert set(ensemble.predict(own)) <= {1, -1}
    rest = 1 - ensemble.member_scores(own)["scaled"]
    np.testing.assert_allclose(np.exp(scores), rest.prod(axis=1), rtol=1e-9)
    joblib.dump(ensemble, tmp_path / "system.joblib")
    loaded = joblib.load(tmp_path / "system.joblib")
    np.testing.assert_array_equal(loaded.score_samples(own), scores)


def test_one_detector_of_two_types_scores_as_those_of_each_do(clips):
    train, test = clips["train"], clips["test"]
    types = ["ToyCar", "ToyConveyor"]
    both = make_paper_system(types, "ii", **SMALL).fit(train)
    raw = both.member_scores(test)["raw"]
    assert list(both.scales_) == [None]  # one for both types, of each member
    for kind in types:
        alone = make_paper_system(kind, "ii", **SMALL).fit(train)
        rows = (test["machine_type"] == kind).to_numpy()
        own = alone.member_scores(test[rows])["raw"]
        np.testing.assert_array_equal(raw[rows], own)
    fans = (test["machine_type"] == "fan").to_numpy()
    np.testing.assert_array_equal(np.isnan(both.score_samples(test)), fans)


def test_without_the_other_types_it_is_trained_after_a_warning(clips):
    fans = clips["train"][clips["train"]["machine_type"] == "fan"]
    system = make_paper_system("fan", "iii", max_epochs=1, batch_size=16)
    with pytest.warns(UserWarning, match="no normal clip of pump, slider, valve"):
        system.fit(fans)
    assert np.isfinite(system.score_samples(fans)).all()


def test_the_baseline_is_fitted_to_its_type_alone(clips):
    baseline = make_paper_system("fan", "baseline", max_epochs=1, random_state=0)
    scores = baseline.fit(clips["train"]).score_samples(clips["test"])
    is_fan = (clips["test"]["machine_type"] == "fan").to_numpy()
    np.testing.assert_array_equal(np.isfinite(scores), is_fan)


# -- recommended detectors -------------------------------------------------------


def list_inside(built, kind):
    return [one for one in walk(built) if isinstance(one, kind)]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_is_built_unfitted(name):
    built = make_detector(name)
    assert isinstance(built, ZScoreEnsemble)
    assert clone(built).get_params().keys() == built.get_params().keys()
    for one in walk(built):
        assert not [name for name in vars(one) if name.endswith("_")]


def test_without_a_name_it_is_the_default():
    members = dict(make_detector().estimators)
    assert list(members) == ["mean", "max", "rank", "mean_rank", "power"]
    assert [member.encoder.statistics for member in members.values()] == [
        ("mean",),
        ("max",),
        ("rank",),
        ("mean", "rank"),
        ("relative_power",),
    ]
    built = make_detector()
    assert (built.n_selected, built.aggregation, built.log_scores) == (1, "max", True)
    assert repr(built) == repr(make_detector("default"))


@pytest.mark.parametrize("name", DETECTORS)
def test_network_detectors_are_those_with_three_networks(name):
    networks = list_inside(make_detector(name), IDConfidenceDetector)
    assert len(networks) == (3 if name in NETWORK_DETECTORS else 0)


@pytest.mark.parametrize("name", NETWORK_DETECTORS)
def test_three_networks_have_three_seeds(name):
    for seed, expected in ((0, [0, 1, 2]), (5, [5, 6, 7]), (None, [None] * 3)):
        built = make_detector(name, random_state=seed)
        networks = list_inside(built, IDConfidenceDetector)
        assert [network.random_state for network in networks] == expected


@pytest.mark.parametrize("name", DETECTORS)
def test_the_share_of_alarms_reaches_the_detector(name):
    built = make_detector(name, contamination=0.03)
    owners = [one for one in walk(built) if hasattr(one, "contamination")]
    assert built in owners
    assert {one.contamination for one in owners} == {0.03}


@pytest.mark.parametrize("name", NETWORK_DETECTORS)
def test_settings_of_networks_reach_all_of_them(name):
    built = make_detector(name, max_epochs=5, batch_size=8, device="cpu")
    networks = list_inside(built, IDConfidenceDetector)
    settings = {(one.max_epochs, one.batch_size, one.device) for one in networks}
    assert settings == {(5, 8, "cpu")}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("defualt", ValueError, "did you mean 'default'"),
        ("x", ValueError, "from default, ensemble, spectrum, neighbors, networks"),
        (["default"], ValueError, "name .'default'. is unknown"),
    ],
)
def test_unknown_detectors_are_refused_with_what_there_is(name, error, message):
    with pytest.raises(error, match=message):
        make_detector(name)


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("default", "contaminaton", "did you mean 'contamination'"),
        ("default", "max_epochs", "'default' has no parameter 'max_epochs'"),
        ("default", "batch", "It takes those of GaussianDetector, Spectrum"),
        ("ensemble", "max_epoch", "did you mean 'max_epochs'"),
        ("ensemble", "estimators", "has no parameter 'estimators'"),
    ],
)
def test_a_parameter_that_no_part_has_is_refused(name, parameter, message):
    with pytest.raises(TypeError, match=message):
        make_detector(name, **{parameter: 1})


@pytest.fixture(scope="module")
def valves_and_fan():
    """Two valves, and a fan without siblings."""
    sounds = make_machine_sounds(
        ["fan", "valve"],
        n_machines=2,
        n_train=6,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=2.0,
        random_state=0,
    )
    lonely = (sounds["machine_type"] == "fan") & (sounds["machine_id"] == "01")
    return dict(list(sounds[~lonely].groupby("split")))


def test_the_default_selects_a_statistic_for_each_type_with_siblings(valves_and_fan):
    segment = LogMelSegmenter(n_mels=16, segment_duration=None)
    pipe = make_pipeline(segment, make_detector(contamination=0.2))
    pipe.fit(valves_and_fan["train"])
    detector, test = pipe[-1], valves_and_fan["test"]
    aucs = detector.sibling_aucs_
    assert aucs.index.tolist() == ["valve"]
    assert len(detector.selected_["valve"]) == 1
    best = aucs.loc["valve", detector.selected_["valve"][0]]
    assert best == aucs.loc["valve"].max()
    # The only fan has no siblings, so all are asked.
    assert detector.selected_["fan"] == ["mean", "max", "rank", "mean_rank", "power"]
    scores = pipe.score_samples(test)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(
        pipe.predict(test), np.where(scores < detector.offset_, -1, 1)
    )


def test_networks_alone_are_fitted_to_a_few_clips():
    sounds = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=5,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=2.0,
        random_state=0,
    )
    train, test = sounds[sounds["split"] == "train"], sounds[sounds["split"] == "test"]
    networks = make_detector(
        "networks", max_epochs=1, batch_size=8, calibration_cv=2, random_state=0
    )
    pipe = make_pipeline(LogMelSegmenter(segment_duration=1.024), networks).fit(train)
    assert np.isfinite(pipe.score_samples(test)).all()
