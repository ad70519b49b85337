"""Warp a raster onto a window of a grid by GDAL (its CRS, its pixel size), NaN where there is nothing.

The views by which GDAL warps stay open with the file: making one costs as much as reading a window. GDAL leaves out one
value of each band, its nodata, or what the file's own mask hides, not both; where more is missing in a window, its pixels are
read, those that are missing are made NaN, and this is warped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mamol.data.grid import Grid, Slices, around, pixel_size, refuse_disjoint, spans
from mamol.data.handles import Handle
from mamol.data.spec import Source
from mamol.data.values import is_measured, with_holes

VIEWS = 4
"""Grids onto which one open file is warped whose views are kept."""
MOST = 2**25
"""Values of a file that are looked at in one go."""
EXACT_PX = 1e-9
"""How far from its place a warped pixel may be taken; below it GDAL places each one (0 itself it refuses)."""
INTERPOLATING = {"bilinear", "cubic"}
FINER = 0.75
"""A raster whose pixels are below this many grid pixels wide is averaged, where nobody names a resampling."""


def warp(
    handle: Handle, bands: list[int], nodata: list[float | None], source: Source, where: tuple[Grid, Slices], name: str
) -> np.ndarray:
    """Return bands as they look on a window of the grid, NaN where there is nothing; "mean_std" gives both parts.

    Of values that are too large to be measured a warning says the modality's `name`.
    """
    grid, (rows, columns) = where
    refuse_disjoint(source.place, handle.grid, grid)
    both, kind = source.resampling == "mean_std", handle.dtype(bands)
    finer = pixel_size(handle.grid, grid) < FINER
    method = "average" if both else source.resampling or ("average" if finer else "bilinear")
    dtype = "float64" if both or np.result_type(kind, np.float32) != np.float32 else "float32"

    def as_filed(method: str, part: Slices) -> np.ndarray:
        if len(set(map(str, nodata))) == 1:
            return _view(handle, grid, method, nodata[0], dtype).read(bands, window=as_window(part))
        pairs = zip(bands, nodata, strict=True)
        return np.stack([_view(handle, grid, method, v, dtype).read(b, window=as_window(part)) for b, v in pairs])

    told = any(v is not None for v in nodata)
    holes = handle.raster.count > 1 and told
    if kind.kind != "f" and not (handle.masked and told):
        return _resampled(lambda m: as_filed(m, where[1]), method, both, holes)
    out = np.empty((len(bands) * (2 if both else 1), rows.stop - rows.start, columns.stop - columns.start), dtype=dtype)
    for piece, window in _pieces(handle.grid, grid, where[1], source.place, MOST // len(bands)):
        target = out[:, _within(piece[0], rows), _within(piece[1], columns)]
        raw = handle.raster.read(bands, window=as_window(window), out_dtype=kind)
        seen = handle.raster.dataset_mask(window=as_window(window)) > 0 if handle.masked else None
        if _left_out(raw, nodata) and (seen is None or not told or seen.all()):
            target[...] = _resampled(partial(as_filed, part=piece), method, both, holes)
        else:
            scale, own = spans(handle.grid, grid), handle.grid.piece(window)
            holed = with_holes(raw, nodata, seen, dtype, name, source.place)
            read = partial(_read_array, holed, own, grid.piece(piece), scale)
            target[...] = _resampled(read, method, both, len(bands) > 1)
    return out


def _resampled(read: Callable[[str], np.ndarray], method: str, both: bool, holes: bool) -> np.ndarray:
    """Return what `read` gives by a method, or by the two that make mean and deviation.

    `holes`: of several bands, GDAL fills one's hole from the pixels around it where it interpolates; here it stays one.
    """
    mean = read(method)
    if method in INTERPOLATING and holes:
        mean[np.isnan(read("nearest"))] = np.nan
    return np.concatenate([mean, np.sqrt(np.maximum(read("rms") ** 2 - mean**2, 0))]) if both else mean


def _left_out(raw: np.ndarray, nodata: list[float | None]) -> bool:
    """Tell whether GDAL leaves out by itself all that is missing: it does so with one value of each band, which it is told."""
    for band, told in zip(raw, nodata, strict=True):
        if band.dtype.kind != "f":
            continue
        measured = is_measured(band)
        if measured.all():
            continue
        with np.errstate(over="ignore"):  # told may be more than the band's type holds
            known = np.zeros(band.shape, dtype=bool) if told is None else np.isnan(band) if np.isnan(told) else band == told
        if not (measured | known).all():
            return False
    return True


def _pieces(own: Grid, grid: Grid, part: Slices, place: str, most: int) -> Iterator[tuple[Slices, Slices]]:
    """Cut a window of the grid so that each piece needs at most `most` pixels of a raster; yield each with those it needs."""
    window = _needed(own, grid, part, place)
    rows, columns = part
    ways = [[(r, columns) for r in _halves(rows)], [(rows, c) for c in _halves(columns)]]
    if _pixels(window) <= most or _pixels(part) <= 1:
        yield part, window
        return
    for half in min((w for w in ways if len(w) > 1), key=lambda way: _pixels(_needed(own, grid, way[0], place))):
        yield from _pieces(own, grid, half, place, most)


def _needed(own: Grid, grid: Grid, part: Slices, place: str) -> Slices:
    """Return the pixels of a raster that any method takes for a window of the grid: cubic reaches two pixels far."""
    (rows, columns), (along_columns, along_rows) = around(own, grid, part, place), spans(own, grid)
    return _wider(rows, math.ceil(2 * along_rows), own.height), _wider(columns, math.ceil(2 * along_columns), own.width)


def _wider(side: slice, rim: int, length: int) -> slice:
    return slice(max(side.start - rim, 0), min(side.stop + rim, length))


def _halves(side: slice) -> list[slice]:
    middle = (side.start + side.stop) // 2
    return [s for s in (slice(side.start, middle), slice(middle, side.stop)) if s.stop > s.start]


def _within(side: slice, whole: slice) -> slice:
    return slice(side.start - whole.start, side.stop - whole.start)


def _pixels(part: Slices) -> int:
    rows, columns = part
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _read_array(values: np.ndarray, own: Grid, grid: Grid, scale: tuple[float, float], method: str) -> np.ndarray:
    """Return values (C, h, w) that lie on one grid, NaN where there are none, as they look on another."""
    place = {"crs": own.georeference.crs, "transform": rasterio.Affine(*own.georeference.transform), "nodata": np.nan}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=len(values), height=own.height, width=own.width, dtype=values.dtype, **place
        ) as file:
            file.write(values)
        with memory.open() as file, _new_view(file, grid, method, np.nan, values.dtype.name, scale) as view:
            return view.read()


def _view(handle: Handle, grid: Grid, method: str, nodata: float | None, dtype: str) -> WarpedVRT:
    """Return the view of an open file that stays open with it."""
    key = (grid, method, str(nodata), dtype)
    if key not in handle.views:
        grids = list(dict.fromkeys(g for g, *_ in handle.views))
        if grid not in grids and len(grids) >= VIEWS:  # a read needs several views of one grid at once
            for old in [k for k in handle.views if k[0] == grids[0]]:
                handle.views.pop(old).close()
        handle.views[key] = _new_view(handle.raster, grid, method, nodata, dtype, spans(handle.grid, grid))
    return handle.views[key]


def _new_view(
    raster: rasterio.DatasetReader, grid: Grid, method: str, nodata: float | None, dtype: str, scale: tuple[float, float]
) -> WarpedVRT:
    """Open a view of a raster on a grid of which a pixel spans `scale` of the raster's, along its columns and rows."""
    # NaN as the target's nodata: the warper then leaves out missing sources and marks what no source reaches.
    return WarpedVRT(
        raster,
        crs=rasterio.crs.CRS.from_wkt(grid.georeference.crs),
        transform=rasterio.Affine(*grid.georeference.transform),
        height=grid.height,
        width=grid.width,
        resampling=Resampling[method],
        src_nodata=nodata,
        nodata=np.nan,
        dtype=dtype,
        working_dtype=dtype,
        UNIFIED_SRC_NODATA="NO",  # each band's nodata by itself, not only where all bands have it
        # Left alone, GDAL measures how far to smooth, and places pixels to 1/8, for each window by itself.
        XSCALE=str(1 / scale[0]),
        YSCALE=str(1 / scale[1]),
        tolerance=EXACT_PX,
    )


def as_window(part: Slices) -> Window:
    """Return rows and columns as rasterio takes them."""
    rows, columns = part
    return Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
