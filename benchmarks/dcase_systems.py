"""The systems that `dcase.py` compares, and the scores that they give.

A job fits one system to the clips of some machine types, with one seed, and scores the
clips of one type or of all. Members of a detector are systems, too: "ensemble-networks"
is the member "networks" of "ensemble". The paper's systems (i) and (ii) are computed
from the scores of (iii) and (iv), which the ensembles of make_paper_system would
compute again for each way to combine them.
"""

import sys
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.pipeline import make_pipeline

from sklearn_asd import GammaProbabilityEnsemble, LogMelSegmenter
from sklearn_asd.meta.structure import Opened
from sklearn_asd.presets import (
    DETECTORS,
    NETWORK_DETECTORS,
    PAPER_SYSTEMS,
    make_detector,
    make_paper_system,
    training_types,
)

GROUPS = {
    "paper": PAPER_SYSTEMS,
    "detectors": DETECTORS,
    "all": (*PAPER_SYSTEMS, *DETECTORS),
}
COMBINED = ("i", "ii")
MEMBERS = {"id": "iii", "augment": "iv"}

# Section 4.1.5: how scores are scaled, and how they are combined.
SCALINGS = {
    "none": {"scaling": None},
    "MI": {"scaling": "gamma"},
    "MD": {"scaling": "gamma", "group_by": "machine_type"},
}
AGGREGATIONS = ("probability", "mean", "product")


def name_of(scaling, aggregation):
    """Name a way: those that the paper submitted are (i) and (ii)."""
    own = {("none", "probability"): "i", ("MI", "probability"): "ii"}
    return own.get((scaling, aggregation), f"{scaling}-{aggregation}")


# The other ways.
WAYS = [
    name_of(scaling, aggregation)
    for scaling in SCALINGS
    for aggregation in AGGREGATIONS
    if name_of(scaling, aggregation) not in COMBINED
]


class Job(NamedTuple):
    """A fit: its system, the types whose clips it scores, and those it learns from."""

    system: str
    scored: tuple
    learnt: tuple

    @property
    def name(self):
        kind = self.scored[0] if len(self.scored) == 1 else "all"
        return f"{self.system}_{kind}"


def list_jobs(year, systems, types, n_machines):
    """List the fits that the systems need.

    `n_machines` counts the machine IDs of each type. The paper's settings of 2020 are
    of single types. In other years one network tells all types and sections apart
    ("iii", and the networks of "networks" and "ensemble" where a type has one section).
    """
    if set(COMBINED) & set(systems):
        systems = [*systems, *MEMBERS.values()]
    jobs = []
    for system in [one for one in dict.fromkeys(systems) if one not in COMBINED]:
        tells_apart = system == "iii" or system in NETWORK_DETECTORS
        if system in PAPER_SYSTEMS and year == 2020:
            jobs += [Job(system, (one,), training_types(one, system)) for one in types]
        elif tells_apart and (system == "iii" or min(n_machines.values()) < 2):
            if sum(n_machines.values()) < 2:
                sys.exit(
                    f"{system} learns to tell machines apart, and there is one: add "
                    "other types"
                )
            jobs.append(Job(system, tuple(types), tuple(types)))
        else:
            jobs += [Job(system, (one,), (one,)) for one in types]
    return jobs


def build(job, year, dry_run, options):
    """Build the unfitted Pipeline of a job."""
    reading = ("cache_dir", "n_jobs", "channel")
    if job.system in PAPER_SYSTEMS:
        # In other years the settings are those of the fan, which are of most types.
        kind = job.scored[0] if year == 2020 else "fan"
        return make_paper_system(kind, job.system, **options).estimator
    segment = LogMelSegmenter(**{name: options[name] for name in reading})
    own = {name: value for name, value in options.items() if name not in reading}
    if job.system not in NETWORK_DETECTORS:
        own = {}
    if dry_run:
        own["calibration_cv"] = 2
    return make_pipeline(segment, make_detector(job.system, **own))


def score(job, pipe, clips):
    """Score clips by a fitted Pipeline and by the members of its detector.

    Returns a table with a row for each clip and system: `score`, the higher the more
    anomalous, and `decision`, 1 for an alarm by the system's own threshold.
    """
    frames = pipe[:-1].transform(clips)
    opened = {job.system: Opened(pipe[-1], frames)}
    members = getattr(pipe[-1], "named_estimators_", {})
    whole = {one.name: one for one in opened[job.system].inner if one.rows is None}
    for name, member in members.items() if len(members) > 1 else ():
        opened[f"{job.system}-{name}"] = whole.get(name, Opened(member, frames))
    places = clips[["machine_type", "split", "file"]]
    return pd.concat(
        places.assign(
            system=name,
            score=one.scores,
            decision=(one.scores > one.thresholds).astype(int),
        )
        for name, one in opened.items()
    )


class KnownScores(OutlierMixin, BaseEstimator):
    """A detector whose anomaly scores are a column of the table of clips."""

    def __init__(self, column="iii"):
        self.column = column

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return -X[self.column].to_numpy()


def combine(scores):
    """Combine the scores of (iii) and (iv) in the ways of section 4.1.5.

    `scores` has the rows of `score` for training and test clips. Gamma distributions
    are fitted to those of the training clips of all types. Returns such rows of the
    test clips, of "i", "ii" and the seven other ways, such as "MD-mean".
    """
    keys = ["machine_type", "split", "file"]
    clips = scores.pivot(index=keys, columns="system", values="score")
    clips = clips[list(MEMBERS.values())].reset_index()
    train = clips[clips["split"] == "train"]
    test = clips[clips["split"] == "test"]
    parts = []
    for scaling, options in SCALINGS.items():
        for aggregation in AGGREGATIONS:
            members = [(name, KnownScores(column)) for name, column in MEMBERS.items()]
            ensemble = GammaProbabilityEnsemble(
                members, aggregation=aggregation, **options
            ).fit(train)
            parts.append(
                test[keys].assign(
                    system=name_of(scaling, aggregation),
                    score=ensemble.anomaly_score(test),
                    decision=np.where(ensemble.predict(test) == 1, 0, 1),
                )
            )
    return pd.concat(parts)


def order_of(systems):
    """Sort systems: the paper's, those of section 4.1.5, then detectors and members."""
    known = ["baseline", *PAPER_SYSTEMS, *WAYS, *DETECTORS]

    def place(system):
        whole = system if system in known else system.partition("-")[0]
        return known.index(whole) if whole in known else -1, system

    return sorted(systems, key=place)
