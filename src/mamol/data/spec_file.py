"""Reads a scene.toml into a SceneSpec and says everything that is wrong in it at once.

First each key on its own (pydantic), then what keys say together. What is at fault can be left out and the rest looked
at, so that `mamol scene check` goes on to the files.
"""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mamol.data.faults import Place, find_faults
from mamol.data.handles import PART
from mamol.data.spec import ClassSpec, LabelSpec, ModalitySpec, Part, SceneSpec
from mamol.errors import ConfigError, FileMissing, UsageError, repeated, together, unknown
from mamol.files import lies_there, read_text


@dataclass(frozen=True)
class Examined:
    """What a description says: `spec` without the settings at fault, None if nothing can be read without them.

    `faults` are in the file's order; `doubtful` are the top-level keys in which a fault stands.
    """

    spec: SceneSpec | None
    faults: tuple[UsageError, ...] = ()
    doubtful: frozenset[str] = frozenset()


def read_spec(path: Path) -> SceneSpec:
    """Read and check a scene.toml; raises FileMissing, ConfigError and UnknownName, with every fault in one error."""
    path = _file(path)
    return build_spec(_tree(path), path)


def build_spec(tree: dict[str, Any], path: Path) -> SceneSpec:
    """Check a parsed scene.toml; `path` is named in errors. Raises ConfigError and UnknownName."""
    found = _examine(tree, path)
    if found.spec is None or found.faults:
        raise together(found.faults)
    return found.spec


def examine_spec(path: Path) -> Examined:
    """Read a scene.toml as far as it can be understood; raises FileMissing, and ConfigError if it is no TOML."""
    path = _file(path)
    return _examine(_tree(path), path)


def _file(path: Path) -> Path:
    path = Path(path)
    return path / "scene.toml" if os.path.isdir(path) else path


def _tree(path: Path) -> dict[str, Any]:
    if not lies_there(path) or os.path.isdir(path):
        raise FileMissing(f"scene description not found: {path}. `mamol scene make DIR` writes an example.")
    try:
        return tomllib.loads(read_text(path, "utf-8-sig"))  # Notepad begins a file with a byte order mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def _examine(tree: dict[str, Any], path: Path) -> Examined:
    faults: dict[Place, UsageError] = {}
    try:
        spec = SceneSpec.from_tree(tree, path.parent)
    except ValidationError as error:
        faults = find_faults(error, tree, path, _keys)
        try:
            spec = SceneSpec.from_tree(_without(tree, faults), path.parent)
        except ValidationError:
            return Examined(None, tuple(faults.values()))
    more = [(place, e) for place, e in _between_keys(spec, path) if not any(f[: len(place)] == place for f in faults)]
    if any(place == ("grid",) for place, _ in more):
        spec = spec.model_copy(update={"grid": None})
    doubtful = frozenset(str(place[0]) for place in [*faults, *(place for place, _ in more)])
    return Examined(spec, (*faults.values(), *(e for _, e in more)), doubtful)


def _without(tree: dict[str, Any], places: Iterable[Place]) -> dict[str, Any]:
    """Return the tree without some places; of a list the whole list goes, for its other items mean nothing alone."""
    out = copy.deepcopy(tree)
    for place in places:
        while place and not isinstance(place[-1], str):
            place = place[:-1]
        table: Any = out
        for step in place[:-1]:
            table = table.get(step, {}) if isinstance(table, dict) else table[step]
        if isinstance(table, dict) and place:
            table.pop(place[-1], None)
    return out


def _between_keys(spec: SceneSpec, path: Path) -> Iterator[tuple[Place, UsageError]]:
    """Say what is wrong between keys that are right on their own, and where."""
    if spec.grid is not None and spec.grid not in spec.modalities:
        yield ("grid",), unknown("modality in grid =", spec.grid, spec.modalities)
    for name, modality in spec.modalities.items():
        for fault in _modality_faults(modality, spec.stac is not None):
            yield ("modalities", name), ConfigError(f"{path}: modalities.{name}: {fault}.")
    labels = {} if spec.labels is None else spec.labels.model_dump(include={"path", "train", "test", "split"})
    for fault in _parts_of_files(labels):
        yield ("labels",), ConfigError(f"{path}: labels: {fault}.")
    grid = spec.grid_modality()
    pattern = spec.modalities[grid].path if grid in spec.modalities else None
    if pattern is not None and "{tile}" not in pattern and spec.tiles:
        yield ("tiles",), ConfigError(f"{path}: tiles are named, but the path of '{grid}' has no {{tile}} in it.")
    if spec.tiles == ():
        advice = 'list them, write "*" for all that are found, or leave it out for one'
        yield ("tiles",), ConfigError(f"{path}: tiles = [] names no tile; {advice}.")
    for name in repeated(spec.tiles or ()):
        yield ("tiles",), ConfigError(f"{path}: the tile '{name}' is listed twice; name every tile once.")
    for name in repeated(c.name for c in spec.classes):
        yield ("classes",), ConfigError(f"{path}: the class '{name}' is listed twice; class names must differ.")
    texts = {c.name if c.value is None else str(c.value) for c in spec.classes}
    for text in (v for v in (spec.labels.ignore if spec.labels else None) or () if isinstance(v, str) and v in texts):
        yield (
            ("labels",),
            ConfigError(f"{path}: '{text}' stands in [[classes]] and in ignore = of [labels]; take it out of one of them."),
        )


def _modality_faults(spec: ModalitySpec, stac: bool) -> list[str]:
    """Say what is wrong between the keys of a modality; empty if nothing is."""
    assets, mask_asset = spec.assets is not None, spec.mask_asset is not None
    faults = {
        "assets = and mask_asset = need stac = at the top of the file": (assets or mask_asset) and not stac,
        "needs path = (or stac = at the top, for the assets of STAC items)": spec.path is None and not stac,
        "path = and assets = exclude each other": spec.path is not None and assets,
        "mask = and mask_asset = exclude each other": spec.mask is not None and mask_asset,
        "mask_values = needs mask = or mask_asset =": spec.mask_values is not None and spec.mask is None and not mask_asset,
        "bands = goes with a single asset; leave assets out that are not wanted": bool(spec.bands) and len(spec.assets or ()) > 1,
        "key = goes with path =, not with assets": spec.key is not None and spec.path is None and stac,
    }
    return [said for said, wrong in faults.items() if wrong] + _parts_of_files({"path": spec.path, "mask": spec.mask})


def _parts_of_files(places: Mapping[str, str | None]) -> list[str]:
    """Say which places are GDAL's names of a part of a file: they are relative to the working directory, and no file."""
    return [
        f"{key} = '{text}' is a part of a file in GDAL's own words, which is not found from the folder of scene.toml. "
        f"Make a file of it (`gdal_translate -of VRT '{text}' part.vrt`) and name that"
        for key, text in places.items()
        if text is not None and PART.match(text)
    ]


def _keys(place: Place) -> list[str]:
    parts: dict[str, type[Part]] = {"modalities": ModalitySpec, "labels": LabelSpec, "classes": ClassSpec}
    kind = parts.get(str(place[0]), SceneSpec) if len(place) > 1 else SceneSpec
    return list(kind.model_fields)
