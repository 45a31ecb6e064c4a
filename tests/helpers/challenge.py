"""Small data sets in each year's layout of DCASE Task 2, and their ground truth."""

import numpy as np
import soundfile

RATE = 16000
EVAL_TYPES = {
    2020: "ToyConveyor",
    2021: "fan",
    2022: "fan",
    2023: "bandsaw",
    2024: "3DPrinter",
    2025: "AutoTrash",
    2026: "Sander",
}
DOMAINS = ("source", "target")


class Recorder:
    """Writes recordings of machines that hum, and of some that also whistle."""

    def __init__(self, folder, year, seconds=4.0):
        self.folder = folder
        self.year = year
        self.n_samples = round(seconds * RATE)
        self.rng = np.random.default_rng(0)

    def write(self, name, section, label):
        """Write a recording of a machine; label is +1 or -1."""
        time = np.arange(self.n_samples) / RATE
        pitch = 300 + 60 * int(section) + self.rng.normal(0, 3)
        sound = 0.1 * np.sin(2 * np.pi * pitch * time)
        sound += self.rng.normal(0, 0.02, self.n_samples)
        if label == -1:
            loudness = self.rng.uniform(0.001, 0.02)
            sound += loudness * np.sin(2 * np.pi * 3000 * time)
        if self.year == 2026:
            sound = np.stack([sound, self.rng.permutation(sound)], axis=1)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, RATE)


def write_year(folder, year, n_train=6, n_test=2, types=None):
    """Write a data set of a year.

    There are `n_train` normal clips of each section, and `n_test` test clips of each
    label (and domain), in the development set and in the evaluation set.

    Returns
    -------
    truth : dict of (str, str, str) to (int, str)
        For each type, section and file of the evaluation set, 1 for an anomaly, and the
        domain.
    """
    recorder = Recorder(folder, year)
    if year == 2020:
        return _write_2020(recorder, n_train, n_test, types or ["ToyConveyor"])
    truth, lists = {}, []
    sections = {"dev": ["00", "01"], "eval": ["03", "04"]} if year < 2023 else {}
    for of_set, kind in {"dev": "fan", "eval": EVAL_TYPES[year]}.items():
        for section in sections.get(of_set, ["00"]):
            start = f"section_{section}"
            for number in range(n_train):
                domain = DOMAINS[number % 3 == 2]
                name = (
                    f"{start}_{domain}_train_normal_{number:04d}_vel_{number % 2}.wav"
                )
                recorder.write(f"{kind}/train/{name}", section, 1)
            shown = _write_tests(recorder, kind, section, of_set, n_test)
            if of_set == "eval":
                lists += [(kind, *row[:2]) for row in shown]
                truth |= {(kind, section, row[0]): row[2:] for row in shown}
    _write_lists(folder, year, lists)
    return truth


def _write_tests(recorder, kind, section, of_set, n_test):
    """Write test clips; names as they are, and as the ground truth shows them."""
    rows, start = [], f"section_{section}"
    hidden = recorder.rng.permutation(4 * n_test)
    for domain in DOMAINS:
        place = f"{domain}_test" if recorder.year == 2021 else "test"
        for word, label in (("normal", 1), ("anomaly", -1)):
            for number in range(n_test):
                shown = f"{start}_{domain}_test_{word}_{number:04d}_vel_1.wav"
                secret = f"{start}_{hidden[len(rows)]:04d}.wav"
                if recorder.year == 2021:
                    secret = f"{start}_{domain}_test_{hidden[len(rows)]:04d}.wav"
                name = shown if of_set == "dev" else secret
                recorder.write(f"{kind}/{place}/{name}", section, label)
                rows.append((secret, shown, int(label == -1), domain))
    return rows


def _write_lists(folder, year, lists):
    kind = EVAL_TYPES[year]
    rows = "".join(f"{secret},{shown}\n" for _, secret, shown in lists)
    if year == 2026:
        (folder / f"ground_truth_{kind}_section_00_test.csv").write_text(rows)
    else:
        (folder / f"eval_data_list_{year}.csv").write_text(f"{kind}\n{rows}")


def _write_2020(recorder, n_train, n_test, types):
    truth, lines = {}, []
    for kind in types:
        lines.append(kind)
        dev, new = ("01", "02"), ("05",)
        for machine in (*dev, *new):
            for number in range(n_train):
                name = f"normal_id_{machine}_{number:08d}.wav"
                recorder.write(f"{kind}/train/{name}", machine, 1)
            hidden = recorder.rng.permutation(2 * n_test)
            for number in range(2 * n_test):
                is_anomalous = number >= n_test
                word = "anomaly" if is_anomalous else "normal"
                shown = f"{word}_id_{machine}_{number:08d}.wav"
                secret = f"id_{machine}_{hidden[number]:08d}.wav"
                name = shown if machine in dev else secret
                recorder.write(
                    f"{kind}/test/{name}", machine, -1 if is_anomalous else 1
                )
                if machine in new:
                    lines.append(f"{secret},{shown},{int(is_anomalous)}")
                    truth[kind, machine, secret] = int(is_anomalous), ""
    (recorder.folder / "eval_data_list.csv").write_text("\n".join(lines) + "\n")
    return truth
