"""IDTReeS 2020: tree species from NEON airborne hyperspectral, LiDAR and RGB, 85 georeferenced plots of 20 m.

Modalities on the 1 m grid of the hyperspectral image: `hsi` 369 bands of reflectance; `lidar` canopy height and
statistics of the point cloud per cell (points.py says which); `rgb` mean and standard deviation of the 0.1 m pixels in
each cell. Labels are crown polygons that carry a taxon, burnt at 1 m: a polygon counts where more than half of it lies
in the plot, a pixel under two crowns is left out, and a class needs 20 trees and 5 plots. Plots that share a tree form
one group. Data CC-BY-4.0; cite Graves & Marconi 2020 (Zenodo 3934932) and Graves et al. 2023 (PeerJ 11:e16578).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import rasterio
from rasterio.features import rasterize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from shapely.geometry import box

from mamol.data.dataset import UNLABELLED, Georeference, Scene, Tile, classes_from
from mamol.data.real.points import CELL_BANDS, cell_statistics
from mamol.errors import FileMissing
from mamol.files import must_exist, sha256_file
from mamol.modality import Modality

HSI_BANDS = 369
MODALITIES = (
    Modality("hsi", HSI_BANDS, "grid", 1.0, "reflectance"),
    Modality("lidar", 1 + CELL_BANDS, "grid", 1.0, "m"),
    Modality("rgb", 6, "grid", 0.1, "0-1"),
)
FEWEST_TREES, FEWEST_PLOTS = 20, 5
SPECIES = {
    "PIPA2": "Pinus palustris", "QURU": "Quercus rubra", "ACRU": "Acer rubrum", "QUAL": "Quercus alba",
    "QUCO2": "Quercus coccinea", "QULA2": "Quercus laevis", "AMLA": "Amelanchier laevis", "NYSY": "Nyssa sylvatica",
}  # fmt: skip


@dataclass
class _Crown:
    tree: str
    taxon: str
    shape: Any


@dataclass
class _Plot:
    name: str
    transform: Any
    crs: str
    bounds: tuple[float, float, float, float]
    size: tuple[int, int]
    crowns: list[_Crown]


def load_idtrees(folder: Path) -> Scene:
    """Read the 85 plots from `folder` (which holds train/); raises FileMissing."""
    train = must_exist(folder / "train", "IDTReeS folder 'train'")
    files = sorted((train / "RemoteSensing" / "HSI").glob("*.tif"), key=_natural)
    if not files:
        raise FileMissing(f"no hyperspectral plots in {train / 'RemoteSensing' / 'HSI'}.")
    crowns = _crowns(train)
    plots = [_plot(f, crowns) for f in files]
    taxa = _classes(plots)
    groups = _groups(plots, taxa)
    tiles = tuple(_tile(train, p, taxa, groups[i]) for i, p in enumerate(plots))
    classes = classes_from([SPECIES.get(t, t) for t in taxa])
    sums = folder / "SHA256SUMS"
    provenance = {
        "licence": "CC-BY-4.0",
        "citation": "Graves & Marconi 2020, Zenodo 3934932",
        "sha256": {"SHA256SUMS": sha256_file(sums)} if sums.exists() else {},
        "resampling": {"rgb": "mean and standard deviation of the 0.1 m pixels", "lidar": "statistics per 1 m cell"},
    }
    return Scene("idtrees", MODALITIES, classes, tiles, provenance)


def _natural(path: Path) -> tuple[str, int]:
    site, number = re.fullmatch(r"([A-Z]+)_(\d+)", path.stem).groups()  # type: ignore[union-attr]
    return site, int(number)


def _crowns(train: Path) -> list[_Crown]:
    field = pd.read_csv(train / "Field" / "train_data.csv").drop_duplicates("indvdID").set_index("indvdID")["taxonID"]
    out = []
    for site in ("MLBS", "OSBS"):
        frame = pyogrio.raw.read(train / "ITC" / f"train_{site}.shp")
        meta, _, wkb, columns = frame
        import shapely

        names = columns[list(meta["fields"]).index("indvdID")]
        shapes = shapely.from_wkb(wkb)
        out += [_Crown(n, field[n], s) for n, s in zip(names, shapes, strict=True) if n in field.index and s is not None]
    return out


def _plot(file: Path, crowns: list[_Crown]) -> _Plot:
    with rasterio.open(file) as raster:
        b = raster.bounds
        frame = box(*b)
        inside = [c for c in crowns if frame.intersects(c.shape) and frame.intersection(c.shape).area > 0.5 * c.shape.area]
        crs = raster.crs.to_wkt() if raster.crs else ""
        return _Plot(file.stem, raster.transform, crs, tuple(b), raster.shape, inside)


def _classes(plots: list[_Plot]) -> list[str]:
    """List the taxa with enough trees and plots, most labelled pixels first."""
    trees: defaultdict[str, set[str]] = defaultdict(set)
    where: defaultdict[str, set[str]] = defaultdict(set)
    pixels: defaultdict[str, float] = defaultdict(float)
    for p in plots:
        for c in p.crowns:
            trees[c.taxon].add(c.tree)
            where[c.taxon].add(p.name)
            pixels[c.taxon] += c.shape.area
    kept = [t for t in trees if len(trees[t]) >= FEWEST_TREES and len(where[t]) >= FEWEST_PLOTS]
    return sorted(kept, key=lambda t: -pixels[t])


def _groups(plots: list[_Plot], taxa: list[str]) -> list[str]:
    """Join plots that share a tree of the classes."""
    seen: dict[str, int] = {}
    links = []
    for i, p in enumerate(plots):
        for c in p.crowns:
            if c.taxon in taxa:
                links.append((i, seen.setdefault(c.tree, i)))
    rows, columns = np.array(links).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(plots), len(plots)))
    _, label = connected_components(graph, directed=False)
    return [f"group-{g:02d}" for g in label]


def _burn(plot: _Plot, taxa: list[str]) -> np.ndarray:
    """Return labels (H, W): the class of the one crown over a pixel's centre, else UNLABELLED."""
    # The count goes over every crown with a taxon: a neighbour of another species also makes a pixel ambiguous.
    labels = np.full(plot.size, UNLABELLED, dtype=np.int16)
    count = np.zeros(plot.size, dtype=np.int16)
    for c in plot.crowns:
        mask = rasterize([(c.shape, 1)], out_shape=plot.size, transform=plot.transform, fill=0, dtype="uint8") > 0
        count += mask
        if c.taxon in taxa:
            labels[mask] = taxa.index(c.taxon)
        else:
            labels[mask] = UNLABELLED
    labels[count > 1] = UNLABELLED
    return labels


def _tile(train: Path, plot: _Plot, taxa: list[str], group: str) -> Tile:
    sensing = train / "RemoteSensing"
    with rasterio.open(sensing / "HSI" / f"{plot.name}.tif") as raster:
        hsi = raster.read().astype(np.float32) / 10_000
    seen_hsi = (hsi > 0).any(axis=0)
    with rasterio.open(sensing / "CHM" / f"{plot.name}.tif") as raster:
        height = raster.read(1, masked=True)
    cells = cell_statistics(sensing / "LAS" / f"{plot.name}.las", plot.bounds, plot.size)
    seen_lidar = ~np.ma.getmaskarray(height) & np.isfinite(height.filled(np.nan))
    lidar = np.concatenate([height.filled(0)[None].astype(np.float32), cells])
    with rasterio.open(sensing / "RGB" / f"{plot.name}.tif") as raster:
        photo = raster.read(masked=True)
    rgb, seen_rgb = _mean_and_deviation(photo, plot.size)
    values = {"hsi": hsi, "lidar": lidar, "rgb": rgb}
    available = {"hsi": seen_hsi, "lidar": seen_lidar, "rgb": seen_rgb}
    values = {m: np.where(available[m], v, 0).astype(np.float32) for m, v in values.items()}
    return Tile(plot.name, values, available, _burn(plot, taxa), group, Georeference(plot.crs, tuple(plot.transform)[:6]))


def _mean_and_deviation(photo: np.ma.MaskedArray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the sub-pixels per cell, scaled to 0-1, (6, H, W), and where there are any."""
    bands, rows, columns = photo.shape
    height, width = size
    cells = photo.reshape(bands, height, rows // height, width, columns // width)
    mean, std = cells.mean(axis=(2, 4)), cells.std(axis=(2, 4))
    seen = np.logical_not(np.ma.getmaskarray(mean).any(axis=0))
    return np.concatenate([np.ma.filled(mean, 0), np.ma.filled(std, 0)]).astype(np.float32) / 255, seen
