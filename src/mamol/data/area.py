"""The ground of a tile, and what lies on it: an area of interest as a window and as the pixels inside.

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
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.features import rasterize
from rasterio.transform import array_bounds
from rasterio.warp import reproject, transform_bounds
from rasterio.warp import transform as transform_points

from mamol.data.dataset import Georeference
from mamol.errors import DataError, GridMismatch, UsageError, unknown
from mamol.files import must_exist

Slices = tuple[slice, slice]
Bounds = tuple[float, float, float, float]
PIECES = 64
"""An edge is at most this part of the area's extent long before it is reprojected: the error falls with its square."""
SNAP_PX, RIM_PX = 1e-6, 2


@dataclass(frozen=True)
class Grid:
    """The ground of a tile: H, W and where they lie."""

    height: int
    width: int
    georeference: Georeference

    @property
    def shape(self) -> tuple[int, int]:
        """Return (H, W)."""
        return self.height, self.width

    @property
    def bounds(self) -> Bounds:
        """Return (west, south, east, north) in the CRS's unit, also where the rows run from south to north."""
        west, south, east, north = array_bounds(self.height, self.width, rasterio.Affine(*self.georeference.transform))
        return min(west, east), min(south, north), max(west, east), max(south, north)

    def piece(self, part: Slices) -> Grid:
        """Return the grid of a window."""
        (rows, columns), (a, b, c, d, e, f) = part, self.georeference.transform
        corner = (a, b, c + a * columns.start + b * rows.start, d, e, f + d * columns.start + e * rows.start)
        return Grid(rows.stop - rows.start, columns.stop - columns.start, Georeference(self.georeference.crs, corner))

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return where points (n, 2), x and y in the CRS, lie in columns and rows from the outer corner."""
        inverse = ~rasterio.Affine(*self.georeference.transform)
        return points @ np.array([[inverse.a, inverse.d], [inverse.b, inverse.e]]) + (inverse.c, inverse.f)


@lru_cache(maxsize=256)
def same_crs(one: str, other: str) -> bool:
    """Tell whether two CRS, as text, are the same; two unknown ones ("") are."""
    if one == other or not (one and other):
        return one == other
    return rasterio.crs.CRS.from_user_input(one) == rasterio.crs.CRS.from_user_input(other)


@lru_cache(maxsize=1024)
def same_grid(one: Grid, other: Grid) -> bool:
    """Tell whether two grids lie on each other pixel by pixel (to a thousandth of a pixel)."""
    a, b = one.georeference, other.georeference
    if one.shape != other.shape or not same_crs(a.crs, b.crs):
        return False
    pixel = max(abs(a.transform[0]), abs(a.transform[1]), abs(a.transform[4]))
    return not a.crs or all(abs(p - q) <= 1e-3 * pixel for p, q in zip(a.transform, b.transform, strict=True))


@lru_cache(maxsize=1024)
def across(own: Grid, grid: Grid) -> tuple[Bounds, float]:
    """Return the grid's bounds in the CRS of a raster's own grid, and how many grid pixels wide one of its pixels is.

    Not the other way round: a raster of the whole earth has no bounds in UTM.
    """
    bounds = transform_bounds(grid.georeference.crs, own.georeference.crs, *grid.bounds)
    width = bounds[2] - bounds[0]
    width += 360 if width < 0 else 0  # across the antimeridian
    return bounds, math.hypot(own.georeference.transform[0], own.georeference.transform[3]) * grid.width / width


def around(own: Grid, grid: Grid, part: Slices, place: str) -> Slices:
    """Return the window of a raster's own grid in which a window of the grid lies, with a rim; it may be empty.

    Without a CRS on one side it is the same window, or its whole multiple. Raises GridMismatch, which names `place`, if
    raster and grid share no ground at all.
    """
    if same_grid(own, grid):
        return part
    if not (own.georeference.crs and grid.georeference.crs):
        return times(part, multiple(own.shape, grid, place))
    refuse_disjoint(place, own, grid)
    west, south, east, north = across(own, grid.piece(part))[0]
    if west > east:  # across the antimeridian
        west, _, east, _ = own.bounds
    columns, rows = own.pixels(np.array([(x, y) for x in (west, east) for y in (south, north)])).T
    return _clipped(rows, own.height), _clipped(columns, own.width)


def _clipped(corners: np.ndarray, length: int) -> slice:
    low, high = math.floor(corners.min()) - RIM_PX, math.ceil(corners.max()) + RIM_PX
    return slice(min(max(low, 0), length), min(max(high, 0), length))


def missing_onto(missing: np.ndarray, own: tuple[Grid, Slices], other: tuple[Grid, Slices]) -> np.ndarray:
    """Bring where a raster says missing, bool on a window of its own grid, onto a window of another, bool (h, w).

    Finer pixels: missing where any of them is. Coarser ones: by nearest. False where the raster does not reach.
    """
    (source, window), (grid, part) = own, other
    if same_grid(source, grid):
        return missing
    shape = part[0].stop - part[0].start, part[1].stop - part[1].start
    if not (source.georeference.crs and grid.georeference.crs):
        blocks = missing.reshape(shape[0], -1, shape[1], missing.shape[1] // shape[1])
        return np.asarray(blocks.any(axis=(1, 3)))
    out = np.zeros(shape, dtype=np.uint8)
    if missing.any():
        finer = across(source, grid)[1] < 1 - 1e-3
        reproject(
            missing.astype(np.uint8),
            out,
            src_transform=rasterio.Affine(*source.piece(window).georeference.transform),
            src_crs=source.georeference.crs,
            dst_transform=rasterio.Affine(*grid.piece(part).georeference.transform),
            dst_crs=grid.georeference.crs,
            resampling=Resampling.max if finer else Resampling.nearest,
            tolerance=0,  # GDAL's shortcut between pixels would make the result depend on the window
        )
    return out > 0


def refuse_disjoint(place: str, own: Grid, grid: Grid) -> None:
    """Raise GridMismatch if a georeferenced raster shares no ground with the grid."""
    west, south, east, north = bounds = across(own, grid)[0]
    left, bottom, right, top = own.bounds
    if (west < east and (west >= right or east <= left)) or south >= top or north <= bottom:
        raise GridMismatch(
            f"{place} covers {_said(own.bounds)}, the grid {_said(bounds)} in the same CRS: they do not overlap. "
            "Check the file or its CRS."
        )


def multiple(shape: tuple[int, int], grid: Grid, place: str) -> int:
    """Return how many times finer a raster without georeference is than the grid; raises GridMismatch if not whole."""
    factor = shape[0] / grid.height
    if factor != shape[1] / grid.width or factor != int(factor) or factor < 1:
        raise GridMismatch(
            f"{place} is {shape[0]} x {shape[1]} pixels without georeference, the grid {grid.height} x {grid.width}: "
            "the size must be equal or a whole multiple. Give both a CRS, or resample the file."
        )
    return int(factor)


def times(part: Slices, k: int) -> Slices:
    """Return the window of a grid k times finer."""
    rows, columns = part
    return slice(rows.start * k, rows.stop * k), slice(columns.start * k, columns.stop * k)


@dataclass(frozen=True)
class Area:
    """Polygons in one CRS (text, "" if unknown); `source` is the file they came from, named in errors."""

    polygons: shapely.Geometry
    crs: str = ""
    source: str = "the area"


def read_area(path: Path | str, layer: str | None = None) -> Area:
    """Read the polygons of a vector file (GeoPackage, GeoJSON, Shapefile, ...) as one area; points and lines are left out.

    `layer` None takes the only layer. Raises FileMissing, DataError (unreadable, or no polygon in it), UnknownName for a
    layer and UsageError for several layers of which none is named.
    """
    path = must_exist(Path(path), "area of interest")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if layer is not None and layer not in layers:
            raise unknown(f"layer of {path.name}", layer, layers)
        if layer is None and len(layers) > 1:
            raise UsageError(f"{path} has the layers {', '.join(layers)}; name the one that holds the area.")
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
    if own and not same_crs(area.crs, own):
        polygons = _reproject(area, grid)
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

    try:
        west, south, east, north = around = transform_bounds(own, area.crs, *grid.bounds)
        if west < east:  # not across the antimeridian
            rim = 0.1 * max(east - west, north - south)
            clipped = shapely.intersection(clipped, shapely.box(west - rim, south - rim, east + rim, north + rim))
        if clipped.is_empty:
            raise _beside(area, area.polygons.bounds, around)
        left, bottom, right, top = clipped.bounds
        there = shapely.transform(shapely.segmentize(clipped, max(right - left, top - bottom) / PIECES), project)
    except (RasterioError, CRSError) as error:
        raise GridMismatch(f"{area.source} cannot be brought into the tile's CRS ({error}); check its CRS.") from error
    if not np.isfinite(shapely.get_coordinates(there)).all():
        raise _beside(area, area.polygons.bounds, around)
    return there


def _beside(area: Area, covered: Bounds, tile: Bounds) -> GridMismatch:
    """Build the error for an area and a tile that share no ground; both bounds are (west, south, east, north) in one CRS."""
    return GridMismatch(
        f"{area.source} covers {_said(covered)}, the tile {_said(tile)}: they do not overlap. "
        "Check the area and its CRS, or take another tile."
    )


def _span(low: float, high: float, length: int) -> slice:
    """Return the pixels that an interval touches; a border that is a rounding error away is on it. At least one pixel."""
    start = min(max(math.floor(low + SNAP_PX), 0), length - 1)
    return slice(start, min(max(math.ceil(high - SNAP_PX), start + 1), length))


def _said(bounds: Bounds) -> str:
    return f"({', '.join(f'{b:.8g}' for b in bounds)})"
