"""`scene.toml`: what a person writes to describe a scene, checked key by key.

    name = "my county"
    tiles = ["north", "south"]            # "*": every tile found; leave out for one tile
    grid = "hsi"                          # the modality whose grid everything is aligned to; default: the first
    [modalities.hsi]
    path = "{tile}/hsi.tif"               # GeoTIFF/COG, ENVI, VRT, .mat; a missing file is a missing sensor
    [labels]
    path = "crowns.gpkg"                  # raster or polygons
    field = "species"
    [[classes]]
    name = "oak"

docs/scene.md lists every key.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mamol.errors import ConfigError, FileMissing, unknown

Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode", "min", "max", "med", "mean_std"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModalitySpec(_Part):
    """One sensor's files."""

    path: str
    """File, relative to scene.toml; {tile} stands for the tile's name."""
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
    """Raster that is not zero where values are to count as missing (clouds)."""
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""


class LabelSpec(_Part):
    """Where the labels come from."""

    path: str
    key: str | None = None
    field: str | None = None
    """Attribute of the polygons that holds the class."""
    layer: str | None = None
    all_touched: bool = False
    """Burn every pixel that a polygon touches, not only those whose centre it covers."""
    ignore: tuple[float, ...] = (0,)
    """Raster values that mean unlabelled."""
    train: str | None = None
    """Label raster of the official training part."""
    test: str | None = None
    split: str | None = None
    """Raster of the official split: 1 train, 2 test."""


class ClassSpec(_Part):
    """One class."""

    name: str
    value: int | float | str | None = None
    """Raster value or attribute text; None: its place in the list from 1 (raster), or its name (polygons)."""
    colour: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")


class SceneSpec(_Part):
    """A whole scene.toml; `folder` is where it lies."""

    name: str
    folder: Path = Path()
    tiles: tuple[str, ...] | Literal["*"] | None = None
    grid: str | None = None
    groups: str | None = None
    """CSV with the columns tile and group; None: every tile is its own group."""
    modalities: dict[str, ModalitySpec] = Field(min_length=1)
    labels: LabelSpec | None = None
    classes: tuple[ClassSpec, ...] = ()

    def grid_modality(self) -> str:
        """Return the modality that defines the grid."""
        return self.grid or next(iter(self.modalities))

    def path(self, text: str, tile: str) -> Path:
        """Return the file that a path of the spec names for a tile."""
        return self.folder / text.replace("{tile}", tile)

    def tile_names(self) -> tuple[str, ...]:
        """List the tiles; raises FileMissing if "*" finds none."""
        if self.tiles is None:
            return (self.name,)
        if self.tiles != "*":
            return self.tiles
        pattern = self.modalities[self.grid_modality()].path
        before, _, after = pattern.partition("{tile}")
        found = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.glob(pattern.replace("{tile}", "*")))
        names = tuple(f[len(before) : len(f) - len(after)] for f in found)
        if not names:
            raise FileMissing(f"no file matches {self.folder / pattern} for any tile; check tiles and path in scene.toml.")
        return names


def read_spec(path: Path) -> SceneSpec:
    """Read and check a scene.toml; raises FileMissing, ConfigError and UnknownName (with the nearest key)."""
    path = Path(path)
    if path.is_dir():
        path = path / "scene.toml"
    if not path.is_file():
        raise FileMissing(f"scene description not found: {path}. `mamol scene make DIR` writes an example.")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    return build_spec(tree, path)


def build_spec(tree: dict[str, Any], path: Path) -> SceneSpec:
    """Check a parsed scene.toml; `path` is named in errors."""
    try:
        spec = SceneSpec.model_validate(tree | {"folder": path.parent})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown(f"key in {path.name}", str(first["loc"][-1]), _keys(first["loc"])) from None
        raise ConfigError(f"{path}: {where}: {first['msg']}; got {first['input']!r}.") from None
    if spec.grid is not None and spec.grid not in spec.modalities:
        raise unknown("modality in grid =", spec.grid, spec.modalities)
    if "{tile}" not in spec.modalities[spec.grid_modality()].path and spec.tiles is not None:
        raise ConfigError(f"{path}: tiles are named, but the path of '{spec.grid_modality()}' has no {{tile}} in it.")
    names = [c.name for c in spec.classes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: the class '{name}' is listed twice; class names must differ.")
    return spec


def _keys(location: tuple[int | str, ...]) -> list[str]:
    parts: dict[str, type[_Part]] = {"modalities": ModalitySpec, "labels": LabelSpec, "classes": ClassSpec}
    kind = parts.get(str(location[0]), SceneSpec) if len(location) > 1 else SceneSpec
    return [k for k in kind.model_fields if k != "folder"]
