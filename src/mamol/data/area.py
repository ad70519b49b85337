"""An area of interest: as a window of a tile and as the pixels inside.

    area = read_area("reserve.gpkg")
    rows, columns = area_window(area, reader.grid(tile))
    inside = area_mask(area, reader.grid(tile), rows, columns)       # bool (h, w)

The polygons are united and brought into the pixel coordinates of the grid, where a window is a plain slice. A pixel is
inside where its centre is, so an area smaller than a pixel may hold none, although a window covers it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize

from mamol.data.grid import Grid, Slices, said
from mamol.data.vectors import bounds_in, onto_ground, polygons_of, read_layer
from mamol.errors import DataError, GridMismatch
from mamol.files import must_exist

SNAP_PX = 1e-6
__all__ = ["Area", "Grid", "Slices", "area_mask", "area_window", "read_area"]


@dataclass(frozen=True)
class Area:
    """Polygons in one CRS (text, "" if unknown); `source` is the file they came from, named in errors."""

    polygons: shapely.Geometry
    crs: str = ""
    source: str = "the area"

    @property
    def file(self) -> Path:
        """The file at `source`, links followed; there is none of that name if the polygons came from elsewhere."""
        return Path(os.path.realpath(self.source))


def read_area(path: Path | str, layer: str | None = None) -> Area:
    """Read the polygons of a vector file (GeoPackage, GeoJSON, Shapefile, ...) as one area; points and lines are left out.

    `layer` None takes the only layer; a table without geometry (QGIS keeps its styles in one) is none. Raises FileMissing,
    DataError (unreadable, or no polygon in it), UnknownName for a layer and UsageError for several of which none is named.
    """
    found = read_layer(must_exist(Path(path), "area of interest"), layer, "--area-layer", ())
    shapes = found.shapes[~shapely.is_missing(found.shapes)]
    polygons = polygons_of(shapely.make_valid(shapes))
    if not polygons:
        kinds = sorted({s.geom_type for s in shapes}) or ["nothing"]
        raise DataError(f"{path} holds no polygon with an area, but {', '.join(kinds)}; an area of interest is polygons.")
    return Area(shapely.union_all(polygons), found.crs, str(path))


def area_window(area: Area, grid: Grid) -> Slices:
    """Return the smallest window (rows, columns) of the grid that covers the area, cut off at the tile's border.

    Raises GridMismatch if the area lies outside the tile, or has no CRS while the grid has one.
    """
    left, top, right, bottom = shapely.bounds(_in_pixels(area, grid))
    return _span(top, bottom, grid.height), _span(left, right, grid.width)


def area_mask(area: Area, grid: Grid, rows: slice, columns: slice) -> np.ndarray:
    """Return which pixels of a window have their centre inside the area, bool (h, w).

    Raises GridMismatch as `area_window` does; a window beside the area, in the tile, is all False.
    """
    shape = rows.stop - rows.start, columns.stop - columns.start
    inside = _in_pixels(area, grid)
    window = shapely.box(columns.start, rows.start, columns.stop, rows.stop)
    if not shapely.intersects(inside, window):
        return np.zeros(shape, dtype=bool)
    if shapely.contains_properly(inside, window):
        return np.ones(shape, dtype=bool)
    place = rasterio.Affine.translation(columns.start, rows.start)
    return rasterize([inside], shape, fill=0, default_value=1, transform=place, dtype="uint8").astype(bool)


@lru_cache(maxsize=8)
def _in_pixels(area: Area, grid: Grid) -> shapely.Geometry:
    """Return what of the area lies in the tile, x in columns and y in rows from the outer corner."""
    if grid.georeference.crs and not area.crs:
        raise GridMismatch(
            f"{area.source} has no CRS and the tile has one, so nobody knows where the area lies; write the file with its CRS."
        )
    there = onto_ground(np.array([area.polygons]), area.crs, grid, area.source)
    pixels = shapely.make_valid(shapely.transform(there, grid.pixels))
    parts = polygons_of(shapely.intersection(pixels, shapely.box(0, 0, grid.width, grid.height)))
    if not parts:
        raise GridMismatch(
            f"{area.source} covers {said(area.polygons.bounds)}, the tile {said(bounds_in(area.crs, grid))}: they do not "
            "overlap. Check the area and its CRS, or take another tile."
        )
    return shapely.MultiPolygon(parts)


def _span(low: float, high: float, length: int) -> slice:
    """Return the pixels that an interval touches; a border that is a rounding error away is on it. At least one pixel."""
    start = min(max(math.floor(low + SNAP_PX), 0), length - 1)
    return slice(start, min(max(math.ceil(high - SNAP_PX), start + 1), length))
