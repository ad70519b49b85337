"""What pydantic finds wrong in a TOML file, as our errors: all of it, one sentence for each place in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mamol.errors import ConfigError, UsageError, unknown

Place = tuple[int | str, ...]
"""Where something stands in the file, such as ("modalities", "hsi", "path") or ("classes", 0, "colour")."""


def find_faults(
    error: ValidationError, tree: Mapping[str, Any], path: Path, known: Callable[[Place], Iterable[str]]
) -> dict[Place, UsageError]:
    """Return one error for each place of `tree` that is at fault, in the file's order.

    `known` lists the keys that may stand where an unknown one does; `path` is named in the sentences. What pydantic says
    of each choice at one place (a list or "*") becomes one sentence.
    """
    by_place: dict[Place, list[Any]] = {}
    for detail in error.errors():
        by_place.setdefault(_place(tree, detail["loc"], detail["type"] == "missing"), []).append(detail)
    return {place: _sentence(place, details, path, known) for place, details in by_place.items()}


def _place(tree: Any, location: Place, missing: bool) -> Place:
    """Return the part of a location that stands in the tree: behind it pydantic names the choices that it tried."""
    depth = 0
    for step in location:
        inside = step in tree if isinstance(tree, Mapping) else isinstance(tree, list) and step in range(len(tree))
        if not inside:
            break
        tree, depth = tree[step], depth + 1
    return location[: depth + missing]


def _sentence(place: Place, details: list[Any], path: Path, known: Callable[[Place], Iterable[str]]) -> UsageError:
    first, where = details[0], ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        table = f"[{where.rpartition('.')[0]}] of " if len(place) > 1 else ""
        return unknown(f"key in {table}{path.name}", str(place[-1]), known(place))
    if first["type"] == "missing":
        return ConfigError(f"{path}: {where} is missing.")
    says = " or: ".join(dict.fromkeys(d["msg"] for d in details))
    return ConfigError(f"{path}: {where}: {says}; got {first['input']!r}.")
