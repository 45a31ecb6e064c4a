"""``sklearn-asd demo``: train and test a detector on built-in or real sounds."""

from __future__ import annotations

import click
import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_asd._cli import conventions, recordings
from sklearn_asd._utils.text import one_form, printable
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.detectors import IDConfidenceDetector
from sklearn_asd.features import LogMelSegmenter
from sklearn_asd.metrics import auc_table

__all__ = ["demo"]


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
    default=60,
    help="Number of passes over the recordings.",
)
def demo(data, id_column, sample_rate, channel, epochs):
    """Try a detector on built-in sounds or your recordings.

    Trains on normal sounds of six kinds of machine, and tests on other sounds of the
    same machines. With --data it uses real recordings, in any layout that sklearn-asd
    fit reads. Without folders called train, it trains on every second normal recording
    of each machine. Without labels, it takes all recordings as normal.

    \b
    Examples:
      sklearn-asd demo
      sklearn-asd demo --data toycar2023/ --id-column car
    """
    clips = _read_or_make_clips(data, id_column)
    normal, test = _split_clips(clips)
    conventions.echo(f"{len(normal)} normal clips to train on, {len(test)} to test.")
    sample_rate = sample_rate or recordings.choose_sample_rate(normal)
    pipe = make_pipeline(
        LogMelSegmenter(
            sample_rate=sample_rate,
            channel="mix" if channel is None else channel,
            on_bad_clip="nan",
            n_jobs=-1,
        ),
        IDConfidenceDetector(
            center_loss_weight=0.1,
            batch_size=32,
            max_epochs=epochs,
            random_state=0,
            verbose=int(conventions.shows_progress()),
        ),
    )
    seconds, _ = conventions.train(pipe, normal)
    history = pipe[-1].history_
    conventions.echo(
        f"Trained in {seconds:.0f} s: loss "
        f"{history['train_loss'].iloc[0]:.2f} -> {history['train_loss'].iloc[-1]:.2f} "
        f"in {len(history)} epochs."
    )
    _report(test, pipe.score_samples(test))


def _read_or_make_clips(folder: str | None, id_column: str) -> pd.DataFrame:
    """Make a table of clips whose IDs come from the user's column."""
    if folder is None:
        conventions.echo(
            "Making sounds of six kinds of machine, four machines of each ..."
        )
        return make_machine_sounds(
            n_train=16,
            n_test_normal=9,
            n_test_anomalous=9,
            duration=6.0,
            random_state=0,
            verbose=int(conventions.shows_progress()),
        )
    clips = recordings.choose_machine_id(
        recordings.read_folder(folder), one_form(id_column)
    )
    if clips[["machine_type", "machine_id"]].drop_duplicates().shape[0] < 2:
        raise ValueError(
            "the recordings are of one machine, and this detector learns to tell "
            "machines apart: if an attribute in the names does, name it with "
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
        conventions.echo(f"{n_unknown} clips are of machines without training clips.")
    test = clips[~to_train & known]  # empty if there are no clips to train on
    if test.empty:
        raise ValueError("there are no clips to train on, or none to test")
    return clips[normal & to_train], test


def _report(test: pd.DataFrame, scores) -> None:
    """Print AUCs where labels are known, or else the least normal clips."""
    test = test.assign(score=scores).dropna(subset="score")
    labelled = test.dropna(subset="label")
    if set(labelled["label"]) == {1, -1}:
        table = auc_table(labelled, labelled["label"], labelled["score"])
        conventions.echo(table.to_string(float_format="{:.3f}".format))
        return
    ranked = test.nsmallest(10, "score").assign(path=lambda X: X["path"].map(printable))
    conventions.echo("No labelled anomalies, so no table. The least normal clips are:")
    conventions.echo(ranked[["path", "machine_id", "score"]].to_string(index=False))
