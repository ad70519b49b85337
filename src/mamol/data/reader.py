"""Open a scene and read it, whole or window by window: from files (scene.toml) or from memory (catalogue scenes)."""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mamol.data.dataset import UNLABELLED, ClassInfo, Georeference, Scene, Tile
from mamol.data.labels import find_classes, read_labels, read_official
from mamol.data.raster import Grid, band_count, read_grid, read_mask, read_modality
from mamol.data.spec import SceneSpec, read_spec
from mamol.errors import AllModalitiesMissing, DataError, FileMissing, GridMismatch, UsageError, unknown
from mamol.files import must_exist, sha256_file
from mamol.modality import Batch, Modality

log = logging.getLogger(__name__)
HASH_LIMIT = 200_000_000
"""Files over this many bytes are named in the provenance by size and time, not by hash."""


@runtime_checkable
class Reader(Protocol):
    """A scene that can be read by window."""

    @property
    def name(self) -> str: ...

    @property
    def modalities(self) -> tuple[Modality, ...]: ...

    @property
    def classes(self) -> tuple[ClassInfo, ...]: ...

    @property
    def tile_names(self) -> tuple[str, ...]: ...

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        ...

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        ...

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one; the slices lie inside the tile."""
        ...


@dataclass(frozen=True)
class MemoryReader:
    """A Scene that is already in memory."""

    scene: Scene

    @property
    def name(self) -> str:
        """Name of the scene."""
        return self.scene.name

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in order."""
        return self.scene.modalities

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes in order."""
        return self.scene.classes

    @property
    def tile_names(self) -> tuple[str, ...]:
        """Names of the tiles."""
        return tuple(t.name for t in self.scene.tiles)

    def _tile(self, name: str) -> Tile:
        for tile in self.scene.tiles:
            if tile.name == name:
                return tile
        raise unknown("tile", name, self.tile_names)

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        height, width = self._tile(tile).labels.shape
        return height, width

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        return self._tile(tile).georeference

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one, (1, C, h, w)."""
        t = self._tile(tile)
        return Batch(
            {m: v[None, :, rows, columns] for m, v in t.values.items()},
            {m: a[None, rows, columns] for m, a in t.available.items()},
        )


class FileReader:
    """A scene described by a scene.toml; files are opened when a window is read."""

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.tile_names = spec.tile_names()

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in the order of scene.toml; one without any file has `count` bands (1 if not said)."""
        out = []
        for name, spec in self.spec.modalities.items():
            files = [f for f in (self.spec.path(spec.path, t) for t in self.tile_names) if f.exists()]
            if files:
                counts = {band_count(f, spec) for f in (files[0], files[-1])}
                if len(counts) > 1:
                    raise DataError(f"modality '{name}' has {sorted(counts)} bands in different tiles; they must be equal.")
                bands, gsd = counts.pop(), self._gsd(files[0], spec.key)
            else:
                looked = self.spec.path(spec.path, self.tile_names[0])
                log.warning("modality '%s' has no file in any tile (%s); it counts as absent everywhere", name, looked)
                bands, gsd = len(spec.bands or ()) or spec.count or 1, None
            out.append(Modality(name, bands, "grid", gsd, spec.unit))
        return tuple(out)

    @cached_property
    def _classes(self) -> tuple[tuple[ClassInfo, ...], dict[float | str, int]]:
        return find_classes(self.spec, self.tile_names)

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes in the order of scene.toml, or of their values."""
        return self._classes[0]

    @property
    def class_values(self) -> dict[float | str, int]:
        """Return which raster value or attribute text means which class."""
        return self._classes[1]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Resampling per modality and the SHA-256 of the files."""
        specs = self.spec.modalities.items()
        files = [self.spec.path(s.path, t) for t in self.tile_names for _, s in specs]
        return {
            "resampling": {m: s.resampling or "average if finer, bilinear if coarser" for m, s in specs},
            "sha256": {f.name if len(self.tile_names) == 1 else str(f): _identity(f) for f in files if f.exists()},
        }

    def grid(self, tile: str) -> Grid:
        """Return the grid of a tile; raises FileMissing if the modality that defines it has no file there."""
        if tile not in self.tile_names:
            raise unknown("tile", tile, self.tile_names)
        chosen = self.spec.grid_modality()
        # With the grid's own sensor absent, the next one that is there defines the ground.
        for name in [chosen, *(m for m in self.spec.modalities if m != chosen)]:
            spec = self.spec.modalities[name]
            path = self.spec.path(spec.path, tile)
            if path.exists():
                return read_grid(path, spec.key)
        looked = self.spec.path(self.spec.modalities[chosen].path, tile)
        raise AllModalitiesMissing(
            f"tile '{tile}' of '{self.name}' has no file of any modality; looked for {looked} and the like."
        )

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        return self.grid(tile).shape

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        return self.grid(tile).georeference

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one, (1, C, h, w); a modality without a file is absent."""
        grid, values, available = self.grid(tile), {}, {}
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        for m in self.modalities:
            spec = self.spec.modalities[m.name]
            path = self.spec.path(spec.path, tile)
            if path.exists():
                value, there = read_modality(path, spec, grid, (rows, columns))
                if len(value) != m.bands:
                    raise DataError(f"{path} gives {len(value)} bands; the other tiles give {m.bands}.")
                if spec.mask is not None and self.spec.path(spec.mask, tile).exists():
                    there = there & ~read_mask(self.spec.path(spec.mask, tile), grid, (rows, columns))
            else:
                value, there = np.zeros((m.bands, *shape), dtype=np.float32), np.zeros(shape, dtype=bool)
            values[m.name] = np.where(there, value, 0).astype(np.float32)[None]
            available[m.name] = there[None]
        return Batch(values, available)

    def labels(self, tile: str) -> np.ndarray:
        """Return the labels of a tile, int16 (H, W)."""
        return read_labels(self.spec, tile, self.grid(tile), self._classes[1])

    def load(self) -> Scene:
        """Read everything into memory; raises AllModalitiesMissing if no tile has any modality anywhere."""
        groups, tiles = self._groups(), []
        for name in self.tile_names:
            grid = self.grid(name)
            batch = self.read(name, slice(0, grid.height), slice(0, grid.width))
            tiles.append(
                Tile(
                    name,
                    {m: v[0] for m, v in batch.values.items()},
                    {m: a[0] for m, a in batch.available.items()},
                    self.labels(name),
                    groups.get(name, name),
                    grid.georeference,
                    read_official(self.spec, name, grid),
                )
            )
        if not any(a.any() for t in tiles for a in t.available.values()):
            raise AllModalitiesMissing(f"'{self.name}' has no available value in any modality; check nodata and masks.")
        if self.spec.labels is not None and not any((t.labels != UNLABELLED).any() for t in tiles):
            raise DataError(f"'{self.name}' has no labelled pixel; check [labels] and [[classes]] in scene.toml.")
        return Scene(self.name, self.modalities, self.classes, tuple(tiles), self.provenance)

    def _groups(self) -> dict[str, str]:
        if self.spec.groups is None:
            return {}
        path = must_exist(self.spec.folder / self.spec.groups, "groups table")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"tile", "group"} <= set(rows[0]):
            raise UsageError(f"{path} needs a header with the columns tile and group.")
        return {r["tile"]: r["group"] for r in rows}

    def _gsd(self, path: Path, key: str | None) -> float | None:
        grid = read_grid(path, key)
        return abs(grid.georeference.transform[0]) if grid.georeference.crs else None


def open_scene(path: Path | str) -> FileReader:
    """Open the scene that a scene.toml (or its folder) describes; nothing is read yet but the description."""
    return FileReader(read_spec(Path(path)))


def _identity(path: Path) -> str:
    stat = path.stat()
    return sha256_file(path) if stat.st_size <= HASH_LIMIT else f"{stat.st_size} bytes, {stat.st_mtime_ns}"


__all__ = ["FileMissing", "FileReader", "GridMismatch", "MemoryReader", "Reader", "open_scene"]
