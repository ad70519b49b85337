"""The files that a map consists of, on the scene's own grid: one cloud-optimised GeoTIFF a layer, and what lies beside.

    FILE.tif              the classes; colour table, category names
    FILE_<layer>.tif      the other layers (layers.py)
    FILE.qml  FILE_legend.png  FILE.json      style for QGIS, legend, STAC Item (sidecars.py)

    FILE.tif.aux.xml      names of the classes for GDAL and QGIS

All of them are whole before the first gets its name (publish.py). The rasters come from GDAL's COG driver, so they
are tiled, compressed and have overviews. Category names also go into band tags (CLASS_1, CLASS_2, ...).
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from mamol.data.dataset import ClassInfo, Georeference
from mamol.data.raster import Grid
from mamol.errors import MamolError, WriteFailed
from mamol.mapping.blocks import Arrays, Corner
from mamol.mapping.layers import Layer
from mamol.mapping.paths import MapPaths
from mamol.mapping.publish import STAGE, described, publish, refuse_taken
from mamol.mapping.sidecars import draw_legend, item_document, style_document

TILE_PX = 256


@dataclass(frozen=True)
class MapLayout:
    """Size and place of a map, its classes, the modalities behind its pattern bits, its layers and experts' names.

    `job` is the digest of what made it, which the STAC Item tells.
    """

    grid: Grid
    classes: Sequence[ClassInfo]
    modalities: Sequence[str]
    layers: Mapping[str, Layer]
    experts: Sequence[str] = ()
    job: str = ""


def write_map(
    paths: MapPaths, layout: MapLayout, blocks: Iterable[tuple[Corner, Arrays]], work: Path, overwrite: bool = False
) -> None:
    """Write all files of a map; `blocks` are (row, column) in the map and their layers, `work` the job's folder.

    Raises OutputExists and WriteFailed; then nothing stands under a final name that was not there before, unless a rename
    itself failed.
    """
    refuse_taken(paths.all(), work, overwrite)
    stage = work / STAGE
    try:
        stage.mkdir(parents=True, exist_ok=True)
        publish(_write(paths, layout, blocks, stage), work, overwrite)
    except OSError as error:
        if isinstance(error, MamolError):
            raise
        raise WriteFailed(f"could not write {paths.file}: {error.strerror or error}. No map was left.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write(paths: MapPaths, layout: MapLayout, blocks: Iterable[tuple[Corner, Arrays]], stage: Path) -> dict[Path, Path]:
    """Write every file whole into a folder, and return them by their final names in the order of `paths.all`."""
    plain, rasters = ({n: stage / f"{n}{end}" for n in paths.layers} for end in (".plain.tif", ".tif"))
    aux, style, legend, item = (stage / n for n in ("names.xml", "style.qml", "legend.png", "item.json"))
    with warnings.catch_warnings():
        # A scene without a place (a .mat file) gives a map without one; that is no news.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _fill(plain, layout, blocks)
        for name, layer in layout.layers.items():
            _cloud_optimise(plain[name], rasters[name], layer)
            plain[name].unlink()
        aux.write_text(_category_names(layout.classes), encoding="utf-8")
        style.write_text(style_document(layout.classes), encoding="utf-8")
        draw_legend(layout.classes, legend)
        tree = _item(paths, layout, rasters | {"legend": legend, "style": style})
        tree["properties"] |= described(layout.job, {paths.layers[n]: f for n, f in rasters.items()})
        item.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    return dict(zip(paths.all(), (*(rasters[n] for n in paths.layers), aux, style, legend, item), strict=True))


def _fill(plain: Mapping[str, Path], layout: MapLayout, blocks: Iterable[tuple[Corner, Arrays]]) -> None:
    """Write the blocks into uncompressed tiled rasters."""
    with ExitStack() as stack:
        rasters = {n: stack.enter_context(_create(f, layout, layout.layers[n])) for n, f in plain.items()}
        _describe(rasters, layout)
        for (row, column), arrays in blocks:
            for name, raster in rasters.items():
                height, width = arrays[name].shape[1:]
                raster.write(arrays[name], window=Window(column, row, width, height))


@contextmanager
def _create(path: Path, layout: MapLayout, layer: Layer) -> Iterator[rasterio.io.DatasetWriter]:
    g = layout.grid.georeference
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": layout.grid.height,
        "width": layout.grid.width,
        "count": layer.bands,
        "dtype": layer.dtype,
        "nodata": layer.nodata,
        "interleave": "band",
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "bigtiff": "if_safer",
    }
    if g.crs:
        profile["crs"] = rasterio.crs.CRS.from_wkt(g.crs)
    if g.crs or g.transform != Georeference().transform:  # a place without a CRS is a place all the same
        profile["transform"] = rasterio.Affine(*g.transform)
    with _told(path.parent), rasterio.open(path, "w", **profile) as raster:
        yield raster


def _describe(rasters: Mapping[str, rasterio.io.DatasetWriter], layout: MapLayout) -> None:
    names = [c.name for c in layout.classes]
    for key, raster in rasters.items():
        layer = layout.layers[key]
        if layer.bands == 1:
            raster.set_band_description(1, layer.describe)
        else:
            for band, name in enumerate(names, 1):
                raster.set_band_description(band, name)
        if layer.scale != 1:
            raster.scales = (layer.scale,) * layer.bands
    if "class" in rasters:
        if rasters["class"].dtypes[0] == "uint8":
            rasters["class"].write_colormap(1, {0: (0, 0, 0, 0)} | {i: _rgba(c.colour) for i, c in enumerate(layout.classes, 1)})
        rasters["class"].update_tags(1, **{f"CLASS_{i}": n for i, n in enumerate(names, 1)})
    if "pattern" in rasters:
        rasters["pattern"].update_tags(1, **{f"BIT_{i}": m for i, m in enumerate(layout.modalities)})
    if "expert" in rasters:
        rasters["expert"].update_tags(1, **{f"EXPERT_{i}": e for i, e in enumerate(layout.experts, 1)})


def _cloud_optimise(plain: Path, out: Path, layer: Layer) -> None:
    """Write the final raster and read it back: GDAL may not tell when the disk is full."""
    options = {
        "driver": "COG",
        "compress": "deflate",
        "level": 1,
        "predictor": "yes" if layer.dtype == "float32" else "no",
        "overview_resampling": layer.overviews,
        "bigtiff": "if_safer",
        "statistics": "no",
    }
    with _told(out.parent):
        rasterio.shutil.copy(plain, out, **options)
        with rasterio.open(out) as raster:
            for band in raster.indexes:
                for _, window in raster.block_windows(band):
                    raster.read(band, window=window)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what GDAL raises while a map is written into WriteFailed."""
    try:
        yield
    except RasterioError as error:
        raise WriteFailed(
            f"a raster in {folder} could not be written whole ({error}); is the disk full? No map was left. Make room and run "
            "again with --resume."
        ) from error


def _item(paths: MapPaths, layout: MapLayout, partial: Mapping[str, Path]) -> dict[str, Any]:
    """Return the STAC Item: what the files say of themselves, under the names that they will have."""
    item = item_document(paths.file.stem, layout.grid, partial, layout.classes, paths.file.parent)
    for name, path in {**paths.layers, "legend": paths.legend, "style": paths.style}.items():
        item["assets"][name]["href"] = f"./{path.name}"
    return item


def _rgba(colour: str) -> tuple[int, int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16), 255


def _category_names(classes: Sequence[ClassInfo]) -> str:
    rows = "".join(f"<Category>{escape(name)}</Category>" for name in ["no data", *(c.name for c in classes)])
    return f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
