import pandas as pd
import pytest
from encoders import bands
from sklearn import config_context
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    ClipSpectrograms,
    EncoderEmbedding,
    LinearSpectrogram,
    LogMelSegmenter,
    PowerSpectrum,
    SpectrumStatistics,
)

TRANSFORMERS = [
    AugmentationExpander(),
    EncoderEmbedding(bands),
    LinearSpectrogram(),
    LogMelSegmenter(),
    PowerSpectrum(),
]


@pytest.mark.parametrize("transformer", TRANSFORMERS)
@pytest.mark.parametrize("transform", ["pandas", "polars"])
def test_containers_of_clips_do_not_become_tables(transformer, transform):
    name = type(transformer).__name__
    message = f"transform='{transform}' is not possible, as {name} gives a container"
    with pytest.raises(ValueError, match=message):
        transformer.set_output(transform=transform)
    with pytest.raises(ValueError, match=message):  # and not scikit-learn's message
        make_pipeline(transformer, "passthrough").set_output(transform=transform)


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_the_default_output_may_be_asked_for(transformer):
    assert transformer.set_output(transform="default") is transformer
    assert transformer.set_output() is transformer


def test_tables_that_are_wanted_everywhere_are_made_where_there_are_columns(rng):
    audio = rng.normal(size=(2, 4 * 16000)) / 10
    with config_context(transform_output="pandas"):
        pipe = make_pipeline(LogMelSegmenter(), SpectrumStatistics())
        assert isinstance(pipe.fit_transform(audio), pd.DataFrame)
        assert isinstance(pipe[:-1].transform(audio), ClipSpectrograms)
