"""Read one modality onto a tile's grid, window by window, with its availability.

A raster with another pixel size, CRS or extent is warped on read by the named resampling (GDAL's warper); "mean_std"
gives the mean and the standard deviation of the finer pixels, 2 C bands. A value is missing where the file's nodata or
mask, a NaN, an infinity or the mask raster says so, in any band, or where the file does not reach. A .mat file, or a
raster without georeference, is a plain pixel grid of the same size or a whole multiple finer.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from mamol.data.dataset import Georeference
from mamol.data.finer import reduce_blocks
from mamol.data.grid import Grid, Slices, around, missing_onto, multiple, same_grid, times
from mamol.data.handles import as_place, identify, open_raster, reading
from mamol.data.spec import Mask, Source
from mamol.data.values import each_band, take, with_holes
from mamol.data.warp import as_window, warp
from mamol.errors import DataError, unknown
from mamol.files import denied, must_exist

__all__ = ["Grid", "band_count", "is_mat", "open_raster", "read_grid", "read_mat", "read_missing", "read_modality"]
UNREADABLE = (ValueError, OSError, TypeError, EOFError, LookupError, OverflowError, MatReadError, zlib.error, struct.error)
"""What scipy lets through of a .mat file that is empty, truncated or damaged."""


@lru_cache(maxsize=8)
def _mat(path: Path, changed_ns: int) -> dict[str, np.ndarray]:
    del changed_ns  # part of the cache's key: a file written anew is read anew
    try:
        with open(path, "rb") as file:
            tree = scipy.io.loadmat(file)
    except NotImplementedError:
        raise DataError(f"{path} is a MATLAB 7.3 (HDF5) file; save it with `save -v7`, or convert it to GeoTIFF.") from None
    except PermissionError as error:
        raise denied(path, error) from error
    except UNREADABLE as error:
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
            raw = np.zeros((0, 0)) if empty else handle.raster.read(1, window=as_window(window))
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
        return take(*_blocks(raw, each_band(source.nodata, len(raw), source), None, k, source, name), source, out, name)
    with reading(source.place) as handle:
        raster, bands = handle.raster, list(source.bands or range(1, handle.raster.count + 1))
        given, dtype = each_band(source.nodata, len(bands), source), handle.dtype(bands)
        nodata = [handle.nodata[b - 1] if v is None else v for b, v in zip(bands, given, strict=True)]
        k, window, both = 1, as_window(part), source.resampling == "mean_std"
        if both or not same_grid(handle.grid, grid):
            if handle.grid.georeference.crs and grid.georeference.crs:
                return take(warp(handle, bands, nodata, source, (grid, part), name), [None] * len(out), source, out, name)
            k = multiple(handle.grid, grid, source.place)
            window = as_window(times(part, k))
        direct = k == 1 and not both and dtype == out.dtype
        raw = raster.read(bands, window=window, out=out) if direct else raster.read(bands, window=window, out_dtype=dtype)
        seen = raster.dataset_mask(window=window) > 0 if handle.masked else None
    there = take(*_blocks(raw, nodata, seen, k, source, name), source, out, name)
    return there if seen is None or k > 1 else there & seen


def _blocks(
    raw: np.ndarray, nodata: Sequence[float | None], seen: np.ndarray | None, k: int, source: Source, name: str
) -> tuple[np.ndarray, Sequence[float | None]]:
    """Reduce k x k pixels to one, without missing ones; the pair is what `take` takes."""
    if k == 1 and source.resampling != "mean_std":
        return raw, nodata
    cube = reduce_blocks(with_holes(raw, nodata, seen, "float64", name, source.place), k, source)
    return cube, [None] * len(cube)
