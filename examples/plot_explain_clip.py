"""
Why is this clip anomalous?
===========================

A score is one number. `ClipScoreDisplay` shows when in the clip, and at which
frequencies, the anomaly lies.
"""

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.plotting import ClipScoreDisplay

clips = make_machine_sounds(
    "slider",
    n_machines=2,
    n_train=24,
    n_test_normal=4,
    n_test_anomalous=8,
    duration=6.0,
    random_state=0,
)
train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
segment = LogMelSegmenter(segment_duration=1.0, segment_hop=0.5)
detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
pipe = make_pipeline(segment, detect).fit(train)

# %%
# Choose the clip that is furthest below its threshold.

decisions = pipe.decision_function(test)
worst = decisions.argmin()
test.iloc[worst][["machine_type", "machine_id", "label", "fault"]]

# %%
# Below the spectrogram is the score of each segment, computed as for a whole clip. Bars
# to the right mark bands that carry the anomaly: the clip's anomaly score falls by that
# much if the band of a normal clip of the same machine replaces it. Here it is the
# slider's squeal just below 2 kHz, from the first segment to the last.

same = train["machine_id"] == test.iloc[worst]["machine_id"]
display = ClipScoreDisplay.from_estimator(pipe, test, clip=worst, X_normal=train[same])
plt.show()
