"""Tables of other libraries than pandas are read as X."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    Clips,
    GammaProbabilityEnsemble,
    GaussianDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    load_clips,
)
from sklearn_asd.audio.clips import keep_recordings
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.reading import KeptRecording

RATE = 16_000
SEGMENT = LogMelSegmenter(segment_duration=None, n_mels=16)


def as_polars(table):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    columns = {name: table[name].tolist() for name in table}
    if "machine_type" in columns:
        kinds = [None if pd.isna(one) else one for one in columns["machine_type"]]
        columns["machine_type"] = polars.Series(kinds, dtype=polars.Categorical)
    return polars.DataFrame(columns)


def as_arrow(table):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = pyarrow.Table.from_pandas(table, preserve_index=False)
    if "machine_type" in table.column_names:
        place = table.column_names.index("machine_type")
        kinds = table["machine_type"].dictionary_encode()
        table = table.set_column(place, "machine_type", kinds)
    return table


LIBRARIES = pytest.mark.parametrize("convert", [as_polars, as_arrow])


@pytest.fixture
def clips(rng):
    """Two machines of a type in turn, and one without."""
    return pd.DataFrame(
        {
            "audio": list(rng.normal(scale=0.05, size=(30, RATE)).astype(np.float32)),
            "machine_type": ["fan", "fan", None] * 10,
            "machine_id": ["00", "02", "x"] * 10,
            "sample_rate": [16_000.0] * 30,
            "note": range(30),
        }
    )


@LIBRARIES
def test_clips_of_other_tables_are_those_of_pandas(convert, clips):
    other, same = Clips.from_X(convert(clips)), Clips.from_X(clips)
    for row in (0, 1, 2, 29):
        np.testing.assert_array_equal(other.read(row, RATE), same.read(row, RATE))
    assert other.machine_type.tolist() == same.machine_type.tolist()
    assert other.machine_id.tolist() == same.machine_id.tolist()
    assert other.sample_rate.tolist() == same.sample_rate.tolist()
    labels = machine_labels(clips).tolist()
    assert machine_labels(convert(clips)).tolist() == labels


DETECTORS = {
    "pipeline": lambda: make_pipeline(
        SEGMENT, RecordingCheck(), GaussianDetector(SpectrumStatistics())
    ),
    "machines": lambda: PerMachine(
        make_pipeline(SEGMENT, SpectrumStatistics(), MahalanobisDetector(n_folds=3))
    ),
    "tuner": lambda: ThresholdTuner(
        make_pipeline(SEGMENT, GaussianDetector(SpectrumStatistics())),
        "gamma",
        random_state=0,
    ),
    "ensemble": lambda: GammaProbabilityEnsemble(
        [("near", make_pipeline(SEGMENT, GaussianDetector(SpectrumStatistics())))],
        group_by="machine_type",
    ),
}


@LIBRARIES
@pytest.mark.parametrize("name", DETECTORS)
def test_scores_of_other_tables_are_those_of_pandas(convert, name, clips):
    clips["machine_type"] = clips["machine_type"].fillna("pump")
    other = DETECTORS[name]().fit(convert(clips))
    same = DETECTORS[name]().fit(clips)
    new = clips.iloc[::-1]
    np.testing.assert_array_equal(
        other.score_samples(convert(new)), same.score_samples(new)
    )
    np.testing.assert_array_equal(
        other.predict(convert(new)), same.predict(clips)[::-1]
    )


@LIBRARIES
def test_tables_of_numbers_and_of_paths_are_told_apart(convert, rng):
    numbers = pd.DataFrame(rng.normal(size=(20, 2)), columns=["level", "speed"])
    scores = MahalanobisDetector().fit(convert(numbers)).score_samples(convert(numbers))
    np.testing.assert_array_equal(
        scores, MahalanobisDetector().fit(numbers).score_samples(numbers)
    )
    paths = convert(pd.DataFrame({"path": ["a.wav"], "label": [1]}))
    with pytest.raises(TypeError, match="takes rows of numbers, and X holds clips"):
        MahalanobisDetector().fit(paths)
    with pytest.raises(ValueError, match="without a column 'path' or 'audio'.*level"):
        SEGMENT.transform(convert(numbers))
    (kept,) = Clips.from_X(keep_recordings(paths)).sources
    assert isinstance(kept, KeptRecording)


@LIBRARIES
def test_real_recordings_of_other_tables_score_alike(convert, recordings):
    table = load_clips(recordings("valve2023/valve"))
    train = table[table["split"] == "train"].iloc[:12]
    test = table[table["split"] == "test"].iloc[:6]
    model = DETECTORS["pipeline"]().fit(train)
    expected = model.score_samples(test)
    np.testing.assert_array_equal(model.score_samples(convert(test)), expected)
