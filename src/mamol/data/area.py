"""An area of interest: as a window of a tile and as the pixels inside.

    area = read_area("reserve.gpkg")
    rows, columns = area_window(area, reader.grid(tile))
    inside = area_mask(area, reader.grid(tile), rows, columns)       # bool (h, w)

The polygons are united and brought into the pixel coordinates of the grid, where a window is a plain slice. Their edges
are cut into short pieces first: a straight line in degrees is no straight line in metres. A pixel is inside where its
centre is, so an area smaller than a pixel may hold none, although a window covers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from mamol.data.grid import NO_WAY, Bounds, Grid, Slices, crs_name, said, same_crs
from mamol.errors import DataError, GridMismatch, UsageError, unknown
from mamol.files import must_exist

PIECES = 64
"""An edge is at most this part of the area's extent long before it is reprojected: the error falls with its square."""
SNAP_PX = 1e-6
__all__ = ["Area", "Grid", "Slices", "area_mask", "area_window", "read_area"]


@dataclass(frozen=True)
class Area:
    """Polygons in one CRS (text, "" if unknown); `source` is the file they came from, named in errors."""

    polygons: shapely.Geometry
    crs: str = ""
    source: str = "the area"


def read_area(path: Path | str, layer: str | None = None) -> Area:
    """Read the polygons of a vector file (GeoPackage, GeoJSON, Shapefile, ...) as one area; points and lines are left out.

    `layer` None takes the only layer; a table without geometry (QGIS keeps its styles in one) is none. Raises FileMissing,
    DataError (unreadable, or no polygon in it), UnknownName for a layer and UsageError for several of which none is named.
    """
    path = must_exist(Path(path), "area of interest")
    try:
        tables = {str(name): kind for name, kind in pyogrio.list_layers(path)}
        layers = [name for name, kind in tables.items() if kind is not None] or list(tables)
        if layer is not None and layer not in tables:
            raise unknown(f"layer of {path.name}", layer, layers)
        if layer is None and len(layers) > 1:
            raise UsageError(f"{path} has the layers {', '.join(layers)}; name the one that holds the area with --area-layer.")
        layer = layer or next(iter(layers), None)
        meta, _, wkb, _ = pyogrio.raw.read(path, layer=layer, columns=[])
        shapes = [s for s in shapely.from_wkb([] if wkb is None else wkb) if s is not None]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path} cannot be read as polygons ({error}). Give a GeoPackage, GeoJSON or Shapefile.") from error
    polygons = _polygons(shapely.make_valid(np.array(shapes, dtype=object)))
    if not polygons:
        kinds = sorted({s.geom_type for s in shapes}) or ["nothing"]
        raise DataError(f"{path} holds no polygon with an area, but {', '.join(kinds)}; an area of interest is polygons.")
    return Area(shapely.union_all(polygons), meta["crs"] or "", str(path))


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
    own, polygons = grid.georeference.crs, area.polygons
    if own and not area.crs:
        raise GridMismatch(
            f"{area.source} has no CRS and the tile has one, so nobody knows where the area lies; write the file with its CRS."
        )
    try:
        if own and not same_crs(area.crs, own):
            with rasterio.Env():  # which keeps PROJ from printing its own words
                polygons = _reproject(area, grid)
    except NO_WAY:
        raise GridMismatch(
            f"{area.source} has the CRS {crs_name(area.crs)}, the tile {crs_name(own)}: there is no way from one to the other. "
            "Check the area's CRS, or write its polygons in the tile's."
        ) from None
    pixels = shapely.make_valid(shapely.transform(polygons, grid.pixels))
    parts = _polygons(shapely.intersection(pixels, shapely.box(0, 0, grid.width, grid.height)))
    if not parts:
        raise _beside(area, polygons.bounds, grid.bounds)
    return shapely.MultiPolygon(parts)


def _polygons(shapes: object) -> list[shapely.Polygon]:
    """Return the polygons that shapes consist of; a border in common with a tile is a line, and left out."""
    parts = shapely.get_parts(shapely.get_parts(shapes))
    return [p for p in parts if p.geom_type == "Polygon" and p.area > 0]


def _reproject(area: Area, grid: Grid) -> shapely.Geometry:
    """Return the part of the area around the tile in the tile's CRS: far parts may have no place in it."""
    own, clipped = grid.georeference.crs, area.polygons

    def project(points: np.ndarray) -> np.ndarray:
        return np.column_stack(transform_points(area.crs, own, points[:, 0], points[:, 1]))

    west, south, east, north = around = transform_bounds(own, area.crs, *grid.bounds)
    if west < east:  # not across the antimeridian
        rim = 0.1 * max(east - west, north - south)
        clipped = shapely.intersection(clipped, shapely.box(west - rim, south - rim, east + rim, north + rim))
    if clipped.is_empty:
        raise _beside(area, area.polygons.bounds, around)
    left, bottom, right, top = clipped.bounds
    there = shapely.transform(shapely.segmentize(clipped, max(right - left, top - bottom) / PIECES), project)
    if not np.isfinite(shapely.get_coordinates(there)).all():
        raise _beside(area, area.polygons.bounds, around)
    return there


def _beside(area: Area, covered: Bounds, tile: Bounds) -> GridMismatch:
    """Build the error for an area and a tile that share no ground; both bounds are (west, south, east, north) in one CRS."""
    return GridMismatch(
        f"{area.source} covers {said(covered)}, the tile {said(tile)}: they do not overlap. "
        "Check the area and its CRS, or take another tile."
    )


def _span(low: float, high: float, length: int) -> slice:
    """Return the pixels that an interval touches; a border that is a rounding error away is on it. At least one pixel."""
    start = min(max(math.floor(low + SNAP_PX), 0), length - 1)
    return slice(start, min(max(math.ceil(high - SNAP_PX), start + 1), length))
