"""Labels of a tile from a raster or from polygons, as class integers on the tile's grid.

Raster values and polygon attributes are looked up in the scene's classes; values that are in neither the classes nor
`ignore` are one error that names all of them, not a silent hole. Polygons are reprojected to the tile's CRS and burnt in
file order, a later one over an earlier one; those without a class text are left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize

from mamol.data.dataset import UNLABELLED, ClassInfo, classes_from
from mamol.data.grid import covers_same, placed
from mamol.data.handles import is_there
from mamol.data.raster import Grid, is_mat, open_raster, read_grid, read_mat
from mamol.data.spec import ClassSpec, LabelSpec, SceneSpec, attribute_text
from mamol.data.vectors import only_polygons, onto_ground, read_layer
from mamol.errors import ConfigError, DataError, FileMissing, GridMismatch, UnknownName, some, unknown

VECTORS = {".gpkg", ".shp", ".geojson", ".json", ".fgb"}
TRAIN, TEST = 1, 3
NO_PART = (0.0,)
"""Values of a split raster that mean neither train nor test."""


def is_vector(path: Path) -> bool:
    """Tell whether a path is a file of polygons."""
    return path.suffix.lower() in VECTORS


def label_file(spec: SceneSpec, tile: str) -> Path:
    """Return where the labels of a tile lie; raises FileMissing if nothing is there."""
    text = spec.labels.path if spec.labels is not None else ""
    if not is_there(spec.place(text, tile)):
        raise FileMissing(f"labels not found: {spec.place(text, tile)}; check path = in [labels] of scene.toml.")
    return spec.path(text, tile)


def find_classes(spec: SceneSpec, tiles: tuple[str, ...]) -> tuple[tuple[ClassInfo, ...], dict[float | str, int]]:
    """Return the classes and which raster value or attribute text means which; both empty without labels.

    Raises ConfigError if a class has no number beside a raster, or two classes have one value.
    """
    if spec.labels is None:
        return classes_from([c.name for c in spec.classes]), {}
    vector = is_vector(spec.path(spec.labels.path, tiles[0]))
    if spec.classes:
        infos = classes_from([c.name for c in spec.classes])
        infos = tuple(ClassInfo(i.name, c.colour or i.colour) for i, c in zip(infos, spec.classes, strict=True))
        return infos, _declared(spec.classes, spec.labels.path, vector)
    found = sorted({v for t in tiles for v in _values(spec, spec.labels, t, vector)}, key=lambda v: (str(type(v)), v))
    names = [str(v) if vector else f"class {_digits(v)}" for v in found]
    return classes_from(names), {v: k for k, v in enumerate(found)}


def _declared(classes: tuple[ClassSpec, ...], path: str, vector: bool) -> dict[float | str, int]:
    """Return which raster value or attribute text means which of the classes that scene.toml lists."""
    found: dict[float | str, int] = {}
    for k, c in enumerate(classes):
        value = c.value if c.value is not None else c.name if vector else k + 1
        try:
            key = attribute_text(value) if vector else float(value)
        except ValueError:
            raise ConfigError(
                f"class '{c.name}' has value = '{value}', but {path} is a raster; give the number that the class has there."
            ) from None
        if key in found:
            raise ConfigError(
                f"the classes '{classes[found[key]].name}' and '{c.name}' both have the value {value} (without value = a class "
                f"has its {'name' if vector else 'place in the list, from 1'}); give each a value of its own."
            )
        found[key] = k
    return found


def read_labels(spec: SceneSpec, tile: str, grid: Grid, lookup: dict[float | str, int]) -> np.ndarray:
    """Return the labels of a tile, int16 (H, W) with UNLABELLED.

    Raises FileMissing, GridMismatch, DataError (NaN, unknown raster values) and UnknownName (unknown classes of polygons).
    """
    if spec.labels is None:
        return np.full(grid.shape, UNLABELLED, dtype=np.int16)
    path = label_file(spec, tile)
    if is_vector(path):
        return _burn(path, spec.labels, grid, lookup)
    values = _raster_values(path, spec.labels.key, grid, spec.labels.ignored_values())
    return _to_classes(values, spec.labels, lookup, path)


def read_official(spec: SceneSpec, tile: str, grid: Grid) -> np.ndarray | None:
    """Return the official split of a tile, int8 (H, W): 0 none, 1 train, 3 test; None if the scene names none."""
    labels = spec.labels
    if labels is None or not (labels.split or (labels.train and labels.test)):
        return None
    out = np.zeros(grid.shape, dtype=np.int8)
    if labels.split:
        values = _raster_values(spec.path(labels.split, tile), labels.key, grid, NO_PART)
        out[values == 1], out[values == 2] = TRAIN, TEST
        return out
    ignored = labels.ignored_values()
    for text, role in ((labels.train or "", TRAIN), (labels.test or "", TEST)):
        values = _raster_values(spec.path(text, tile), labels.key, grid, ignored)
        out[~np.isin(values, [*ignored, np.nan])] = role
    return out


def _raster_values(path: Path, key: str | None, grid: Grid, unlabelled: tuple[float, ...]) -> np.ndarray:
    """Return the raw values (H, W), the file's nodata as the first value of `unlabelled`; refuses NaN and another grid."""
    _refuse_other_grid(path, read_grid(path, key), grid)
    if is_mat(path):
        values = read_mat(path, key).astype(np.float64)
        values = values[..., 0] if values.ndim == 3 else values
        nodata = None
    else:
        with open_raster(path) as raster:
            values, nodata = raster.read(1).astype(np.float64), raster.nodata
    if nodata is not None and unlabelled and not np.isnan(nodata):
        values[values == nodata] = unlabelled[0]
    if np.isnan(values).any():
        raise DataError(f"the labels {path} hold {int(np.isnan(values).sum())} NaN; write unlabelled pixels as 0.")
    return values


def _refuse_other_grid(path: Path, own: Grid, grid: Grid) -> None:
    advice = "labels are never resampled: put them on the grid (or choose it with grid =)."
    if own.shape != grid.shape:
        raise GridMismatch(
            f"the labels {path} are {own.height} x {own.width} pixels, the grid is {grid.height} x {grid.width}; {advice}"
        )
    if not covers_same(own, grid):
        raise GridMismatch(f"the labels {path} lie elsewhere: {placed(own)}, the grid {placed(grid)}; {advice}")


def _to_classes(values: np.ndarray, spec: LabelSpec, lookup: dict[float | str, int], path: Path) -> np.ndarray:
    out = np.full(values.shape, UNLABELLED, dtype=np.int16)
    ignored = spec.ignored_values()
    strange = []
    for value in map(float, np.unique(values)):
        if value in lookup:
            out[values == value] = lookup[value]
        elif value not in ignored:
            strange.append(_digits(value))
    if strange:
        one = len(strange) == 1
        raise DataError(
            f"the labels {path} hold the value{'' if one else 's'} {some(strange)}, which {'is' if one else 'are'} none of the "
            f"classes ({', '.join(_digits(v) for v in lookup if isinstance(v, float))}) and not in ignore = "
            f"[{', '.join(map(_digits, ignored))}]. List them in [[classes]], or in ignore = of [labels] to leave them out."
        )
    return out


def _digits(value: float | str) -> str:
    """Return a raster value with all of its digits: codes of crops have ten and more."""
    return attribute_text(value) or "nan"


def _values(spec: SceneSpec, labels: LabelSpec, tile: str, vector: bool) -> set[float | str]:
    path = label_file(spec, tile)
    if vector:
        return {text for text in _polygons(path, labels)[1] if text and text not in labels.ignored_texts()}
    if is_mat(path):
        found = np.unique(read_mat(path, labels.key))
    else:
        with open_raster(path) as raster:
            found = np.unique(raster.read(1))
            found = found[found != raster.nodata] if raster.nodata is not None else found
    return {float(v) for v in found if not np.isnan(v) and float(v) not in labels.ignored_values()}


def _polygons(path: Path, spec: LabelSpec) -> tuple[np.ndarray, list[str], str]:
    """Return shapes, the class text of each ("" for none), and the file's CRS."""
    layer = read_layer(path, spec.layer, "layer = in [labels]")
    if spec.field is None:
        raise ConfigError(f"labels from polygons need field = in scene.toml; {path.name} has {', '.join(layer.columns)}.")
    if spec.field not in layer.columns:
        raise unknown(f"field of {path.name}", spec.field, layer.columns)
    if len(layer.shapes) and shapely.is_missing(layer.shapes).all():
        raise DataError(
            f"{path} holds no shapes, only a table of {', '.join(layer.columns)}; name its layer of polygons with layer = in "
            "[labels], or give another file."
        )
    values = layer.columns[spec.field]
    if lists := [v for v in values if isinstance(v, np.ndarray)]:
        raise DataError(
            f"field '{spec.field}' of {path} holds lists, such as {lists[0].tolist()}; a class is one text or number. "
            "Write it to a field of its own, and name that with field = in [labels]."
        )
    return layer.shapes, [attribute_text(v) for v in values], layer.crs


def _burn(path: Path, spec: LabelSpec, grid: Grid, lookup: dict[float | str, int]) -> np.ndarray:
    shapes, names, crs = _polygons(path, spec)
    ignored = spec.ignored_texts()
    seen = [(s, n) for s, n in zip(shapes, names, strict=True) if s is not None and not s.is_empty and n != ""]
    if strange := sorted({n for _, n in seen} - ignored - set(map(str, lookup))):
        raise _undeclared(strange, spec, path, [str(k) for k in lookup])
    wanted = [(s, n) for s, n in seen if n not in ignored]
    given = np.array([s for s, _ in wanted], dtype=object)
    there = only_polygons(onto_ground(given, crs, grid, str(path)), given)
    pairs = [(shape, lookup[name]) for shape, (_, name) in zip(there, wanted, strict=True) if not shape.is_empty]
    if not pairs:
        return np.full(grid.shape, UNLABELLED, dtype=np.int16)
    transform = rasterio.Affine(*grid.georeference.transform)
    return rasterize(pairs, grid.shape, fill=UNLABELLED, transform=transform, all_touched=spec.all_touched, dtype="int16")


def _undeclared(names: list[str], spec: LabelSpec, path: Path, known: list[str]) -> UnknownName:
    """Build the error for classes of polygons that scene.toml does not list."""
    where = f"in field '{spec.field}' of {path.name}"
    left_out = some([json.dumps(n, ensure_ascii=False) for n in names])
    advice = f"List them in [[classes]], or leave their polygons out with ignore = [{left_out}] in [labels]."
    if len(names) == 1:
        return unknown(f"class {where}", names[0], known, advice)
    return UnknownName(f"unknown classes {where}: {some([repr(n) for n in names])}; known: {', '.join(sorted(known))}. {advice}")
