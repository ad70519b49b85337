"""The rasters that a map consists of: class, confidence and pattern, on the scene's own grid.

    FILE.tif              class, uint8: 0 no data, 1..K the classes; colour table, category names
    FILE_confidence.tif   probability of that class, float32, NaN where there is no data
    FILE_pattern.tif      which modalities were there: bit i (value 2^i) is modality i; 0 none

All three appear under their final names together, when the last window is written, or not at all. Category names go
into band tags (CLASS_1, CLASS_2, ...) and, for GDAL and QGIS, into FILE.tif.aux.xml.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from mamol.data.dataset import ClassInfo, Georeference
from mamol.errors import UsageError, WriteFailed
from mamol.files import atomic, must_not_exist

MOST_CLASSES = 255


@dataclass(frozen=True)
class MapPaths:
    """Where the rasters of one map are."""

    classes: Path
    confidence: Path
    pattern: Path

    @classmethod
    def beside(cls, file: Path) -> MapPaths:
        """Name the rasters after the class raster `file`; raises UsageError if it is not a .tif."""
        if file.suffix.lower() not in (".tif", ".tiff"):
            raise UsageError(f"a map is a GeoTIFF: --out must end in .tif; got '{file}'.")
        return cls(file, file.with_name(f"{file.stem}_confidence.tif"), file.with_name(f"{file.stem}_pattern.tif"))

    def all(self) -> tuple[Path, Path, Path]:
        """Return the three rasters."""
        return self.classes, self.confidence, self.pattern


@dataclass(frozen=True)
class MapLayout:
    """Size and place of a map, its classes and the modalities behind its pattern bits."""

    height: int
    width: int
    georeference: Georeference
    classes: Sequence[ClassInfo]
    modalities: Sequence[str]


class MapWriter:
    """Writes windows of a map; use as a context manager. Raises OutputExists and WriteFailed."""

    def __init__(self, paths: MapPaths, layout: MapLayout, overwrite: bool = False) -> None:
        if len(layout.classes) > MOST_CLASSES:
            raise UsageError(f"a class raster holds at most {MOST_CLASSES} classes; the model has {len(layout.classes)}.")
        self.paths, self.layout, self.overwrite = paths, layout, overwrite
        self.stack = ExitStack()

    def __enter__(self) -> MapWriter:
        p = self.paths
        for path in p.all():
            must_not_exist(path, self.overwrite)
        with ExitStack() as stack:  # a failure in here leaves through it, so that nothing stays behind
            aux = stack.enter_context(atomic(p.classes.with_name(p.classes.name + ".aux.xml")))
            # All names first, then all rasters: every raster is closed before any of them gets its name.
            partial = [stack.enter_context(atomic(path)) for path in p.all()]
            aux.write_text(_category_names(self.layout.classes), encoding="utf-8")
            pattern_type = "uint8" if len(self.layout.modalities) <= 8 else "uint32"
            kinds = (("uint8", 0.0), ("float32", float("nan")), (pattern_type, 0.0))
            rasters = [stack.enter_context(_create(f, self.layout, *kind)) for f, kind in zip(partial, kinds, strict=True)]
            self.classes, self.confidence, self.pattern = rasters
            self._describe()
            self.stack = stack.pop_all()
        return self

    def _describe(self) -> None:
        colours = {i: _rgba(c.colour) for i, c in enumerate(self.layout.classes, 1)}
        self.classes.write_colormap(1, {0: (0, 0, 0, 0)} | colours)
        self.classes.update_tags(1, **{f"CLASS_{i}": c.name for i, c in enumerate(self.layout.classes, 1)})
        self.classes.set_band_description(1, "class")
        self.confidence.set_band_description(1, "probability of the class")
        self.pattern.update_tags(1, **{f"BIT_{i}": m for i, m in enumerate(self.layout.modalities)})
        self.pattern.set_band_description(1, "available modalities, one bit each")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.__exit__(kind, error, trace)

    def write(self, row: int, column: int, probability: np.ndarray, pattern: np.ndarray) -> None:
        """Write one window whose corner is (row, column): probabilities (K, h, w) with NaN, pattern bits (h, w)."""
        seen = pattern > 0
        filled = np.where(seen, probability, 0)
        window = Window(column, row, pattern.shape[1], pattern.shape[0])
        classes = np.where(seen, filled.argmax(0) + 1, 0).astype("uint8")
        confidence = np.where(seen, filled.max(0), np.nan).astype("float32")
        self.classes.write(classes, 1, window=window)
        self.confidence.write(confidence, 1, window=window)
        self.pattern.write(pattern.astype(self.pattern.dtypes[0]), 1, window=window)


@contextmanager
def _create(path: Path, layout: MapLayout, dtype: str, nodata: float) -> Iterator[rasterio.io.DatasetWriter]:
    g = layout.georeference
    tiled = min(layout.height, layout.width) >= 256
    profile = {
        "driver": "GTiff",
        "height": layout.height,
        "width": layout.width,
        "count": 1,
        "dtype": dtype,
        "nodata": nodata,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    if g.crs:
        profile |= {"crs": rasterio.crs.CRS.from_wkt(g.crs), "transform": rasterio.Affine(*g.transform)}
    if tiled:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with warnings.catch_warnings():
        # A scene without a place (a .mat file) gives a map without one; that is no news.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        raster = rasterio.open(path, "w", **profile)
    with raster:
        yield raster
    _must_read_back(path)


def _must_read_back(path: Path) -> None:
    """Raise WriteFailed if a closed raster cannot be read: GDAL may not tell when the disk is full."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                for _, window in raster.block_windows(1):
                    raster.read(1, window=window)
    except RasterioError as error:
        raise WriteFailed(
            f"a raster in {path.parent} could not be written whole ({error}); is the disk full? No map was left."
        ) from error


def _rgba(colour: str) -> tuple[int, int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16), 255


def _category_names(classes: Sequence[ClassInfo]) -> str:
    rows = "".join(f"<Category>{escape(name)}</Category>" for name in ["no data", *(c.name for c in classes)])
    return f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
