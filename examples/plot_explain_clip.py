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
detect = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)

# %%
# Choose the clip that is furthest below its threshold.

decisions = pipe.decision_function(test)
worst = decisions.argmin()
test.iloc[worst][["machine_type", "machine_id", "label", "fault"]]

# %%
# The bars below the spectrogram and beside it show what each piece of time and each
# band adds to the anomaly score. They are found by experiment: a piece is exchanged
# with that of normal clips of the same machine, and both are scored again. A frame
# marks the place that carries most of the anomaly, if there is one. Here it is the
# slider's squeal just below 2 kHz. No single moment is named, as the squeal lasts from
# beginning to end.

same = train["machine_id"] == test.iloc[worst]["machine_id"]
display = ClipScoreDisplay.from_estimator(pipe, test, clip=worst, X_normal=train[same])
plt.show()
