"""
Two detectors find more than one
================================

A classifier of machine IDs and a distance of spectra miss different faults. Gamma
distributions make their scores comparable, and the ensemble combines them into one
probability.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    SpectrumStatistics,
)
from sklearn_asd.datasets import make_machine_sounds

clips = make_machine_sounds(
    "slider",
    n_machines=4,
    n_train=16,
    n_test_normal=16,
    n_test_anomalous=16,
    duration=4.0,
    random_state=0,
)
train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]

# %%
# The step before the ensemble reads each clip once for both members. With
# `calibration_cv`, the network's Gamma distribution is fitted to scores of clips that
# the network was not trained on.

spectrum = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
network = IDConfidenceDetector(lr=0.01, batch_size=16, max_epochs=20, random_state=0)
ensemble = GammaProbabilityEnsemble(
    [("network", network), ("spectrum", spectrum)], calibration_cv=2
)
pipe = make_pipeline(LogMelSegmenter(), ensemble).fit(train)

# %%
# `member_scores` gives the raw and the scaled score of each member.

members = ensemble.member_scores(pipe[:-1].transform(test))
f = members["scaled"]
combined = -pipe.score_samples(test)
auc = {name: roc_auc_score(-test["label"], f[name]) for name in f}
auc["ensemble"] = roc_auc_score(-test["label"], combined)
print({name: f"{value:.3f}" for name, value in auc.items()})

# %%
# On each line the ensemble's probability is constant, Eq. (6). One confident member is
# enough.

figure, axis = plt.subplots(figsize=(6, 5.2), layout="constrained")
grid = np.linspace(0, 1, 101)
levels = 1 - np.outer(1 - grid, 1 - grid)
lines = axis.contour(grid, grid, levels, [0.5, 0.75, 0.9, 0.97, 0.99], colors="0.6")
axis.clabel(lines, fmt="f = %.2f", fontsize="small")
for label, color, marker, name in [(1, "C0", "o", "normal"), (-1, "C3", "x", "fault")]:
    rows = (test["label"] == label).to_numpy()
    axis.scatter(
        f["network"][rows], f["spectrum"][rows], c=color, marker=marker, label=name
    )
axis.set(
    xlabel=f"f of the network: AUC {auc['network']:.2f}",
    ylabel=f"f of the spectrum: AUC {auc['spectrum']:.2f}",
    title=f"Ensemble: AUC {auc['ensemble']:.2f}",
)
axis.legend(loc="lower left")
plt.show()
