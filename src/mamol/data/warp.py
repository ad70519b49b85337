"""Warp a raster onto a window of a grid by GDAL (its CRS, its pixel size), NaN where there is nothing.

The views by which GDAL warps stay open with the file: making one costs as much as reading a window.
"""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mamol.data.grid import Grid, Slices, pixel_size, refuse_disjoint, spans
from mamol.data.handles import Handle
from mamol.data.spec import Source

VIEWS = 4
"""Grids onto which one open file is warped whose views are kept."""
EXACT_PX = 1e-9
"""How far from its place a warped pixel may be taken; below it GDAL places each one (0 itself it refuses)."""
INTERPOLATING = {"bilinear", "cubic"}
FINER = 0.75
"""A raster whose pixels are below this many grid pixels wide is averaged, where nobody names a resampling."""


def warp(handle: Handle, bands: list[int], nodata: list[float | None], source: Source, where: tuple[Grid, Slices]) -> np.ndarray:
    """Return bands as they look on a window of the grid, NaN where there is nothing; "mean_std" gives both parts."""
    grid, part = where
    refuse_disjoint(source.place, handle.grid, grid)
    pixels = pixel_size(handle.grid, grid)
    both = source.resampling == "mean_std"
    method = "average" if both else source.resampling or ("average" if pixels < FINER else "bilinear")
    wide = both or np.result_type(handle.dtype(bands), np.float32) != np.float32

    def read(method: str) -> np.ndarray:
        dtype = "float64" if wide else "float32"
        if len(set(map(str, nodata))) == 1:
            return _view(handle, grid, method, nodata[0], dtype).read(bands, window=as_window(part))
        pairs = zip(bands, nodata, strict=True)
        return np.stack([_view(handle, grid, method, v, dtype).read(b, window=as_window(part)) for b, v in pairs])

    mean = read(method)
    if method in INTERPOLATING and handle.raster.count > 1 and any(v is not None for v in nodata):
        mean[np.isnan(read("nearest"))] = np.nan  # of several bands, GDAL fills one's hole from the pixels around it
    return np.concatenate([mean, np.sqrt(np.maximum(read("rms") ** 2 - mean**2, 0))]) if both else mean


def _view(handle: Handle, grid: Grid, method: str, nodata: float | None, dtype: str) -> WarpedVRT:
    key = (grid, method, str(nodata), dtype)
    if key not in handle.views:
        grids = list(dict.fromkeys(g for g, *_ in handle.views))
        if grid not in grids and len(grids) >= VIEWS:  # a read needs several views of one grid at once
            for old in [k for k in handle.views if k[0] == grids[0]]:
                handle.views.pop(old).close()
        along_columns, along_rows = spans(handle.grid, grid)
        # NaN as the target's nodata: the warper then leaves out missing sources and marks what no source reaches.
        handle.views[key] = WarpedVRT(
            handle.raster,
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
            XSCALE=str(1 / along_columns),
            YSCALE=str(1 / along_rows),
            tolerance=EXACT_PX,
        )
    return handle.views[key]


def as_window(part: Slices) -> Window:
    """Return rows and columns as rasterio takes them."""
    rows, columns = part
    return Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
