"""Finished blocks on disk, so that a job that was killed goes on where it was and gives the same bytes.

    FILE.tif.blocks/
        job.json           what is being mapped: another job does not go on here
        4096_256.npz       the layers of the block whose corner is row 4096, column 256; whole or not there

The folder is taken away when the map's files have their names.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mamol.errors import OutputExists, UsageError, WriteFailed
from mamol.files import atomic, write_json
from mamol.mapping.blocks import Arrays, Corner

LONGEST_SHOWN = 60
"""Characters: longer ones are digests, which tell a person nothing."""


class BlockStore:
    """The blocks of one map that are done. Raises OutputExists, UsageError for another job's folder, WriteFailed."""

    def __init__(self, folder: Path, job: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        self.folder = folder
        if folder.exists() and not resume and not overwrite:
            raise OutputExists(
                f"{folder} holds the blocks of a map that was stopped; --resume goes on with it, --overwrite starts afresh."
            )
        if folder.exists() and not resume:
            shutil.rmtree(folder)
        if folder.exists():
            self._same(job)
        else:
            write_json(folder / "job.json", dict(job))
        self.done = {c for c in map(_corner, folder.glob("*.npz")) if c is not None and self._whole(c)}

    def path(self, corner: Corner) -> Path:
        """Return a block's file."""
        return self.folder / f"{corner[0]}_{corner[1]}.npz"

    def write(self, corner: Corner, arrays: Arrays) -> None:
        """Keep a block; it counts as done once it is whole."""
        with atomic(self.path(corner)) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self.done.add(corner)

    def read(self, corner: Corner) -> Arrays:
        """Return a block's layers; raises WriteFailed if its file is no longer what was written."""
        try:
            with np.load(self.path(corner), allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise WriteFailed(
                f"the block at row {corner[0]}, column {corner[1]} cannot be read back from {self.path(corner)} ({error}); is "
                "the disk full or failing? Run again with --resume."
            ) from error

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _same(self, job: Mapping[str, Any]) -> None:
        path = self.folder / "job.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.folder} is no folder of blocks ({error}); --overwrite starts afresh.") from None
        differs = sorted(k for k in job.keys() | found.keys() if job.get(k) != found.get(k))
        if differs:
            said = ", ".join(f"{k}{_then_and_now(found.get(k), job.get(k))}" for k in differs)
            raise UsageError(f"{self.folder} was started with another {said}; give the same to --resume, or --overwrite.")

    def _whole(self, corner: Corner) -> bool:
        """Tell whether a block's file is a whole archive; a broken one is computed again."""
        if zipfile.is_zipfile(self.path(corner)):
            return True
        self.path(corner).unlink(missing_ok=True)
        return False


def _corner(path: Path) -> Corner | None:
    row, _, column = path.stem.partition("_")
    return (int(row), int(column)) if row.isdecimal() and column.isdecimal() else None


def _then_and_now(then: Any, now: Any) -> str:
    """Show two values that are short enough to be read."""
    both = f" ({then} then, {now} now)"
    return both if len(both) <= LONGEST_SHOWN else ""
