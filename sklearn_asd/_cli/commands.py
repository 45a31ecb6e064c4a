"""The command ``sklearn-asd`` and its exit codes."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from importlib import import_module

import click

from sklearn_asd._cli.conventions import CONTEXT, echo, in_terms_of_command
from sklearn_asd._cli.starting import starting_fast
from sklearn_asd._utils.messages import cut
from sklearn_asd._version import __version__

__all__ = ["main"]

# Characters of an error: the longest name of a file has 4096.
_LONGEST = 6000

# Each is a function of its name, in the module of its name, with _ for -.
_COMMANDS = {
    "acknowledge": "Note that an alarm is known.",
    "add-normals": "Learn from false alarms.",
    "calibrate": "Set thresholds by normals of the site.",
    "check": "Find out which faults a model hears.",
    "demo": "Try a detector on built-in sounds.",
    "evaluate": "Measure a model on labelled recordings.",
    "fit": "Train a model on normal recordings.",
    "info": "Describe a model file.",
    "report": "Write a page about what a watch heard.",
    "score": "Judge recordings.",
    "verify": "Count false alarms on later normals.",
    "watch": "Judge recordings as they come.",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code."""
    with warnings.catch_warnings():
        # Warnings are for the user of the command, so they name no line of code.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest, **more: echo(
            f"Warning: {in_terms_of_command(str(message))}", err=True
        )
        if hasattr(sys.stdout, "reconfigure"):  # names that its encoding lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int | None:
    try:
        return cli.main(arguments, prog_name="sklearn-asd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:  # as with "| head"; flushing at exit must not fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        echo(f"Error: {cut(in_terms_of_command(str(error)), _LONGEST)}", err=True)
    except Exception:  # Python would exit with 1, which means anomalies
        echo(traceback.format_exc(), err=True)
    return 2


class _Commands(click.Group):
    """Commands that are imported when they are called, so that help comes at once.

    Until then, others of their names and short helps stand for them.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known, rest = super().resolve_command(ctx, args)
        if name is None or known is None:  # while a shell completes a name
            return name, known, rest
        with starting_fast():
            place = name.replace("-", "_")
            module = import_module(f"sklearn_asd._cli.{place}")
        return name, getattr(module, place), rest


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="sklearn-asd")
def cli():
    """Find anomalous machine sounds, with a model of normal recordings only.

    Put normal recordings (WAV or FLAC) into one folder per machine, fit a model, and
    score new recordings:

    \b
      sklearn-asd fit recordings/ -o machines.asd
      sklearn-asd score machines.asd new/

    Without recordings of faults, check says which ones the model would hear:

    \b
      sklearn-asd check machines.asd

    \b
    Exit codes:
      0  success; for score: all recordings are normal
      1  score found anomalous recordings; verify too many false alarms
      2  an error, or recordings that could not be judged or listed
    """


for name, short_help in _COMMANDS.items():
    cli.add_command(click.Command(name, short_help=short_help))
