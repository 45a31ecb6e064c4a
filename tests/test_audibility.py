import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, MahalanobisDetector
from sklearn_asd.audibility import audibility_table
from sklearn_asd.model_selection import MachineStratifiedKFold

RATE = 16_000


class Loudness(BaseEstimator):
    """Calls clips anomalous that are 3 dB louder than the loudest training clip."""

    def __init__(self, margin=3.0):
        self.margin = margin

    def _level(self, X):
        return np.array([X.log_mel(row).mean() for row in range(len(X))])

    def fit(self, X, y=None):
        self.offset_ = -self._level(X).max() - self.margin
        self.n_fitted_ = len(X)
        return self

    def score_samples(self, X):
        return -self._level(X)

    def predict(self, X):
        return np.where(self.score_samples(X) >= self.offset_, 1, -1)


@pytest.fixture
def clips(rng):
    """White noise of 1 s: eight recordings of each of two machines."""
    audio = list(rng.normal(scale=0.1, size=(16, RATE)).astype(np.float32))
    return pd.DataFrame({"audio": audio, "machine_id": ["a", "b"] * 8})


def loudness_pipe(**options):
    return make_pipeline(LogMelSegmenter(segment_duration=None), Loudness(**options))


def test_noise_is_audible_from_the_level_that_makes_a_clip_louder(clips):
    table = audibility_table(
        loudness_pipe(), clips, levels=[-6, -3, 2, 6], cv=4, random_state=0
    )
    # As loud as the clip is 3 dB louder in all; 2 dB above it is 4.1 dB louder.
    for machine in "ab":
        row = table.loc[(machine, "noise")]
        heard = table.loc[(machine, "noise"), [-6, -3, 2, 6]]
        assert heard.tolist() == [0, 0, 1, 1]
        assert row["audible_from"] == 2
        assert row["without"] == 0
        assert row["n_clips"] == 8
        assert np.isnan(table.loc[(machine, "knocks"), "audible_from"])
    assert list(table.index.names) == ["machine", "fault"]


def test_clips_are_judged_by_a_detector_that_did_not_learn_them(clips):
    fitted = []

    class Recorded(Loudness):
        def fit(self, X, y=None):
            fitted.append(X.machine_id.tolist())
            return super().fit(X)

    pipe = make_pipeline(LogMelSegmenter(segment_duration=None), Recorded())
    audibility_table(pipe, clips, levels=[0], cv=4, random_state=0)
    assert [len(ids) for ids in fitted] == [12] * 4
    folds = MachineStratifiedKFold(2)
    table = audibility_table(pipe, clips, levels=[0], cv=folds, n_clips=4)
    assert [len(ids) for ids in fitted[4:]] == [8] * 2
    assert (table["n_clips"] == 4).all()


def test_a_fitted_detector_judges_other_recordings(clips):
    pipe = loudness_pipe().fit(clips[:8])
    table = audibility_table(pipe, clips[8:], levels=[6], cv=None, random_state=0)
    assert (table[6].xs("noise", level="fault") == 1).all()
    assert pipe[-1].n_fitted_ == 8


def test_false_alarms_without_a_fault_are_stated(clips):
    table = audibility_table(loudness_pipe(margin=-100), clips, levels=[0], cv=2)
    assert (table["without"] == 1).all()


def test_own_faults_and_seeds(clips):
    def hum(n_samples, sample_rate, rng):
        return np.sin(2 * np.pi * 50 * np.arange(n_samples) / sample_rate)

    options = {"faults": {"hum": hum}, "levels": [0], "cv": 2}
    table = audibility_table(loudness_pipe(), clips, **options)
    assert table.index.get_level_values("fault").unique().tolist() == ["hum"]
    pd.testing.assert_frame_equal(
        *(audibility_table(loudness_pipe(), clips, cv=2, random_state=3) for _ in "ab")
    )


def test_what_cannot_be_planted_into_is_refused(clips):
    with pytest.raises(ValueError, match="reads no recordings, so no fault can be"):
        audibility_table(MahalanobisDetector(), np.zeros((10, 2)))
    pipe = loudness_pipe().fit(clips)
    with pytest.raises(ValueError, match="none of the clips can be used"):
        audibility_table(pipe, [np.full(RATE, np.nan)], cv=None)
