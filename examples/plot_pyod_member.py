"""
A PyOD detector in an ensemble
==============================

Any outlier detector on rows of numbers can be a member of an ensemble: here one of
PyOD. Its scores have the opposite sign of scikit-learn's, and the ensemble takes care
of that.
"""

import matplotlib.pyplot as plt
import numpy as np
from pyod.models.knn import KNN
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    GammaProbabilityEnsemble,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import auc_table

clips = make_machine_sounds(
    ["fan", "slider", "valve"],
    n_machines=3,
    n_train=24,
    n_test_normal=12,
    n_test_anomalous=12,
    duration=4.0,
    random_state=0,
)
segment = LogMelSegmenter()
X_train = segment.fit_transform(clips[clips["split"] == "train"])
test = clips[clips["split"] == "test"]
X_test = segment.transform(test)

# %%
# `SpectrumStatistics` turns each clip into a row of numbers, and `PerMachine` fits one
# detector per machine. A training clip is its own nearest neighbour, so the Gamma
# distributions must be fitted to scores of held-out clips: set `calibration_cv`.

neighbors = make_pipeline(SpectrumStatistics(), KNN(n_neighbors=1))
distance = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
members = [("PyOD's KNN", PerMachine(neighbors)), ("Mahalanobis", PerMachine(distance))]
ensemble = GammaProbabilityEnsemble(members, group_by="machine_id", calibration_cv=4)
ensemble.fit(X_train)

# %%
# `member_scores` gives anomaly scores for members of either library. `score_samples` of
# the ensemble is higher for more normal clips.

raw = ensemble.member_scores(X_test)["raw"]
scores = {name: -raw[name] for name in raw}
scores["ensemble"] = ensemble.score_samples(X_test)
tables = {name: auc_table(test, test["label"], each) for name, each in scores.items()}
auc = {
    name: table["auc"].xs("average", level="machine_id")
    for name, table in tables.items()
}
kinds = list(auc["ensemble"].index)

# %%
# The ensemble is close to its better member, without knowing which one that is.

figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for number, (name, marker) in enumerate(zip(auc, "osD", strict=True)):
    height = np.arange(len(kinds)) + 0.15 * (number - 1)
    axis.plot(auc[name], height, marker, label=name, markersize=9)
axis.axvline(0.5, color="0.6", linestyle=":", label="chance")
axis.set(
    xlabel="AUC, average of three machines",
    ylabel="type of machine",
    yticks=range(len(kinds)),
    yticklabels=kinds,
    xlim=(0.45, 1.02),
)
axis.invert_yaxis()
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
