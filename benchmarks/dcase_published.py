"""Published figures of DCASE Task 2, in %, with their sources.

2020: Inoue et al., "Detection of Anomalous Sounds for Machine Condition Monitoring
using Classification Confidence", DCASE 2020 Workshop, Tables 3 and 4.

2021 to 2025: what the organisers' programs print of their baselines on the evaluation
set, in the READMEs of the repositories in `EVALUATORS`. "baseline" is their autoencoder
(MSE since 2023), "baseline-mahalanobis" the same with their selective Mahalanobis
distance. No such figures of 2026, nor of "baseline" in 2025, were found.
"""

import pandas as pd

EVALUATORS = {
    2021: "github.com/y-kawagu/dcase2021_task2_evaluator",
    2022: "github.com/Kota-Dohi/dcase2022_evaluator",
    2023: "github.com/nttcslab/dcase2023_task2_evaluator",
    2024: "github.com/nttcslab/dcase2024_task2_evaluator",
    2025: "github.com/nttcslab/dcase2025_task2_evaluator",
}

_SYSTEMS = ("baseline", "i", "ii", "iii", "iv")

# Table 3: AUC in the order of the systems.
_TABLE_3 = {
    "dev": {
        "ToyCar": (78.77, 95.66, 95.74, 92.48, 91.37),
        "ToyConveyor": (72.53, 81.71, 81.60, 76.90, 79.45),
        "fan": (65.83, 89.05, 88.73, 89.13, 81.27),
        "pump": (72.89, 93.32, 93.20, 91.60, 90.44),
        "slider": (84.76, 99.50, 99.47, 99.31, 98.08),
        "valve": (66.28, 99.77, 99.77, 99.53, 98.81),
    },
    "eval": {
        "ToyCar": (80.14, 93.80, 93.16, 91.06, 93.06),
        "ToyConveyor": (85.36, 87.32, 87.41, 79.88, 85.82),
        "fan": (82.80, 98.83, 98.84, 98.98, 91.35),
        "pump": (82.37, 94.61, 94.37, 93.87, 92.95),
        "slider": (79.41, 95.89, 95.68, 92.63, 96.29),
        "valve": (57.37, 97.69, 97.82, 98.02, 96.07),
    },
}

# Figures of a whole evaluation set.
_OVERALL = {
    (2020, "i"): {"score": 90.93},  # Table 4: average of AUC and pAUC
    (2020, "ii"): {"score": 90.68},
    (2021, "baseline"): {
        "auc": 57.76591410233997,
        "pauc": 52.7685553045072,
        "score": 55.15426725,
    },
    (2022, "baseline"): {"pauc": 52.80441054752629, "score": 52.94160921841315},
    (2023, "baseline"): {"score": 59.25469043549957},
    (2023, "baseline-mahalanobis"): {"score": 61.05082186925268},
    (2024, "baseline"): {"score": 56.50830191796572},
    (2024, "baseline-mahalanobis"): {"score": 56.48933421610234},
    (2025, "baseline-mahalanobis"): {"score": 56.50558189601554},
}

# Types of the evaluation sets. From 2023 they are in the order of `_AREAS`.
MACHINES = {
    2020: "ToyCar ToyConveyor fan pump slider valve",
    2021: "ToyCar ToyTrain fan gearbox pump slider valve",
    2022: "ToyCar ToyTrain bearing fan gearbox slider valve",
    2023: "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
    2024: "3DPrinter AirCompressor Scanner ToyCircuit HoveringDrone HairDryer "
    "ToothBrush RoboticArm BrushlessMotor",
    2025: "AutoTrash HomeCamera ToyPet ToyRCCar BandSealer CoffeeGrinder Polisher "
    "ScrewFeeder",
}

# AUC of the source and of the target domain and pAUC of each of these machines.
_AREAS = {
    (2023, "baseline-mahalanobis"): (
        [83.6434, 74.0941, 84.7660, 81.3, 66.78, 80.12, 83.84],
        [58.8584, 50.6823, 62.9953, 46.22, 40.9, 45.32, 90.06],
        [57.5359, 59.5529, 62.3331, 51.4211, 50.8947, 53.8421, 65.3158],
    ),
    (2023, "baseline"): (
        [66.6735, 70.6837, 69.4290, 79.68, 77.0, 72.12, 88.16],
        [48.2877, 55.1657, 56.0412, 56.1, 47.16, 64.68, 45.32],
        [50.9109, 58.4617, 54.9165, 53.6842, 51.7895, 58.2632, 59.4737],
    ),
    (2024, "baseline-mahalanobis"): (
        [75.44, 66.1, 56.84, 67.94, 83.88, 60.6, 65.56, 58.34, 80.32],
        [42.4, 55.5, 55.5, 44.64, 46.4, 58.98, 57.9, 42.5, 73.38],
        [
            *(50.8421, 60.7895, 49.2632, 49.2105, 58.0),
            *(55.1053, 48.3684, 51.7895, 59.0526),
        ],
    ),
    (2024, "baseline"): (
        [79.12, 65.0, 69.16, 76.58, 86.02, 62.24, 75.04, 65.96, 70.7],
        [47.96, 48.24, 53.74, 52.66, 43.88, 45.98, 69.48, 41.52, 63.52],
        [
            *(49.4211, 55.4737, 50.1053, 50.0, 50.2105),
            *(51.6316, 52.7368, 51.1579, 55.5789),
        ],
    ),
    (2025, "baseline-mahalanobis"): (
        [77.26, 86.16, 69.82, 55.86, 76.38, 74.98, 70.42, 72.9],
        [52.6, 42.64, 50.9, 55.48, 32.68, 40.42, 52.78, 79.04],
        [54.1579, 51.8421, 56.8421, 54.0, 49.1053, 51.4211, 53.7895, 70.0526],
    ),
}


def list_published(year, types):
    """Published figures of a year, in %; those of a whole set for all its types only.

    Parameters
    ----------
    year : int
        2020 to 2026.

    types : iterable of str
        The types whose clips of the evaluation set are rated.

    Returns
    -------
    figures : Series
        Indexed by set ("dev" or "eval"), system, machine type ("" for the whole set)
        and area ("auc", "auc_source", "auc_target", "pauc" or "score").
    """
    rows = {
        ("eval", system, "", area): value
        for (of, system), areas in _OVERALL.items()
        for area, value in areas.items()
        if of == year and set(types) == set(MACHINES[year].split())
    }
    if year == 2020:
        rows |= {
            (of_set, system, kind, "auc"): value
            for of_set, kinds in _TABLE_3.items()
            for kind, values in kinds.items()
            for system, value in zip(_SYSTEMS, values, strict=True)
        }
    for (of, system), lists in _AREAS.items():
        if of == year:
            areas = zip(("auc_source", "auc_target", "pauc"), lists, strict=True)
            rows |= {
                ("eval", system, kind, area): value
                for area, values in areas
                for kind, value in zip(MACHINES[year].split(), values, strict=True)
            }
    names = ["set", "system", "machine_type", "area"]
    if not rows:
        none = pd.MultiIndex.from_arrays([[]] * 4, names=names)
        return pd.Series(index=none, dtype=float)
    return pd.Series(rows, dtype=float).rename_axis(names).sort_index()
