"""
Find faults of valves
=====================

The default detector learns how four valves sound, from normal recordings only. It
scores their faults lower: most of them lie left of the normal clips.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import auc_table
from sklearn_asd.presets import make_detector

# %%
# The clips are a table with one row per clip. `load_clips(folder)` makes such a table
# from a folder of recordings. All training clips are normal.

clips = make_machine_sounds(
    "valve",
    n_machines=4,
    n_train=16,
    n_test_normal=12,
    n_test_anomalous=12,
    duration=5.0,
    random_state=0,
)
train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
train.groupby(["machine_type", "machine_id", "label"]).size()

# %%
# The first step turns clips into log-mel spectrograms. The second chooses the statistic
# over time that best tells the valves apart: "rank" gives most weight to the loudest
# moments. It learns what is normal for each valve.

detect = make_detector()
pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)
print(detect.selected_)
scores = pipe.score_samples(test)  # higher is more normal

# %%
# AUC is the share of pairs of a normal and an anomalous clip that are in the right
# order. 0.5 is chance.

auc_table(test, test["label"], scores).round(3)

# %%
# A score counts standard deviations: at -3 a clip is three of them more anomalous than
# left-out training clips are on average. The line is the threshold. With only 16
# training clips of each valve, it raises more false alarms than the tenth it aims at.

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
names = sorted(test["machine_id"].unique())
shift = np.random.default_rng(0).uniform(-0.08, 0.08, len(test))  # no overlap
height = test["machine_id"].map(names.index).to_numpy() + shift
for label, color, marker, name in [(1, "C0", "o", "normal"), (-1, "C3", "x", "fault")]:
    rows = (test["label"] == label).to_numpy()
    axis.scatter(
        scores[rows], height[rows] + 0.12 * label, c=color, marker=marker, label=name
    )
axis.axvline(detect.offset_, color="black", linewidth=1)
axis.set(
    xlabel="score: standard deviations (higher is more normal)",
    ylabel="valve",
    yticks=range(len(names)),
    yticklabels=names,
)
axis.legend()
plt.show()
