"""The report of ``score --report``, for those who look after the machines."""

import contextlib
import io
import re
import shutil

import pytest
from command import exit_code


@pytest.fixture(scope="module")
def works(tmp_path_factory, folder):
    """New and broken recordings with dates in their names, and one of no machine."""
    new = tmp_path_factory.mktemp("report") / "new"
    for number, path in enumerate(sorted(folder.glob("[nb][er]*/*/**/*.*"))):
        machine = next(part for part in path.parts if part.startswith("valve_"))
        name = f"2024-05-{number + 1:02d}_0800{path.suffix}"
        (new / machine).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, new / machine / name)
    (new / "pump_9").mkdir()
    shutil.copyfile(path, new / "pump_9" / f"2024-05-30_0800{path.suffix}")
    return new


@pytest.fixture(scope="module")
def page(model, works):
    path = works.parent / "r.html"
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert exit_code("score", model, works, "--report", path) == 2
    source = path.read_text(encoding="utf-8")
    text = re.sub(r"<(style|script)>.*?</\1>", "", source, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text))
    return source, text, output.getvalue()


def test_the_report_says_which_model_judged_what(page, model, folder, works):
    _, text, _ = page
    assert f"Model {model}, written on 2" in text
    assert f"40 normal recordings of 2 machines, in {folder / 'recordings'}" in text
    assert f"in {works}" in text
    assert "by the dates in their names" in text
    assert "Recorded 2024-05-01 08:00 to " in text


def test_recordings_of_unknown_machines_are_in_the_report(page):
    _, text, output = page
    (line,) = [line for line in output.splitlines() if "pump_9" in line]
    assert line.startswith("unusable")
    assert "1 not usable" in text
    assert "pump_9/2024-05-30_0800" in text
    assert "which the model does not know" in text
    assert "1 further one could not be judged" in text


def test_the_margins_of_the_report_are_those_of_the_lines(page):
    source, _, output = page
    margins = [
        float(line.split()[1]) for line in output.splitlines() if "/valve" in line
    ]
    shown = re.findall(r'data-label="Margin" data-value="([^"]*)"', source)
    assert sorted(round(float(one), 3) for one in shown) == sorted(margins)
    assert len(margins) > 4


def test_the_report_of_the_command_has_no_name_from_the_code(page):
    _, text, _ = page
    names = set(re.findall(r"\b[a-zA-Z]+_[a-z_]+\b", text))
    assert {name for name in names if not name.startswith(("valve_", "pump_"))} <= {
        "sklearn_asd"
    }
    for name in ("contamination", "Pipeline", "occlu", "embedding", "NaN", "clip"):
        assert name not in text
