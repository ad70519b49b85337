"""Open a scene of files (scene.toml, STAC) and read it, whole or window by window; one in memory is in memory.py."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from mamol.data.area import Grid, Slices
from mamol.data.dataset import UNLABELLED, ClassInfo, Georeference, Scene, Tile
from mamol.data.handles import as_place, fingerprint, is_remote, is_there
from mamol.data.identity import identify_sources, scene_files
from mamol.data.labels import find_classes, read_labels, read_official
from mamol.data.raster import band_count, read_grid, read_modality
from mamol.data.spec import Mask, SceneSpec, Source
from mamol.data.spec_file import build_spec, read_spec
from mamol.data.stac import Item, read_items
from mamol.errors import AllModalitiesMissing, DataError, FileMissing, MamolError, UsageError, unknown
from mamol.modality import Batch, Modality

log = logging.getLogger(__name__)
SAME = 1e-3
"""By what share pixel sizes may differ and count as one."""
STAC_SUFFIXES = {".json", ".geojson"}


class FileReader:
    """A scene described by a scene.toml or STAC items; files are opened when a window is read, and stay open.

    Whether a sensor is there in a tile is found out once: a file that vanishes later is an error, not an absent sensor.
    It can be pickled and used from several threads; each process and thread opens its own files.
    """

    def __init__(self, spec: SceneSpec, items: Mapping[str, Item] | None = None, only: Sequence[str] = ()) -> None:
        """Take a description, the STAC items by tile if it names any, and the modalities to read (() all)."""
        self.spec, self.items = spec, dict(items or {})
        self.name = spec.name
        self.tile_names = spec.tile_names() if spec.stac is None or spec.tiles not in (None, "*") else tuple(self.items)
        for tile in self.tile_names if spec.stac is not None else ():
            if tile not in self.items:
                raise unknown(f"item in {spec.stac}", tile, self.items)
        self._names = tuple(m for m in spec.modalities if not only or m in only)
        self._found: dict[tuple[str, str], tuple[tuple[Source, ...], Mask | None]] = {}

    def sources(self, tile: str, modality: str) -> tuple[Source, ...]:
        """Return the files of a modality in a tile, () if it is absent there."""
        return self._files(tile, modality)[0]

    def mask(self, tile: str, modality: str) -> Mask | None:
        """Return the mask raster of a modality in a tile, None if it has none there."""
        return self._files(tile, modality)[1]

    def _files(self, tile: str, modality: str) -> tuple[tuple[Source, ...], Mask | None]:
        if (tile, modality) not in self._found:
            item = self.items.get(tile)
            sources, mask = self.spec.files(tile, modality, item.assets if item else {})
            there = bool(sources) and all(is_there(s.place) for s in sources)
            masked = there and mask is not None and is_there(mask.place)
            self._found[tile, modality] = (sources if there else (), mask if masked else None)
        return self._found[tile, modality]

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in the order of scene.toml; one without any file has `count` bands (1 if not said)."""
        out = []
        for name in self._names:
            spec = self.spec.modalities[name]
            if ends := self._ends(name):
                counts = {sum(band_count(s) for s in sources): sources[0].place for sources in reversed(ends)}
                if len(counts) > 1:
                    said = ", ".join(f"{n} in {place}" for n, place in counts.items())
                    raise DataError(f"modality '{name}' has unlike numbers of bands ({said}); they must be equal.")
                bands, gsd = next(iter(counts)), _gsd(ends[0][0])
            else:
                looked = self.spec.looked_for(self.tile_names[0], name)
                log.warning("modality '%s' has no file in any tile (%s); it counts as absent everywhere", name, looked)
                bands, gsd = len(spec.bands or ()) or spec.count or 1, None
            out.append(Modality(name, bands, "grid", gsd, spec.unit))
        return tuple(out)

    def _ends(self, name: str) -> list[tuple[Source, ...]]:
        """Return the files of the first and the last tile with the modality; a server is asked for no more than those."""
        first = next((s for t in self.tile_names if (s := self.sources(t, name))), None)
        if first is None:
            return []
        tiles = self.tile_names if not is_remote(first[0].place) else reversed(self.tile_names)
        found = (s for t in tiles if (s := self.sources(t, name)))
        return [first, next(found) if is_remote(first[0].place) else list(found)[-1]]

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
        files = [s.place for t in self.tile_names for m in self._names for s in self.sources(t, m)]
        return {
            "resampling": {m: s.resampling or "average if finer, bilinear if coarser" for m, s in specs},
            "sha256": {Path(f).name if len(self.tile_names) == 1 else f: fingerprint(f) for f in files},
        }

    def grid(self, tile: str) -> Grid:
        """Return the grid of a tile; raises AllModalitiesMissing if no modality has a file there.

        With the grid's own sensor absent, the next one that is there defines the ground.
        """
        if tile not in self.tile_names:
            raise unknown("tile", tile, self.tile_names)
        if source := self._grid_source(tile):
            return read_grid(source.place, source.key)
        looked = self.spec.looked_for(tile, self.spec.grid_modality())
        raise AllModalitiesMissing(
            f"tile '{tile}' of '{self.name}' has no file of any modality; looked for {looked} and the like."
        )

    def _grid_source(self, tile: str) -> Source | None:
        names = (self.spec.grid_modality(), *self.spec.modalities)
        return next((sources[0] for m in names if (sources := self.sources(tile, m))), None)

    def other_pixels(self, tile: str) -> str | None:
        """Say so if a tile has other pixels than the scene's, for want of the sensor that defines them; None if it has not."""
        chosen, source = self.spec.grid_modality(), self._grid_source(tile)
        if source is None or self.sources(tile, chosen):
            return None
        there = () if is_remote(source.place) else self.tile_names  # a server is not asked for every tile
        usual = next((s[0] for t in there if (s := self.sources(t, chosen))), None)
        try:
            size, wanted = (None if s is None else _pixel_width(s) for s in (source, usual))
        except MamolError:  # of a file that is perhaps not needed; where it is, it is said then
            return None
        if usual is not None and (size == wanted or (size and wanted and math.isclose(size, wanted, rel_tol=SAME))):
            return None
        here = "of unknown size" if size is None else f"{size:g}"
        elsewhere = "" if wanted is None else f", elsewhere {wanted:g}"
        return (
            f"tile '{tile}' of '{self.name}' has no file of '{chosen}', which defines the pixels; they are {here}{elsewhere}, "
            f"those of {source.place}. A model wants the pixels that it was trained on"
        )

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        return self.grid(tile).shape

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        return self.grid(tile).georeference

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one, (1, C, h, w); a modality without a file is absent.

        Raises UsageError for a window that leaves the tile, and what `read_modality` raises, with the window named.
        """
        said = f"rows {rows.start}:{rows.stop}, columns {columns.start}:{columns.stop} of tile '{tile}'"
        try:
            grid = self.grid(tile)
            if not (0 <= rows.start < rows.stop <= grid.height and 0 <= columns.start < columns.stop <= grid.width):
                raise UsageError(f"{said} leave its {grid.height} x {grid.width} pixels; cut the window off at the border.")
            pairs = {m.name: self._read(tile, m, grid, (rows, columns)) for m in self.modalities}
        except (FileMissing, DataError) as error:
            raise type(error)(f"{error} Wanted: {said}.") from error
        return Batch({m: v[None] for m, (v, _) in pairs.items()}, {m: a[None] for m, (_, a) in pairs.items()})

    def _read(self, tile: str, modality: Modality, grid: Grid, part: Slices) -> tuple[np.ndarray, np.ndarray]:
        sources = self.sources(tile, modality.name)
        if not sources:
            shape = (part[0].stop - part[0].start, part[1].stop - part[1].start)
            return np.zeros((modality.bands, *shape), dtype=np.float32), np.zeros(shape, dtype=bool)
        values, there = read_modality(sources, grid, part, self.mask(tile, modality.name), modality.name)
        if len(values) != modality.bands:
            raise DataError(f"{sources[0].place} gives {len(values)} bands; the other tiles give {modality.bands}.")
        return values, there

    def identity(self, tile: str) -> dict[str, str]:
        """Return, for each modality, a digest of where its files in a tile lie, how they are read, their sizes and times.

        Raises FileMissing and DataError for files that are gone.
        """
        return {m: identify_sources(self.sources(tile, m), self.mask(tile, m)) for m in self._names}

    def files(self) -> frozenset[Path]:
        """Return the local files that the description names, there or not, links followed: nothing may be written there."""
        return self._named_files

    @cached_property
    def _named_files(self) -> frozenset[Path]:
        assets = {tile: item.assets for tile, item in self.items.items()}
        return frozenset(p for t in self.tile_names for p in scene_files(self.spec, t, assets.get(t, {})))

    def labels(self, tile: str) -> np.ndarray:
        """Return the labels of a tile, int16 (H, W)."""
        return read_labels(self.spec, tile, self.grid(tile), self._classes[1])

    def load(self) -> Scene:
        """Read everything into memory; raises AllModalitiesMissing if no tile has any modality anywhere."""
        groups, tiles = self.spec.tile_groups(self.tile_names), []
        for name in self.tile_names:
            grid = self.grid(name)
            batch = self.read(name, slice(0, grid.height), slice(0, grid.width))
            tiles.append(
                Tile(
                    name,
                    {m: v[0] for m, v in batch.values.items()},
                    {m: a[0] for m, a in batch.available.items()},
                    self.labels(name),
                    groups[name],
                    grid.georeference,
                    read_official(self.spec, name, grid),
                )
            )
        if not any(a.any() for t in tiles for a in t.available.values()):
            raise AllModalitiesMissing(f"'{self.name}' has no available value in any modality; check nodata and masks.")
        if self.spec.labels is not None and not any((t.labels != UNLABELLED).any() for t in tiles):
            raise DataError(f"'{self.name}' has no labelled pixel; check [labels] and [[classes]] in scene.toml.")
        return Scene(self.name, self.modalities, self.classes, tuple(tiles), self.provenance)


def open_scene(path: Path | str, modalities: Sequence[str] = ()) -> FileReader:
    """Open what a scene.toml (or its folder) or a STAC document describes; nothing is read yet but the description.

    `modalities` names the ones to read, () all. Of a bare STAC document they are the keys of its assets: those that are
    named, or all that look like rasters of measured values; the first one defines the grid. Raises what `read_spec` and
    `read_items` raise, and UnknownName if a STAC document has none of the assets.
    """
    place = as_place(path)
    if not is_remote(place) and Path(place).suffix.lower() not in STAC_SUFFIXES:
        return open_spec(read_spec(Path(path)), modalities)
    name, items = read_items(place)
    known = dict.fromkeys(a for i in items.values() for a in (i.assets if modalities else i.rasters))
    chosen = [m for m in modalities if m in known] if modalities else list(known)
    if not chosen:
        assets = {a for i in items.values() for a in i.assets}
        raise unknown(
            f"asset of {place}", ", ".join(modalities) or "(any raster)", assets, "Assets are modalities by their name."
        )
    parts = {m: {"assets": [m]} for m in chosen}
    return FileReader(build_spec({"name": name, "stac": place, "modalities": parts}, Path(place)), items)


def open_spec(spec: SceneSpec, modalities: Sequence[str] = ()) -> FileReader:
    """Open what a description says, () all of its modalities; raises what `read_items` raises."""
    return FileReader(spec, None if spec.stac is None else read_items(spec.place(spec.stac, ""))[1], modalities)


def _pixel_width(source: Source) -> float | None:
    """Return how wide a pixel is in the unit of its file's CRS, None without one."""
    place = read_grid(source.place, source.key).georeference
    return _across(place) if place.crs else None


def _gsd(source: Source) -> float | None:
    """Return how wide a pixel is in metres, None where the CRS does not say so: in degrees it depends on where it lies."""
    place = read_grid(source.place, source.key).georeference
    known = rasterio.crs.CRS.from_user_input(place.crs) if place.crs else None
    if known is None or known.is_geographic:
        return None
    unit, metres = known.units_factor
    return None if unit.lower() == "unknown" else _across(place) * float(metres)


def _across(place: Georeference) -> float:
    """Return the length of the step from one pixel to the next of its row, also of a raster that is turned."""
    return math.hypot(place.transform[0], place.transform[3])
