import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import FunctionTransformer

from sklearn_asd import (
    BadClipError,
    Clips,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    GaussianDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    ThresholdTuner,
    ZScoreEnsemble,
)
from sklearn_asd._utils.validation import is_table_of_numbers, normal_rows
from sklearn_asd.features import pool
from sklearn_asd.metrics import pauc_score


@pytest.mark.parametrize(
    "y", [[1, -1, 1], np.array([1.0, -1.0, 1.0]), pd.Series([1, -1, 1], dtype="Int64")]
)
def test_normal_clips_are_labelled_1(y):
    assert normal_rows(y, 3).tolist() == [True, False, True]


def test_without_labels_all_clips_are_normal():
    assert normal_rows(None, 2).tolist() == [True, True]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1], r"y has shape \(1,\) for 2 clips"),
        ([[1, 1]], r"y has shape \(1, 2\) for 2 clips"),
        ([1, 0], "y holds 0; labels are \\+1 normal and -1"),
        ([True, 1], "y holds True"),
        (["fan", None], "y holds None, fan"),
        ([1, np.nan], "y holds nan"),
    ],
)
def test_other_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        normal_rows(y, 2)


def test_lenient_detectors_ignore_other_labels():
    with pytest.warns(UserWarning, match="y is ignored"):
        assert normal_rows(["fan", "pump"], 2, lenient=True).tolist() == [True, True]


@pytest.mark.parametrize(
    ("X", "numbers"),
    [
        (np.zeros((2, 3)), True),
        ([[1.0, 2.0]], True),
        (pd.DataFrame({"a": [1.0]}), True),
        (pd.DataFrame({"path": ["a.wav"]}), False),
        (pd.DataFrame({"audio": [np.zeros(3)]}), False),
        (["a.wav"], False),
        ([np.zeros(3)], False),
        (np.array(["a.wav"], dtype=object), False),
        (Clips(["a.wav"]), False),
    ],
)
def test_tables_of_numbers_are_told_from_clips(X, numbers):
    assert is_table_of_numbers(X) == numbers


# -- masked arrays -------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(20, 3))
MASKED = np.ma.array(X, mask=np.eye(20, 3))
MEMBERS = [("a", IsolationForest(random_state=0)), ("b", MahalanobisDetector())]


@pytest.mark.parametrize(
    "detector",
    [
        MahalanobisDetector(),
        GaussianDetector(),
        GaussianDetector(FunctionTransformer()),
        EmbeddingNeighborDetector(FunctionTransformer()),
        ZScoreEnsemble(MEMBERS),
        GammaProbabilityEnsemble(MEMBERS),
        ThresholdTuner(IsolationForest(random_state=0), false_alarm_rate=0.3),
    ],
    ids=lambda one: type(one).__name__,
)
def test_masked_rows_and_labels_are_refused_by_every_detector(detector):
    detector.fit(np.ma.array(X))  # nothing is masked
    for method in (detector.fit, detector.score_samples, detector.predict):
        with pytest.raises(ValueError, match="X holds masked values.*leave their rows"):
            method(MASKED)
    y = np.ma.array(np.ones(20), mask=np.arange(20) == 3)
    with pytest.raises(ValueError, match="y holds masked values"):
        detector.fit(X, y)


@pytest.mark.parametrize(
    "use",
    [
        lambda: normal_rows(np.ma.masked_equal([1, -1, 1], -1), 3),
        lambda: normal_rows([1, np.ma.masked, 1], 3),
        lambda: pauc_score([1, -1], np.ma.masked_equal([0.0, 1.0], 1)),
        lambda: pauc_score(np.ma.masked_equal([1, -1], 1), [0.0, 1.0]),
        lambda: pool(MASKED, "mean"),
        lambda: ClipSpectrograms.from_arrays(list(MASKED[None])),
        lambda: ClipSpectrograms.from_arrays(MASKED[None]),
        lambda: ClipSpectrograms(MASKED, [0], [20]),
        lambda: Clips(["a.wav"] * 3)[np.ma.masked_equal([0, 1, 2], 1)],
    ],
)
def test_masked_values_are_refused_wherever_numbers_are_given(use):
    with pytest.raises(ValueError, match="masked values, which are no data"):
        use()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_masked_samples_are_no_sound(dtype):
    samples = np.ones(8000, dtype=dtype)
    masked = np.ma.array(samples, mask=np.arange(8000) == 5)
    segment = LogMelSegmenter(segment_duration=0.1, sample_rate=8000)
    table = pd.DataFrame({"audio": [samples, masked]})
    for clips in ([samples, masked], table):  # equal but for the mask
        with pytest.raises(BadClipError, match="clip 1 holds nan at sample 5"):
            segment.transform(clips)
    with pytest.raises(BadClipError, match="clip 0 holds nan at sample 5"):
        segment.transform(np.ma.array([masked, masked]))
    segment.transform([np.ma.array(samples)])
