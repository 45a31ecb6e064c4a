"""Does an explanation name the right place? Measured on planted faults.

    python benchmarks/accuracy_localization.py [FOLDER] [--detectors ...] [--sets ...]

Faults are added to normal clips that were left out: tones, noise, clicks, gaps and
changes of level for 10 to 20 % of the clip, and hums (tones from beginning to end).
Of the clips that are called anomalous with the fault and normal without it, the named
time and band must both overlap the fault's; clips for which nothing is named count as
missed. "by chance" is how often a place as wide would overlap if it lay anywhere. Of
the clean clips, the table counts those for which a place is named.

FOLDER holds `toycar2023/` and `valve2023/`; without it, only sounds of
`make_machine_sounds` are used.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd import LogMelSegmenter, load_clips
from sklearn_asd.audio import Clips
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.explanation import locate_anomaly
from sklearn_asd.presets import NETWORK_DETECTORS, make_detector

RATE = 16000
KINDS = ("tone", "hum", "noise", "clicks", "gap", "level")
STRENGTHS = (-3, 3, 9)  # dB above the clip
TYPES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
RECORDED = {"toycar2023": "car", "valve2023": "pat"}
COLUMNS = ["set", "fault", "called", "right", "chance", "nothing", "seconds"]


def main():
    args = parse_arguments()
    for name in args.detectors:
        results = pd.concat(
            [
                measure(name, one, read(one, args.folder), args.epochs)
                for one in args.sets or [*TYPES, *(RECORDED if args.folder else [])]
            ]
        )
        print(f"\n{name}\n\n{tabulate(results)}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of recordings")
    detectors = ["default", "neighbors", "networks"]
    parser.add_argument("--detectors", nargs="+", default=detectors)
    parser.add_argument("--sets", nargs="+", choices=[*TYPES, *RECORDED])
    parser.add_argument("--epochs", type=int, default=3, help="of networks; default: 3")
    return parser.parse_args()


# -- clips -----------------------------------------------------------------------


def read(name, folder):
    """Normal clips to train on, and others to plant faults in."""
    if name in TYPES:
        clips = make_machine_sounds(
            name,
            n_machines=2,
            n_train=20,
            n_test_normal=6,
            n_test_anomalous=0,
            random_state=1,
        )
        return clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    clips = load_clips(folder / name)
    clips["machine_id"] = clips[RECORDED[name]]
    clips["audio"] = [Clips.from_X([path]).read(0, RATE, 0) for path in clips["path"]]
    training = clips["split"] == "train"
    from_end = clips[training].groupby("machine_id").cumcount(ascending=False)
    left_out = from_end.index[from_end < 2]  # as there are few normal test clips
    tested = (~training & (clips["label"] == 1)) | clips.index.isin(left_out)
    clips = clips.drop(columns="path")
    return clips[training & ~tested], clips[tested]


def plant(audio, kind, rng, strength):
    """Add a fault; give the samples, and its times (s) and frequencies (Hz)."""
    samples = np.array(audio, dtype=float)
    duration = len(samples) / RATE
    length = rng.uniform(0.1, 0.2) * duration
    start = rng.uniform(0, duration - length)
    if kind == "hum":
        start, length = 0.0, duration
    part = slice(int(start * RATE), int((start + length) * RATE))
    times, band = (start, start + length), (0.0, RATE / 2)
    level = np.sqrt(np.mean(samples**2)) * 10 ** (strength / 20)
    n_samples = len(samples[part])
    if kind in ("tone", "hum"):
        frequency = np.exp(rng.uniform(np.log(300), np.log(6000)))
        cycles = frequency * np.arange(n_samples) / RATE
        samples[part] += level * np.sqrt(2) * np.sin(2 * np.pi * cycles)
        band = (frequency, frequency)
    elif kind == "noise":
        samples[part] += level * rng.normal(size=n_samples)
    elif kind == "clicks":  # of 5 ms, about seven a second
        clicking = np.arange(n_samples) % int(0.15 * RATE) < 0.005 * RATE
        samples[part] += 8 * level * rng.normal(size=n_samples) * clicking
    else:
        change = -30 if kind == "gap" else 10 + strength
        samples[part] *= 10 ** (change / 20)
    return samples, times, band


def make_cases(clips):
    """Each clip as it is, and with one fault of each kind."""
    rng = np.random.default_rng(0)
    cases = []
    for number, clip in enumerate(clips.itertuples()):
        for place, kind in enumerate((None, *KINDS)):
            case = {"machine_type": clip.machine_type, "machine_id": clip.machine_id}
            samples, times, band = clip.audio, None, None
            if kind:
                strength = STRENGTHS[(number + place) % len(STRENGTHS)]
                samples, times, band = plant(clip.audio, kind, rng, strength)
            cases.append(case | {"audio": samples, "fault": kind, "number": number})
            cases[-1] |= {"times": times, "band": band}
    return pd.DataFrame(cases)


# -- places ----------------------------------------------------------------------


def measure(name, set_name, clips, epochs=3):
    """What is named for the clips that are called anomalous."""
    train, tested = clips
    chosen = {"contamination": 0.05}
    if name in NETWORK_DETECTORS:
        chosen |= {"max_epochs": epochs, "random_state": 0}
    segment = LogMelSegmenter()
    X_normal, cases = segment.transform(train), make_cases(tested)
    detector = make_pipeline(make_detector(name, **chosen)).fit(X_normal)
    X = segment.transform(cases.drop(columns=["fault", "number", "times", "band"]))
    anomalous = detector.decision_function(X) < 0
    raised_before = set(cases["number"][cases["fault"].isna() & anomalous])
    rows = []
    for row, case in enumerate(cases.itertuples()):
        is_clean = case.times is None
        if is_clean or case.number not in raised_before:
            fault = "none" if is_clean else case.fault
            found = (None,) * 4
            if anomalous[row]:
                found = judge(detector, X, row, X_normal, case)
            rows.append([set_name, fault, anomalous[row], *found])
    return pd.DataFrame(rows, columns=COLUMNS)


def judge(detector, X, row, X_normal, case):
    """Whether the right place is named, the odds of that, if none is, and the time."""
    begun = time.perf_counter()
    found = locate_anomaly(detector, X, row, X_normal=X_normal)
    seconds = time.perf_counter() - begun
    named = found.time is not None or found.band is not None
    if case.times is None:
        return None, None, not named, seconds
    odds = [
        compare(place, planted, whole)
        for place, planted, whole in (
            (found.time, case.times, len(case.audio) / RATE),
            (found.band, case.band, RATE / 2),
        )
        if place is not None
    ]
    hits = [hit for hit, _ in odds]
    return named and all(hits), np.prod([p for _, p in odds]), not named, seconds


def compare(place, planted, whole):
    """Whether two intervals overlap, and how likely that is by chance."""
    hit = place[0] <= planted[1] and planted[0] <= place[1]
    width = place[1] - place[0]
    overlapping = min(planted[1], whole - width) - max(planted[0] - width, 0)
    return hit, min(1.0, overlapping / (whole - width))


def tabulate(results):
    """Counts by kind of fault, and of the clean clips, as a Markdown table."""
    lines = [
        "| fault | clips | called | right place | nothing named | by chance |",
        "|---|---|---|---|---|---|",
    ]
    planted = results[results["fault"] != "none"]
    for fault, group in [*planted.groupby("fault"), ("all", planted)]:
        called = group[group["called"]]
        named = called[~called["nothing"].astype(bool)]
        right, nothing = (
            called[kind].astype(bool).mean() for kind in ("right", "nothing")
        )
        lines.append(
            f"| {fault} | {len(group)} | {len(called)} | {right:.1%} | {nothing:.1%} | "
            f"{named['chance'].astype(float).mean():.0%} |"
        )
    clean = results[results["fault"] == "none"]
    named = (clean["called"] & (clean["nothing"] == False)).sum()  # noqa: E712
    lines.append(
        f"\nOf {len(clean)} clean clips {clean['called'].sum()} are called anomalous, "
        f"and a place is named for {named} ({named / len(clean):.1%}). A clip takes "
        f"{results['seconds'].astype(float).median():.2f} s (median)."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
