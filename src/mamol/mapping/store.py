"""Finished blocks on disk, so that a job that was killed goes on where it was and gives the same bytes.

    FILE.tif.blocks/
        job.json           what is being mapped: another job does not go on here
        4096_256.npz       the layers of the block whose corner is row 4096, column 256; whole or not there
        files/ files.json  the map's files on the way to their names (publish.py)

The folder is taken away when the map's files have their names. One that holds anything else is not ours and stays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mamol.errors import OutputExists, UsageError, WriteFailed
from mamol.files import atomic, by_itself, write_json
from mamol.mapping.blocks import Arrays, Corner
from mamol.mapping.publish import NAMED, STAGE

JOB = "job.json"
OURS = re.compile(rf"{re.escape(JOB)}|{re.escape(NAMED)}|{STAGE}|\d+_\d+\.npz|\.[\w.]+\.partial(\.\w+)?")
"""What we put into the folder."""
LONGEST_SHOWN = 60
"""Characters: longer ones are digests, which tell a person nothing."""
# What numpy and zipfile raise for an archive in which bytes have changed: checksums, headers, flags.
DAMAGED = (OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error)


class BlockStore:
    """The blocks of one map that are done; `job["layers"]` names what each holds. Raises as `may_go_on`, and WriteFailed.

    Blocks that are damaged, or lack a layer, are taken away at the start: they are computed again.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        self.folder, self.layers = folder, frozenset(job["layers"])
        if may_go_on(folder, job, resume, overwrite):
            _clear(folder, all_of_it=False)
        else:
            _clear(folder)
            write_json(folder / JOB, dict(job))
        self.done: set[Corner] = set()
        self.done |= {c for c in map(_corner, folder.glob("*.npz")) if c is not None and self._whole(c)}

    def path(self, corner: Corner) -> Path:
        """Return a block's file."""
        return self.folder / f"{corner[0]}_{corner[1]}.npz"

    def write(self, corner: Corner, arrays: Arrays) -> None:
        """Keep a block; it counts as done once it is whole."""
        with atomic(self.path(corner)) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self.done.add(corner)

    def read(self, corner: Corner) -> Arrays:
        """Return a block's layers; raises WriteFailed if its file is no longer what was written, and takes it away."""
        try:
            return self._load(corner)
        except DAMAGED as error:
            with suppress(OSError):
                self.path(corner).unlink(missing_ok=True)
            self.done.discard(corner)
            raise WriteFailed(
                f"the block at row {corner[0]}, column {corner[1]} cannot be read back from {self.path(corner)} ({error}); is "
                "the disk full or failing? It was taken away; run again with --resume."
            ) from error

    def remove(self) -> None:
        """Take the folder away."""
        remove_blocks(self.folder)

    def _load(self, corner: Corner) -> Arrays:
        # Opened here, not by numpy: a broken archive is then closed too. Reading checks the archive's checksums.
        with open(self.path(corner), "rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        if lacking := sorted(self.layers - arrays.keys()):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        return arrays

    def _whole(self, corner: Corner) -> bool:
        try:
            self.read(corner)
        except WriteFailed:
            return False
        return True


def remove_blocks(folder: Path) -> None:
    """Take a folder of blocks away, but for what is not ours; a map is no worse for a folder that stays."""
    with suppress(OSError):
        _clear(folder)
        folder.rmdir()


def may_go_on(folder: Path, job: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
    """Tell whether a folder holds blocks to go on with; False if there is none, or one that may be cleared.

    Raises UsageError for a folder that is not ours, or another job's without `overwrite`, and OutputExists for one that
    neither `resume` nor `overwrite` allows to touch.
    """
    if not os.path.lexists(folder):
        return False
    if said := _foreign(folder):
        raise UsageError(f"{folder} is no folder of blocks: {said}. It stays; move it away, or give --out another name.")
    if not resume and not overwrite:
        raise OutputExists(
            f"{folder} holds the blocks of a map that was stopped; --resume goes on with it, --overwrite starts afresh."
        )
    found = _job(folder)
    if not resume or found is None:
        return False
    differs = sorted(k for k in job.keys() | found.keys() if job.get(k) != found.get(k))
    if differs and not overwrite:
        said = ", ".join(f"{k}{_then_and_now(found.get(k), job.get(k))}" for k in differs)
        raise UsageError(f"{folder} was started with another {said}; give the same to --resume, or --overwrite.")
    return not differs


def _foreign(folder: Path) -> str:
    """Say why a folder is not one of ours; empty if it is."""
    if folder.is_symlink() or not folder.is_dir():
        return "it is a link or a file"
    names = sorted(p.name for p in folder.iterdir())
    if strange := next((n for n in names if not _ours(n)), ""):
        return f"it holds {strange}"
    if JOB in names and _job(folder) is None:
        return f"its {JOB} is not one of ours"
    if JOB not in names and any(n.endswith(".npz") and not n.startswith(".") for n in names):
        return f"it has no {JOB}"
    return ""


def _ours(name: str) -> bool:
    """Tell whether we, or a system by itself, put a file of this name into the folder."""
    return by_itself(name) or OURS.fullmatch(name) is not None


def _job(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "tile" in found else None


def _clear(folder: Path, all_of_it: bool = True) -> None:
    """Take what is ours out of a folder, if it is there: everything, or only what was half written when a job was killed."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name == STAGE:
            shutil.rmtree(path, ignore_errors=True)
        elif _ours(path.name) and (all_of_it or ".partial" in path.name):
            path.unlink(missing_ok=True)


def _then_and_now(then: Any, now: Any) -> str:
    """Show two values that are short enough to be read."""
    both = f" ({then} then, {now} now)"
    return both if len(both) <= LONGEST_SHOWN else ""


def _corner(path: Path) -> Corner | None:
    row, _, column = path.stem.partition("_")
    return (int(row), int(column)) if row.isdecimal() and column.isdecimal() else None
