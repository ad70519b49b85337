"""Writes rectangles as polygons, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import shapely

PIXEL_M = 10.0


def write(path: Path, boxes: list[tuple[str, tuple[float, float, float, float]]], corner: tuple[float, float], crs: str) -> None:
    """Write boxes (name, (top, left, bottom, right) in pixels from `corner`) with the field `species`."""
    west, north = corner
    shapes = [
        shapely.box(west + left * PIXEL_M, north - bottom * PIXEL_M, west + right * PIXEL_M, north - top * PIXEL_M)
        for _, (top, left, bottom, right) in boxes
    ]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes)),
        [np.array([name for name, _ in boxes], dtype=object)],
        ["species"],
        geometry_type="Polygon",
        crs=crs,
    )
