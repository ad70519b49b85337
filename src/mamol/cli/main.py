"""The command group `mamol`. Imports no torch: every command imports what it needs when it runs.

Exit codes: 0 done, 1 failed (data, files, disk, Ctrl-C), 2 wrong use, 143 stopped by SIGTERM. Every error that mamol raises on
purpose is one sentence on standard error; a traceback is a bug of ours.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mamol.cli import classify, demo, evaluate, export, map, scene, train
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
app.command("classify")(classify.classify)
app.command("export")(export.export)


STOPPED = {
    "": "stopped; nothing half-written was left.",
    "train": "stopped; nothing half-written was left. `mamol train ... --resume` goes on with a run.",
    "map": "stopped; finished blocks are kept: the same command with --resume goes on.",
}
"""What is said after Ctrl-C, by command."""
INTERRUPTED = 130
"""What some versions of typer make of Ctrl-C."""
# The root of what the parser raises: click's ClickException, or typer's own one where it brings its own click.
_WRONG_USE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def execute(words: Sequence[str] | None = None) -> int:
    """Run one command (None: of sys.argv); errors become one sentence on standard error. Return the exit code."""
    command = next((w for w in (sys.argv[1:] if words is None else words) if not w.startswith("-")), "")
    stopped = STOPPED.get(command, STOPPED[""])
    try:
        code = app(words, standalone_mode=False) or 0
        return _say(stopped, 1) if code == INTERRUPTED else code
    except typer.Exit as end:
        return int(end.exit_code)
    except _WRONG_USE as error:
        error.show()
        return 2
    except MamolError as error:
        return _say(str(error), 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        return _say(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", 1)
    except MemoryError:
        return _say("not enough memory; use smaller tiles, train.batch or windows.", 1)
    except (KeyboardInterrupt, typer.Abort):
        return _say(stopped, 1)


def _say(message: str, code: int) -> int:
    err.print(f"mamol: {message}", markup=False, soft_wrap=True)
    return code


def run() -> None:
    """Run the command line and end the process with its exit code; SIGTERM ends it as Ctrl-C does, with code 143."""
    ended = list[int]()

    def terminate(number: int, frame: object) -> None:
        ended.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    code = execute()
    code = 128 + ended[0] if code and ended else code
    sys.stdout.flush()
    sys.stderr.flush()
    if code:  # not sys.exit: worker threads of the libraries must not hold the process after Ctrl-C
        gc.collect()  # what closes semaphores of worker processes: nothing else does before os._exit
        os._exit(code)


if __name__ == "__main__":
    run()
