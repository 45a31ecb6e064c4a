"""``sklearn-asd calibrate``: set thresholds by normal recordings of the site."""

from __future__ import annotations

import math
import warnings
from typing import Any

import click
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator

from sklearn_asd._cli.conventions import (
    CONTEXT,
    echo,
    machine_id_option,
    quiet_option,
)
from sklearn_asd._cli.history import (
    describe_change,
    label_machines,
    list_changes,
    make_entry,
    save_entry,
)
from sklearn_asd._cli.layouts import machine_from_option
from sklearn_asd._cli.models import (
    Model,
    cut_recordings,
    piece_option,
    pieces_to_judge,
    read_model,
    undo_calibration,
)
from sklearn_asd._cli.normals import judge_normals, promised_rate, rate_option
from sklearn_asd._utils.messages import count
from sklearn_asd._utils.text import printable
from sklearn_asd.audio.reading import UnusableClipWarning
from sklearn_asd.meta import ThresholdTuner
from sklearn_asd.meta.structure import compares_machines

__all__ = ["calibrate"]


@click.command(context_settings=CONTEXT)
@click.argument("model")
@click.argument("folder")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="File to write the calibrated model to. Default: MODEL, which is replaced.",
)
@rate_option
@machine_id_option
@machine_from_option
@piece_option()
@quiet_option
def calibrate(model, folder, output, rate, machine_id, machine_from, piece):
    """Set the thresholds of MODEL by normal recordings in FOLDER.

    Use normal recordings of the site that the model was not trained on, of other days
    and conditions than those of training. The scores stay as they are, and only
    thresholds change. Of n recordings of a machine, the threshold is the k-th lowest
    score, where k is RATE times n + 1, rounded down: at most that share of normal
    recordings like these raises an alarm. If scores of machines can be compared, one
    threshold serves all machines.

    With fewer than 1/RATE - 1 recordings of a machine (19 for 5 %), the rate cannot be
    promised. The thresholds of all machines are then set for the lowest rate that can,
    with a warning: 20 % with 4 recordings.

    Recordings labelled anomalous, in folders called train, or used before, and copies
    of these, are left out. Long recordings are cut as by sklearn-asd score, and each
    piece counts; the model keeps the length of --piece for score and watch. Each
    recording is read three times. The model keeps date, machines, files and their
    SHA-256, rate and thresholds before and after; sklearn-asd info shows a summary.

    \b
    Examples:
      sklearn-asd calibrate machines.asd first_week/
      sklearn-asd calibrate machines.asd first_week/ -o calibrated.asd

    \b
    Exit codes:
      0  the calibrated model is written
      2  an error, or recordings that could not be used (the others were)
    """
    loaded = read_model(model, trust=False)
    rate = promised_rate(loaded, rate)
    output = output or model
    pieces = pieces_to_judge(loaded, piece)
    if piece is not None and loaded.machines is None:
        raise ValueError(
            "the model was not written by sklearn-asd fit, so it cannot keep the "
            "length of --piece for later: leave it out"
        )
    normals = judge_normals(loaded, [folder], machine_id, machine_from, pieces, output)
    clips = cut_recordings(normals.judged, pieces)
    base = undo_calibration(loaded.detector)
    rate = _choose_rate(base, loaded, clips, rate)
    tuner = _tune(base, clips, rate)
    changes = list_changes(loaded.detector, tuner, clips)
    entry = make_entry(
        "calibrate", normals.judged, normals.digests, rate, thresholds=changes
    )
    kept = {} if pieces is None or piece is None else {"pieces": list(pieces)}
    save_entry(loaded, tuner, entry, output, **kept)
    for name, (before, after) in changes.items():
        echo(describe_change(name, before, after))
    echo(f"Expected false alarms: {tuner.promise_}.")
    echo(f"The calibrated model is in {printable(output)}.")
    return 2 if normals.n_problems else 0


def _choose_rate(base: Any, model: Model, clips: pd.DataFrame, rate: float) -> float:
    """Choose the rate asked for, or the lowest that the recordings can promise."""
    found = clips.groupby(label_machines(clips)).size()
    unheard = {str(one) for one in model.machines or ()} - set(found.index)
    missing = ", ".join(map(printable, sorted(unheard)))
    if compares_machines(base):
        counts = pd.Series({"all machines": len(clips)})
        if missing:
            echo(
                f"Warning: there are no recordings of {missing}: the threshold is that "
                "of the other machines, and promises nothing for these",
                err=True,
            )
    else:
        counts = found
        if missing:
            raise ValueError(
                f"each machine has its own threshold, and there are no recordings of "
                f"{missing}: add some, as for the other machines"
            )
    name, fewest = counts.idxmin(), int(counts.min())
    if fewest >= math.ceil(1 / rate - 1e-9) - 1:
        return rate
    possible = 1 / (fewest + 1)
    echo(
        f"Warning: {count(fewest, 'recording')} of {printable(str(name))} cannot "
        f"promise {100 * rate:g} % of false alarms, which takes "
        f"{math.ceil(1 / rate - 1e-9) - 1}. The thresholds are set for "
        f"{100 * possible:.3g} %, the lowest rate that can be promised: expect as many "
        "false alarms, and calibrate again with more recordings",
        err=True,
    )
    return possible


def _tune(base: Any, clips: pd.DataFrame, rate: float) -> ThresholdTuner:
    tuner = ThresholdTuner(FrozenEstimator(base), false_alarm_rate=rate)
    with warnings.catch_warnings():
        # Judging has named the recordings that cannot be used.
        warnings.simplefilter("ignore", UnusableClipWarning)
        tuner.fit(clips)
    thresholds = getattr(tuner, "offsets_", {"": getattr(tuner, "offset_", 0)})
    if not np.isfinite(list(thresholds.values())).all():
        raise ValueError(
            f"a threshold would raise no alarm at all ({tuner.promise_}): give more "
            "recordings, or a higher --false-alarm-rate"
        )
    return tuner
