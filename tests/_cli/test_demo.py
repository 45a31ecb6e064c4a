"""``sklearn-asd demo`` on its own sounds, of which there are fewer here."""

import re
import sys

import pytest

from sklearn_asd._cli import demo

FEW = {
    "n_machines": 2,
    "n_train": 2,
    "n_test_normal": 1,
    "n_test_anomalous": 2,
    "duration": 4.0,
}
KINDS = ["ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"]


@pytest.fixture
def few_sounds(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "_SOUNDS", FEW)
    monkeypatch.chdir(tmp_path)


def read_verdicts(output):
    """Rows of the first table: counts and the AUC by the kind of machine."""
    table = output.split("\n\n")[0]
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+)$", table, re.M)
    return {kind: [float(one) for one in numbers] for kind, *numbers in rows}


@pytest.mark.usefixtures("few_sounds")
def test_the_demo_shows_two_detectors_a_picture_and_what_comes_next(run, tmp_path):
    code, output, errors = run("demo", "--epochs", 1)
    assert code == 0, errors
    assert "24 normal clips to train on, 36 to test." in errors
    verdicts = read_verdicts(output)
    assert list(verdicts) == [*KINDS, "all"]
    for kind in KINDS:
        normal, false_alarms, anomalous, missed, area = verdicts[kind]
        assert (normal, anomalous) == (2, 4)
        assert false_alarms <= 2
        assert missed <= 4
        assert 0 <= area <= 1
    total = [sum(verdicts[kind][column] for kind in KINDS) for column in range(4)]
    assert verdicts["all"][:4] == total
    assert output.index("Default detector") < output.index("Paper's detector")
    assert output.count("average") == 7  # six kinds, and all
    assert "drawn in sklearn-asd-demo.png" in output
    assert (tmp_path / "sklearn-asd-demo.png").read_bytes()[:4] == b"\x89PNG"
    assert "sklearn-asd fit RECORDINGS/" in output
    assert "sklearn-asd score machines.asd" in output


@pytest.mark.usefixtures("few_sounds")
def test_without_matplotlib_the_demo_says_how_to_get_the_picture(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo, "_SOUNDS", FEW | {"machine_types": "fan"})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, output, errors = run("demo", "--epochs", 1, "--quiet")
    assert (code, errors) == (0, "")
    assert 'pip install -e ".[plot]"' in output
    assert "drawn in" not in output
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    code, output, errors = run("demo", "--picture", tmp_path / "none" / "a.png")
    assert code == 2
    assert output == ""
    assert "cannot be written" in errors
    assert "Making sounds" not in errors
