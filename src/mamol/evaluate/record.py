"""The record of one run: everything that a reader needs to believe a figure or to make it again.

{"record": 1, "method", "config", "result": score()'s tree, "data": hashes, "environment", "seconds", "command"}. Never
edited after it was written: a changed experiment is a new record. Source: PROTOCOL.md section 6.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mamol.errors import DataError
from mamol.files import must_exist, write_json

RECORD = 1
PACKAGES = ("mamol", "torch", "numpy", "scipy", "scikit-learn", "rasterio", "accelerate")
KEYS = ("record", "method", "config", "result", "data", "environment", "seconds", "command")


def environment() -> dict[str, Any]:
    """Return versions of Python and of the packages that decide numbers, the commit, and the machine."""
    return {
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in PACKAGES},
        "commit": _commit(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def make_record(
    method: str,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    data: Mapping[str, Any],
    seconds: float,
    command: str,
) -> dict[str, Any]:
    """Put a record together; `command` is the one that makes it again."""
    return {
        "record": RECORD,
        "method": method,
        "config": dict(config),
        "result": dict(result),
        "data": dict(data),
        "environment": environment(),
        "seconds": round(seconds, 1),
        "command": command,
    }


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record; raises OutputExists if there is one, for records are never edited."""
    write_json(path, record, overwrite=False)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; raises FileMissing, and DataError if it is not one."""
    must_exist(path, "record")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from error
    missing = [k for k in KEYS if not isinstance(tree, dict) or k not in tree]
    if missing or tree["record"] != RECORD:
        raise DataError(f"{path} is not a record of format {RECORD}; missing: {', '.join(missing) or 'nothing'}.")
    return tree


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the code, with "+" if it was changed since; None if no repository has it, as of an installed one."""
    here = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.SubprocessError):
        return None
