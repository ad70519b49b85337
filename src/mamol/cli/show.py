"""What the command line puts on the screen: bars with a time left, tables, one line per error. Nothing else prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mamol.evaluate.report import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def bars() -> Iterator[Callable[[str, int, int, str], None]]:
    """Show one bar per thing that is being done; yields what every `progress` argument in the package takes."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(32),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=err, refresh_per_second=4) as progress:

        def update(what: str, done: int, total: int, note: str) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, note=note)
            progress.update(tasks[what], completed=done, total=total, note=note)

        yield update


def table(text: Text) -> None:
    """Print scores as a table, with its notes below."""
    shown = Table(title=text.title, title_justify="left", header_style="bold")
    for i, name in enumerate(text.header):
        shown.add_column(name, justify="left" if i == 0 else "right")
    for row in text.rows:
        if row[0] == "mean":
            shown.add_section()
        shown.add_row(*row)
    out.print(shown)
    for note in text.notes:
        out.print(note, style="dim", soft_wrap=True)


def lines(title: str, rows: Sequence[str]) -> None:
    """Print a heading and indented lines; nothing if there are none."""
    if rows:
        out.print(title, style="bold")
        for row in rows:
            out.print(f"  {row}", markup=False, soft_wrap=True)


def written(paths: Sequence[Path]) -> None:
    """Say where something was written, one path a line so that it can be copied."""
    for path in paths:
        out.print(str(path), markup=False, soft_wrap=True)
