"""
Score a collection on a cluster
===============================

With dask, workers in other processes or on other computers read and score recordings.
They receive a fitted system of a few hundred kilobytes and the names of files, which
they must be able to open. They return a score for each clip. A search works the same
way: ``GridSearchCV(..., n_jobs=-1)`` within ``joblib.parallel_config("dask")``.

From a checkout, install it with ``pip install -c constraints.txt -e ".[distributed]"``.
"""

import tempfile
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from distributed import Client
from distributed.deploy import SubprocessCluster
from sklearn.pipeline import make_pipeline

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter, load_clips
from sklearn_asd.datasets import make_machine_sounds

# %%
# All workers can open this folder. It contains built-in sounds of two fans.

folder = Path(tempfile.mkdtemp())
sounds = make_machine_sounds(
    "fan",
    n_machines=2,
    n_train=10,
    n_test_normal=10,
    n_test_anomalous=10,
    duration=4.0,
    random_state=0,
)
for row, sound in enumerate(sounds.itertuples()):
    label = "normal" if sound.label == 1 else "anomaly"
    name = f"{label}_id_{sound.machine_id}_{row:08d}.wav"
    path = folder / "fan" / sound.split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.audio, 16000)

clips = load_clips(folder)
train, new = (clips[clips["split"] == split] for split in ("train", "test"))

# %%
# This process trains the system, since one computer trains a network.

system = make_pipeline(
    LogMelSegmenter(), IDConfidenceDetector(max_epochs=15, random_state=0)
).fit(train)

# %%
# The workers score the clips: each task gets the names of ten files.

chunks = [new[start : start + 10] for start in range(0, len(new), 10)]
options = {"nthreads": 1, "dashboard": False}
cluster = SubprocessCluster(n_workers=2, worker_kwargs=options)
with cluster, Client(cluster), joblib.parallel_config("dask"):
    started = time.perf_counter()
    scores = np.concatenate(
        joblib.Parallel(n_jobs=-1)(
            joblib.delayed(system.score_samples)(chunk) for chunk in chunks
        )
    )
    print(f"{len(new)} clips in {time.perf_counter() - started:.1f} s")

# %%
# This process computes the same scores.

local = system.score_samples(new)
fig, ax = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
for label, name, marker in ((1, "normal", "o"), (-1, "anomalous", "x")):
    chosen = (new["label"] == label).to_numpy()
    ax.plot(local[chosen], scores[chosen], marker, label=name)
ax.axline((local.min(), local.min()), slope=1, color="0.6", zorder=0)
ax.set(
    xlabel="score of this process",
    ylabel="score of the cluster",
    title="Higher is more normal",
)
ax.legend()
plt.show()
