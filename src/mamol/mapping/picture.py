"""A picture of maps side by side, with the classes' own colours and a legend: for people, not for measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mamol.data.dataset import ClassInfo
from mamol.data.raster import open_raster
from mamol.files import atomic


def read_classes(path: Path) -> np.ndarray:
    """Read a class raster written by a map: uint8 (H, W), 0 no data, 1..K the classes."""
    with open_raster(path) as raster:
        return raster.read(1)


def draw_maps(maps: Mapping[str, np.ndarray], classes: Sequence[ClassInfo], out: Path) -> Path:
    """Draw class rasters (H, W), 0 no data and 1..K the classes, next to each other as a PNG; return its path."""
    colours = ListedColormap(["#ffffff", *(c.colour for c in classes)])
    figure = Figure(figsize=(3.4 * len(maps) + 1.6, 3.9), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        axis.imshow(values, cmap=colours, vmin=-0.5, vmax=len(classes) + 0.5, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    patches = [Patch(facecolor=c.colour, edgecolor="#555555", linewidth=0.5, label=c.name) for c in classes]
    figure.legend(handles=patches, loc="outside right center", fontsize=8, frameon=False)
    with atomic(out) as partial:
        figure.savefig(partial, dpi=130, format="png")
    return out
