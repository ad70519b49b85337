"""`scene.toml`: what a person writes to describe a scene, checked key by key.

    name = "my county"
    tiles = ["north", "south"]            # "*": every tile found; leave out for one tile
    grid = "hsi"                          # the modality whose grid everything is aligned to; default: the first
    [modalities.hsi]
    path = "{tile}/hsi.tif"               # GeoTIFF/COG, ENVI, VRT, .mat, URL; a missing file is a missing sensor
    [labels]
    path = "crowns.gpkg"                  # raster or polygons
    field = "species"
    [[classes]]
    name = "oak"

With `stac = "items.json"` the tiles are STAC items and the files their assets (stac.py). docs/scene.md lists every key.
"""

from __future__ import annotations

import csv
import glob
import io
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mamol.data.handles import ARCHIVE, is_remote, resolve
from mamol.errors import ConfigError, DataError, FileMissing, UsageError, some
from mamol.files import must_exist, read_text

Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode", "min", "max", "med", "mean_std"]
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """One file of a modality in one tile, and how its values are taken.

    `nodata`, `scale` and `offset` hold one entry for every band, or one per band; a `nodata` of None is the file's own.
    """

    place: str
    key: str | None = None
    bands: tuple[int, ...] | None = None
    resampling: str | None = None
    nodata: tuple[float | None, ...] = (None,)
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Mask:
    """A raster that says where values are missing: those in `values`, or, with None, all that are not zero."""

    place: str
    values: tuple[float, ...] | None = None


class Part(BaseModel):
    """A table of scene.toml; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModalitySpec(Part):
    """One sensor's files."""

    path: str | None = None
    """File relative to scene.toml, or whatever else GDAL opens; {tile} stands for the tile's name. None: STAC assets."""
    assets: tuple[str, ...] | None = Field(None, min_length=1)
    """Assets of a STAC item whose bands are stacked; None: the asset of the modality's own name."""
    key: str | None = None
    """Variable of a .mat file; None takes its only 2-D or 3-D numeric array."""
    bands: tuple[int, ...] | None = None
    """Bands to read, counted from 1; None reads all."""
    count: int | None = Field(None, ge=1)
    """Number of bands; needed only where the modality has no file in any tile."""
    nodata: float | None = None
    """Value that means missing, over the file's own."""
    resampling: Resampling | None = None
    """How it is brought onto the grid; None: average if finer, bilinear if coarser."""
    mask: str | None = None
    """Raster that says where values are to count as missing (clouds)."""
    mask_asset: str | None = None
    """The same as an asset of the STAC item."""
    mask_values: tuple[float, ...] | None = Field(None, min_length=1)
    """Values of the mask raster that mean missing; None: all but zero."""
    scale: float | None = None
    """Factor of the values read; None: the STAC item's, else 1."""
    offset: float | None = None
    """Added after scaling; None: the STAC item's, else 0."""
    unit: str = ""

    def source(self, found: Source) -> Source:
        """Return a file of this modality as the keys say that it is read, over what its STAC item says.

        Raises DataError for a band that the item does not describe.
        """
        return replace(
            found,
            key=self.key,
            bands=self.bands,
            resampling=self.resampling,
            nodata=self._chosen(found.nodata, found.place) if self.nodata is None else (self.nodata,),
            scale=self._chosen(found.scale, found.place) if self.scale is None else (self.scale,),
            offset=self._chosen(found.offset, found.place) if self.offset is None else (self.offset,),
        )

    def _chosen(self, values: tuple[T, ...], place: str) -> tuple[T, ...]:
        """Return what a STAC item says of the bands that are read; one entry holds for all of them."""
        if self.bands is None or len(values) == 1:
            return values
        if strange := [b for b in self.bands if not 1 <= b <= len(values)]:
            raise DataError(
                f"{place} has {len(values)} bands by its STAC item; bands = asks for band {strange[0]} (they are counted from 1)."
            )
        return tuple(values[b - 1] for b in self.bands)


def attribute_text(value: object) -> str:
    """Return an attribute of a polygon as the text of its class: a whole number without .0, "" where there is none.

    A field of whole numbers of which one is not filled in is read as float, with NaN there.
    """
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, (float, np.floating)) and value.is_integer() else str(value)


class LabelSpec(Part):
    """Where the labels come from."""

    path: str
    key: str | None = None
    field: str | None = None
    """Attribute of the polygons that holds the class."""
    layer: str | None = None
    all_touched: bool = False
    """Burn every pixel that a polygon touches, not only those whose centre it covers."""
    ignore: tuple[float | str, ...] | None = None
    """Raster values that mean unlabelled, or classes of polygons that are left out; None: 0 in a raster, no polygon."""
    train: str | None = None
    """Label raster of the official training part."""
    test: str | None = None
    split: str | None = None
    """Raster of the official split: 1 train, 2 test."""

    def ignored_values(self) -> tuple[float, ...]:
        """Return the raster values that mean unlabelled; raises ConfigError for the name of a class."""
        if names := [v for v in self.ignore or () if isinstance(v, str)]:
            raise ConfigError(
                f"ignore = in [labels] names the classes {', '.join(map(repr, names))}, but {self.path} is a raster; "
                "give the raster's values as numbers."
            )
        return (0.0,) if self.ignore is None else tuple(float(v) for v in self.ignore)

    def ignored_texts(self) -> frozenset[str]:
        """Return the attribute texts of the polygons that are left out; a number stands for it with and without .0."""
        given = [(v, v) if isinstance(v, str) else (attribute_text(v), str(float(v))) for v in self.ignore or ()]
        return frozenset(text for pair in given for text in pair)


class ClassSpec(Part):
    """One class."""

    name: str
    value: int | float | str | None = None
    """Raster value or attribute text; None: its place in the list from 1 (raster), or its name (polygons)."""
    colour: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")


class SceneSpec(Part):
    """A whole scene.toml."""

    name: str
    tiles: tuple[str, ...] | Literal["*"] | None = None
    stac: str | None = None
    """STAC item, ItemCollection, or Collection with links to items; its items are the tiles."""
    grid: str | None = None
    groups: str | None = None
    """CSV with the columns tile and group; None: every tile is its own group."""
    modalities: dict[str, ModalitySpec] = Field(min_length=1)
    labels: LabelSpec | None = None
    classes: tuple[ClassSpec, ...] = ()
    _folder: Path = PrivateAttr(default=Path())

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], folder: Path) -> SceneSpec:
        """Check the keys of a parsed scene.toml that lies in `folder`; raises pydantic's ValidationError."""
        spec = cls.model_validate(tree)
        spec._folder = folder
        return spec

    @property
    def folder(self) -> Path:
        """Where the scene.toml lies, the working directory if it is none; no key of it."""
        return self._folder

    def grid_modality(self) -> str:
        """Return the modality that defines the grid."""
        return self.grid or next(iter(self.modalities))

    def place(self, text: str, tile: str) -> str:
        """Return the place that a path of the spec names for a tile."""
        return resolve(text.replace("{tile}", tile), self.folder)

    def path(self, text: str, tile: str) -> Path:
        """Return the same as a `Path`; of a URL only `as_place` makes something that can be opened."""
        return Path(self.place(text, tile))

    def files(self, tile: str, modality: str, assets: Mapping[str, Source]) -> tuple[tuple[Source, ...], Mask | None]:
        """Return the files of a modality in a tile and its mask raster, there or not; `assets` are the STAC item's.

        No files if the item lacks an asset: part of the bands is no modality.
        """
        spec = self.modalities[modality]
        keys = (spec.assets or (modality,)) if spec.path is None else ()
        found = [Source(self.place(spec.path, tile))] if spec.path is not None else [assets[k] for k in keys if k in assets]
        mask = self.place(spec.mask, tile) if spec.mask is not None else None
        if spec.mask_asset is not None and spec.mask_asset in assets:
            mask = assets[spec.mask_asset].place
        sources = tuple(spec.source(s) for s in found) if len(found) >= len(keys) else ()
        return sources, None if mask is None else Mask(mask, spec.mask_values)

    def looked_for(self, tile: str, modality: str) -> str:
        """Say where the files of a modality are looked for in a tile."""
        spec = self.modalities[modality]
        if spec.path is not None:
            return self.place(spec.path, tile)
        return f"asset {' and '.join(spec.assets or (modality,))} of {self.stac}"

    def tile_groups(self, tiles: Sequence[str]) -> dict[str, str]:
        """Return the group of each tile: what the groups table says of it, or itself without a table.

        Raises FileMissing, and UsageError for a table that is no UTF-8, has other columns, or does not give every tile one
        group: by a tile left alone a split would leak. It may name more tiles.
        """
        if self.groups is None:
            return {t: t for t in tiles}
        path = must_exist(self.folder / self.groups, "groups table")
        try:
            table = csv.DictReader(io.StringIO(read_text(path, "utf-8-sig")))  # spreadsheets begin with a byte order mark
            rows, columns = list(table), table.fieldnames or ()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not UTF-8 ({error}); save it as CSV UTF-8.") from None
        if not {"tile", "group"} <= set(columns):
            raise UsageError(f"{path} needs a header with the columns tile and group; it begins with '{','.join(columns)}'.")
        pairs = sorted({(r["tile"], r["group"]) for r in rows if r["tile"] and r["group"]})
        times = Counter(tile for tile, _ in pairs)
        for said, wrong in (
            ("no group", [t for t in tiles if not times[t]]),
            ("several groups", [t for t in tiles if times[t] > 1]),
        ):
            if wrong:
                raise UsageError(
                    f"{path} has {said} for the tile{'s' if len(wrong) > 1 else ''} {some(map(repr, wrong))}; it names "
                    f"{some(map(repr, times))}. Write one line for each tile."
                )
        return dict(pairs)

    def tile_names(self) -> tuple[str, ...]:
        """List the tiles; raises FileMissing if "*" finds none, ConfigError where it cannot look."""
        if self.tiles is None:
            return (self.name,)
        if self.tiles != "*":
            return self.tiles
        pattern = self.modalities[self.grid_modality()].path or ""
        if is_remote(pattern) or pattern.startswith("/") or ARCHIVE.match(pattern):
            raise ConfigError(f'tiles = "*" looks into the folder of scene.toml, not into {pattern}; list the tiles by name.')
        head, *rest = posixpath.normpath(pattern).split("{tile}")
        form = re.compile(f"{re.escape(head)}(?P<tile>[^/]+){'(?P=tile)'.join(map(re.escape, rest))}")
        found = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.glob("*".join(map(glob.escape, [head, *rest]))))
        names = tuple(match["tile"] for f in found if (match := form.fullmatch(f)))
        if not names:
            raise FileMissing(f"no file matches {self.folder / pattern} for any tile; check tiles and path in scene.toml.")
        return names
