"""Map an xarray Dataset chunk by chunk, lazily, inside somebody else's dask pipeline (odc-stac, rioxarray, zarr).

    variables ─► one float32 array (C, y, x), NaN where missing ─► chunks with a halo ─► predict ─► class, confidence

The halo is one window on every side, cut off at the scene's border. A pixel is covered by the same windows as in a scene
read whole (mapping/predict) only if chunks begin on multiples of the model's stride: chunk borders are moved to the
nearest such multiple, and chunks smaller than the halo are merged. The map then does not depend on the chunks. Prefer
512 pixels and more: a chunk costs (1 + 2 window / chunk)^2 times its area. One is predicted at a time in each process.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mamol.data.values import is_measured
from mamol.errors import AllModalitiesMissing, DataError, FileMissing, ShapeMismatch, UsageError, unknown
from mamol.mapping.lazy_grid import coordinates_of, crs_holder, on_one_grid
from mamol.modality import Batch, Predictor
from mamol.model.checkpoint import load_run, read_run
from mamol.model.predictor import MamolPredictor

if TYPE_CHECKING:
    import xarray

LAYERS = {"class": "class, 0 no data", "confidence": "probability of the class"}
MEMORY_CHUNK_PX = 512  # side of the chunks if no variable has any
MISSING_ATTRIBUTES = ("_FillValue", "missing_value", "nodata")
_ONE_AT_A_TIME = threading.RLock()  # torch has threads of its own, and a stranger's model need not bear ours


def map_dataset(
    ds: xarray.Dataset | Mapping[str, xarray.DataArray],
    model: str | Path | Predictor,
    modalities: Mapping[str, str] | None = None,
    halo_px: int | None = None,
    layers: str | Sequence[str] = ("class", "confidence"),
) -> xarray.Dataset | xarray.DataArray:
    """Return the map of a Dataset, computed when asked for: a Dataset of `layers`, or a DataArray if `layers` is a string.

    `ds`: one variable per modality, (y, x) or (BAND, y, x) with any name for the bands, all on one grid; a dict of
    DataArrays will do. Missing is NaN, infinity or what the attribute _FillValue, missing_value or nodata names, in any
    band; a modality that is not there is absent. Values are taken as they are: scale_factor is not applied. `modalities`
    maps names of variables to the model's modalities; variables that it does not name are left out. `model`: a run
    folder (which every worker must see; each process loads it once) or a Predictor, which goes to each worker once.
    `halo_px`: how far around a chunk the model looks, pixels; None is a run's window. A Predictor that is not a run's
    needs it, 0 if each pixel stands alone; chunks then begin on its multiples.

    Layers, (y, x) with the coordinates and CRS of `ds`: "class" uint8 (uint16 over 255 classes), 0 no data, 1..K the
    classes, named in flag_meanings; "confidence" float32, NaN without data. A chunk without any value is no error.
    Raises FileMissing (also without xarray and dask), UsageError, UnknownName, ShapeMismatch for other bands or
    dimensions, DataError, GridMismatch, and AllModalitiesMissing for no variable in common.
    """
    for package in ("xarray", "dask"):
        if importlib.util.find_spec(package) is None:
            raise FileMissing(f"mapping a Dataset needs the package {package}: pip install 'mamol[xarray]'.")
    import xarray

    names = (layers,) if isinstance(layers, str) else tuple(layers)
    for name in set(names) - set(LAYERS):
        raise unknown("layer", name, LAYERS)
    known = _known(model, halo_px)
    variables, crs = _variables(ds)
    arrays = {m: _laid_out(m, a, known) for m, a in _named(variables, known, modalities).items()}
    on_one_grid(arrays, crs)
    mapped, coordinates = _mapped(arrays, known), coordinates_of(arrays, crs)
    done = {n: _layer(n, mapped, known, coordinates) for n in names}
    if crs_name := crs_holder(next(iter(arrays.values())), crs)[0]:
        for layer in done.values():
            layer.encoding["grid_mapping"] = crs_name
    return done[layers] if isinstance(layers, str) else xarray.Dataset(done)


@dataclass(frozen=True)
class _Known:
    """A model as far as the graph needs it; `source` is a Predictor or what loads one, `bands` empty for a stranger's."""

    source: Predictor | partial[MamolPredictor]
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    bands: Mapping[str, int]
    halo: int
    stride: int


@dataclass(frozen=True)
class _Plan:
    """What a task needs beside its chunk: `parts` are (modality, first band, last band + 1), `last` the last chunk's index."""

    parts: tuple[tuple[str, int, int], ...]
    classes: int
    halo: int
    last: tuple[int, int]


@lru_cache(maxsize=2)
def _loaded(folder: str, changed_ns: int) -> MamolPredictor:
    del changed_ns  # part of the cache's key: a run trained anew is loaded anew
    return load_run(folder)


def _known(model: str | Path | Predictor, halo_px: int | None) -> _Known:
    """Describe a model; raises UsageError for a run of samples, and for a halo that is missing or does not fit."""
    if halo_px is not None and halo_px < 0:
        raise UsageError(f"halo_px is {halo_px}; it is a number of pixels, 0 or more.")
    if isinstance(model, (str, Path)):
        folder = Path(model).resolve()
        document = read_run(folder)
        if not document.is_scene:
            raise UsageError(f"{folder} classifies samples, not scenes: there is nothing to map with it.")
        source: Any = partial(_loaded, str(folder), (folder / "mamol.json").stat().st_mtime_ns)
        classes, stride, sensors = tuple(c.name for c in document.classes), None, document.modalities
        window = document.config.tokens.window_px
    elif isinstance(model, MamolPredictor):
        source, classes, stride, sensors = model, model.classes, model.stride_px, model.model.modalities
        window = model.model.config.tokens.window_px
    elif isinstance(model, Predictor):
        if halo_px is None:
            raise UsageError(f"how far {type(model).__name__} looks is not known: give halo_px, 0 if each pixel stands alone.")
        return _Known(model, tuple(model.modalities), tuple(model.classes), {}, halo_px, max(1, halo_px))
    else:
        raise UsageError(f"model is a {type(model).__name__}; give a run folder or a Predictor (mamol.load_run).")
    step = max(1, window // 2) if stride is None else stride
    halo = -(-window // step) * step if halo_px is None else halo_px
    if halo % step:
        raise UsageError(f"halo_px {halo} is not a multiple of the model's stride, {step} pixels; leave it out for its window.")
    return _Known(source, tuple(m.name for m in sensors), classes, {m.name: m.bands for m in sensors}, halo, step)


def _variables(ds: Any) -> tuple[dict[str, xarray.DataArray], dict[Hashable, xarray.DataArray]]:
    """Return the variables by name and, apart from them, those that only hold a CRS."""
    import xarray

    if not isinstance(ds, Mapping) or not all(isinstance(a, xarray.DataArray) for a in ds.values()):
        raise UsageError(f"ds is a {type(ds).__name__}; give an xarray.Dataset or a dict of DataArrays, one per modality.")
    crs = {n: a for n, a in ds.items() if not a.dims and {"crs_wkt", "spatial_ref", "grid_mapping_name"} & a.attrs.keys()}
    return {str(n): a for n, a in ds.items() if n not in crs}, crs


def _named(
    variables: Mapping[str, xarray.DataArray], known: _Known, modalities: Mapping[str, str] | None
) -> dict[str, xarray.DataArray]:
    """Return the variables to use under the names of their modalities, in the model's order."""
    names = {v: v for v in variables} if modalities is None else dict(modalities)
    for variable, m in (modalities or {}).items():
        if variable not in variables:
            raise unknown("variable", variable, variables)
        if m not in known.modalities:
            raise unknown("modality", m, known.modalities)
        if list(names.values()).count(m) > 1:
            raise UsageError(f"two variables are mapped to '{m}'; stack them along one band dimension (xarray.concat).")
    if not set(names.values()) & set(known.modalities):
        raise AllModalitiesMissing(
            f"the dataset has {', '.join(variables) or 'no variables'}; the model can use {', '.join(known.modalities)}: none "
            "in common. Map names with modalities={variable: modality}."
        )
    for m in names.values():
        if m not in known.modalities:
            raise unknown("variable", m, known.modalities, "Leave it out of the dataset, or map names with modalities={...}.")
    return {m: variables[v] for m in known.modalities for v, named in names.items() if named == m}


def _laid_out(name: str, array: xarray.DataArray, known: _Known) -> xarray.DataArray:
    """Return a modality as (BAND, y, x), its bands those of the model."""
    rest = [d for d in array.dims if d not in ("y", "x")]
    is_time = any(d == "time" or (d in array.coords and array.coords[d].dtype.kind == "M") for d in rest)
    if not {"y", "x"} <= set(array.dims) or len(rest) > 1 or is_time or 0 in array.shape:
        raise ShapeMismatch(
            f"'{name}' has the dimensions {dict(array.sizes)}; expected (band, y, x) or (y, x). Choose a date (ds.isel(time=0)), "
            "stack bands that are variables (ds.to_array('band')), or rename (ds.rename(latitude='y', longitude='x'))."
        )
    if array.dtype.kind not in "fiub":
        raise DataError(f"'{name}' holds {array.dtype}; values must be numbers.")
    full = (array if rest else array.drop_vars("band", errors="ignore").expand_dims("band")).transpose(..., "y", "x")
    if full.shape[0] != known.bands.get(name, full.shape[0]):
        padded = " If a Dataset padded it with NaN to the bands of another sensor, give a dict of DataArrays."
        advice = padded if full.shape[0] > known.bands[name] else ""
        raise ShapeMismatch(f"'{name}' has {full.shape[0]} bands; the model was trained on {known.bands[name]}.{advice}")
    return full


def _chunks(length: int, given: Sequence[int], known: _Known) -> tuple[int, ...]:
    """Return chunks near the given ones: they begin on multiples of the stride, and none is smaller than the halo."""
    least, starts = max(known.halo, known.stride), [0]
    for border in np.cumsum(given)[:-1]:
        moved = round(int(border) / known.stride) * known.stride
        if moved - starts[-1] >= least and length - moved >= least:
            starts.append(moved)
    return tuple(int(n) for n in np.diff([*starts, length]))


def _mapped(arrays: Mapping[str, xarray.DataArray], known: _Known) -> Any:
    """Return the layers as one lazy array, float32 (2, y, x); the chunks follow the variable that has the most."""
    import dask
    import dask.array as da

    shape = next(iter(arrays.values())).shape[1:]
    given = [a.chunks[1:] for a in arrays.values() if a.chunks] or [da.core.normalize_chunks(MEMORY_CHUNK_PX, shape)]
    guide = max(given, key=lambda c: len(c[0]) * len(c[1]))
    rows, columns = (_chunks(n, c, known) for n, c in zip(shape, guide, strict=True))
    parts, cleaned, nothing = list[tuple[str, int, int]](), [], np.empty((0, 0, 0), np.float32)
    for m, a in arrays.items():
        first = parts[-1][2] if parts else 0
        parts.append((m, first, first + a.shape[0]))
        chunked = a.chunk({a.dims[0]: -1, "y": rows, "x": columns}).data
        cleaned.append(chunked.map_blocks(_cleaned, missing=_missing(m, a), dtype=np.float32, meta=nothing))
    stack = da.concatenate(cleaned, axis=0).rechunk({0: -1})
    # Along an axis of one chunk there is nothing beside it, and dask refuses a depth over the axis's length.
    depth = {0: 0, 1: known.halo * (len(rows) > 1), 2: known.halo * (len(columns) > 1)}
    around = da.overlap.overlap(stack, depth=depth, boundary="none", allow_rechunk=False)
    plan = _Plan(tuple(parts), len(known.classes), known.halo, (len(rows) - 1, len(columns) - 1))
    # As a task of its own a predictor is sent to a worker once; inside the others it would be sent with each of them.
    source = known.source if isinstance(known.source, partial) else dask.delayed(known.source, traverse=False)
    out = ((len(LAYERS),), rows, columns)
    return da.map_blocks(_predicted, around, source=source, plan=plan, chunks=out, dtype=np.float32, meta=nothing)


def _missing(name: str, array: xarray.DataArray) -> tuple[float, ...]:
    given = [v for k in MISSING_ATTRIBUTES for v in np.atleast_1d(array.attrs.get(k, ()))]
    try:
        return tuple(float(v) for v in given if v is not None)
    except (TypeError, ValueError):
        raise DataError(f"'{name}' says that {given} stands for missing ({', '.join(MISSING_ATTRIBUTES)}): no number.") from None


def _cleaned(block: np.ndarray, missing: tuple[float, ...]) -> np.ndarray:
    """Return values as float32, NaN where missing; compared as the type in which they came."""
    with np.errstate(over="ignore", invalid="ignore"):
        marks = np.asarray(missing, dtype=block.dtype if block.dtype.kind == "f" else np.float64)
        return np.where(np.isin(block, marks) | ~is_measured(block), np.float32(np.nan), block.astype(np.float32))


def _predicted(stack: np.ndarray, source: Any, plan: _Plan, block_id: tuple[int, ...]) -> np.ndarray:
    """Map one chunk with its halo, (C, h + halos, w + halos), to class and confidence (2, h, w)."""
    places = zip(block_id[1:], stack.shape[1:], plan.last, strict=True)
    rows, columns = (slice(plan.halo if i > 0 else 0, n - plan.halo if i < last else n) for i, n, last in places)
    values = {m: stack[None, first:stop] for m, first, stop in plan.parts}
    batch = Batch(values, {m: np.isfinite(v).all(axis=1) for m, v in values.items()})
    seen = np.any([a[0, rows, columns] for a in batch.available.values()], axis=0)
    if not seen.any():
        return np.stack([np.zeros(seen.shape, np.float32), np.full(seen.shape, np.nan, np.float32)])
    with _ONE_AT_A_TIME:
        probability = (source() if isinstance(source, partial) else source).predict(batch)[0]
    if probability.shape != (plan.classes, *stack.shape[1:]):
        raise ShapeMismatch(f"the model gave {probability.shape} for a grid; expected {(plan.classes, *stack.shape[1:])}.")
    inside = np.where(seen, probability[:, rows, columns], np.nan)
    return np.stack([np.where(np.isnan(inside).any(0), 0, inside.argmax(0) + 1), inside.max(0)]).astype(np.float32)


def _layer(name: str, mapped: Any, known: _Known, coordinates: Mapping[Hashable, Any]) -> xarray.DataArray:
    """Return one layer of the mapped array with its coordinates, and attributes as CF names them."""
    from xarray import DataArray

    attributes: dict[str, Any] = {"long_name": LAYERS[name]}
    kind: Any = np.float32
    if name == "class":
        kind = np.uint8 if len(known.classes) <= 255 else np.uint16
        attributes |= {"_FillValue": kind(0), "flag_values": np.arange(1, len(known.classes) + 1, dtype=kind)}
        attributes["flag_meanings"] = " ".join(re.sub(r"[^\w.+@-]+", "_", c) for c in known.classes)
    data = mapped[list(LAYERS).index(name)].astype(kind)
    return DataArray(data, dims=("y", "x"), coords=coordinates, name=name, attrs=attributes)
