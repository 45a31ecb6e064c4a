"""Model files made to harm: refused in words, in little time and memory."""

import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from model_files import read, write
from persistent_models import make_clips

from sklearn_asd import (
    GammaProbabilityEnsemble,
    MahalanobisDetector,
    describe_model,
    load_model,
    save_model,
)
from sklearn_asd._cli.models import read_model
from sklearn_asd.persistence import checks, files, values

MODELS = Path(__file__).parent / "models"
KINDS = [
    "augment",
    "check",
    "ensemble",
    "gaussian",
    "neighbors",
    "power",
    "threshold",
    "zscore",
]


@pytest.fixture
def small(tmp_path):
    """A small model's file."""
    X = np.random.default_rng(0).normal(size=(9, 2))
    save_model(MahalanobisDetector().fit(X), tmp_path / "small.asd")
    return tmp_path / "small.asd"


def find(content, kind):
    """The last estimator of a class in a file, if possible a fitted one."""
    found = [one for one in content["objects"] if one["type"] == kind]
    return ([one for one in found if one["fitted"]] or found)[-1]


# -- values that no fit sets ---------------------------------------------------------

NAN, INF, LOW = ({"float": name} for name in ("nan", "inf", "-inf"))


def put(model, kind, part, name, value):
    """Set a value of an estimator."""

    def change(content, tensors):
        find(content, kind)[part][name] = value

    return model, change


def array(model, kind, name, change_array):
    """Change an array, or the weights of a network."""

    def change(content, tensors):
        held = find(content, kind)["fitted"]
        first, _, rest = name.partition(".")
        if "table" in held[first]:
            place = dict(held[first]["table"])[rest]["array"][0]
        elif "net" in held[first]:
            place = f"{held[first]['net']}.{rest}"
        else:
            place = held[first]["array"][0]
        tensors[place] = np.ascontiguousarray(change_array(tensors[place].copy()))

    return model, change


def holding(value, place=0):
    """Give an array with one other value."""

    def change(values):
        values.flat[place] = value
        return values

    return change


def on(model, kind, name, key, value):
    """Set a value of a fitted attribute that is a dict."""

    def change(content, tensors):
        pairs = find(content, kind)["fitted"][name]["dict"]
        kept = [pair for pair in pairs if pair[0] != key]
        find(content, kind)["fitted"][name]["dict"] = [*kept, [key, value]]

    return model, change


def twice(values):
    return np.concatenate([values, values])


def backwards(values):
    return values[::-1]


def negative(values):
    return -np.abs(values) - 1


ID, NEAR, NORMAL = "IDConfidenceDetector", "EmbeddingNeighborDetector", "StandardScaler"
GAUSS, GAMMA, ZSCORE = "GaussianDetector", "GammaProbabilityEnsemble", "ZScoreEnsemble"
MELS, CHECK = "LogMelSegmenter", "RecordingCheck"
EVIL = {
    # thresholds
    "NaN as a threshold": put("gaussian", GAUSS, "fitted", "offset_", NAN),
    "infinity as a threshold": put("ensemble", GAMMA, "fitted", "offset_", INF),
    "minus infinity": put("zscore", ZSCORE, "fitted", "offset_", LOW),
    "a network's": put(
        "augment", "AugmentConfidenceDetector", "fitted", "offset_", NAN
    ),
    "a tuner's": put("threshold", "ThresholdTuner", "fitted", "offset_", INF),
    "a machine's": on("power", "PerMachine", "offsets_", "fan/01", NAN),
    "a text": on("power", "PerMachine", "offsets_", "fan/01", "0"),
    # limits
    "a limit that is infinite": array("check", CHECK, "low_", holding(-np.inf)),
    "NaN in one of two limits": array("check", CHECK, "high_", holding(np.nan)),
    "limits of more machines": array("check", CHECK, "low_", twice),
    "limits the wrong way": array("check", CHECK, "low_", holding(1e9)),
    # variances and numbers
    "a variance below 0": array("zscore", NORMAL, "var_", negative),
    "a scale of 0": array("zscore", NORMAL, "scale_", holding(0)),
    "a covariance below 0": array("power", "LedoitWolf", "covariance_", negative),
    "a precision below 0": array("power", "LedoitWolf", "precision_", negative),
    "NaN in a mean": array("gaussian", GAUSS, "means_", holding(np.nan, 3)),
    "infinity in a whitening": array("gaussian", GAUSS, "whitenings_", holding(np.inf)),
    "NaN in a training clip": array(
        "neighbors", NEAR, "_training_points", holding(np.nan)
    ),
    "a distance's scale of 0": array("zscore", NEAR, "scales_", holding(0)),
    "NaN in weights": array("ensemble", ID, "net_.embed.weight", holding(np.nan)),
    "infinity in weights": array(
        "threshold", "AutoencoderDetector", "net_.layers.0.weight", holding(np.inf)
    ),
    "a batch norm's variance": array(
        "ensemble", ID, "net_.features.1.running_var", negative
    ),
    # lengths that belong together
    "more means": array("gaussian", GAUSS, "means_", twice),
    "more whitenings": array("gaussian", GAUSS, "whitenings_", twice),
    "fewer columns": array("gaussian", GAUSS, "means_", lambda a: a[:, :5]),
    "fewer training clips": array(
        "neighbors", NEAR, "_training_points", lambda a: a[:5]
    ),
    "no training clips": array("neighbors", NEAR, "_training_points", lambda a: a[:0]),
    "more rows": array("neighbors", NEAR, "_training_rows", twice),
    "a flat whitening": array("neighbors", NEAR, "_whitening", np.ravel),
    "a longer mean": array("power", "LedoitWolf", "location_", twice),
    "a longer scale": array("zscore", NORMAL, "scale_", twice),
    "other inputs": put("power", "MahalanobisDetector", "fitted", "n_features_in_", 3),
    "fewer members": put("ensemble", GAMMA, "fitted", "estimators_", [{"object": 8}]),
    "no members": put("zscore", ZSCORE, "fitted", "estimators_", []),
    "members that score nothing": put(
        "ensemble", GAMMA, "fitted", "estimators_", [{"object": 0}] * 3
    ),
    "fewer scales": on(
        "ensemble", GAMMA, "scales_", "fan/00", [{"gamma": [1.0, 1.0, 0.0]}]
    ),
    "scales of the wrong kind": on(
        "zscore", ZSCORE, "scales_", "fan", [{"gamma": [1.0, 1.0, 0.0]}]
    ),
    "an unknown member": on("zscore", ZSCORE, "selected_", "fan", ["who"]),
    "a machine without a detector": put(
        "power", "PerMachine", "fitted", "estimators_", {"dict": []}
    ),
    "fewer classes": put(
        "ensemble", ID, "fitted", "classes_", {"strings": [["fan/00"], "str"]}
    ),
    # order
    "machines in disorder": put(
        "power",
        "PerMachine",
        "fitted",
        "classes_",
        {"strings": [["fan/01", "fan/00"], "str"]},
    ),
    "one machine twice": put(
        "gaussian",
        GAUSS,
        "fitted",
        "classes_",
        {"strings": [["fan/00", "fan/00"], "str"]},
    ),
    "rows in disorder": array("neighbors", NEAR, "_training_rows", backwards),
    "rows beyond": array("neighbors", NEAR, "_training_rows", lambda a: a + 10**6),
    # types
    "text as means": put(
        "gaussian", GAUSS, "fitted", "means_", {"strings": [["a", "b"], "str"]}
    ),
    "whole numbers as means": array(
        "gaussian", GAUSS, "means_", lambda a: a.astype(int)
    ),
    "booleans as rows": array("neighbors", NEAR, "_training_rows", lambda a: a > 0),
    "numbers as names": put(
        "gaussian",
        GAUSS,
        "fitted",
        "classes_",
        {"array": ["steps[1] 'gaussiandetector'.means_", "C"]},
    ),
    "half precision as weights": array(
        "ensemble", ID, "net_.embed.weight", lambda a: a.astype(np.float16)
    ),
    "a list of frames": on("ensemble", ID, "_frames_fitted_on", "segment_frames", [20]),
    "no frames": put("ensemble", ID, "fitted", "_frames_fitted_on", {"dict": []}),
    "no epoch kept": array("ensemble", ID, "history_.kept", lambda a: a & False),
    # counts
    "a huge FFT": put("gaussian", MELS, "params", "n_fft", 10**12),
    "huge filters": put("gaussian", MELS, "params", "n_mels", 10**9),
    "huge frames": put("gaussian", MELS, "params", "segment_duration", INF),
    "a huge whole number": put("gaussian", GAUSS, "params", "contamination", 10**400),
    "huge threads": put("gaussian", MELS, "params", "n_jobs", 10**9),
    "huge statistics": on("zscore", "SpectrumStatistics", "n_values_", "mean", 10**12),
    "a negative count": on("zscore", "SpectrumStatistics", "n_values_", "mean", -1),
    "no inputs": put("neighbors", NEAR, "fitted", "n_features_in_", 0),
    "many validation clips": put("threshold", "ThresholdTuner", "fitted", "_rank", 99),
    "too many views": put(
        "augment",
        "AugmentationExpander",
        "params",
        "pitch_steps",
        [i / 100 for i in range(2000)],
    ),
    # devices
    "torch's device without numbers": put("ensemble", ID, "params", "device", "meta"),
    "a device of another kind": put("ensemble", ID, "params", "device", "lazy:0"),
    "a device that is a path": put(
        "ensemble", ID, "params", "device", "../../dev/null"
    ),
    "a device of a negative number": put("ensemble", ID, "params", "device", "cuda:-1"),
}


@pytest.mark.parametrize(("model", "change"), EVIL.values(), ids=EVIL)
def test_values_that_no_fit_sets_are_refused(model, change, tmp_path):
    content, tensors = read(MODELS / f"{model}_format2.asd")
    change(content, tensors)
    write(tmp_path / "evil.asd", content, tensors)
    for read_it in (load_model, describe_model):
        with pytest.raises(ValueError, match="is not a file of save_model") as caught:
            read_it(tmp_path / "evil.asd")
        assert len(str(caught.value)) < 1500


SCALARS = [None, True, 0, -1, 3, 2**62, 10**30, 1e300, -1.0, "x", "auto", [], {}]
SCALARS += [NAN, LOW, {"tuple": [1]}, {"dict": []}, {"object": 0}, {"object": 1}]
SCALARS += [{"gamma": [1.0, 1.0, 0.0]}, {"strings": [["b", "a"], "str"]}]


def list_places(value, path=()):
    """Paths to all values inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from list_places(inner, (*path, key))


def replace_at(value, path, new):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


@pytest.mark.parametrize("name", KINDS)
def test_any_other_value_is_refused_or_scores(name, tmp_path):
    """Drawn at random from all places and what could stand there."""
    rng, X = np.random.default_rng(len(name)), make_clips(1, 1)
    text = json.dumps(read(MODELS / f"{name}_format2.asd")[0])
    places = [path for path in list_places(json.loads(text)["objects"]) if path]
    tensors, n_loaded = read(MODELS / f"{name}_format2.asd")[1], 0
    for _ in range(15):
        content = json.loads(text)
        place = places[rng.integers(len(places))]
        replace_at(content["objects"], place, SCALARS[rng.integers(len(SCALARS))])
        write(tmp_path / "evil.asd", content, tensors)
        try:
            model = load_model(tmp_path / "evil.asd")
        except ValueError as error:
            assert "is not a file of save_model" in str(error)  # noqa: PT017
            continue
        n_loaded += 1
        if hasattr(model, "predict"):
            try:
                assert set(model.predict(X)) <= {1, -1}
            except ValueError as error:  # such as other frames than in fit
                assert ":" in str(error)  # noqa: PT017
    assert n_loaded < 8


def test_what_load_model_would_refuse_is_not_saved(tmp_path):
    model = MahalanobisDetector().fit(np.random.default_rng(0).normal(size=(9, 2)))
    model.offset_ = np.nan
    with pytest.raises(ValueError, match=r"offset_ is nan.*or use joblib\.dump"):
        save_model(model, tmp_path / "model.asd")
    assert not list(tmp_path.iterdir())


def test_a_description_is_of_the_model_whatever_the_file_says(small, tmp_path):
    expected = describe_model(small)
    content, tensors = read(small)
    content["summary"] = {"model": "Safe", "threshold": -99.0, "format_version": 7}
    write(tmp_path / "claims.asd", content, tensors)
    assert describe_model(tmp_path / "claims.asd") == expected
    assert describe_model(MODELS / "threshold_format1.asd")["checksum"] is False


# -- files that grow -----------------------------------------------------------------


def grow(small, tmp_path, change):
    """Write a changed file, and refuse it; give the reason."""
    content, tensors = read(small)
    change(content, tensors)
    write(tmp_path / "bomb.asd", content, tensors)
    assert (tmp_path / "bomb.asd").stat().st_size < 2_000_000
    with pytest.raises(ValueError, match="is not a file of save_model") as caught:
        load_model(tmp_path / "bomb.asd")
    return str(caught.value)


def pad_texts(content, tensors):
    names = ["x" * 100_000] + ["y"] * 10_000
    find(content, "MahalanobisDetector")["fitted"]["feature_names_in_"] = {
        "strings": [names, "str"]
    }


def repeat_columns(content, tensors):
    tensors["x"] = np.zeros(100_000)
    columns = [[str(i), {"array": ["x", "C"]}] for i in range(10_000)]
    find(content, "LedoitWolf")["fitted"]["location_"] = {"table": columns}


def nest(content, tensors):
    """Pipelines in Pipelines."""
    objects = content["objects"]
    params = {"steps": None, "memory": None, "verbose": False, "transform_input": None}
    for _ in range(60):
        last = {"object": len(objects) - 1}
        steps = {"steps": [{"tuple": ["a", last]}]}
        objects.append({"type": "Pipeline", "params": params | steps, "fitted": {}})


def laugh(content, tensors):
    """Ensembles that hold the one before twice: 2 to the power of 40 scorings."""
    objects = content["objects"]
    model = GammaProbabilityEnsemble([]).get_params(deep=False)
    scale = {"gamma": [1.0, 1.0, 0.0]}
    for _ in range(40):
        one = {"object": len(objects) - 1}
        pairs = [{"tuple": [name, one]} for name in "ab"]
        fitted = {
            "estimators_": [one, one],
            "scales_": {"dict": [[None, [scale, scale]]]},
            "offset_": 0.0,
        }
        params = model | {"estimators": pairs}
        kind = "GammaProbabilityEnsemble"
        objects.append({"type": kind, "params": params, "fitted": fitted})


def list_often(content, tensors):
    """One ensemble with 5,000 times the same member."""
    laugh(content, tensors)
    del content["objects"][3:]
    ensemble, one = content["objects"][2], {"object": 1}
    ensemble["params"]["estimators"] = [{"tuple": [str(i), one]} for i in range(5000)]
    ensemble["fitted"]["estimators_"] = [one] * 5000
    scales = ensemble["fitted"]["scales_"]["dict"][0]
    scales[1] = scales[1][:1] * 5000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pad_texts, "more than 32 times its own length in memory"),
        (repeat_columns, "more than 32 times its own length in memory"),
        (nest, "nested 51 deep"),
        (laugh, "estimators stand .* times in each other"),
        (list_often, "estimators stand .* times in each other"),
    ],
)
def test_a_file_that_grows_is_refused(change, message, small, tmp_path):
    assert re.search(message, grow(small, tmp_path, change))


def test_one_network_in_many_detectors_is_refused(tmp_path):
    content, tensors = read(MODELS / "threshold_format2.asd")
    kinds = [one["type"] for one in content["objects"]]
    last = len(kinds) - 1 - kinds[::-1].index("AutoencoderDetector")
    network = content["objects"][last]
    for number in range(200):
        seed = network["params"] | {"random_state": number}
        content["objects"].insert(0, network | {"params": seed})
    write(tmp_path / "bomb.asd", content, tensors)
    with pytest.raises(ValueError, match="times its own length in memory"):
        load_model(tmp_path / "bomb.asd")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("MAX_FILE", "bytes, more than"),
        ("MAX_HEADER", "header has"),
        ("MAX_VALUES", "JSON holds more than"),
    ],
)
def test_the_limits_hold_when_files_are_read_and_saved(
    limit, message, small, tmp_path, monkeypatch
):
    model = load_model(small)
    monkeypatch.setattr(files, limit, 20)
    with pytest.raises(ValueError, match=message):
        load_model(small)
    with pytest.raises(ValueError, match=f"cannot be saved, .*{message}"):
        save_model(model, tmp_path / "new.asd")


def test_the_page_on_saving_states_the_limits():
    page = (Path(__file__).parents[2] / "docs/guide/saving.md").read_text()
    limits = [files.MAX_HEADER, files.MAX_VALUES, values._MOST_ESTIMATORS]
    limits += [values._MOST_NESTED, values._MOST_VISITS, values._GROWTH]
    limits += [checks._MOST["n_fft"], checks._MOST["n_mels"], checks._MOST["n_jobs"]]
    limits += [checks._MOST_FILTERS, checks._MOST_OVERLAP, checks._MOST_VIEWS]
    assert files.MAX_FILE == 2 * 1024**3
    assert "2 GiB" in page
    assert [one for one in limits if f"{one:,}" not in page] == []


# -- what is no file of a model ------------------------------------------------------

# Each is read with little memory, and in a time that the caller limits.
CHILD = """
import resource, sys, time, warnings
from sklearn_asd import describe_model, load_model
from sklearn_asd._cli.models import read_model
warnings.simplefilter("error")
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.stdin.read().splitlines():
    begin = time.perf_counter()
    for read in (load_model, describe_model, lambda p: read_model(p, True)):
        try:
            read(path)
            print("READ", path)
        except (ValueError, OSError) as error:
            if len(str(error)) > 1500 or "odel" not in str(error):
                print("WORDS", path, str(error)[:200])
        except BaseException as error:
            print("ESCAPED", path, type(error), str(error)[:200])
    if time.perf_counter() - begin > 10:
        print("SLOW", path)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
print("GROWN", grown) if grown > 400_000 else None
"""


def make_garbage(folder, data):
    """Files that are no models, in many ways; `data` are the bytes of one."""
    rng, header = np.random.default_rng(0), data[8:]
    for number in range(10):
        size = int(rng.integers(1, 2000))
        yield f"random{number}", rng.bytes(size)
        yield f"cut{number}", data[: int(rng.integers(len(data)))]
        place, changed = int(rng.integers(len(data))), bytearray(data)
        changed[place : place + 8] = rng.bytes(8)
        yield f"changed{number}", bytes(changed)
    for depth in (500, 5000, 100_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            text = opening * depth + "1" + closing * depth
            yield f"deep{depth}{opening[0]}", raw(text.encode())
            inner = {"__metadata__": {"sklearn_asd": text}}
            yield f"deeper{depth}{opening[0]}", raw(json.dumps(inner).encode())
    yield "many", raw(b"[" + b"[]," * 100_000 + b"1]")
    for offsets in ([0, 2**62], [-8, 8], [8, 0], ["a", "b"], [0], None, [0, 1.5], {}):
        for shape in ([1], [2**62], [-1], [0], ["a"], None):
            array = {"dtype": "F64", "shape": shape, "data_offsets": offsets}
            head = {"__metadata__": {"sklearn_asd": "{}"}, "x": array}
            yield (
                f"offsets{offsets}{shape}".replace("/", ""),
                raw(json.dumps(head).encode(), bytes(8)),
            )
    yield "empty", b""
    yield "text", b"hello\n" * 100
    yield "after", data + b"\0"
    yield "huge header", (2**63).to_bytes(8, "little") + header


def raw(header, arrays=b""):
    return len(header).to_bytes(8, "little") + header + arrays


def test_whatever_is_no_model_is_refused_in_words(small, tmp_path):
    folder = tmp_path / "garbage"
    folder.mkdir()
    for name, data in make_garbage(folder, small.read_bytes()):
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr("a", "b")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "null").symlink_to("/dev/null")
    (folder / "loop").symlink_to(folder / "loop")
    for name, start in (("sparse", b""), ("sparse model", small.read_bytes())):
        (folder / name).write_bytes(start)
        os.truncate(folder / name, 10**12)
    paths = sorted(map(str, folder.iterdir()))
    assert len(paths) > 90
    result = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(paths),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout == ""
    assert result.returncode == 0, result.stderr


# -- one reading ---------------------------------------------------------------------


def test_the_command_reads_a_model_and_its_notes_at_once(tmp_path):
    """While another process replaces the file by a model with other notes."""
    rng, files_of = np.random.default_rng(0), []
    for scale in (1.0, 2.0):
        model = MahalanobisDetector().fit(rng.normal(size=(9, 2)) * scale)
        notes = {
            "id_column": "machine_id",
            "machines": [[None, str(model.offset_)]],
            "training": {"path": ["a"], "machine_type": [None], "machine_id": ["b"]},
        }
        save_model(model, tmp_path / f"{scale}.asd", notes)
        files_of.append((tmp_path / f"{scale}.asd").read_bytes())
    path, ended = tmp_path / "model.asd", threading.Event()
    path.write_bytes(files_of[0])

    def keep_replacing():
        while not ended.is_set():
            for data in files_of:
                (tmp_path / "next").write_bytes(data)
                os.replace(tmp_path / "next", path)

    replacing = threading.Thread(target=keep_replacing)
    replacing.start()
    try:
        for _ in range(100):
            model = read_model(str(path), trust=False)
            assert model.machines[0].machine_id == str(model.detector.offset_)
    finally:
        ended.set()
        replacing.join()
