"""
From a folder to a list of suspects
===================================

A folder of recordings becomes a list with the least normal clip first. A warning names
a damaged file, and the others are scored.
"""

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, load_clips
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.presets import make_detector

# %%
# Use your own folder instead of this one, which is written for the example. It has
# normal recordings of two sliders from last week, and recordings of today to judge. One
# of the files is truncated.

sounds = make_machine_sounds(
    "slider",
    n_machines=2,
    n_train=20,
    n_test_normal=8,
    n_test_anomalous=4,
    duration=4.0,
    random_state=1,
)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
for (machine, split), rows in sounds.groupby(["machine_id", "split"]):
    for number, (audio, label) in enumerate(
        zip(rows["audio"], rows["label"], strict=True)
    ):
        kind = "test" if split == "test" else "train"
        note = "" if label == 1 else "_fault"
        path = folder / f"slider_{machine}" / kind / f"{number:02d}{note}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, 16000)
with open(folder / "slider_00" / "test" / "99_damaged.wav", "wb") as damaged:
    damaged.write(path.read_bytes()[:40])

# %%
# `load_clips` reads the file names into a table, and no audio yet. Look at the table
# first.

clips = load_clips(folder)
train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
clips.groupby(["machine_id", "split"]).size().unstack()

# %%
# The default detector needs few recordings, and seconds to fit. It chooses the
# statistic of the spectrum that best tells the two sliders apart.

detect = make_detector()
pipe = make_pipeline(LogMelSegmenter(on_bad_clip="nan"), detect).fit(train)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    X_test = pipe[:-1].transform(test)
print(caught[0].message)
print(detect.selected_)

# %%
# Below 0 is anomalous. The damaged file scores NaN, and counts as anomalous.

names = test["path"].str.removeprefix(f"{folder}/").str.replace("/test/", "/")
decisions, verdict = detect.decision_function(X_test), detect.predict(X_test)
verdicts = test.assign(clip=names, decision=decisions, verdict=verdict)
verdicts = verdicts.sort_values("decision", na_position="first")
print(verdicts[["clip", "decision", "verdict"]].head(12).to_string(index=False))

# %%
# Faults are at the top; their files are named so here as a check. No normal clip raises
# an alarm, and the mildest faults are missed.

shown = verdicts.dropna(subset="decision")
faults = shown["clip"].str.contains("fault")
figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
place = np.arange(len(shown))
for rows, color, name in [(faults, "C3", "fault"), (~faults, "C0", "normal")]:
    axis.barh(place[rows], shown["decision"][rows], color=color, label=name)
axis.set_yticks(place, shown["clip"])
axis.axvline(0, color="black", linewidth=1)
axis.invert_yaxis()
axis.set(xlabel="decision: below 0 is anomalous", ylabel="clip")
axis.legend()
plt.show()
temporary.cleanup()
