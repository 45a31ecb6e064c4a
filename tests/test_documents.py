"""The code that people paste from README and documentation runs; nothing is left out.

The examples of the gallery are run by ``make docs``.
"""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
from command import exit_code

import sklearn_asd
from sklearn_asd.datasets import make_machine_sounds

REPOSITORY = Path(__file__).parents[1]


def code_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *DOCS.glob("*.md"), *DOCS.glob("guide/*.md")]


SOUNDS = {}


def make_sounds_once(*arguments, **options):
    """Most pages make the same sounds, which takes seconds."""
    call = repr((arguments, options))
    if call not in SOUNDS:
        SOUNDS[call] = make_machine_sounds(*arguments, **options)
    return SOUNDS[call].copy()


@pytest.mark.parametrize(
    "page", [page for page in sorted(PAGES) if code_blocks(page)], ids=lambda p: p.stem
)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for what it writes
    monkeypatch.setattr("sklearn_asd.datasets.make_machine_sounds", make_sounds_once)
    exec("\n".join(code_blocks(page)), {})


def test_every_page_of_the_guide_is_listed_in_it():
    guide = (DOCS / "user_guide.md").read_text()
    for page in DOCS.glob("guide/*.md"):
        assert f"(guide/{page.name})" in guide, page.name  # in the list that people see
        assert f"\nguide/{page.stem}\n" in guide, page.name  # in the table of contents


def public_objects():
    """Give the names by which what the package offers can be imported."""
    modules = [module.name for module in pkgutil.iter_modules(sklearn_asd.__path__)]
    public = ["sklearn_asd"]
    public += [f"sklearn_asd.{name}" for name in modules if not name.startswith("_")]
    for module in map(importlib.import_module, public):
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if not isinstance(thing, ModuleType):
                yield f"{module.__name__}.{name}", thing


def test_every_public_object_is_in_the_reference():
    reference = (DOCS / "api.rst").read_text()
    names = re.findall(r"^ +~(sklearn_asd\..*)$", reference, re.M)
    documented = [pkgutil.resolve_name(name) for name in names]
    missing = [
        name
        for name, thing in public_objects()
        if not any(thing is one for one in documented)
    ]
    assert missing == []
    assert len(set(names)) == len(names)


def test_every_public_class_and_function_has_an_example():
    without = [
        name
        for name, thing in public_objects()
        if callable(thing) and ">>>" not in str(thing.__doc__)
    ]
    # Scorers have no docstring of their own; the one of the metric shows it.
    assert without == ["sklearn_asd.metrics.pauc_scorer"]


@pytest.fixture
def run_demo(tmp_path, monkeypatch, capsys):
    """Run the demo in an empty folder, which gets the picture."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = exit_code("demo", *arguments)
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run


def write_folder(folder, name, sample_rate=16000):
    """Write sounds of two fans under names made of machine, split, label, number."""
    clips = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=2,
        n_test_normal=2,
        n_test_anomalous=2,
        duration=4.0,
        sample_rate=sample_rate,
        random_state=0,
    )
    for number, clip in enumerate(clips.itertuples()):
        path = folder / name.format(
            id=clip.machine_id,
            split=clip.split,
            label="normal" if clip.label == 1 else "anomaly",
            number=f"{number:08d}",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, clip.audio, sample_rate)
    return str(folder)


def test_the_demo_leaves_out_damaged_clips_and_unknown_machines(tmp_path, run_demo):
    folder = write_folder(tmp_path, "fan/{split}/{label}_id_{id}_{number}.wav")
    (tmp_path / "fan" / "test" / "normal_id_00_00000099.wav").write_bytes(b"noise")
    unknown = tmp_path / "fan" / "test" / "normal_id_07_00000000.wav"
    soundfile.write(unknown, np.zeros(64000), 16000)
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.code == 0, demo.err
    assert "1 clips are of machines without training clips" in demo.err
    assert "normal_id_00_00000099.wav) cannot be decoded" in demo.err


@pytest.mark.parametrize(
    ("name", "n_train"),
    [
        ("fan/{split}/{label}_id_{id}_{number}.wav", 4),  # as in DCASE 2020
        ("fan/test/{label}_id_{id}_{number}.wav", 4),  # no training split
    ],
)
def test_the_demo_makes_a_table_of_a_folder(tmp_path, run_demo, name, n_train):
    demo = run_demo("--data", write_folder(tmp_path, name), "--epochs", "1")
    assert demo.code == 0, demo.err
    assert f"{n_train} normal clips to train on" in demo.err
    assert "average" in demo.out
    assert (tmp_path / "sklearn-asd-demo.png").read_bytes()[:4] == b"\x89PNG"


def test_the_demo_ranks_clips_without_labels_at_their_own_sample_rate(
    tmp_path, run_demo
):
    folder = write_folder(tmp_path, "{id}/{number}.wav", 8000)
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.code == 0, demo.err
    assert demo.out.count("The least normal clips are:") == 2  # one each
    assert not (tmp_path / "sklearn-asd-demo.png").exists()
    assert "Sample rate: 8000 Hz" in demo.err


def test_the_demo_says_which_attributes_could_tell_machines_apart(tmp_path, run_demo):
    name = "car/{split}/section_00_source_{split}_{label}_{number}_car_{id}.wav"
    folder = write_folder(tmp_path, name)
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.code != 0
    assert "name it with --id-column (make demo ID=...): section, domain, car" in (
        demo.err
    )
    demo = run_demo("--data", folder, "--id-column", "car", "--epochs", "1")
    assert demo.code == 0, demo.err
