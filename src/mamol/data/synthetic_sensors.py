"""What the three sensors of the embedded scene see of its land, block by block of rows, and where each sees nothing.

A block is BLOCK rows: every purpose has one generator per block, and blurs reach over the block's border into its
neighbours (a halo of four deviations), so a border between blocks shows in no statistic. The hyperspectral cube is
worked on in strips within its block, as many rows as a working array of WORK values holds; their height changes no bit.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mamol.data.availability import cloud_mask, swath_mask
from mamol.data.spectra import spectra
from mamol.data.synthetic_land import COVERS, SMALL, Land, noise
from mamol.errors import UsageError
from mamol.seed import generator

LOOKS = 4
CLOUD = 0.07
FOOTPRINT_PX, RADAR_PX = 0.7, 0.5
WORK = 6_000_000


def observe(land: Land, block: int, bands: int, strip_rows: int | None = None) -> dict[str, np.ndarray]:
    """Return what the sensors see in one block, float32 (C, h, W) each: reflectance, dB, metres; without holes.

    `strip_rows`: rows of the hyperspectral cube worked on at once; None: as many as WORK values hold.
    """
    height, rng = _height(land, block)
    values = height + rng.normal(0, 0.12, height.shape)
    return {
        "hsi": _hyperspectral(land, block, height, bands, strip_rows or max(8, WORK // (height.shape[1] * bands))),
        "sar": _radar(land, block).astype(np.float32),
        "lidar": values[None].astype(np.float32),
    }


def find_holes(size: int, seed: int, cloud: float | None = None) -> dict[str, np.ndarray]:
    """Return where each sensor is missing, bool (size, size), about a tenth each: cloud, swath edge, flight strip.

    `cloud`: share of the scene under cloud in [0, 1], its shadow not counted; None: CLOUD. Raises UsageError.
    """
    covered = _cloud(size, seed, CLOUD if cloud is None else cloud)
    shadow = np.zeros_like(covered)
    down, left = size // 32, size // 24
    shadow[down:, : size - left] = covered[: size - down, left:]
    start = generator(seed, "strip").uniform(0.1, 0.3) * size
    strip = np.abs(np.arange(size) - start - 0.12 * np.arange(size)[:, None]) < 0.05 * size
    return {"hsi": covered | shadow, "sar": swath_mask((size, size), 0.1, 25.0), "lidar": strip}


def _cloud(size: int, seed: int, coverage: float) -> np.ndarray:
    if size <= SMALL:
        return cloud_mask((size, size), coverage, seed, size / 20)
    if not 0 <= coverage <= 1:
        raise UsageError(f"cloud is the share of the scene under cloud and lies in 0..1; got {coverage}.")
    smooth = noise(size, seed, "cloud", size / 20)
    return smooth >= np.quantile(smooth, 1 - coverage) if coverage else np.zeros(smooth.shape, dtype=bool)


def _height(land: Land, block: int) -> tuple[np.ndarray, np.random.Generator]:
    """Return a block's height above ground in m, (h, W), and the generator from which the LiDAR's noise follows."""
    rows, rng = land.blocks[block], generator(land.seed, "sensors", block)
    truth, growth = land.truth[rows], land.growth[land.parcel[rows]]
    cover = np.array([c.height_m for c in COVERS])[truth]
    spread = np.array([c.spread_m for c in COVERS])[truth]
    return np.maximum(cover * growth + spread * rng.standard_normal(truth.shape), 0), rng


def _brightness(land: Land, block: int) -> tuple[np.ndarray, np.random.Generator]:
    """Return how bright a block's pixels are within their class, (h, W), and the generator of the bands' noise."""
    rows, rng = land.blocks[block], generator(land.seed, "hyperspectral", block)
    return 1 + 0.10 * rng.standard_normal(land.truth[rows].shape), rng


def _hyperspectral(land: Land, block: int, height: np.ndarray, bands: int, strip_rows: int) -> np.ndarray:
    """Mix each pixel's plants with soil, blur by the sensor's footprint, shade, light, and add noise; strip by strip."""
    rows, halo = land.blocks[block], reach(FOOTPRINT_PX)
    brightness, rng = _brightness(land, block)
    above = _brightness(land, block - 1)[0][-halo:] if block else brightness[:0]
    below = _brightness(land, block + 1)[0][:halo] if rows.stop < len(land.truth) else brightness[:0]
    brightness, top = np.concatenate([above, brightness, below]), rows.start - len(above)
    # The sun stands to the south-east: what is lower than its neighbour there lies in the shade.
    beyond = _height(land, (block + 1) % len(land.blocks))[0][:1]
    shade = np.clip((np.roll(np.concatenate([height[1:], beyond]), -1, 1) - height - 4) / 14, 0, 1)
    light = land.light[rows] * (1 - 0.55 * shade)
    out = np.empty((bands, *height.shape), dtype=np.float32)
    for start in range(rows.start, rows.stop, strip_rows):
        stop = min(start + strip_rows, rows.stop)
        wide = slice(max(start - halo, top), min(stop + halo, top + len(brightness)))
        mixed = _mixed(land, wide, brightness[wide.start - top : wide.stop - top], bands)
        seen = ndimage.gaussian_filter(mixed, (FOOTPRINT_PX, FOOTPRINT_PX, 0))[start - wide.start : stop - wide.start]
        here = slice(start - rows.start, stop - rows.start)
        seen *= light[here, :, None]
        drawn = rng.standard_normal(seen.shape)
        drawn *= 0.012 + 0.02 * seen
        seen += drawn
        out[:, here] = np.moveaxis(seen, -1, 0)
    return out


def _mixed(land: Land, rows: slice, brightness: np.ndarray, bands: int) -> np.ndarray:
    """Return the reflectance of plants and soil before the sensor's blur, (h, W, C)."""
    of, truth = spectra(bands), land.truth[rows]
    bare = np.clip(np.array([c.soil for c in COVERS])[truth] / land.growth[land.parcel[rows]] ** 2, 0, 0.8)
    mixed = np.stack([of[c.spectrum] for c in COVERS])[truth]
    mixed *= 1 - bare[..., None]
    mixed += of["soil"] * bare[..., None]
    mixed *= brightness[..., None]
    return mixed


def _radar(land: Land, block: int) -> np.ndarray:
    """Return backscatter in dB, (2, h, W), with gamma speckle of LOOKS looks, brighter where plants grow more."""
    rows, halo = land.blocks[block], reach(RADAR_PX)
    wide = slice(max(rows.start - halo, 0), rows.stop + halo)
    truth, growth = land.truth[wide], land.growth[land.parcel[wide]]
    mean_db = np.stack([np.array([c.vv_db for c in COVERS])[truth], np.array([c.vh_db for c in COVERS])[truth]])
    power = 10 ** ((mean_db + 4 * np.log10(growth)) / 10)
    power = ndimage.gaussian_filter(power, (0, RADAR_PX, RADAR_PX))[:, rows.start - wide.start : rows.stop - wide.start]
    power = power * generator(land.seed, "radar", block).gamma(LOOKS, 1 / LOOKS, power.shape)
    return 10 * np.log10(np.maximum(power, 1e-4))


def reach(deviation_px: float) -> int:
    """Return how many pixels scipy's Gaussian filter of this deviation reaches (four deviations, rounded)."""
    return int(4 * deviation_px + 0.5)
