"""Every error that mamol raises on purpose, under one root.

Each message says what came, what was expected and what to do next. Each class is also a ValueError or an OSError, so
that callers can catch what they already know. The command line turns `UsageError` (and its children) into exit code 2
and every other `MamolError` into exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MamolError(Exception):
    """Root of all errors raised on purpose."""


class UsageError(MamolError, ValueError):
    """The caller asked for something that does not exist or makes no sense: exit code 2."""


class UnknownName(UsageError):
    """A name (class, modality, key, catalogue entry, choice) that is not known."""


class ConfigError(UsageError):
    """A setting that is unknown, of the wrong type or out of range."""


class DataError(MamolError, ValueError):
    """The files are there but what they hold cannot be used."""


class GridMismatch(DataError):
    """Two rasters that should lie on one ground do not."""


class ShapeMismatch(DataError):
    """An array whose shape is not the one expected."""


class AllModalitiesMissing(DataError):
    """A sample, a window or a scene in which no modality is available."""


class CheckpointError(DataError):
    """A run or backbone folder that is truncated, tampered with, or belongs to another backbone."""


class FileMissing(MamolError, FileNotFoundError):
    """A file or folder that should be there is not."""


class OutputExists(UsageError):
    """The output is there already and nobody asked to overwrite it."""


class WriteFailed(MamolError, OSError):
    """An output could not be written (disk full, no permission); nothing is left under the final name."""


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UnknownName:
    """Build the error for an unknown name: it lists the known ones and the nearest.

    `what` is the kind of thing ("modality"), `hint` an optional last sentence.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(names) if names else "(none)"
    return UnknownName(f"unknown {what} '{name}'; known: {listed}.{meant}{' ' + hint if hint else ''}")
