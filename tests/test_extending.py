"""What users add from outside the package, one test a subject."""

import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    LogMelSegmenter,
    LogMelView,
    WaveformView,
)


def test_a_view_from_outside(rng):
    """One function of the waveform and one of the log-mel, told apart by a detector."""

    def polarity(samples, sample_rate):
        return -samples

    def mirror(log_mel):
        return log_mel[::-1]

    views = [WaveformView(polarity), LogMelView(mirror)]
    pipe = make_pipeline(
        AugmentationExpander(pitch_steps=[0], stretch_rates=[1], extra=views),
        LogMelSegmenter(segment_duration=None, n_mels=32),
        AugmentConfidenceDetector(max_epochs=1, random_state=0),
    )
    waves = rng.uniform(-0.1, 0.1, (4, 16000))
    assert np.isfinite(pipe.fit(waves).score_samples(waves)).all()
    assert pipe[-1].classes_.tolist() == ["original", "polarity", "mirror"]
