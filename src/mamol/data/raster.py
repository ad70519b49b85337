"""Read one modality onto a tile's grid, window by window, with its availability.

A raster with another pixel size, CRS or extent is warped on read by the named resampling (GDAL's warper); "mean_std"
gives the mean and the standard deviation of the finer pixels, 2 C bands. A value is missing where the file's nodata or
mask, a NaN, an infinity or the mask raster says so, in any band, or where the file does not reach. A .mat file, or a
raster without georeference, is a plain pixel grid of the same size or a whole multiple finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
import scipy.io
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mamol.data.dataset import Georeference
from mamol.data.finer import reduce_blocks
from mamol.data.grid import Grid, Slices, around, missing_onto, multiple, pixel_size, refuse_disjoint, same_grid, spans, times
from mamol.data.handles import Handle, as_place, identify, open_raster, reading
from mamol.data.spec import Mask, Source
from mamol.data.values import differs, each_band, take
from mamol.errors import DataError, unknown
from mamol.files import must_exist

__all__ = ["Grid", "band_count", "is_mat", "open_raster", "read_grid", "read_mat", "read_missing", "read_modality"]
VIEWS = 4
"""Grids onto which one open file is warped whose views are kept."""
EXACT_PX = 1e-9
"""How far from its place a warped pixel may be taken; below it GDAL places each one (0 itself it refuses)."""
INTERPOLATING = {"bilinear", "cubic"}
FINER = 0.75
"""A raster whose pixels are below this many grid pixels wide is averaged, where nobody names a resampling."""


@lru_cache(maxsize=8)
def _mat(path: Path, changed_ns: int) -> dict[str, np.ndarray]:
    del changed_ns  # part of the cache's key: a file written anew is read anew
    try:
        tree = scipy.io.loadmat(path)
    except NotImplementedError:
        raise DataError(f"{path} is a MATLAB 7.3 (HDF5) file; save it with `save -v7`, or convert it to GeoTIFF.") from None
    except (ValueError, OSError, TypeError, EOFError) as error:
        raise DataError(f"{path} is not a readable MATLAB file ({error}); it may be truncated.") from error
    return {k: v for k, v in tree.items() if isinstance(v, np.ndarray) and v.ndim in (2, 3) and v.dtype.kind in "fiub"}


def read_mat(path: Path, key: str | None = None) -> np.ndarray:
    """Return a variable of a .mat file, (H, W) or (H, W, C); `key` None takes the only array in it.

    Raises FileMissing, DataError and UnknownName (with the nearest variable).
    """
    must_exist(path, "MATLAB file")
    arrays = _mat(path, path.stat().st_mtime_ns)
    if key is not None:
        if key not in arrays:
            raise unknown(f"variable in {path.name}", key, arrays)
        return arrays[key]
    large = {k: v for k, v in arrays.items() if v.size > 1}
    if len(large) != 1:
        raise DataError(f"{path} holds {len(large)} arrays ({', '.join(large)}); say which with key = in scene.toml.")
    return next(iter(large.values()))


def is_mat(path: Path | str) -> bool:
    """Tell whether a path is a MATLAB file."""
    return str(path).lower().endswith(".mat")


def read_grid(place: Path | str, key: str | None = None) -> Grid:
    """Return the grid that a raster or .mat file defines."""
    if is_mat(place):
        height, width = read_mat(Path(place), key).shape[:2]
        return Grid(height, width, Georeference())
    place = as_place(place)
    if identity := identify(place):
        return _grid(place, identity)
    with reading(place) as handle:  # a server does not say when a file has changed: ask the open one
        return handle.grid


@lru_cache(maxsize=4096)
def _grid(place: str, identity: tuple[int, ...]) -> Grid:
    del identity  # part of the cache's key: a file written anew is read anew
    with reading(place) as handle:
        return handle.grid


def band_count(source: Source) -> int:
    """Return the number of bands that reading gives."""
    if is_mat(source.place):
        total = read_mat(Path(source.place), source.key)[:1, :1].size
    else:
        with reading(source.place) as handle:
            total = handle.raster.count
    for band in source.bands or ():
        if not 1 <= band <= total:
            raise DataError(f"{source.place} has {total} bands; bands = asks for band {band} (they are counted from 1).")
    return len(source.bands or range(total)) * (2 if source.resampling == "mean_std" else 1)


def read_modality(
    sources: Sequence[Source], grid: Grid, part: Slices, mask: Mask | None = None, name: str = "?"
) -> tuple[np.ndarray, np.ndarray]:
    """Return values float32 (C, h, w), 0 where missing, and availability bool (h, w) of one window of the grid.

    The bands of several sources are stacked. Values that no sensor measures are missing (values.py), with a warning that
    says the modality's `name`. Raises GridMismatch if a file and the grid share no ground, FileMissing
    and DataError if one cannot be read.
    """
    counts = [band_count(s) for s in sources]
    rows, columns = part
    values = np.empty((sum(counts), rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    there, first = np.ones(values.shape[1:], dtype=bool), 0
    for source, count in zip(sources, counts, strict=True):
        there &= _read(source, grid, part, values[first : first + count], name)
        first += count
    if mask is not None:
        there &= ~read_missing(mask, grid, part)
    if not there.all():
        np.copyto(values, 0, where=~there)
    return values, there


def read_missing(mask: Mask, grid: Grid, part: Slices) -> np.ndarray:
    """Return where a mask raster says missing, bool (h, w) of one window of the grid.

    Finer pixels: where any of them says so; coarser ones: by nearest. Nothing is missing where the mask does not reach,
    nor, unless `values` names them, where it holds its own nodata or NaN.
    """
    if is_mat(mask.place):
        band, nodata = np.atleast_3d(read_mat(Path(mask.place)))[..., 0], None
        own = Grid(band.shape[0], band.shape[1], Georeference())
        window = around(own, grid, part, mask.place)
        raw = band[window]
    else:
        with reading(mask.place) as handle:
            own, nodata = handle.grid, handle.raster.nodata
            window = around(own, grid, part, mask.place)
            empty = any(s.stop <= s.start for s in window)
            raw = np.zeros((0, 0)) if empty else handle.raster.read(1, window=_window(window))
    if mask.values is not None:
        missing = np.isin(raw, mask.values) | (np.isnan(raw) & bool(np.isnan(mask.values).any()))
    else:
        missing = (raw != 0) & np.isfinite(raw) & (True if nodata is None else raw != nodata)
    return missing_onto(missing, (own, window), (grid, part))


def _read(source: Source, grid: Grid, part: Slices, out: np.ndarray, name: str) -> np.ndarray:
    """Fill `out`, float32 (C, h, w), and return where every band has a value, bool (h, w)."""
    if is_mat(source.place):
        array = read_mat(Path(source.place), source.key)
        cube = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
        k = multiple(Grid(cube.shape[1], cube.shape[2], Georeference()), grid, source.place)
        chosen = [b - 1 for b in source.bands] if source.bands else slice(None)
        raw = cube[chosen][:, *times(part, k)]
        return take(*_blocks(raw, each_band(source.nodata, len(raw), source), k, source), source, out, name)
    with reading(source.place) as handle:
        raster, bands = handle.raster, list(source.bands or range(1, handle.raster.count + 1))
        given, dtype = each_band(source.nodata, len(bands), source), _dtype(handle, bands)
        nodata = [handle.nodata[b - 1] if v is None else v for b, v in zip(bands, given, strict=True)]
        k, window, both = 1, _window(part), source.resampling == "mean_std"
        if both or not same_grid(handle.grid, grid):
            if handle.grid.georeference.crs and grid.georeference.crs:
                return take(_warp(handle, bands, nodata, source, (grid, part)), [None] * len(out), source, out, name)
            k = multiple(handle.grid, grid, source.place)
            window = _window(times(part, k))
        direct = k == 1 and not both and dtype == out.dtype
        raw = raster.read(bands, window=window, out=out) if direct else raster.read(bands, window=window, out_dtype=dtype)
        seen = raster.dataset_mask(window=window) > 0 if handle.masked else None
    if seen is not None and k > 1:
        raw = np.where(seen, raw, np.nan)
    there = take(*_blocks(raw, nodata, k, source), source, out, name)
    return there if seen is None or k > 1 else there & seen


def _blocks(raw: np.ndarray, nodata: Sequence[float | None], k: int, source: Source) -> tuple[np.ndarray, Sequence[float | None]]:
    """Reduce k x k pixels to one, without missing ones; the pair is what `_take` takes."""
    if k == 1 and source.resampling != "mean_std":
        return raw, nodata
    cube = raw.astype(np.float64)
    for band, value in zip(cube, nodata, strict=True):
        if value is not None:
            band[~differs(band, value)] = np.nan
    cube = reduce_blocks(cube, k, source)
    return cube, [None] * len(cube)


def _warp(handle: Handle, bands: list[int], nodata: list[float | None], source: Source, where: tuple[Grid, Slices]) -> np.ndarray:
    """Return bands as they look on a window of the grid, NaN where there is nothing; "mean_std" gives both parts."""
    grid, part = where
    refuse_disjoint(source.place, handle.grid, grid)
    pixels = pixel_size(handle.grid, grid)
    both = source.resampling == "mean_std"
    method = "average" if both else source.resampling or ("average" if pixels < FINER else "bilinear")
    wide = both or np.result_type(_dtype(handle, bands), np.float32) != np.float32

    def read(method: str) -> np.ndarray:
        dtype = "float64" if wide else "float32"
        if len(set(map(str, nodata))) == 1:
            return _view(handle, grid, method, nodata[0], dtype).read(bands, window=_window(part))
        pairs = zip(bands, nodata, strict=True)
        return np.stack([_view(handle, grid, method, v, dtype).read(b, window=_window(part)) for b, v in pairs])

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


def _dtype(handle: Handle, bands: list[int]) -> np.dtype:
    names = {handle.dtypes[b - 1] for b in bands}
    if any(n.startswith("complex") for n in names):
        raise DataError(f"{handle.raster.name} holds complex values; write their amplitude, or two real bands.")
    return np.result_type(*names)


def _window(part: Slices) -> Window:
    rows, columns = part
    return Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
