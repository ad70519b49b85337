"""Write a file or folder wholly or not at all: a temporary name beside the target, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mamol.errors import DataError, FileMissing, OutputExists, WriteFailed, some

SHOWN = 5
"""Names of a folder's content that an error lists."""
BY_ITSELF = (".DS_Store", "Thumbs.db", ".nfs*", "*.aux.xml", "*.ovr")
"""Files that a system writes into any folder, or a viewer beside a raster, without being asked."""


def by_itself(name: str) -> bool:
    """Tell from a file's name or path whether a system or a viewer wrote it (BY_ITSELF)."""
    return any(fnmatchcase(name, pattern) for pattern in BY_ITSELF)


def denied(path: Path | str, error: OSError, done: str = "read") -> DataError:
    """Build the error for a file that the system does not let us read, or look at."""
    return DataError(f"{path} cannot be {done} ({error.strerror or error}); check the permissions.")


def lies_there(path: Path | str) -> bool:
    """Tell whether something lies at a path; raises DataError where the system does not say so, as of a locked folder."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a name that no file can have
        return False
    except OSError as error:
        raise denied(path, error, "looked at") from error
    return True


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's text; raises DataError if it may not be read, and UnicodeDecodeError."""
    try:
        return path.read_text(encoding=encoding)
    except PermissionError as error:
        raise denied(path, error) from error


def must_exist(path: Path, what: str) -> Path:
    """Return `path` if it is there; raises FileMissing, and DataError if it cannot be looked at."""
    if not lies_there(path):
        raise FileMissing(f"{what} not found: {path}. Check the path (it is taken relative to {Path.cwd()}).")
    return path


def must_not_exist(path: Path, overwrite: bool | None = False, ours: Sequence[str] = ()) -> None:
    """Raise OutputExists if `path` is there, unless `overwrite`; None: the caller has no such choice to point to.

    A folder is never taken for overwriting if it holds a name that matches none of `ours` (as in `*.png`) or of BY_ITSELF.
    """
    if path.exists() and not overwrite:
        choice = "" if overwrite is None else ", or pass overwrite=True (--overwrite on the command line)"
        raise OutputExists(f"{path} exists already; choose another name{choice}.")
    names = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if strange := [n for n in names if not by_itself(n) and not any(fnmatchcase(n, o) for o in ours)]:
        only = f"it holds nothing but {', '.join(ours)}" if ours else "it is empty"
        raise OutputExists(
            f"{path} holds {some(strange, SHOWN)}, which would be lost: a folder is replaced only if {only}. "
            "Choose another name, or move the rest away."
        )


def _as_shared(made: Path) -> None:
    """Give files the rights of any new file beside them: some writers, safetensors among them, keep theirs to the owner.

    Where a file system has no such rights, nothing is lost but these.
    """
    files = [f for f in ([made, *made.rglob("*")] if made.is_dir() else [made]) if f.is_file() and not f.is_symlink()]
    probe = made.with_name(f"{made.name}.rights")
    with suppress(OSError):
        probe.touch()
        usual = stat.S_IMODE(probe.stat().st_mode)
        for file in files:
            if stat.S_IMODE(file.stat().st_mode) != usual:
                file.chmod(usual)
    with suppress(OSError):
        probe.unlink()


@contextmanager
def atomic(path: Path, overwrite: bool = True, ours: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on any failure it is removed.

    Works for a file and for a folder (make the folder at the yielded path). A folder that is there gets the new content in
    place of its own, and only if all that it holds is `ours`, as in `must_not_exist`. Raises OutputExists, and WriteFailed in
    place of a bare OSError (disk full, no permission).
    """
    path = Path(os.path.abspath(path))  # "." has no name to put another one beside
    must_not_exist(path, overwrite, ours)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _as_shared(partial)
        if path.is_dir() and partial.is_dir():
            must_not_exist(path, overwrite, ours)  # while the new one was made, something may have been put there
            _refill(path, partial)
        else:
            os.replace(partial, path)
    except OSError as error:
        if isinstance(error, (WriteFailed, FileMissing)):
            raise
        raise WriteFailed(f"could not write {path}: {error.strerror or error}. Nothing half-written was left there.") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with suppress(OSError):  # it is not there, nor can be; what went wrong is said above
                partial.unlink()


def _refill(folder: Path, new: Path) -> None:
    """Give a folder, which itself stays (a shell may stand in it), the content of `new`; on any failure it has its own again."""
    old = new.with_name(f"{new.name}.old")
    old.mkdir()
    moves: list[tuple[Path, Path]] = []
    try:
        for source, target in ((folder, old), (new, folder)):
            for path in list(source.iterdir()):
                moves.append((path, target / path.name))
                os.replace(path, target / path.name)
    except BaseException as error:
        try:
            for before, now in reversed(moves):
                if os.path.lexists(now):  # the last one may not have been moved
                    os.replace(now, before)
            old.rmdir()
        except OSError as again:
            raise WriteFailed(f"could not write {folder} ({error}) nor undo it ({again}); its old files are in {old}.") from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str, overwrite: bool = True) -> None:
    """Write text atomically."""
    with atomic(path, overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, overwrite: bool = True) -> None:
    """Write JSON atomically, sorted by nothing (the writer's order is the reader's), NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", overwrite)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
