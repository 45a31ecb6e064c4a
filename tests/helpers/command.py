"""Running the command ``sklearn-asd``, and recordings for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import sklearn_asd
from sklearn_asd._cli import main

RATE = 16000


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


def exit_code(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


def in_a_process(*arguments, **options):
    # Wherever it starts, it is this package that runs.
    package = {"PYTHONPATH": str(Path(sklearn_asd.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "sklearn_asd", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | package,
        **options,
    )
