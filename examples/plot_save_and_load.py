"""
Save a model, and load it elsewhere
===================================

One file contains all that scoring needs. Another process, here a new Python, gives
every clip the same score, bit for bit.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_asd import IDConfidenceDetector, LogMelSegmenter
from sklearn_asd.datasets import make_machine_sounds

clips = make_machine_sounds(
    "slider",
    n_machines=2,
    n_train=12,
    n_test_normal=12,
    n_test_anomalous=12,
    duration=4.0,
    random_state=0,
)
train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
detect = IDConfidenceDetector(lr=0.01, batch_size=16, max_epochs=20, random_state=0)
pipe = make_pipeline(LogMelSegmenter(), detect).fit(train)

# %%
# Save the whole pipeline, not only the network: it includes the settings of the
# spectrogram, the names of the machines and the threshold, but no training data. A
# joblib file can run code, so load only files that you trust. Files of `save_model`
# contain no code, and `load_model` reads them.

folder = tempfile.TemporaryDirectory()
model, new_clips, result = (
    Path(folder.name, name) for name in ("sliders.joblib", "clips.joblib", "scores.npy")
)
joblib.dump(pipe, model)
joblib.dump(test, new_clips)
print(f"{model.name}: {model.stat().st_size / 1e3:.0f} kB for {detect.classes_}")

# %%
# The other process gets only the two files.

program = """
import sys
import joblib
import numpy as np

model, clips, result = sys.argv[1:]
np.save(result, joblib.load(model).score_samples(joblib.load(clips)))
"""
subprocess.run([sys.executable, "-c", program, model, new_clips, result], check=True)
here, there = pipe.score_samples(test), np.load(result)
print(f"largest difference: {np.abs(here - there).max()}")

# %%
# All clips lie on the diagonal.

figure, axis = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
for label, color, marker, name in [(1, "C0", "o", "normal"), (-1, "C3", "x", "fault")]:
    rows = (test["label"] == label).to_numpy()
    axis.scatter(-here[rows], -there[rows], c=color, marker=marker, label=name)
limits = [-here.max() / 2, -here.min() * 2]
axis.plot(limits, limits, color="0.6", linewidth=1, zorder=0)
axis.set(
    xscale="log",
    yscale="log",
    xlabel="anomaly score where it was fitted",
    ylabel="anomaly score where it was loaded",
)
axis.legend()
plt.show()
folder.cleanup()
