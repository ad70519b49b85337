"""The embedded scene: a made landscape whose right answer is known, so that the main job runs anywhere in minutes.

Fields, woods, water, roads and buildings at 10 m; hyperspectral (48 bands), SAR (VV, VH in dB) and LiDAR (height, m)
follow from the same materials and heights. Some classes only one sensor separates:

    road | building        one material (asphalt), different height           -> LiDAR
    wheat | maize          one height, different leaves                       -> hyperspectral
    grass | wet meadow     one spectrum, one height, water under the stalks   -> SAR

with mixed pixels, shade, illumination, a cover that differs from field to field, band noise, speckle (gamma) and height
noise; a cloud hides the hyperspectral, a swath ends in the SAR, a strip is missing from the LiDAR. It is a
demonstration and a test, never evidence. Source: PROTOCOL.md section 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy import ndimage
from scipy.spatial import cKDTree

from mamol.data.availability import cloud_mask, swath_mask
from mamol.data.dataset import UNLABELLED, ClassInfo, Georeference, Scene, Tile
from mamol.data.spectra import SPECTRA
from mamol.errors import UsageError
from mamol.files import atomic, must_not_exist
from mamol.modality import Modality
from mamol.seed import generator

PIXEL_M = 10.0
CORNER = (680_000.0, 5_340_000.0)
EPSG = 32632
SMALLEST = 64
LABELLED = 0.12
NODATA = -9999.0
LOOKS = 4


@dataclass(frozen=True)
class Cover:
    """What a class is made of: spectrum, height (m) and its spread, mean backscatter VV, VH (dB), share of soil seen."""

    name: str
    colour: str
    spectrum: str
    height_m: float
    spread_m: float
    vv_db: float
    vh_db: float
    soil: float = 0.0


COVERS = (
    Cover("wheat", "#e8c547", "wheat", 1.1, 0.15, -11.0, -17.5, 0.25),
    Cover("maize", "#f28e2b", "maize", 1.3, 0.25, -10.0, -16.0, 0.25),
    Cover("grass", "#9bd770", "grass", 0.3, 0.1, -12.0, -19.0, 0.15),
    Cover("wet meadow", "#4fb3a5", "grass", 0.3, 0.1, -6.5, -15.5, 0.15),
    Cover("bare soil", "#b08968", "soil", 0.0, 0.05, -13.5, -23.0),
    Cover("broadleaf wood", "#2f7d32", "broadleaf wood", 18.0, 3.0, -9.0, -14.0, 0.02),
    Cover("conifer wood", "#0b4f3a", "conifer wood", 20.0, 3.5, -9.5, -14.8, 0.05),
    Cover("water", "#3b7dd8", "water", 0.0, 0.03, -20.0, -28.0),
    Cover("road", "#5a5a5a", "asphalt", 0.0, 0.05, -15.5, -24.0),
    Cover("building", "#c1272d", "asphalt", 6.5, 1.8, -8.5, -17.5),
)
CLASSES = tuple(ClassInfo(c.name, c.colour) for c in COVERS)
INDEX = {c.name: k for k, c in enumerate(COVERS)}
MODALITIES = (
    Modality("hsi", 48, "grid", PIXEL_M, "reflectance"),
    Modality("sar", 2, "grid", PIXEL_M, "dB"),
    Modality("lidar", 1, "grid", PIXEL_M, "m"),
)


def make_truth(size: int = 256, seed: int = 0) -> np.ndarray:
    """Return the class of every pixel, int16 (size, size); raises UsageError under SMALLEST pixels."""
    if size < SMALLEST:
        raise UsageError(f"the embedded scene needs at least {SMALLEST} pixels a side; got {size}.")
    truth, _ = _fields(size, seed)
    smooth = _noise(size, seed, "wood", 14)
    kind = _noise(size, seed, "wood kind", 20)
    wood = smooth > np.quantile(smooth, 0.74)
    truth[wood] = np.where(kind[wood] > np.median(kind), INDEX["broadleaf wood"], INDEX["conifer wood"])
    distance = _river(size, seed)
    wet = (distance < 9 + 5 * _noise(size, seed, "wet", 8)) & (distance >= 3)
    truth[wet & ~wood] = INDEX["wet meadow"]
    lake = _noise(size, seed, "lake", 16)
    truth[(distance < 3) | (lake > np.quantile(lake, 0.965))] = INDEX["water"]
    _roads(truth, seed)
    _villages(truth, seed)
    return truth.astype(np.int16)


def make_scene(size: int = 256, seed: int = 0) -> Scene:
    """Make the scene in memory: one tile, labels on about a tenth of the pixels as a field survey would leave them."""
    truth = make_truth(size, seed)
    _, parcel = _fields(size, seed)
    values, holes = _observe(truth, parcel, seed), _holes(size, seed)
    available = {m: ~holes[m] for m in values}
    values = {m: np.where(available[m], v, 0).astype(np.float32) for m, v in values.items()}
    labels = np.where(_survey(truth, seed), truth, UNLABELLED).astype(np.int16)
    place = Georeference(CRS.from_epsg(EPSG).to_wkt(), tuple(from_origin(*CORNER, PIXEL_M, PIXEL_M))[:6])
    tile = Tile("embedded", values, available, labels, "embedded", place)
    return Scene("embedded", MODALITIES, CLASSES, (tile,), {"size": size, "seed": seed, "made": "mamol.data.synthetic"})


def write_scene(folder: Path, size: int = 256, seed: int = 0, overwrite: bool = False) -> Path:
    """Write the scene as GeoTIFFs with a scene.toml and truth.tif; return the path of scene.toml.

    The folder appears whole or not at all. Raises OutputExists and WriteFailed.
    """
    must_not_exist(folder, overwrite)
    scene = make_scene(size, seed)
    tile = scene.tiles[0]
    with atomic(folder, overwrite) as partial:
        partial.mkdir(parents=True)
        for m in scene.modalities:
            values = np.where(tile.available[m.name], tile.values[m.name], np.float32(NODATA))
            _write(partial / f"{m.name}.tif", values, NODATA)
        _write(partial / "labels.tif", (tile.labels + 1).astype("uint8")[None], 0)
        _write(partial / "truth.tif", (make_truth(size, seed) + 1).astype("uint8")[None], 0)
        (partial / "scene.toml").write_text(_toml(), encoding="utf-8")
    return folder / "scene.toml"


def _write(path: Path, values: np.ndarray, nodata: float) -> None:
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    profile |= {"crs": CRS.from_epsg(EPSG), "transform": from_origin(*CORNER, PIXEL_M, PIXEL_M), "nodata": nodata}
    with rasterio.open(path, "w", compress="deflate", **profile) as raster:
        raster.write(values)


def _toml() -> str:
    sensors = "".join(f'[modalities.{m.name}]\npath = "{m.name}.tif"\nunit = "{m.unit}"\n\n' for m in MODALITIES)
    legend = "".join(f'[[classes]]\nname = "{c.name}"\nvalue = {k}\ncolour = "{c.colour}"\n\n' for k, c in enumerate(COVERS, 1))
    return f'name = "embedded"\ngrid = "hsi"\n\n{sensors}[labels]\npath = "labels.tif"\n\n{legend}'.rstrip() + "\n"


def _noise(size: int, seed: int, purpose: str, scale: float) -> np.ndarray:
    """Return smooth noise (size, size) with mean 0 and deviation 1; the pattern's scale is in pixels."""
    out = ndimage.gaussian_filter(generator(seed, purpose).standard_normal((size, size)), scale, mode="wrap")
    return (out - out.mean()) / out.std()


def _fields(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop of every pixel and its parcel's number: a jittered grid of parcels, turned by some degrees."""
    rng = generator(seed, "fields")
    step = 14
    around = np.arange(-size, 2 * size, step)
    seeds = np.stack(np.meshgrid(around, around * 1.0, indexing="ij"), -1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-4, 4, seeds.shape)
    angle = np.deg2rad(rng.uniform(10, 35))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pixels = np.indices((size, size)).reshape(2, -1).T
    _, parcel = cKDTree(seeds @ turn.T).query(pixels)
    crops = [INDEX[c] for c in ("wheat", "maize", "grass", "bare soil")]
    of_parcel = rng.choice(crops, size=len(seeds), p=[0.32, 0.28, 0.22, 0.18])
    return of_parcel[parcel].reshape(size, size).astype(np.int64), parcel.reshape(size, size)


def _river(size: int, seed: int) -> np.ndarray:
    """Return the distance in pixels from a winding river that crosses the scene."""
    rng = generator(seed, "river")
    t = np.linspace(0, 1, 40 * size // 16)
    bend = sum(rng.uniform(0.02, 0.06) * np.sin(2 * np.pi * (k * t + rng.random())) for k in (1, 2, 3))
    line = np.stack([t * (size - 1), (rng.uniform(0.3, 0.7) + bend) * size], 1)
    distance, _ = cKDTree(line).query(np.indices((size, size)).reshape(2, -1).T)
    return distance.reshape(size, size)


def _roads(truth: np.ndarray, seed: int) -> None:
    """Draw straight roads two pixels wide across everything but water."""
    rng, size = generator(seed, "roads"), len(truth)
    rows, columns = np.indices(truth.shape)
    for _ in range(max(4, size // 42)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(0.15, 0.85) * size
        across = (rows - size / 2) * np.cos(angle) + (columns - size / 2) * np.sin(angle)
        truth[(np.abs(across - offset + size / 2) < 1.1) & (truth != INDEX["water"])] = INDEX["road"]


def _villages(truth: np.ndarray, seed: int) -> None:
    """Put clusters of rectangular buildings near roads."""
    rng, size = generator(seed, "villages"), len(truth)
    roads = np.argwhere(truth == INDEX["road"])
    for row, column in roads[rng.integers(len(roads), size=max(5, size // 20))] if len(roads) else []:
        for _ in range(10):
            y, x = int(row + rng.normal(0, 7)), int(column + rng.normal(0, 7))
            h, w = rng.integers(2, 5, size=2)
            part = truth[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
            part[(part != INDEX["road"]) & (part != INDEX["water"])] = INDEX["building"]


def _observe(truth: np.ndarray, parcel: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return what the three sensors see of the land, without holes."""
    rng, shape = generator(seed, "sensors"), truth.shape
    cover = np.array([c.height_m for c in COVERS])[truth]
    spread = np.array([c.spread_m for c in COVERS])[truth]
    growth = np.exp(0.18 * generator(seed, "growth").standard_normal(parcel.max() + 1))[parcel]
    height = np.maximum(cover * growth + spread * rng.standard_normal(shape), 0)
    return {
        "hsi": _hyperspectral(truth, growth, height, seed),
        "sar": _radar(truth, growth, seed),
        "lidar": (height + rng.normal(0, 0.12, shape))[None],
    }


def _hyperspectral(truth: np.ndarray, growth: np.ndarray, height: np.ndarray, seed: int) -> np.ndarray:
    """Mix each pixel's plants with soil, blur by the sensor's footprint, shade, light, and add noise."""
    rng = generator(seed, "hyperspectral")
    bare = np.clip(np.array([c.soil for c in COVERS])[truth] / growth**2, 0, 0.8)
    pure = np.stack([SPECTRA[c.spectrum] for c in COVERS])[truth]  # (H, W, C)
    mixed = pure * (1 - bare[..., None]) + SPECTRA["soil"] * bare[..., None]
    mixed = mixed * (1 + 0.10 * rng.standard_normal(truth.shape))[..., None]
    mixed = ndimage.gaussian_filter(mixed, (0.7, 0.7, 0))
    # The sun stands to the south-east: what is lower than its neighbour there lies in the shade.
    shade = np.clip((np.roll(height, (-1, -1), (0, 1)) - height - 4) / 14, 0, 1)
    light = 1 + 0.08 * _noise(len(truth), seed, "light", 25)
    seen = mixed * (light * (1 - 0.55 * shade))[..., None]
    noise = 0.012 + 0.02 * seen
    return np.moveaxis(seen + noise * rng.standard_normal(seen.shape), -1, 0)


def _radar(truth: np.ndarray, growth: np.ndarray, seed: int) -> np.ndarray:
    """Return backscatter in dB with gamma speckle of LOOKS looks, brighter where plants grow more."""
    rng = generator(seed, "radar")
    mean_db = np.stack([np.array([c.vv_db for c in COVERS])[truth], np.array([c.vh_db for c in COVERS])[truth]])
    power = 10 ** ((mean_db + 4 * np.log10(growth)) / 10)
    power = ndimage.gaussian_filter(power, (0, 0.5, 0.5)) * rng.gamma(LOOKS, 1 / LOOKS, mean_db.shape)
    return 10 * np.log10(np.maximum(power, 1e-4))


def _holes(size: int, seed: int) -> dict[str, np.ndarray]:
    """Return where each sensor is missing, bool (H, W), about a tenth each: cloud, swath edge, flight strip."""
    cloud = cloud_mask((size, size), 0.07, seed, size / 20)
    shadow = np.zeros_like(cloud)
    down, left = size // 32, size // 24
    shadow[down:, : size - left] = cloud[: size - down, left:]
    rows, columns = np.indices((size, size))
    start = generator(seed, "strip").uniform(0.1, 0.3) * size
    strip = np.abs(columns - start - 0.12 * rows) < 0.05 * size
    return {"hsi": cloud | shadow, "sar": swath_mask((size, size), 0.1, 25.0), "lidar": strip}


def _survey(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return which pixels are labelled: discs around random places, rare classes sought out as often as common ones."""
    rng = generator(seed, "survey")
    out = np.zeros(truth.shape, dtype=bool)
    rows, columns = np.indices(truth.shape)
    places = [np.argwhere(truth == k) for k in range(len(COVERS))]
    while out.mean() < LABELLED:
        for found in places:
            if len(found):
                y, x = found[rng.integers(len(found))]
                out |= (rows - y) ** 2 + (columns - x) ** 2 <= rng.uniform(2, 4.5) ** 2
    return out
