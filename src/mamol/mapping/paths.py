"""The names of a map's files, and whether a map may have them.

FILE.tif  FILE_<layer>.tif  FILE.tif.aux.xml  FILE.qml  FILE_legend.png  FILE.json     FILE.tif.blocks/ while it is made
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mamol.errors import UsageError
from mamol.mapping.layers import Layer


@dataclass(frozen=True)
class MapPaths:
    """Where the files of one map are; `layers` by name."""

    file: Path
    layers: Mapping[str, Path]

    @classmethod
    def beside(cls, file: Path, layers: Mapping[str, Layer]) -> MapPaths:
        """Name the rasters after the class raster `file`; raises UsageError if it is not a .tif."""
        if file.suffix.lower() not in (".tif", ".tiff"):
            raise UsageError(f"a map is a GeoTIFF: --out must end in .tif; got '{file}'.")
        return cls(file, {n: file.with_name(f"{file.stem}{layer.suffix}{file.suffix}") for n, layer in layers.items()})

    @property
    def classes(self) -> Path:
        """The class raster."""
        return self.file

    @property
    def confidence(self) -> Path:
        """The raster of confidence, if it was asked for."""
        return self.layers["confidence"]

    @property
    def pattern(self) -> Path:
        """The raster of patterns, if it was asked for."""
        return self.layers["pattern"]

    @property
    def categories(self) -> Path:
        """The names of the classes for GDAL and QGIS."""
        return self.file.with_name(f"{self.file.name}.aux.xml")

    @property
    def style(self) -> Path:
        """The style for QGIS."""
        return self.file.with_suffix(".qml")

    @property
    def legend(self) -> Path:
        """The legend as a picture."""
        return self.file.with_name(f"{self.file.stem}_legend.png")

    @property
    def item(self) -> Path:
        """The STAC Item."""
        return self.file.with_suffix(".json")

    @property
    def blocks(self) -> Path:
        """The folder of finished blocks while the map is being made."""
        return self.file.with_name(f"{self.file.name}.blocks")

    def all(self) -> tuple[Path, ...]:
        """Return every file, the STAC Item last."""
        return (*self.layers.values(), self.categories, self.style, self.legend, self.item)


def check_names(maps: Mapping[str, MapPaths], read: Iterable[Path]) -> None:
    """Check the names of all files of the maps, by tile, before any work; `read` are those that they are made from.

    Raises UsageError for a name that two maps share, that is read or belongs to a folder, or that is too long.
    """
    sources = frozenset(read)
    owner: dict[Path, str] = {}
    for tile, paths in maps.items():
        for path in (*paths.all(), paths.blocks):
            _check_length(path)
            if path != paths.blocks and path.is_dir():
                raise UsageError(f"{path} is a folder, and a file of the map would have its name; give --out another name.")
            if Path(os.path.realpath(path)) in sources:
                raise UsageError(f"{path} is a file that the map is made from, and would be replaced; give --out another name.")
            if path in owner:
                raise UsageError(
                    f"the maps of the tiles '{owner[path]}' and '{tile}' would both have the file {path}; map them one at a "
                    "time with --tile and another --out, or rename a tile."
                )
            owner[path] = tile


def _check_length(path: Path) -> None:
    if _is_too_long(path) or _is_too_long(next(p for p in path.absolute().parents if p.exists()) / path.name):
        raise UsageError(f"{path.name} ({len(os.fsencode(path.name))} bytes) is too long a file name; give a shorter --out.")


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
