"""
A threshold that keeps its promise
==================================

A threshold set with training clips raises many more false alarms than it promises. A
threshold set with other clips keeps its promise.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.frozen import FrozenEstimator

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter, ThresholdTuner
from sklearn_asd.datasets import make_machine_sounds

clips = make_machine_sounds(
    "valve",
    n_machines=3,
    n_train=40,
    n_test_normal=60,
    n_test_anomalous=30,
    duration=4.0,
    random_state=1,
)
X = LogMelSegmenter().fit_transform(clips)
known = (clips["split"] == "train").to_numpy()
normal = (clips["label"] == 1).to_numpy()
new_normal, new_faults = X[~known & normal], X[~known & ~normal]

# %%
# The detector's own threshold calls 10 % of its training clips anomalous. A third of
# the known clips train the detector. The others set the threshold of the tuner, which
# does not fit the detector again.

rows = np.random.default_rng(1).permutation(np.flatnonzero(known))
detect = IDConfidenceDetector(
    lr=0.01, batch_size=16, max_epochs=40, contamination=0.1, random_state=0
)
detect.fit(X[rows[:40]])
tuner = ThresholdTuner(FrozenEstimator(detect), false_alarm_rate=0.1).fit(X[rows[40:]])
print(tuner.promise_)
low, high = tuner.false_alarm_interval(len(new_normal))
print(f"among {len(new_normal)} such clips that is {low:.0%} to {high:.0%}")

# %%
# With known faults, the threshold can also be chosen to miss few of them, whatever the
# number of false alarms. Half of the faults set it, and the other half test it.

y = np.repeat([1, -1], [80, 45])
careful = ThresholdTuner(
    FrozenEstimator(detect), policy="escapes", max_escape_rate=0.1
).fit(X[[*rows[40:], *np.flatnonzero(~known & ~normal)[::2]]], y)
print(careful.promise_.replace("; ", ";\n"))
unseen_faults = new_faults[1::2]

# %%
# Each curve shows the share of new clips that a threshold calls anomalous: those that
# score below it.

thresholds = {
    "own, of 10 % of training clips": (detect.offset_, "C1"),
    "tuned to 10 % false alarms": (tuner.offset_, "C2"),
    "tuned to 10 % escapes": (careful.offset_, "C4"),
}
figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
for name, new, color in [
    ("normal clips", new_normal, "C0"),
    ("faults", unseen_faults, "C3"),
]:
    axis.ecdf(-detect.score_samples(new), complementary=True, color=color, label=name)
for name, (offset, color) in thresholds.items():
    alarms = (detect.score_samples(new_normal) < offset).mean()
    found = (detect.score_samples(unseen_faults) < offset).mean()
    label = f"{name}:\n{alarms:.0%} false alarms, {found:.0%} of the faults"
    axis.axvline(-offset, color=color, linestyle="--", label=label)
axis.set(
    xscale="log",
    xlabel="anomaly score at the threshold (lower is normal)",
    ylabel="share of clips called anomalous",
)
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
plt.show()
