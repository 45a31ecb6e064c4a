"""
Search for the weight of the centre loss
========================================

`GridSearchCV` finds the weight (lambda in Eq. (3)) that finds faults best in clips not
trained on. Features are computed once, and the detector never trains on anomalies.
"""

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.metrics import mean_auc_scorer
from sklearn_asd.model_selection import MachineStratifiedKFold

# %%
# The search needs some anomalies to score by: here each of three valves has 12 faults
# and 24 normal clips.

clips = make_machine_sounds(
    "valve",
    n_machines=3,
    n_train=24,
    n_test_normal=0,
    n_test_anomalous=12,
    duration=4.0,
    random_state=0,
)
X, y = LogMelSegmenter().fit_transform(clips), clips["label"].to_numpy()

# %%
# Every fold has normal and anomalous clips of every machine. The detector trains on
# the normal clips of two folds, and is scored on all clips of the third by the average
# of the machines' AUCs.

detect = IDConfidenceDetector(lr=0.01, batch_size=8, max_epochs=10, random_state=0)
weights = [0.0, 0.01, 0.1, 1.0]
search = GridSearchCV(
    detect,
    {"center_loss_weight": weights},
    scoring=mean_auc_scorer,
    cv=MachineStratifiedKFold(3),
).fit(X, y)
print(search.best_params_)

# %%
# The differences between folds are as large as those between weights. With so few clips
# the result is uncertain: use more folds, clips or seeds before you trust it.

results = search.cv_results_
figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
for fold in range(3):
    axis.plot(results[f"split{fold}_test_score"], ".", color="0.6")
axis.errorbar(
    range(len(weights)),
    results["mean_test_score"],
    results["std_test_score"],
    fmt="o-",
    capsize=4,
    label="mean and standard deviation of three folds (dots)",
)
axis.axhline(0.5, color="0.6", linestyle=":", label="chance")
axis.set(
    xlabel="weight of the centre loss, lambda",
    ylabel="AUC of clips not trained on, mean of machines",
    xticks=range(len(weights)),
    xticklabels=weights,
)
axis.legend()
plt.show()
