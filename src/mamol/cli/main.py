"""The command group `mamol`. Imports no torch: every command imports what it needs when it runs.

Exit codes: 0 done, 1 failed (data, files, disk, Ctrl-C), 2 wrong use. Every error that mamol raises on purpose is one
sentence on standard error; a traceback is a bug of ours.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from mamol.cli import demo, evaluate, map, scene, train
from mamol.cli.show import err, out
from mamol.errors import MamolError, UsageError

app = typer.Typer(
    name="mamol",
    help="Classify multi-sensor Earth observation data when some of the sensors are missing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from mamol import __version__

        out.print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, step by step.")] = False,
) -> None:
    """Set up logging."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)


app.command("demo")(demo.demo)
app.add_typer(scene.app, name="scene")
app.command("pretrain")(train.pretrain)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("map")(map.map_command)


def run() -> None:
    """Run the command line and turn errors into one sentence and an exit code."""
    try:
        app()
    except UsageError as error:
        _fail(str(error), 2)
    except MamolError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", 1)
    except MemoryError:
        _fail("not enough memory; use smaller tiles, train.batch or windows.", 1)
    except KeyboardInterrupt:
        _fail("stopped; nothing half-written was left. `mamol train ... --resume` goes on with a run.", 1)


def _fail(message: str, code: int) -> None:
    err.print(f"mamol: {message}", markup=False, soft_wrap=True)
    # Not sys.exit: worker threads of the libraries must not hold the process after Ctrl-C.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
