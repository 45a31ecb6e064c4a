"""Recordings and a model of them, for all tests of the command."""

import numpy as np
import pytest
from command import RATE, exit_code, write

from sklearn_asd.datasets import make_machine_sounds


@pytest.fixture(scope="session")
def sounds():
    """Normal and anomalous valves, which a mean spectrum tells apart well."""
    return make_machine_sounds(
        "valve",
        n_machines=2,
        n_train=20,
        n_test_normal=3,
        n_test_anomalous=3,
        duration=2.0,
        random_state=0,
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory, sounds):
    """A folder for each machine, and in new/ a day later."""
    root = tmp_path_factory.mktemp("works")
    hum = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    for number, clip in enumerate(sounds.itertuples()):
        machine = f"valve_{clip.machine_id}"
        if clip.split == "train":
            write(root / "recordings" / machine / f"{number:03d}.wav", clip.audio)
        elif clip.label == 1:
            write(root / "new" / machine / "tuesday" / f"{number:03d}.wav", clip.audio)
        else:  # plain for anyone
            samples = clip.audio + 0.05 * hum
            write(root / "broken" / machine / f"{number:03d}.flac", samples)
    return root


@pytest.fixture(scope="session")
def model(folder):
    path = folder / "valves.asd"
    code = exit_code("fit", folder / "recordings", "-o", path)
    assert code == 0
    return path


@pytest.fixture
def run(capsys):
    """Run a command; its exit code, and what it printed where."""

    def run(*arguments):
        capsys.readouterr()
        code = exit_code(*arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def new_folder(tmp_path, folder):
    """A folder to break things in, with two normal recordings in it."""
    for number, path in enumerate(sorted((folder / "new").rglob("*.wav"))[:2]):
        target = tmp_path / "new" / path.parts[-3] / f"{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / "new"
