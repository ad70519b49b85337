"""The land of the embedded scene: covers, parcels, woods, water, roads, buildings, light, and what a survey labels.

Everything here is two-dimensional and made whole, a few arrays at a time, because woods and lakes are cut at quantiles
of the whole. Up to SMALL pixels a side smooth noise is filtered in the pixels, beyond that in the frequencies: the same
wrapped Gaussian but for its cut tails, and its cost does not grow with the pattern's scale. Larger scenes have more
rivers and villages, so that their classes are about as common as in the small one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from mamol.errors import UsageError
from mamol.seed import generator

SMALLEST = 64
SMALL = 256
BLOCK = 256
"""Rows whose random draws share one generator, and that are made and written together."""
LABELLED = 0.12
REACH_PX = 40.0
"""Distances from a river beyond this count as inf: a meadow reaches 9 + 5 noise pixels, and noise stays under 5."""


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
INDEX = {c.name: k for k, c in enumerate(COVERS)}


@dataclass(frozen=True)
class Land:
    """The ground before any sensor: `truth` int16 (H, W), `parcel` int32 (H, W), `growth` (parcels,), `light` (H, W)."""

    truth: np.ndarray
    parcel: np.ndarray
    growth: np.ndarray
    light: np.ndarray
    seed: int

    @property
    def blocks(self) -> tuple[slice, ...]:
        """Return the rows of every block."""
        return tuple(row_blocks(len(self.truth)))


def row_blocks(size: int) -> Iterator[slice]:
    """Yield the rows of every block of BLOCK rows; the last may be lower."""
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))


def make_land(size: int, seed: int) -> Land:
    """Make the ground of a scene of `size` pixels a side; raises UsageError under SMALLEST."""
    truth, parcel = cover_land(size, seed)
    growth = np.exp(0.18 * generator(seed, "growth").standard_normal(parcel.max() + 1))
    return Land(truth, parcel, growth, 1 + 0.08 * noise(size, seed, "light", 25), seed)


def cover_land(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the class, int16 (size, size), and the parcel, int32, of every pixel; raises UsageError under SMALLEST."""
    if size < SMALLEST:
        raise UsageError(f"the embedded scene needs at least {SMALLEST} pixels a side; got {size}.")
    truth, parcel = _fields(size, seed)
    smooth = noise(size, seed, "wood", 14)
    wood = smooth > np.quantile(smooth, 0.74)
    kind = noise(size, seed, "wood kind", 20)
    truth[wood] = np.where(kind[wood] > np.median(kind), INDEX["broadleaf wood"], INDEX["conifer wood"])
    distance = _river(size, seed)
    wet = (distance < 9 + 5 * noise(size, seed, "wet", 8)) & (distance >= 3)
    truth[wet & ~wood] = INDEX["wet meadow"]
    lake = noise(size, seed, "lake", 16)
    truth[(distance < 3) | (lake > np.quantile(lake, 0.965))] = INDEX["water"]
    _roads(truth, seed)
    _villages(truth, seed)
    return truth, parcel


def noise(size: int, seed: int, purpose: str, scale_px: float) -> np.ndarray:
    """Return smooth noise, float64 (size, size), with mean 0 and deviation 1; it goes on across opposite borders."""
    out = generator(seed, purpose).standard_normal((size, size))
    if size <= SMALL:
        out = ndimage.gaussian_filter(out, scale_px, mode="wrap")
    else:
        waves = fft.rfft2(out, overwrite_x=True)
        waves *= np.exp(-2 * (np.pi * scale_px * fft.fftfreq(size)[:, None]) ** 2)
        waves *= np.exp(-2 * (np.pi * scale_px * fft.rfftfreq(size)) ** 2)
        out = fft.irfft2(waves, (size, size), overwrite_x=True)
    mean, deviation = out.mean(), out.std()
    out -= mean
    out /= deviation
    return out


def survey(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return which pixels are labelled, bool (H, W): discs around random places, as many in rare classes as in common ones."""
    rng, size = generator(seed, "survey"), len(truth)
    out, count = np.zeros(truth.shape, dtype=bool), 0
    places = [np.flatnonzero(truth == k) for k in range(len(COVERS))]
    while count / out.size < LABELLED:
        for found in places:
            if len(found):
                y, x = divmod(int(found[rng.integers(len(found))]), size)
                top, left = max(y - 4, 0), max(x - 4, 0)
                part = out[top : y + 5, left : x + 5]
                rows, columns = np.ogrid[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]]
                disc = rows**2 + columns**2 <= rng.uniform(2, 4.5) ** 2
                count += int((disc & ~part).sum())
                part |= disc
    return out


def _nearest(tree: cKDTree, size: int, within: float = np.inf) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield rows, distance and number of the nearest point of `tree`, (h, size), block by block; inf if none is within."""
    for rows in row_blocks(size):
        pixels = np.indices((rows.stop - rows.start, size)).reshape(2, -1).T + np.array([rows.start, 0])
        distance, number = tree.query(pixels, distance_upper_bound=within)
        yield rows, distance.reshape(-1, size), number.reshape(-1, size)


def _fields(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop of every pixel and its parcel's number: a jittered grid of parcels, turned by some degrees."""
    rng = generator(seed, "fields")
    step = 14
    around = np.arange(-size, 2 * size, step)
    seeds = np.stack(np.meshgrid(around, around * 1.0, indexing="ij"), -1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-4, 4, seeds.shape)
    angle = np.deg2rad(rng.uniform(10, 35))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    parcel = np.empty((size, size), dtype=np.int32)
    for rows, _, number in _nearest(cKDTree(seeds @ turn.T), size):
        parcel[rows] = number
    crops = [INDEX[c] for c in ("wheat", "maize", "grass", "bare soil")]
    of_parcel = rng.choice(crops, size=len(seeds), p=[0.32, 0.28, 0.22, 0.18])
    return of_parcel.astype(np.int16)[parcel], parcel


def _river(size: int, seed: int) -> np.ndarray:
    """Return the distance in pixels from the nearest winding river that crosses the scene; inf beyond REACH_PX."""
    lines = []
    for river in range(max(1, size // SMALL)):
        rng = generator(seed, "river", river)
        t = np.linspace(0, 1, 40 * size // 16)
        bend = sum(rng.uniform(0.02, 0.06) * np.sin(2 * np.pi * (k * t + rng.random())) for k in (1, 2, 3))
        place = rng.uniform(0.3, 0.7) if river == 0 else rng.uniform(0.05, 0.95)
        lines.append(np.stack([t * (size - 1), (place + bend) * size], 1))
    out = np.empty((size, size))
    for rows, distance, _ in _nearest(cKDTree(np.concatenate(lines)), size, REACH_PX):
        out[rows] = distance
    return out


def _roads(truth: np.ndarray, seed: int) -> None:
    """Draw straight roads two pixels wide across everything but water."""
    rng, size = generator(seed, "roads"), len(truth)
    along, beside = np.arange(size)[:, None], np.arange(-3, 4)
    for _ in range(max(4, size // 42)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(0.15, 0.85) * size
        cos, sin = np.cos(angle), np.sin(angle)
        steep = abs(sin) > abs(cos)
        # On the axis that the road crosses at under 45 degrees it is at most 3.2 pixels wide: only those can be road.
        middle = (offset - size / 2 - (along - size / 2) * (cos if steep else sin)) / (sin if steep else cos) + size / 2
        across = np.rint(middle).astype(np.int64) + beside
        rows, columns = np.broadcast_arrays(along, across) if steep else np.broadcast_arrays(across, along)
        inside = (across >= 0) & (across < size)
        rows, columns = rows[inside], columns[inside]
        distance = (rows - size / 2) * cos + (columns - size / 2) * sin
        road = (np.abs(distance - offset + size / 2) < 1.1) & (truth[rows, columns] != INDEX["water"])
        truth[rows[road], columns[road]] = INDEX["road"]


def _villages(truth: np.ndarray, seed: int) -> None:
    """Put clusters of rectangular buildings near roads."""
    rng, size = generator(seed, "villages"), len(truth)
    roads = np.argwhere(truth == INDEX["road"])
    number = max(5, size // 20) * max(1, size // SMALL)
    for row, column in roads[rng.integers(len(roads), size=number)] if len(roads) else []:
        for _ in range(10):
            y, x = int(row + rng.normal(0, 7)), int(column + rng.normal(0, 7))
            h, w = rng.integers(2, 5, size=2)
            part = truth[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
            part[(part != INDEX["road"]) & (part != INDEX["water"])] = INDEX["building"]
