import copy
import subprocess
import sys
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    Clips,
    LogMelSegmenter,
    LogMelView,
    WaveformView,
)
from sklearn_asd._utils.parameters import InvalidParameterError
from sklearn_asd.audio.views import VocodedView

NINE = [
    "pitch -0.1, stretch 0.9",
    "pitch -0.1",
    "pitch -0.1, stretch 1.1",
    "stretch 0.9",
    "original",
    "stretch 1.1",
    "pitch +0.1, stretch 0.9",
    "pitch +0.1",
    "pitch +0.1, stretch 1.1",
]


def test_the_default_views_are_those_of_the_paper_in_order():
    assert AugmentationExpander().get_view_names() == NINE


def test_extra_views_follow_and_steps_of_any_number_type_are_taken():
    expand = AugmentationExpander(
        pitch_steps=np.array([0, 12]),
        stretch_rates=[1],
        extra=["rotate", "harmonic"],
    )
    names = ["original", "pitch +12", "rotate", "harmonic"]
    assert expand.get_view_names() == names
    assert AugmentationExpander(
        pitch_steps=(), extra=["flip_time"]
    ).get_view_names() == ["flip_time"]


def test_the_unchanged_view_is_vocoded_like_the_most_changed_one():
    expand = AugmentationExpander(vocode_identity=True)
    names = expand.get_view_names()
    assert names == [*NINE[:4], "vocoded", *NINE[5:]]
    view = expand.transform(np.zeros((1, 16000))).views[4]
    # 0.9 is farther from 1 than 1.1, and farthest with the pitch shifted up.
    assert view == VocodedView("vocoded", 0.9 / 2 ** (0.1 / 12))


def test_rows_machines_and_sources_stay_and_nothing_is_read():
    table = pd.DataFrame(
        {"path": ["no such file", "nor this"], "machine_id": [0, 2]}, index=[7, 7]
    )
    clips = AugmentationExpander().fit_transform(table)
    assert isinstance(clips, Clips)
    assert repr(clips) == "Clips(2 clips, 2 machines, 9 views)"
    assert list(clips.machine_id) == ["0", "2"]
    assert list(clips.sources) == ["no such file", "nor this"]
    assert repr(clips[1:]) == "Clips(1 clip, 1 machine, 9 views)"
    assert clips[[1, 0]].views == clips.views


def test_expanding_copies_no_audio():
    waves = np.zeros((4, 1_000_000), dtype=np.float32)
    tracemalloc.start()
    AugmentationExpander().fit_transform(waves)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def own_view(name):
    return LogMelView(lambda log_mel: log_mel + 1, name=name)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pitch_steps": [0, 50]}, r"pitch_steps holds 50.*a number in \[-48, 48\]"),
        ({"pitch_steps": [np.nan]}, "pitch_steps holds nan"),
        ({"stretch_rates": [90, 100]}, r"stretch_rates holds 90.*\[0.1, 10\]"),
        ({"stretch_rates": ["fast"]}, "stretch_rates holds 'fast'"),
        ({"pitch_steps": [0.1, 0.1]}, "asked for twice: pitch .0.1"),
        ({"extra": ["rotate", "rotate"]}, "asked for twice: rotate"),
        ({"extra": ["echo"]}, "extra holds 'echo'.*'flip_time'.*WaveformView"),
        ({"extra": ["flip-time"]}, "'flip-time'.*did you mean 'flip_time'"),
        ({"extra": [len]}, "extra holds <built-in function len>"),
        ({"extra": [own_view("rotate")]}, "a view called 'rotate'.*another name"),
        ({"extra": [own_view("original")]}, "a view called 'original'"),
        ({"extra": [own_view("a"), own_view("a")]}, "asked for twice: a"),
        ({"pitch_steps": []}, "must not be empty"),
        ({"pitch_steps": np.array(0.1)}, "must be a sequence"),
        ({"stretch_rates": [[1]]}, "must be a sequence"),
    ],
)
def test_impossible_views_are_refused(parameters, message):
    expand = AugmentationExpander(**parameters)
    with pytest.raises(ValueError, match=message):
        expand.fit(np.zeros((1, 16000)))
    with pytest.raises(ValueError, match=message):
        expand.get_view_names()


@pytest.mark.parametrize(
    "parameters", [{"extra": "rotate"}, {"pitch_steps": 0.1}, {"vocode_identity": 2}]
)
def test_parameters_of_the_wrong_type_are_refused(parameters):
    with pytest.raises(InvalidParameterError, match=f"'{next(iter(parameters))}'"):
        AugmentationExpander(**parameters).fit(np.zeros((1, 16000)))


def test_a_second_expander_is_refused():
    twice = make_pipeline(AugmentationExpander(), AugmentationExpander())
    with pytest.raises(ValueError, match="already asks for the views pitch -0.1"):
        twice.fit_transform(np.zeros((1, 16000)))


def test_what_is_wrong_shows_at_fit_and_not_in_a_copy():
    for extra in (None, [["rotate"]]):
        expand = copy.deepcopy(AugmentationExpander(extra=extra))
        with pytest.raises(ValueError, match="extra"):
            expand.fit(np.zeros((1, 16000)))


def test_views_are_parameters_that_clone_and_change():
    expand = clone(AugmentationExpander(extra=["rotate"])).set_params(pitch_steps=[1])
    assert expand.get_view_names()[-1] == "rotate"
    assert expand.get_params()["stretch_rates"] == (0.9, 1.0, 1.1)


# -- views of one's own travel ------------------------------------------------------


def backwards(samples, sample_rate):
    return samples[::-1]


@pytest.fixture
def expand():
    return AugmentationExpander(
        pitch_steps=[0], stretch_rates=[1], extra=[WaveformView(backwards), "rotate"]
    )


def test_a_view_of_ones_own_is_computed(expand, rng):
    waves = rng.uniform(-0.1, 0.1, (2, 8192)).astype(np.float32)
    segment = LogMelSegmenter(segment_duration=None)
    X = segment.transform(expand.transform(waves))
    assert X.view_names == ("original", "backwards", "rotate")
    expected = segment.transform(waves[:, ::-1])
    for clip in range(2):
        np.testing.assert_array_equal(X.log_mel(clip, 1), expected.log_mel(clip))


def test_a_saved_pipeline_brings_its_views(expand, tmp_path):
    joblib.dump(make_pipeline(expand), tmp_path / "pipe.joblib")
    pipe = joblib.load(tmp_path / "pipe.joblib")
    assert pipe[0].extra == expand.extra
    assert clone(pipe)[0].get_view_names() == ["original", "backwards", "rotate"]


SCRIPT = """
import numpy as np
from joblib import parallel_config
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn_asd import (
    AugmentationExpander, LogMelSegmenter, LogMelView, WaveformView
)

def twice(samples, sample_rate):
    return 2 * samples

class Loudness(BaseEstimator):
    def fit(self, X, y=None):
        self.n_clips_ = len(X)
        return self

    def score(self, X, y=None):
        return float(np.mean(X.log_mel(0, 1) - X.log_mel(0, 0)))

if __name__ == "__main__":
    views = [WaveformView(twice), LogMelView(lambda log_mel: log_mel + 3, name="+3")]
    expand = AugmentationExpander(pitch_steps=[0], stretch_rates=[1], extra=views)
    segment = LogMelSegmenter(segment_duration=None, n_jobs=2)
    pipe = make_pipeline(expand, LogMelSegmenter(segment_duration=None), Loudness())
    choices = {"augmentationexpander__extra": [views[:1], views[1:]]}
    X = np.random.default_rng(0).normal(size=(3, 8192)) / 10
    with parallel_config("loky", n_jobs=2):
        print(segment.transform(expand.transform(X)))
        search = GridSearchCV(pipe, choices, cv=3, refit=False).fit(X)
    print(*search.cv_results_["mean_test_score"].round(2))
"""


def test_views_of_a_script_reach_the_processes_of_a_search(tmp_path):
    """As in a notebook: the functions exist in the main process only."""
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "3 clips, 3 views" in run.stdout
    assert "6.02 3.0" in run.stdout  # dB: twice the amplitude, and 3 dB
