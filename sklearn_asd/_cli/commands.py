"""``sklearn-asd`` and how it ends."""

from __future__ import annotations

import os
import sys
import traceback
import warnings

import click

from sklearn_asd._cli.conventions import CONTEXT
from sklearn_asd._cli.demo import demo
from sklearn_asd._cli.evaluate import evaluate
from sklearn_asd._cli.fit import fit
from sklearn_asd._cli.score import score
from sklearn_asd._version import __version__

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code."""
    with warnings.catch_warnings():
        # They are for whoever typed the command, and not about lines of code.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest, **more: click.echo(
            f"Warning: {message}", err=True
        )
        sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int | None:
    try:
        return cli.main(arguments, prog_name="sklearn-asd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:  # of "| head"; nor must the rest fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    except Exception:  # whose exit code would be 1, that there are anomalies
        traceback.print_exc()
    return 2


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="sklearn-asd")
def cli():
    """Find anomalous sounds of machines, learning from normal recordings alone.

    Put normal recordings (WAV or FLAC) into a folder for each machine, learn what they
    sound like, and judge new ones:

    \b
      sklearn-asd fit recordings/ -o machines.joblib
      sklearn-asd score machines.joblib new/

    \b
    Exit codes:
      0  all is well; of score, that all recordings are normal
      1  score found anomalous recordings
      2  an error, or recordings that score or evaluate could not judge
    """


for command in (fit, score, evaluate, demo):
    cli.add_command(command)
