"""Read one modality onto a tile's grid, window by window, with its availability.

A raster with another pixel size, CRS or extent is warped on read by the named resampling (GDAL's warper); "mean_std"
gives the mean and the standard deviation of the finer pixels, 2 C bands. A value is missing where the file's nodata, a
NaN, an infinity or the mask raster says so, in any band, or where the file does not reach. A .mat file, or a raster
without georeference, is a plain pixel grid of the same size or a whole multiple finer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
import scipy.io
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mamol.data.dataset import Georeference
from mamol.data.spec import ModalitySpec
from mamol.errors import DataError, GridMismatch, unknown
from mamol.files import must_exist

Slices = tuple[slice, slice]
BLOCK_STATISTICS: dict[str, Callable[..., np.ndarray]] = {
    "average": np.nanmean,
    "min": np.nanmin,
    "max": np.nanmax,
    "med": np.nanmedian,
}


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
    def bounds(self) -> tuple[float, float, float, float]:
        """Return (west, south, east, north) in the CRS's unit."""
        return tuple(array_bounds(self.height, self.width, rasterio.Affine(*self.georeference.transform)))


@contextmanager
def open_raster(path: Path) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for reading; raises FileMissing, and DataError that names the file if it is broken."""
    must_exist(path, "raster")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                yield raster
    except RasterioError as error:
        raise DataError(f"{path} cannot be read as a raster ({error}); it may be truncated. Get the file anew.") from error


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


def is_mat(path: Path) -> bool:
    """Tell whether a path is a MATLAB file."""
    return path.suffix.lower() == ".mat"


def read_grid(path: Path, key: str | None = None) -> Grid:
    """Return the grid that a raster or .mat file defines."""
    if is_mat(path):
        height, width = read_mat(path, key).shape[:2]
        return Grid(height, width, Georeference())
    with open_raster(path) as raster:
        crs = raster.crs.to_wkt() if raster.crs else ""
        return Grid(raster.height, raster.width, Georeference(crs, tuple(raster.transform)[:6]))


def band_count(path: Path, spec: ModalitySpec) -> int:
    """Return the number of bands that reading gives."""
    if is_mat(path):
        array = read_mat(path, spec.key)
        total = array.shape[2] if array.ndim == 3 else 1
    else:
        with open_raster(path) as raster:
            total = raster.count
    for band in spec.bands or ():
        if not 1 <= band <= total:
            raise DataError(f"{path} has {total} bands; bands = asks for band {band} (they are counted from 1).")
    chosen = len(spec.bands) if spec.bands else total
    return chosen * (2 if spec.resampling == "mean_std" else 1)


def read_modality(path: Path, spec: ModalitySpec, grid: Grid, part: Slices) -> tuple[np.ndarray, np.ndarray]:
    """Return values float32 (C, h, w), 0 where missing, and availability bool (h, w) of one window of the grid.

    Raises GridMismatch if the file and the grid share no ground, and DataError if it cannot be read.
    """
    raw = _read_mat_window(path, spec, grid, part) if is_mat(path) else _read_raster_window(path, spec, grid, part)
    available = np.isfinite(raw).all(axis=0)
    values = np.where(available, raw * spec.scale + spec.offset, 0).astype(np.float32)
    return values, available


def read_mask(path: Path, grid: Grid, part: Slices) -> np.ndarray:
    """Return where a mask raster is not zero, bool (h, w), brought onto the grid by nearest."""
    values, available = read_modality(path, ModalitySpec(path=path.name, resampling="nearest"), grid, part)
    return available & (values[0] != 0)


def _read_raster_window(path: Path, spec: ModalitySpec, grid: Grid, part: Slices) -> np.ndarray:
    rows, columns = part
    window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    with open_raster(path) as raster:
        bands = list(spec.bands or range(1, raster.count + 1))
        nodata = spec.nodata if spec.nodata is not None else raster.nodata
        plain = not raster.crs or not grid.georeference.crs
        if same_grid(raster, grid):
            return _masked(raster.read(bands, window=window), nodata, raster, window if spec.nodata is None else None)
        if plain:
            whole = _masked(raster.read(bands), nodata, None, None)
            return _reduce(whole, grid, spec.resampling, path)[:, rows, columns]
        refuse_disjoint(raster, grid, path)
        return _warp(raster, bands, nodata, spec.resampling, grid, window)


def _masked(raw: np.ndarray, nodata: float | None, raster: rasterio.DatasetReader | None, window: Window | None) -> np.ndarray:
    """Return float64 values with NaN where nodata, or the file's own mask, says missing."""
    out = raw.astype(np.float64)
    if nodata is not None:
        # A float32 file's nodata may be written with other digits than its pixels hold.
        out[np.isclose(out, nodata, rtol=1e-6, atol=0) if abs(nodata) > 1e30 else out == nodata] = np.nan
    if raster is not None and window is not None and nodata is None:
        out[:, raster.dataset_mask(window=window) == 0] = np.nan
    return out


def same_grid(raster: rasterio.DatasetReader, grid: Grid) -> bool:
    """Tell whether a raster lies on the grid pixel by pixel (to a thousandth of a pixel)."""
    own, other = raster.transform, grid.georeference.transform
    if raster.shape != grid.shape:
        return False
    if not raster.crs and not grid.georeference.crs:
        return True
    pixel = max(abs(own.a), abs(own.e))
    close = all(abs(a - b) <= 1e-3 * pixel for a, b in zip(tuple(own)[:6], other, strict=True))
    return (
        close and (raster.crs or "") == rasterio.crs.CRS.from_wkt(grid.georeference.crs)
        if raster.crs and grid.georeference.crs
        else False
    )


def refuse_disjoint(raster: rasterio.DatasetReader, grid: Grid, path: Path) -> None:
    """Raise GridMismatch if a georeferenced raster shares no ground with the grid."""
    west, south, east, north = rasterio.warp.transform_bounds(raster.crs, grid.georeference.crs, *raster.bounds)
    gw, gs, ge, gn = grid.bounds
    if west >= ge or east <= gw or south >= gn or north <= gs:
        raise GridMismatch(
            f"{path} covers ({west:.6g}, {south:.6g}, {east:.6g}, {north:.6g}) in the grid's CRS, the grid "
            f"({gw:.6g}, {gs:.6g}, {ge:.6g}, {gn:.6g}): they do not overlap. Check the file or its CRS."
        )


def _warp(
    raster: rasterio.DatasetReader,
    bands: list[int],
    nodata: float | None,
    resampling: str | None,
    grid: Grid,
    window: Window,
) -> np.ndarray:
    target = rasterio.Affine(*grid.georeference.transform)
    crs = rasterio.crs.CRS.from_wkt(grid.georeference.crs)
    west, _, east, _ = rasterio.warp.transform_bounds(raster.crs, crs, *raster.bounds)
    finer = (east - west) / raster.width < 0.75 * abs(target.a)
    names = {None: "average" if finer else "bilinear", "mean_std": "average"}
    method = Resampling[names.get(resampling, resampling or "")]
    options = {"crs": crs, "transform": target, "height": grid.height, "width": grid.width, "resampling": method}
    # NaN as the target's nodata: the warper then leaves out missing sources and marks what no source reaches.
    with WarpedVRT(raster, src_nodata=nodata, nodata=np.nan, working_dtype="float64", dtype="float64", **options) as view:
        mean = view.read(bands, window=window).astype(np.float64)
    if resampling != "mean_std":
        return mean
    with WarpedVRT(
        raster,
        src_nodata=nodata,
        nodata=np.nan,
        working_dtype="float64",
        dtype="float64",
        **(options | {"resampling": Resampling.rms}),
    ) as view:
        square = view.read(bands, window=window).astype(np.float64) ** 2
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0))])


def _read_mat_window(path: Path, spec: ModalitySpec, grid: Grid, part: Slices) -> np.ndarray:
    array = read_mat(path, spec.key)
    cube = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    if spec.bands:
        band_count(path, spec)
        cube = cube[[b - 1 for b in spec.bands]]
    if cube.shape[1:] == grid.shape and spec.resampling != "mean_std":
        return _masked(cube[:, part[0], part[1]], spec.nodata, None, None)
    return _reduce(_masked(cube, spec.nodata, None, None), grid, spec.resampling, path)[:, part[0], part[1]]


def _reduce(cube: np.ndarray, grid: Grid, resampling: str | None, path: Path) -> np.ndarray:
    """Bring an ungeoreferenced cube (C, k H, k W) onto the grid by whole blocks of k x k pixels."""
    factor = cube.shape[1] / grid.height
    if factor != cube.shape[2] / grid.width or factor != int(factor) or factor < 1:
        raise GridMismatch(
            f"{path} is {cube.shape[1]} x {cube.shape[2]} pixels without georeference, the grid {grid.height} x "
            f"{grid.width}: the size must be equal or a whole multiple. Give both a CRS, or resample the file."
        )
    k = int(factor)
    blocks = cube.reshape(cube.shape[0], grid.height, k, grid.width, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block without any value is NaN, which is what we want
        if resampling == "mean_std":
            return np.concatenate([np.nanmean(blocks, axis=(2, 4)), np.nanstd(blocks, axis=(2, 4))])
        if resampling == "nearest":
            return blocks[:, :, k // 2, :, k // 2]
        return BLOCK_STATISTICS.get(resampling or "average", np.nanmean)(blocks, axis=(2, 4))
