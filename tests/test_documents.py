"""The code that people paste from README and user guide runs."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile

from sklearn_asd.datasets import make_machine_sounds

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "docs/user_guide.md"])
def test_code_blocks_run_one_after_the_other(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where folders are made
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / name).read_text(), re.S)
    assert blocks
    exec("\n".join(blocks), {})
    assert "average" in capsys.readouterr().out  # the table of AUCs


EXAMPLES = sorted((REPOSITORY / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_draw_a_figure(example, monkeypatch):
    matplotlib.use("Agg")
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    runpy.run_path(example)
    assert len(shown) == 1
    plt.close("all")


def run_demo(*arguments):
    return subprocess.run(
        [sys.executable, REPOSITORY / "examples" / "demo.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def write_folder(folder, name):
    """Write sounds of two fans under names made of machine, split, label, number."""
    clips = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=2,
        n_test_normal=2,
        n_test_anomalous=2,
        duration=4.0,
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
        soundfile.write(path, clip.audio, 16000)
    return str(folder)


def test_the_demo_makes_its_own_sounds():
    demo = run_demo("--epochs", "1")
    assert demo.returncode == 0, demo.stderr
    assert "384 normal clips to train on, 432 to test." in demo.stdout
    assert demo.stdout.count("average") == 7  # six kinds, and all


def test_the_demo_leaves_out_damaged_clips_and_unknown_machines(tmp_path):
    folder = write_folder(tmp_path, "fan/{split}/{label}_id_{id}_{number}.wav")
    (tmp_path / "fan" / "test" / "normal_id_00_00000099.wav").write_bytes(b"noise")
    unknown = tmp_path / "fan" / "test" / "normal_id_07_00000000.wav"
    soundfile.write(unknown, np.zeros(64000), 16000)
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.returncode == 0, demo.stderr
    assert "1 clips are of machines without training clips" in demo.stdout
    assert "normal_id_00_00000099.wav) cannot be decoded" in demo.stderr


@pytest.mark.parametrize(
    ("name", "n_train"),
    [
        ("fan/{split}/{label}_id_{id}_{number}.wav", 4),  # as in DCASE 2020
        ("fan/test/{label}_id_{id}_{number}.wav", 4),  # no training split
    ],
)
def test_the_demo_makes_a_table_of_a_folder(tmp_path, name, n_train):
    demo = run_demo("--data", write_folder(tmp_path, name), "--epochs", "1")
    assert demo.returncode == 0, demo.stderr
    assert f"{n_train} normal clips to train on" in demo.stdout
    assert "average" in demo.stdout


def test_the_demo_ranks_clips_that_have_no_labels(tmp_path):
    folder = write_folder(tmp_path, "{id}/{number}.wav")
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.returncode == 0, demo.stderr
    assert "The least normal clips are:" in demo.stdout


def test_the_demo_says_which_attributes_could_tell_machines_apart(tmp_path):
    name = "car/{split}/section_00_source_{split}_{label}_{number}_car_{id}.wav"
    folder = write_folder(tmp_path, name)
    demo = run_demo("--data", folder, "--epochs", "1")
    assert demo.returncode != 0
    assert "name it with --machine-id (make demo ID=...): ['car', 'domain']" in (
        demo.stderr
    )
    demo = run_demo("--data", folder, "--machine-id", "car", "--epochs", "1")
    assert demo.returncode == 0, demo.stderr
