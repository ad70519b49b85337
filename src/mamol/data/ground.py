"""Which tiles of a scene lie on the same ground, and how far a window of one reaches into what another shows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import rasterio
from rasterio.warp import transform_bounds
from scipy import ndimage

from mamol.data.dataset import Scene
from mamol.data.grid import NO_WAY, Bounds, Grid, Slices, around, missing_onto, same_crs
from mamol.errors import GridMismatch


def within_reach(masks: list[np.ndarray], dataset: Scene, patch_px: int) -> list[np.ndarray]:
    """Tell which pixels lie within patch_px - 1 of a mask's, bool (H, W) per tile: in the tile, or on the ground of another.

    So far reaches a window that holds the pixel. Ground is compared where tiles have a CRS.
    """
    own = [_widened(m, patch_px) for m in masks]
    out = [m.copy() for m in own]
    grids = tile_grids(dataset)
    for pair in shared_ground(grids):
        for i, j in (pair, pair[::-1]):  # windows of tile i that reach ground of tile j, and the other way round
            if not masks[i].any():
                continue
            try:
                here, there = (around(grids[a], grids[b], grids[b].whole, dataset.tiles[a].name) for a, b in ((i, j), (j, i)))
            except GridMismatch:  # neighbours in degrees that share nothing in the CRS of one of them
                continue
            there = _wider(there, patch_px, grids[j])
            places = (grids[i], here), (grids[j], there)
            seen, reached = (missing_onto(m[i][here], *places) for m in (masks, own))
            out[j][there] |= reached | _widened(seen, patch_px)
    return out


def tile_grids(scene: Scene) -> tuple[Grid, ...]:
    """Return the grid of every tile."""
    return tuple(Grid(t.labels.shape[0], t.labels.shape[1], t.georeference) for t in scene.tiles)


def _widened(mask: np.ndarray, patch_px: int) -> np.ndarray:
    return np.asarray(ndimage.maximum_filter(mask.astype(np.uint8), size=2 * patch_px - 1, mode="constant") > 0)


def _wider(part: Slices, by: int, grid: Grid) -> Slices:
    rows, columns = (slice(max(s.start - by, 0), min(s.stop + by, n)) for s, n in zip(part, grid.shape, strict=True))
    return rows, columns


@lru_cache(maxsize=8)
def shared_ground(grids: tuple[Grid, ...]) -> tuple[tuple[int, int], ...]:
    """List the pairs (i, j), i < j, of grids with a CRS whose bounds share ground; those that only touch do not.

    Bounds are compared in the CRS of both, or in longitude and latitude where that differs: a few pairs too many then. A CRS
    from which no way leads there shares ground with none but itself.
    """
    kinds: list[str] = []
    for g in grids:
        if g.georeference.crs and not any(same_crs(g.georeference.crs, k) for k in kinds):
            kinds.append(g.georeference.crs)
    found: list[tuple[int, int]] = []
    for kind in kinds:
        there = [i for i, g in enumerate(grids) if g.georeference.crs and same_crs(g.georeference.crs, kind)]
        found += [(there[a], there[b]) for a, b in _pairs(np.array([grids[i].bounds for i in there]))]
    if len(kinds) > 1:
        degrees = _pairs(np.array([_in_degrees(g) for g in grids]))
        found += [(i, j) for i, j in degrees if not same_crs(grids[i].georeference.crs, grids[j].georeference.crs)]
    return tuple(sorted(found))


def _in_degrees(grid: Grid) -> Bounds:
    """Return bounds in longitude and latitude, all longitudes for those across the antimeridian; NaN where no way leads there."""
    nowhere = (np.nan,) * 4
    if not grid.georeference.crs:
        return nowhere
    try:
        with rasterio.Env():  # which keeps PROJ from printing its own words
            west, south, east, north = transform_bounds(grid.georeference.crs, "EPSG:4326", *grid.bounds)
    except NO_WAY:
        return nowhere
    return (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)


def _pairs(boxes: np.ndarray) -> list[tuple[int, int]]:
    """List which bounds (n, 4) overlap, as pairs of places."""
    return [(n, int(m)) for n, box in enumerate(boxes) for m in n + 1 + np.flatnonzero(_overlap(box, boxes[n + 1 :]))]


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which bounds (n, 4) share more than a millionth of its own side with a box (4,), bool (n,)."""
    least = 1e-6 * (box[2:] - box[:2])
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.asarray((shared > least).all(axis=1))
