"""Which tiles of a scene lie on the same ground, and how far a window of one reaches into what another shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rasterio.warp import transform_bounds
from scipy import ndimage

from mamol.data.dataset import Scene
from mamol.data.grid import Grid, missing_onto, same_crs


def within_reach(masks: list[np.ndarray], dataset: Scene, patch_px: int) -> list[np.ndarray]:
    """Tell which pixels lie within patch_px - 1 of a mask's, bool (H, W) per tile: in the tile, or on the ground of another.

    So far reaches a window that holds the pixel. Ground is compared where tiles have a CRS.
    """
    own = [_widened(m, patch_px) for m in masks]
    out = [m.copy() for m in own]
    grids = [Grid(t.labels.shape[0], t.labels.shape[1], t.georeference) for t in dataset.tiles]
    for pair in shared_ground(grids):
        for i, j in (pair, pair[::-1]):  # windows of tile i that reach ground of tile j, and the other way round
            there = (grids[i], grids[i].whole), (grids[j], grids[j].whole)
            out[j] |= missing_onto(own[i], *there) | _widened(missing_onto(masks[i], *there), patch_px)
    return out


def _widened(mask: np.ndarray, patch_px: int) -> np.ndarray:
    return np.asarray(ndimage.maximum_filter(mask.astype(np.uint8), size=2 * patch_px - 1, mode="constant") > 0)


def shared_ground(grids: Sequence[Grid]) -> list[tuple[int, int]]:
    """List the pairs (i, j), i < j, of grids with a CRS whose bounds share ground; those that only touch do not.

    Bounds are compared in the CRS of both, or in longitude and latitude where that differs: a few pairs too many then.
    """
    there = [i for i, g in enumerate(grids) if g.georeference.crs]
    if len(there) < 2:
        return []
    boxes = np.array([transform_bounds(grids[i].georeference.crs, "EPSG:4326", *grids[i].bounds) for i in there])
    boxes[boxes[:, 0] > boxes[:, 2], ::2] = -180, 180  # across the antimeridian
    found = []
    for n, box in enumerate(boxes):
        for m in n + 1 + np.flatnonzero(_overlap(box, boxes[n + 1 :])):
            i, j = there[n], there[m]
            crs = [grids[k].georeference.crs for k in (i, j)]
            if not same_crs(*crs) or _overlap(np.array(grids[i].bounds), np.array([grids[j].bounds]))[0]:
                found.append((i, j))
    return found


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which bounds (n, 4) share more than a millionth of its own side with a box (4,), bool (n,)."""
    least = 1e-6 * (box[2:] - box[:2])
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.asarray((shared > least).all(axis=1))
