"""What the library says of its parameters, in terms of the command."""

import re
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import soundfile
from command import RATE
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AutoencoderDetector,
    GaussianDetector,
    LogMelSegmenter,
    SpectrumStatistics,
    ThresholdTuner,
)
from sklearn_asd._cli.conventions import in_terms_of_command
from sklearn_asd.features.front_end import FrontEnd

# Parameters, their values, and names of classes.
OF_PYTHON = re.compile(
    r"\w=\S|n_jobs|segment_duration|\blr\b|[a-z][A-Z][a-z]|`|\"mix\"|\"auto\""
)
NOISE = np.random.default_rng(0).normal(scale=0.05, size=(8, RATE))
SEGMENT = LogMelSegmenter(segment_duration=0.64)


def read(folder, rate=RATE, **parameters):
    paths = [folder / f"{number}.wav" for number in range(10)]
    for path in paths:
        soundfile.write(path, NOISE[:2].T, rate)
    return LogMelSegmenter(**parameters).transform(paths)


def kill_a_worker(folder, monkeypatch):
    def kill(*_, **__):
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(FrontEnd, "_cache_views", kill)
    read(folder)


def tune_few():
    tuner = ThresholdTuner(GaussianDetector(SpectrumStatistics()), "gamma")
    tuner.fit(SEGMENT.transform(NOISE[:1]))


def overflow():
    # The loss of a network is infinite after the first step.
    detector = AutoencoderDetector(lr=1e30, max_epochs=3, batch_size=64)
    make_pipeline(SEGMENT, detector).fit(NOISE)


def use_no_gpu():
    AutoencoderDetector(device="cuda:99").fit(SEGMENT.transform(NOISE))


CASES = {
    "rate": lambda folder, _: read(folder, RATE // 2),
    "short": lambda folder, _: read(folder, segment_duration=3.0),
    "many short": lambda folder, _: read(folder, on_bad_clip="nan"),
    "channel": lambda folder, _: read(folder, channel=2),
    "killed": kill_a_worker,
    "device": lambda *_: use_no_gpu(),
    "loss": lambda *_: overflow(),
    "few": lambda *_: tune_few(),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_messages_that_name_parameters_are_put_into_words_of_the_command(
    name, tmp_path, monkeypatch
):
    with pytest.raises((ValueError, RuntimeError, UserWarning)) as caught:
        CASES[name](tmp_path, monkeypatch)
    message = str(caught.value).replace(str(tmp_path), "")
    assert OF_PYTHON.search(message)
    told = in_terms_of_command(message)
    assert not OF_PYTHON.search(told), told
