"""Every error that mamol raises on purpose, under one root.

Each message says what came, what was expected and what to do next. Each class is also a ValueError or an OSError, so
that callers can catch what they already know. The command line turns `UsageError` (and its children) into exit code 2
and every other `MamolError` into exit code 1.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

MOST_NAMED = 20
"""Names that an error lists, unless it says otherwise."""


class MamolError(Exception):
    """Root of all errors raised on purpose."""

    several: tuple[str, ...] = ()
    """The faults that one error holds (`together`), one sentence each; () of an error with one fault."""

    def faults(self) -> tuple[str, ...]:
        """Return what the error says, one sentence for each fault."""
        return self.several or (str(self),)


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


class TrainingDiverged(DataError):
    """A loss or weights that are no numbers any more."""


class FileMissing(MamolError, FileNotFoundError):
    """A file or folder that should be there is not."""


class OutputExists(UsageError):
    """The output is there already and nobody asked to overwrite it."""


class WriteFailed(MamolError, OSError):
    """An output could not be written (disk full, no permission); nothing is left under the final name."""


def some(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return names as one text; of many the first `most`, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UnknownName:
    """Build the error for an unknown name: it lists the known ones and the nearest.

    `what` is the kind of thing ("modality"), `hint` an optional last sentence.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(names) if names else "(none)"
    return UnknownName(f"unknown {what} '{name}'; known: {listed}.{meant}{' ' + hint if hint else ''}")


def no_text(names: Any, what: str, example: str) -> None:
    """Raise UsageError if names that are to be a list are one text, which would be taken letter by letter, or nothing."""
    if names is None or isinstance(names, str):
        raise UsageError(f"{what} is a list of texts, such as {what}=['{example}']; got {names!r}.")


def missing(what: str, names: Sequence[str], there: Iterable[str]) -> DataError:
    """Build the error for things that a file must hold and does not: it lists those that are there and the nearest."""
    held = sorted(there)
    near = dict.fromkeys(n for name in names for n in difflib.get_close_matches(name, held, n=1, cutoff=0.8))
    meant = f" Rename {' and '.join(map(repr, near))} if that is what is meant." if near else ""
    return DataError(f"missing {what} {', '.join(map(repr, names))}; there is: {', '.join(held) or '(none)'}.{meant}")


_Kind = TypeVar("_Kind", bound=MamolError)


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that come more than once, each once, in the order in which they came first."""
    return [name for name, times in Counter(names).items() if times > 1]


def together(errors: Sequence[_Kind]) -> _Kind:
    """Build one error from one or more: of the first one's class, its sentence first, the others a line each below."""
    first, *more = errors
    if not more:
        return first
    rest = "".join(f"\n  {e}" for e in more)
    out = type(first)(f"{first}\nand {len(more)} more fault{'s' if len(more) > 1 else ''}:{rest}")
    out.several = tuple(str(e) for e in errors)
    return out
