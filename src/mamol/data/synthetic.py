"""The embedded scene: a made landscape whose right answer is known, so that the main job runs anywhere in minutes.

Fields, woods, water, roads and buildings at 10 m; hyperspectral (48 bands, or 8 to 400), SAR (VV, VH in dB) and LiDAR
(height, m) follow from the same materials and heights. Some classes only one sensor separates:

    road | building        one material (asphalt), different height           -> LiDAR
    wheat | maize          one height, different leaves                       -> hyperspectral
    grass | wet meadow     one spectrum, one height, water under the stalks   -> SAR

with mixed pixels, shade, illumination, a cover that differs from field to field, band noise, speckle (gamma) and height
noise; a cloud hides the hyperspectral, a swath ends in the SAR, a strip is missing from the LiDAR. It is a
demonstration and a test, never evidence. Source: PROTOCOL.md section 1.

The land is made whole, what the sensors see in blocks of rows: make_scene stacks them, write_scene writes them one by
one, so that 4,096 x 4,096 pixels need little more memory than their land.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.windows import Window

from mamol.data.dataset import UNLABELLED, ClassInfo, Georeference, Scene, Tile
from mamol.data.spectra import wavelengths_nm
from mamol.data.synthetic_land import COVERS, INDEX, SMALLEST, Land, cover_land, make_land, survey
from mamol.data.synthetic_sensors import find_holes, observe
from mamol.errors import UsageError
from mamol.files import atomic, must_not_exist
from mamol.modality import Modality

PIXEL_M = 10.0
CORNER = (680_000.0, 5_340_000.0)
EPSG = 32632
NODATA = -9999.0
TILED, PACKED = 512, 1024
"""Pixels a side from which files are tiled, and from which the hyperspectral one is int16 in steps of SCALE."""
SCALE, PACKED_NODATA = 1e-4, -32768
CACHE_BYTES = 64_000_000
FILES = ("hsi.tif", "sar.tif", "lidar.tif", "labels.tif", "truth.tif", "scene.toml")
CLASSES = tuple(ClassInfo(c.name, c.colour) for c in COVERS)
MODALITIES = (
    Modality("hsi", 48, "grid", PIXEL_M, "reflectance"),
    Modality("sar", 2, "grid", PIXEL_M, "dB"),
    Modality("lidar", 1, "grid", PIXEL_M, "m"),
)


def make_truth(size: int = 256, seed: int = 0) -> np.ndarray:
    """Return the class of every pixel, int16 (size, size); raises UsageError under SMALLEST pixels."""
    return cover_land(size, seed)[0]


def make_scene(size: int = 256, seed: int = 0, bands: int = 48, cloud: float | None = None) -> Scene:
    """Make the scene in memory: one tile, labels on about a tenth of the pixels as a field survey would leave them.

    `bands`: of the hyperspectral sensor, 8 to 400, at `spectra.wavelengths_nm(bands)`. `cloud`: share of the scene under
    cloud in [0, 1]; None: 0.07. Takes 4 (bands + 3) bytes a pixel. Raises UsageError.
    """
    modalities, land, holes = _modalities(bands), make_land(size, seed), find_holes(size, seed, cloud)
    values = {m.name: np.empty((m.bands, size, size), dtype=np.float32) for m in modalities}
    for rows, seen in _stream(land, holes, bands):
        for name, value in seen.items():
            values[name][:, rows] = value
    place = Georeference(CRS.from_epsg(EPSG).to_wkt(), tuple(from_origin(*CORNER, PIXEL_M, PIXEL_M))[:6])
    available = {name: ~hole for name, hole in holes.items()}
    tile = Tile("embedded", values, available, _labels(land), "embedded", place)
    return Scene("embedded", modalities, CLASSES, (tile,), {"size": size, "seed": seed, "made": "mamol.data.synthetic"})


def write_scene(
    folder: str | Path,
    size: int = 256,
    seed: int = 0,
    overwrite: bool = False,
    bands: int = 48,
    cloud: float | None = None,
) -> Path:
    """Write what make_scene makes as GeoTIFFs with a scene.toml and truth.tif, block by block; return scene.toml's path.

    From TILED pixels a side the files are tiled for reading by window, from PACKED on the hyperspectral one is int16 in
    steps of SCALE. The folder appears whole or not at all; `overwrite` replaces one that holds nothing but FILES. Raises
    UsageError, OutputExists and WriteFailed.
    """
    if not isinstance(folder, str | Path):
        raise UsageError(f"write_scene writes the made scene to a folder; got {type(folder).__name__} for the folder.")
    folder = Path(folder)
    must_not_exist(folder, overwrite, FILES)
    modalities, land, holes = _modalities(bands), make_land(size, seed), find_holes(size, seed, cloud)
    with atomic(folder, overwrite, FILES) as partial:
        partial.mkdir(parents=True)
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as files:
            rasters = {m.name: files.enter_context(_create(partial / f"{m.name}.tif", m, size)) for m in modalities}
            for rows, seen in _stream(land, holes, bands):
                for name, value in seen.items():
                    _write(rasters[name], value, holes[name][rows], rows)
        for name, labels in (("labels", _labels(land)), ("truth", land.truth)):
            with rasterio.open(partial / f"{name}.tif", "w", compress="deflate", **_profile(size, 1, "uint8", 0)) as raster:
                raster.write((labels + 1).astype("uint8")[None])
        (partial / "scene.toml").write_text(_toml(modalities, size), encoding="utf-8")
    return folder / "scene.toml"


def _modalities(bands: int) -> tuple[Modality, ...]:
    count = len(wavelengths_nm(bands))  # refuses what no spectrum is made for
    return tuple(Modality(m.name, count if m.name == "hsi" else m.bands, m.kind, m.gsd_m, m.unit) for m in MODALITIES)


def _labels(land: Land) -> np.ndarray:
    return np.where(survey(land.truth, land.seed), land.truth, UNLABELLED).astype(np.int16)


def _stream(land: Land, holes: dict[str, np.ndarray], bands: int) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Yield the rows of every block and what the sensors see there, float32 (C, h, W), 0 in their holes."""
    for block, rows in enumerate(land.blocks):
        seen = observe(land, block, bands)
        for name, value in seen.items():
            value[:, holes[name][rows]] = 0
        yield rows, seen


def _profile(size: int, count: int, dtype: str, nodata: float) -> dict[str, Any]:
    profile = {"driver": "GTiff", "count": count, "height": size, "width": size, "dtype": dtype, "nodata": nodata}
    profile |= {"crs": CRS.from_epsg(EPSG), "transform": from_origin(*CORNER, PIXEL_M, PIXEL_M)}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band", "BIGTIFF": "IF_SAFER"}
    return profile | (tiles if size >= TILED else {})


def _create(path: Path, modality: Modality, size: int) -> rasterio.io.DatasetWriter:
    packed = modality.name == "hsi" and size >= PACKED
    profile = _profile(size, modality.bands, "int16" if packed else "float32", PACKED_NODATA if packed else NODATA)
    # Noise hardly compresses: a tiled file is read several times faster without.
    return rasterio.open(path, "w", **profile, **({} if size >= TILED else {"compress": "deflate"}))


def _write(raster: rasterio.io.DatasetWriter, values: np.ndarray, hole: np.ndarray, rows: slice) -> None:
    if raster.dtypes[0] == "int16":
        stored = np.empty(values.shape, dtype=np.int16)
        for k, band in enumerate(values):
            stored[k] = np.clip(np.rint(band / SCALE), PACKED_NODATA + 1, -PACKED_NODATA - 1)
    else:
        stored = values
    stored[:, hole] = raster.nodata
    raster.write(stored, window=Window(0, rows.start, raster.width, rows.stop - rows.start))


def _toml(modalities: tuple[Modality, ...], size: int) -> str:
    parts = []
    for m in modalities:
        scale = f"scale = {SCALE}\n" if m.name == "hsi" and size >= PACKED else ""
        parts.append(f'[modalities.{m.name}]\npath = "{m.name}.tif"\n{scale}unit = "{m.unit}"\n\n')
    legend = "".join(f'[[classes]]\nname = "{c.name}"\nvalue = {k}\ncolour = "{c.colour}"\n\n' for k, c in enumerate(COVERS, 1))
    text = f'name = "embedded"\ngrid = "hsi"\n\n{"".join(parts)}[labels]\npath = "labels.tif"\n\n{legend}'
    return text.rstrip() + "\n"


__all__ = ["CLASSES", "COVERS", "INDEX", "MODALITIES", "SMALLEST", "make_scene", "make_truth", "write_scene"]
