"""Give the files of a map their names, all whole, and know afterwards whose they are.

    FILE.tif.blocks/files/        the files of the map while they are written
    FILE.tif.blocks/files.json    size and time of every file that is about to get its name

A process that is killed between two renames leaves some of the files. The list tells them from a stranger's, so that
`--resume` replaces them and nothing else. The STAC Item gets its name last and says which job made the map and how large
its rasters are: that is how a finished map is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mamol.errors import WriteFailed
from mamol.files import must_not_exist, write_json
from mamol.mapping.paths import MapPaths

STAGE, NAMED = "files", "files.json"
JOB_KEY, BYTES_KEY = "mamol:job", "mamol:bytes"


def refuse_taken(paths: Iterable[Path], work: Path | None, overwrite: bool) -> None:
    """Raise OutputExists if a file is there, unless `work`, the folder of the job, says that the job itself named it."""
    named = _named(work) if work is not None else {}
    for path in paths:
        if _stamp(path) not in named.get(path.name, []):
            must_not_exist(path, overwrite)


def publish(staged: Mapping[Path, Path], work: Path, overwrite: bool) -> None:
    """Rename whole files to their names, `staged` by final name, the STAC Item last. Raises OutputExists, WriteFailed."""
    refuse_taken(staged, work, overwrite)
    named = _named(work)
    for final, file in staged.items():
        named.setdefault(final.name, []).append(_stamp(file))
    write_json(work / NAMED, named)
    final = item = list(staged)[-1]
    try:
        item.unlink(missing_ok=True)  # from now on it would not be true of the files beside it
        for final, file in staged.items():
            os.replace(file, final)
    except OSError as error:
        raise WriteFailed(
            f"{final} could not be given its name ({error.strerror or error}); other files of the map may have theirs already. "
            "Close what has it open, check permissions, and run again with --resume."
        ) from error


def described(job: str, staged: Mapping[Path, Path]) -> dict[str, Any]:
    """Return the properties of a STAC Item by which `is_finished` knows its map; `staged` rasters by final name."""
    return {JOB_KEY: job, BYTES_KEY: {final.name: file.stat().st_size for final, file in staged.items()}}


def is_finished(paths: MapPaths, job: str) -> bool:
    """Tell whether all files of a map are there and this very job made them."""
    try:
        properties = json.loads(paths.item.read_text(encoding="utf-8"))["properties"]
        same = properties[JOB_KEY] == job
        bytes_then = {name: properties[BYTES_KEY][path.name] for name, path in paths.layers.items()}
        bytes_now = {name: path.stat().st_size for name, path in paths.layers.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return same and bytes_then == bytes_now and all(p.is_file() for p in paths.all())


def _named(work: Path) -> dict[str, list[Any]]:
    try:
        found = json.loads((work / NAMED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
