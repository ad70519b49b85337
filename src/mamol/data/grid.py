"""The ground of a tile, and how a raster of another grid lies on it: the same pixels, a whole multiple, or by its CRS.

    own, grid = read_grid("sar.tif"), reader.grid(tile)
    window = around(own, grid, (rows, columns), "sar.tif")     # what must be read of the raster for a window of the grid

Two grids with a CRS each are brought together by PROJ. Without a CRS on one side pixels are counted, and nothing else.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import array_bounds
from rasterio.warp import reproject, transform_bounds
from rasterio.warp import transform as transform_points

from mamol.data.dataset import Georeference
from mamol.errors import GridMismatch

Slices = tuple[slice, slice]
Bounds = tuple[float, float, float, float]
RIM_PX = 2
NEARLY_WHOLE = 0.05
"""How far from a whole number a grid pixel's span may be, in a raster's pixels, and be taken as whole."""
NEARLY_THERE_PX = 0.1
"""How far apart, in pixels, rasters with CRSs may lie and still cover the same."""
SAME_PX = 1e-3
"""How far apart the corners of two grids of one CRS may lie, in pixels, where their pixels count as the same."""
NO_WAY = (RasterioError, CRSError, CPLE_BaseError)
"""What rasterio raises where PROJ knows no way from one CRS to another; GDAL's own error is not a RasterioError."""


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
    def whole(self) -> Slices:
        """Return the window that is all of it."""
        return slice(0, self.height), slice(0, self.width)

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


def crs_name(text: str) -> str:
    """Return a CRS as an error names it: its code, or else the name in its WKT."""
    try:
        if found := rasterio.crs.CRS.from_user_input(text).to_authority():
            return ":".join(found)
    except NO_WAY:
        pass
    quoted = re.search('"([^"]*)"', text)
    return f"'{quoted[1] if quoted else text}'"


@lru_cache(maxsize=1024)
def same_grid(one: Grid, other: Grid) -> bool:
    """Tell whether two grids lie on each other pixel by pixel, at every corner to SAME_PX (without a CRS: to one pixel)."""
    a, b = one.georeference, other.georeference
    if one.shape != other.shape or not same_crs(a.crs, b.crs):
        return False
    if not a.crs:
        return not _apart(one, other)
    return a.transform == b.transform or not (
        Georeference().transform in (a.transform, b.transform) or _apart(one, other, SAME_PX)
    )


@lru_cache(maxsize=1024)
def across(own: Grid, grid: Grid) -> Bounds:
    """Return the grid's bounds in the CRS of a raster's own grid; west > east across the antimeridian.

    Not the other way round: a raster of the whole earth has no bounds in UTM.
    """
    west, south, east, north = transform_bounds(grid.georeference.crs, own.georeference.crs, *grid.bounds)
    return west, south, east, north


@lru_cache(maxsize=1024)
def pixel_size(own: Grid, grid: Grid) -> float:
    """Return how many grid pixels wide a pixel of a raster is along its shorter side, however the two are turned."""
    return 1 / float(np.linalg.norm(_sides(own, grid), ord=2))


@lru_cache(maxsize=1024)
def spans(own: Grid, grid: Grid) -> tuple[float, float]:
    """Return how many pixels of a raster a grid pixel spans along the raster's columns and rows, at least 1.

    What is nearly whole is whole, as GDAL has it with the ratio that it measures for each window.
    """
    along = np.maximum(np.linalg.norm(_sides(own, grid), axis=0), 1)
    whole = np.round(along)
    x, y = np.where(np.abs(along - whole) < NEARLY_WHOLE, whole, along)
    return float(x), float(y)


def _sides(own: Grid, grid: Grid) -> np.ndarray:
    """Return the two sides of the pixel at the grid's centre as (columns, rows) of a raster, (2, 2)."""
    place, inverse = rasterio.Affine(*grid.georeference.transform), ~rasterio.Affine(*own.georeference.transform)
    middle = np.array([grid.width, grid.height]) / 2
    corners = [place @ tuple(middle + step) for step in ((0, 0), (1, 0), (0, 1))]
    xs, ys = transform_points(grid.georeference.crs, own.georeference.crs, *zip(*corners, strict=True))
    sides = np.array([[xs[1] - xs[0], ys[1] - ys[0]], [xs[2] - xs[0], ys[2] - ys[0]]])
    if rasterio.crs.CRS.from_user_input(own.georeference.crs).is_geographic:  # the antimeridian may lie between
        sides[:, 0] = (sides[:, 0] + 180) % 360 - 180
    return sides @ np.array([[inverse.a, inverse.d], [inverse.b, inverse.e]])


def around(own: Grid, grid: Grid, part: Slices, place: str) -> Slices:
    """Return the window of a raster's own grid in which a window of the grid lies, with a rim; it may be empty.

    Without a CRS on one side it is the same window, or its whole multiple. Raises GridMismatch, which names `place`, if
    raster and grid share no ground at all, or their transforms contradict each other.
    """
    if same_grid(own, grid):
        return part
    if not (own.georeference.crs and grid.georeference.crs):
        return times(part, multiple(own, grid, place))
    refuse_disjoint(place, own, grid)
    west, south, east, north = across(own, grid.piece(part))
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
        finer = pixel_size(source, grid) < 1 - 1e-2
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
    """Raise GridMismatch if a georeferenced raster shares no ground with the grid, or PROJ knows no way between their CRSs."""
    try:
        with rasterio.Env():  # which keeps PROJ from printing its own words
            west, south, east, north = bounds = across(own, grid)
    except NO_WAY:
        raise GridMismatch(
            f"{place} has the CRS {crs_name(own.georeference.crs)}, the grid {crs_name(grid.georeference.crs)}: there is no way "
            "from one to the other. Give the file a CRS that leads to the grid's."
        ) from None
    left, bottom, right, top = own.bounds
    if (west < east and (west >= right or east <= left)) or south >= top or north <= bottom:
        raise GridMismatch(
            f"{place} covers {said(own.bounds)}, the grid {said(bounds)} in the same CRS: they do not overlap. "
            "Check the file or its CRS."
        )


def multiple(own: Grid, grid: Grid, place: str) -> int:
    """Return how many times finer a raster without a CRS, or on a grid without one, is.

    Raises GridMismatch if that is no whole number, and if both have a transform and these put them on other ground.
    """
    factor = own.height / grid.height
    if factor != own.width / grid.width or factor != int(factor) or factor < 1:
        raise GridMismatch(
            f"{place} is {own.height} x {own.width} pixels without georeference, the grid {grid.height} x {grid.width}: "
            "the size must be equal or a whole multiple. Give both a CRS, or resample the file."
        )
    if _apart(own, grid):
        without = "the grid has no CRS" if own.georeference.crs else f"{place} has no CRS"
        raise GridMismatch(
            f"{without}, so {place} is laid on the grid pixel by pixel, but its transform contradicts that: it covers "
            f"{said(own.bounds)}, the grid {said(grid.bounds)}. Give it its CRS (gdal_edit.py -a_srs), or take away its "
            "transform (gdal_edit.py -unsetgt) if the pixels do lie on each other."
        )
    return int(factor)


def covers_same(own: Grid, grid: Grid) -> bool:
    """Tell whether the pixels of a raster are the grid's one by one, so that nothing need be resampled.

    To a tenth of a pixel, whatever the CRSs are called; without a CRS on one side to one pixel.
    """
    if own.shape != grid.shape:
        return False
    if not (own.georeference.crs and grid.georeference.crs):
        return not _apart(own, grid)
    try:
        with rasterio.Env():
            return not _apart(own, grid, NEARLY_THERE_PX)
    except NO_WAY:
        return False


def _apart(own: Grid, grid: Grid, most_px: float = 1) -> bool:
    """Tell whether two grids put the corners of a ground more than so many pixels apart; one without transform says nothing."""
    nothing = Georeference().transform
    if nothing in (own.georeference.transform, grid.georeference.transform):
        return False
    corners = np.array([(x, y) for x in (0, 1) for y in (0, 1)])
    place = rasterio.Affine(*own.georeference.transform)
    there = np.array([place @ (x * own.width, y * own.height) for x, y in corners])
    if own.georeference.crs and grid.georeference.crs and not same_crs(own.georeference.crs, grid.georeference.crs):
        there = np.column_stack(transform_points(own.georeference.crs, grid.georeference.crs, *there.T))
    return not np.abs(grid.pixels(there) - corners * (grid.width, grid.height)).max() <= most_px


def times(part: Slices, k: int) -> Slices:
    """Return the window of a grid k times finer."""
    rows, columns = part
    return slice(rows.start * k, rows.stop * k), slice(columns.start * k, columns.stop * k)


def said(bounds: Bounds) -> str:
    """Return bounds as text for an error."""
    return f"({', '.join(f'{b:.8g}' for b in bounds)})"


def placed(grid: Grid) -> str:
    """Return CRS and transform of a grid as text for an error."""
    crs = grid.georeference.crs
    return f"{crs_name(crs) if crs else 'no CRS'}, transform ({', '.join(f'{v:.8g}' for v in grid.georeference.transform)})"
