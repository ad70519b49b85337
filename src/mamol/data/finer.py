"""Bring whole blocks of finer pixels to one pixel each, where there is no CRS by which GDAL could warp them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from mamol.data.spec import Source
from mamol.errors import ConfigError

PIXELS = (2, 4)
"""Axes of blocks (C, h, k, w, k) along which the pixels of one block lie."""


def reduce_blocks(cube: np.ndarray, k: int, source: Source) -> np.ndarray:
    """Bring a cube (C, k h, k w) to (C, h, w) by the resampling of its source, NaN left out; "mean_std" gives (2 C, h, w).

    Raises ConfigError for a resampling that needs more than the pixels of a block.
    """
    method = source.resampling or "average"
    if method not in STATISTICS:
        raise ConfigError(
            f"resampling = '{method}' works by CRS, but {source.place} or the grid has none: each {k} x {k} pixels of the file "
            f"become one. Choose one of {', '.join(STATISTICS)}, or give both a CRS."
        )
    blocks = cube.reshape(cube.shape[0], cube.shape[1] // k, k, cube.shape[2] // k, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block without any value is NaN, which is what we want
        return STATISTICS[method](blocks)


def _mean_and_deviation(blocks: np.ndarray) -> np.ndarray:
    return np.concatenate([np.nanmean(blocks, axis=PIXELS), np.nanstd(blocks, axis=PIXELS)])


def _middle(blocks: np.ndarray) -> np.ndarray:
    k = blocks.shape[2]
    return blocks[:, :, k // 2, :, k // 2]


def _most_frequent(blocks: np.ndarray) -> np.ndarray:
    """Return the value that most pixels of a block hold, the smallest of several."""
    c, h, k, w, _ = blocks.shape
    ordered = np.sort(blocks.transpose(2, 4, 0, 1, 3).reshape(k * k, c, h, w), axis=0)  # NaN comes last
    found = ordered[0].copy()
    run = longest = np.ones(found.shape, dtype=int)
    for before, value in pairwise(ordered):
        run = np.where(value == before, run + 1, 1)
        np.copyto(found, value, where=run > longest)
        longest = np.maximum(run, longest)
    return found


STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "average": lambda blocks: np.nanmean(blocks, axis=PIXELS),
    "mean_std": _mean_and_deviation,
    "nearest": _middle,
    "mode": _most_frequent,
    "min": lambda blocks: np.nanmin(blocks, axis=PIXELS),
    "max": lambda blocks: np.nanmax(blocks, axis=PIXELS),
    "med": lambda blocks: np.nanmedian(blocks, axis=PIXELS),
}
