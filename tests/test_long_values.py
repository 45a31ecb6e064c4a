"""No message repeats a whole recording, whatever is passed wherever."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

import sklearn_asd
from sklearn_asd import (
    AugmentationExpander,
    BadClipError,
    Clips,
    ClipSpectrograms,
    LogMelSegmenter,
    LogMelView,
    MahalanobisDetector,
    SpectrumStatistics,
    WaveformView,
    load_clips,
)
from sklearn_asd.audio import read_array, read_file
from sklearn_asd.features import pool

LONGEST = 2000
N = 1500
LONG = {
    "text": "pump" * N,
    "bytes": b"pump" * N,
    "list": [1.23456789e9] * N,
    "texts": ["pump" * 1000] * 100,
    "tuple": tuple(range(10**9, 10**9 + N)),
    "array": np.full(999, 1.23456789e9),
    "rows": np.full((30, 33), 1.23456789e9),
    "table": pd.DataFrame({"pump" * 100: ["fan" * 1000] * 50}),
    "dict": {"pump" * 1000: "fan" * N},
    "set": set(range(N)),
}


class Verbose:
    """Something that says much about itself."""

    def __repr__(self):
        return "Verbose" * N


LONG["object"] = Verbose()


def assert_short(use):
    """Run it; errors and warnings are short. Gives the error."""
    raised = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            use()
        except Exception as error:
            raised = error
    for message in [raised, *(warning.message for warning in caught)]:
        assert len(str(message)) < LONGEST, str(message)[:300]
    return raised


ESTIMATORS = [
    estimator
    for estimator in (getattr(sklearn_asd, name) for name in sklearn_asd.__all__)
    if inspect.isclass(estimator) and issubclass(estimator, BaseEstimator)
]


def make(estimator):
    """An estimator with any value where one must be given."""
    parameters = inspect.signature(estimator).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    return estimator(**dict.fromkeys(needed, SpectrumStatistics()))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.__name__)
def test_parameters_that_are_long_are_refused_in_short(estimator):
    X = ClipSpectrograms.from_arrays([np.zeros((4, 3))] * 2, segment_frames=2)
    for name in make(estimator).get_params(deep=False):
        for value in LONG.values():
            broken = make(estimator)
            setattr(broken, name, value)
            assert_short(broken._validate_params)
            for nothing in ([], X[:0]):
                assert_short(lambda: broken.fit(nothing))  # noqa: B023


LABELS = {
    "clips": lambda value: Clips(["a.wav"], machine_id=[value]),
    "machine": lambda value: Clips(["a.wav"], machine_type=value),
    "rate": lambda value: Clips([np.zeros(9)], sample_rate=[value]),
    "views": lambda value: Clips(["a.wav"], views=value),
    "one of the views": lambda value: Clips(["a.wav"], views=[value]),
    "X": Clips.from_X,
    "X is one": lambda value: LogMelSegmenter().transform([value]),
    "X is two": lambda value: LogMelSegmenter().transform([np.zeros(9), value]),
    "path": lambda value: LogMelSegmenter().transform(pd.DataFrame({"path": [value]})),
    "audio": lambda value: LogMelSegmenter().transform(
        pd.DataFrame({"audio": [value]})
    ),
    "index": lambda value: Clips(["a.wav"])[value],
    "folder": load_clips,
    "read_file": lambda value: read_file(value, 16000),
    "channel": lambda value: read_file(__file__, 16000, value),
    "read_array": lambda value: read_array(value, None, 16000),
    "rate of read_array": lambda value: read_array(np.zeros(9), value, 16000),
    "own view": lambda value: WaveformView(value),
    "name of a view": lambda value: WaveformView(lambda s, r: s / 0, name=value),
    "pool": lambda value: pool(np.zeros((4, 3)), value),
    "statistics": lambda value: SpectrumStatistics(statistics=value).fit_transform(
        ClipSpectrograms.from_arrays([np.zeros((4, 3))])
    ),
    "extra": lambda value: AugmentationExpander(extra=[value]).fit_transform(["a.wav"]),
    "select_view": lambda value: ClipSpectrograms.from_arrays(
        [np.zeros((4, 3))]
    ).select_view(value),
    "arrays": lambda value: ClipSpectrograms.from_arrays(value),
    "rows of numbers": lambda value: MahalanobisDetector().fit(value),
    "a row of numbers": lambda value: MahalanobisDetector().fit([[value]] * 3),
    "y": lambda value: MahalanobisDetector().fit(np.eye(4), value),
    "a label": lambda value: LogMelSegmenter().fit([np.zeros(9)], [value]),
}


@pytest.mark.parametrize("what", LABELS)
def test_values_that_are_long_are_refused_in_short(what):
    for value in LONG.values():
        assert_short(lambda: LABELS[what](value))  # noqa: B023


def test_most_of_these_are_refused():
    n_raised = sum(
        assert_short(lambda: use(value)) is not None  # noqa: B023
        for use in list(LABELS.values())[:10]
        for value in LONG.values()
    )
    assert n_raised > 50


def test_a_warning_lists_some_of_many_bad_clips(tmp_path):
    paths = [tmp_path / f"{row}.wav" for row in range(300)]
    with pytest.warns(UserWarning, match="300 of 300 clips cannot") as caught:
        X = LogMelSegmenter(on_bad_clip="nan").transform(paths)
    (message,) = [str(warning.message) for warning in caught]
    assert message.count("\n") == 9
    assert message.endswith(
        "and 292 more, whose reasons `problems` of the result holds"
    )
    assert len(X.problems) == 300


def test_long_names_of_files_and_errors_of_functions_are_cut(tmp_path):
    name = "n" * 5000
    with pytest.raises(BadClipError, match=r"clip 0 \(n{200}\.\.\. \(5,000 char"):
        LogMelSegmenter().transform([name])

    def fail(log_mel):
        raise ValueError("no " * N)

    expand = AugmentationExpander(
        pitch_steps=(0,), stretch_rates=(1,), extra=[LogMelView(fail)]
    )
    X = expand.fit_transform([np.zeros(60_000)])
    with pytest.raises(BadClipError, match="raised ValueError: no no .* characters"):
        LogMelSegmenter().transform(X)
    assert_short(lambda: LogMelSegmenter().transform(X))
