"""Statistics of a LiDAR point cloud per raster cell, straight from an uncompressed LAS file.

Per cell: highest, mean and standard deviation of the height above the plot's ground (its 1st percentile), share of
points above 2 m, mean return intensity, share of first returns. Format: ASPRS LAS 1.0 - 1.4, point formats 0 to 3
(public header block: scale at byte 131, offset to points at 96); compressed LAZ is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mamol.errors import DataError
from mamol.files import must_exist

CELL_BANDS = 6
POINT = np.dtype([("xyz", "<i4", 3), ("intensity", "<u2"), ("returns", "u1")])


def cell_statistics(path: Path, bounds: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Return float32 (CELL_BANDS, H, W); cells without a point are 0. `bounds` is (west, south, east, north).

    Raises FileMissing, and DataError for a file that is not uncompressed LAS of point format 0 to 3.
    """
    xyz, intensity, first = read_las(path)
    west, south, east, north = bounds
    height, width = size
    column = np.floor((xyz[:, 0] - west) / (east - west) * width).astype(int)
    row = np.floor((north - xyz[:, 1]) / (north - south) * height).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    cell = (row * width + column)[inside]
    z = (xyz[:, 2] - np.percentile(xyz[:, 2], 1))[inside] if len(xyz) else xyz[:, 2]
    count = np.bincount(cell, minlength=height * width)
    some = np.maximum(count, 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.bincount(cell, weights=x, minlength=height * width) / some

    top = np.zeros(height * width)
    np.maximum.at(top, cell, z)
    average = mean(z)
    spread = np.sqrt(np.maximum(mean(z**2) - average**2, 0))
    bands = [top, average, spread, mean(z > 2.0), mean(intensity[inside]), mean(first[inside])]
    return np.stack(bands).reshape(CELL_BANDS, height, width).astype(np.float32)


def read_las(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coordinates (n, 3) in the file's CRS, intensity (n,) and whether a point is a first return, bool (n,)."""
    data = must_exist(path, "LAS file").read_bytes()
    if data[:4] != b"LASF" or len(data) < 227:
        raise DataError(f"{path} is not a LAS file (it starts with {data[:4]!r}).")
    kind, length = data[104], int(np.frombuffer(data, "<u2", 1, 105)[0])
    start, count = int(np.frombuffer(data, "<u4", 1, 96)[0]), int(np.frombuffer(data, "<u4", 1, 107)[0])
    if kind > 3 or length < POINT.itemsize:
        raise DataError(f"{path} has point format {kind}; uncompressed formats 0 to 3 can be read.")
    if len(data) < start + count * length:
        raise DataError(f"{path} is truncated: {count} points of {length} bytes do not fit into {len(data)} bytes.")
    scale, offset = np.frombuffer(data, "<f8", 3, 131), np.frombuffer(data, "<f8", 3, 155)
    records = np.frombuffer(data, np.uint8, count * length, start).reshape(count, length)
    points = np.ascontiguousarray(records[:, : POINT.itemsize]).view(POINT)[:, 0]
    return points["xyz"] * scale + offset, points["intensity"].astype(float), (points["returns"] & 7) == 1
