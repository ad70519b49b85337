"""Reads a numpy archive without running anything in it; a broken one is said in words."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mamol.errors import DataError, missing
from mamol.files import denied, must_exist


def read_arrays(path: Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Return every array of an npz file; raises FileMissing, and DataError if it cannot be read or lacks a needed one."""
    must_exist(path, "data file")
    try:
        # Opened here, not by numpy: a broken archive is then closed too.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
    except PermissionError as error:
        raise denied(path, error) from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be truncated, or hold Python objects.") from error
    if absent := [key for key in needed if key not in arrays]:
        raise missing(f"array in {path}:", absent, arrays)
    return arrays
