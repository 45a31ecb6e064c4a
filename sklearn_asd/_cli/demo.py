"""``sklearn-asd demo``: train and test two detectors on built-in or real sounds."""

from __future__ import annotations

from typing import Any

import click
import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd._cli import conventions, recordings, systems
from sklearn_asd._cli.demo_picture import write_picture
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.detectors import IDConfidenceDetector
from sklearn_asd.features import LogMelSegmenter
from sklearn_asd.metrics import auc_table

__all__ = ["demo"]

_RATE = 0.05  # of false alarms, as sklearn-asd fit has it
_SOUNDS = {"n_train": 12, "n_test_normal": 5, "n_test_anomalous": 5, "duration": 6.0}
_NEXT = """\

Next, train on recordings of yours, and judge new ones:
  sklearn-asd fit RECORDINGS/ -o machines.asd
  sklearn-asd score machines.asd NEW_RECORDINGS/"""


@click.command(
    context_settings=conventions.CONTEXT,
)
@click.option("--data", metavar="FOLDER", help="Use the recordings in FOLDER.")
@conventions.id_column_option
@conventions.sample_rate_option
@conventions.channel_option
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    default=20,
    help="Passes of the paper's detector over the recordings; 60 take longer, and find "
    "a little more.",
)
@click.option(
    "--picture",
    metavar="FILE",
    default="sklearn-asd-demo.png",
    help="PNG file to write or replace, with the AUC of both detectors. Needs "
    "matplotlib.",
)
@conventions.quiet_option
def demo(data, id_column, sample_rate, channel, epochs, picture):
    """Try two detectors on built-in sounds or your recordings.

    Trains on normal sounds of six kinds of machine, and tests on other sounds of the
    same machines: first with the default detector of sklearn-asd fit, in seconds, then
    with the first detector of Inoue et al. (2020), a network. With --data it uses real
    recordings, in any layout that sklearn-asd fit reads. Without folders called train,
    it trains on every second normal recording of each machine. Without labels, it takes
    all recordings as normal, and writes no picture.

    \b
    Examples:
      sklearn-asd demo
      sklearn-asd demo --data toycar2023/ --id-column car
    """
    conventions.prepare_outputs({"--picture": picture}, [])
    normal, test = _split_clips(_read_or_make_clips(data, id_column))
    conventions.note(f"{len(normal)} normal clips to train on, {len(test)} to test.")
    options = {
        "sample_rate": sample_rate or recordings.choose_sample_rate(normal),
        "channel": channel,
        "n_jobs": -1,
        "random_state": 0,
    }
    scores = {
        "default detector": _try_default(normal, test, options),
        "paper's detector": _try_paper(normal, test, options, epochs),
    }
    tables = {name: _rate(test, some) for name, some in scores.items()}
    if not any(table.empty for table in tables.values()):
        _write_picture(tables, picture)
    conventions.echo(_NEXT)


def _try_default(
    normal: pd.DataFrame, test: pd.DataFrame, options: dict[str, Any]
) -> pd.Series:
    """Show the verdicts of the default detector; give its scores."""
    counts = normal.groupby(machine_labels(normal)).size()
    detector = systems.make_system("default", [], counts, _RATE, options)
    seconds, _ = conventions.train(detector, normal)
    scores = pd.Series(detector.decision_function(test), test.index)
    conventions.echo(
        f"Default detector, trained in {seconds:.0f} s, with a threshold for "
        f"{100 * _RATE:g} % false alarms:"
    )
    areas = _rate(test, scores)
    if areas.empty:
        _show_ranking(test, scores)
    else:
        conventions.echo(_count_errors(test, scores, areas).to_string(na_rep="-"))
    return scores


def _try_paper(
    normal: pd.DataFrame, test: pd.DataFrame, options: dict[str, Any], epochs: int
) -> pd.Series:
    """Show the areas of the paper's first detector; give its scores."""
    pipe = make_pipeline(
        LogMelSegmenter(
            sample_rate=options["sample_rate"],
            channel="mix" if options["channel"] is None else options["channel"],
            on_bad_clip="nan",
            n_jobs=options["n_jobs"],
        ),
        IDConfidenceDetector(
            center_loss_weight=0.1,
            batch_size=32,
            max_epochs=epochs,
            random_state=options["random_state"],
            verbose=int(conventions.shows_progress()),
        ),
    )
    seconds, _ = conventions.train(pipe, normal)
    scores = pd.Series(pipe.score_samples(test), test.index)
    loss = pipe[-1].history_["train_loss"]
    conventions.echo(
        f"\nPaper's detector, trained in {seconds:.0f} s: loss {loss.iloc[0]:.2f} -> "
        f"{loss.iloc[-1]:.2f} in {len(loss)} epochs."
    )
    areas = _rate(test, scores)
    if areas.empty:
        _show_ranking(test, scores)
    else:
        conventions.echo(areas.to_string(float_format="{:.3f}".format))
    return scores


def _read_or_make_clips(folder: str | None, id_column: str) -> pd.DataFrame:
    """Make a table of clips whose IDs come from the user's column."""
    if folder is None:
        conventions.note(
            "Making sounds of six kinds of machine, four machines of each ..."
        )
        return make_machine_sounds(
            **_SOUNDS,
            random_state=0,
            n_jobs=-1,
            verbose=int(conventions.shows_progress()),
        )
    clips = recordings.choose_machine_id(
        recordings.read_folder(folder), one_form(id_column)
    )
    if clips[["machine_type", "machine_id"]].drop_duplicates().shape[0] < 2:
        raise ValueError(
            "the recordings are of one machine, and the paper's detector learns to "
            "tell machines apart: if an attribute in the names does, name it with "
            f"--id-column (make demo ID=...): {', '.join(clips.columns[5:]) or 'none'}"
        )
    return clips


def _split_clips(clips: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Select normal clips to train on, and clips of the same machines to test."""
    normal = clips["label"].fillna(1) == 1
    machine = clips["machine_type"].fillna("") + "/" + clips["machine_id"]
    to_train = clips["split"] == "train"
    if not to_train.any():
        to_train = normal & (normal.groupby(machine).cumsum() % 2 == 1)
    known = machine.isin(machine[normal & to_train])
    n_unknown = (~to_train & ~known).sum()
    if n_unknown:
        conventions.echo(
            f"{n_unknown} clips are of machines without training clips.", err=True
        )
    test = clips[~to_train & known]  # empty if there are no clips to train on
    if test.empty:
        raise ValueError("there are no clips to train on, or none to test")
    return clips[normal & to_train], test


def _rate(test: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """AUCs of clips whose labels are known; no rows if all labels are the same."""
    labelled = test.assign(score=scores).dropna(subset=["label", "score"])
    if set(labelled["label"]) != {1, -1}:
        return pd.DataFrame()
    return auc_table(labelled, labelled["label"], labelled["score"])


def _count_errors(
    test: pd.DataFrame, scores: pd.Series, areas: pd.DataFrame
) -> pd.DataFrame:
    """Count false alarms and missed anomalies of each type, and of all."""
    labelled = test.assign(score=scores).dropna(subset=["label", "score"])
    normal, alarm = labelled["label"] == 1, labelled["score"] < 0
    verdicts = {
        "normal": normal,
        "false alarms": normal & alarm,
        "anomalous": ~normal,
        "missed": ~normal & ~alarm,
    }
    kinds = labelled["machine_type"].fillna("").rename(None)
    counts = pd.DataFrame(verdicts).astype(int)
    table = counts.groupby(kinds).sum()
    auc = areas["auc"].groupby(level=0).last()  # the type's average stands last
    table["AUC"] = auc.reindex(table.index)
    if len(table) > 1:
        table.loc["all"] = [*counts.sum(), areas["auc"].iloc[-1]]
    return table.astype(dict.fromkeys(verdicts, int)).round(3)


def _show_ranking(test: pd.DataFrame, scores: pd.Series) -> None:
    """Print the least normal clips, where no table can be made."""
    test = test.assign(score=scores).dropna(subset="score")
    ranked = test.nsmallest(10, "score").assign(path=lambda X: X["path"].map(printable))
    conventions.echo("No labelled anomalies, so no table. The least normal clips are:")
    conventions.echo(ranked[["path", "machine_id", "score"]].to_string(index=False))


def _write_picture(tables: dict[str, pd.DataFrame], path: str) -> None:
    """Write the picture, or say how to get it."""
    try:
        write_picture(tables, path)
    except ImportError:
        conventions.echo(
            "No picture, as matplotlib is not installed: in a checkout of sklearn_asd, "
            'run pip install -e ".[plot]"'
        )
    else:
        conventions.echo(
            f"\nThe AUCs of both detectors are drawn in {printable(path)}."
        )
