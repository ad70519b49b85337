"""Data sets built in memory, seen to as the readers see to files: every fault at once, before any work.

values         float32 in the shape of the modality; what is NaN, infinite or too large (data/values.py) is not available
availability   bool in that shape without the band axis
labels         whole numbers: -1, or 0 to K - 1
groups         text; a sample without one is a group of its own

What a masked array masks is missing: a value that is not available, no label, no group, no part of the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast, get_args

import numpy as np
import pandas as pd
from rasterio.crs import CRS
from rasterio.errors import CRSError

from mamol.data.dataset import UNLABELLED, ClassInfo, Dataset, Georeference, SampleSet, Scene, Tile
from mamol.data.split import TEST, TRAIN, UNUSED
from mamol.data.texts import decode_texts, decoded, without_bytes
from mamol.data.values import measured_only
from mamol.errors import DataError, MamolError, ShapeMismatch, UsageError, repeated, together
from mamol.modality import AXES, Batch, Kind, Modality

Data = TypeVar("Data", bound=Dataset)


def checked(dataset: Data) -> Data:
    """Return a data set as every other part takes it; raises DataError with all faults, UsageError for what is no data set."""
    if not isinstance(dataset, Scene | SampleSet):
        raise UsageError(
            f"a data set is a name of the catalogue, a path, a Scene or a SampleSet; got {type(dataset).__name__}. From arrays: "
            "mamol.scene_from_arrays and mamol.samples_from_arrays."
        )
    faults: list[DataError] = []
    _check_parts(dataset, faults)
    _raise(faults)
    out = _scene(dataset, faults) if isinstance(dataset, Scene) else _samples(dataset, faults)
    _raise(faults)
    return cast(Data, out)  # of the same type as it came


def _raise(faults: Sequence[DataError]) -> None:
    if faults:
        raise together(faults)


@contextmanager
def _gathered(faults: list[DataError]) -> Iterator[None]:
    try:
        yield
    except MamolError as error:
        faults.append(error if isinstance(error, DataError) else DataError(str(error)))


def _check_parts(dataset: Dataset, faults: list[DataError]) -> None:
    """Check what a data set says of itself: name, modalities, classes."""
    name, kinds = dataset.name, get_args(Kind)
    if not isinstance(name, str) or not name:
        faults.append(DataError(f"a data set needs a name, a text; got {name!r}."))
    for part, what, least in ((dataset.modalities, Modality, 1), (dataset.classes, ClassInfo, 0)):  # no labels need no classes
        if not isinstance(part, tuple | list) or len(part) < least or not all(isinstance(p, what) for p in part):
            faults.append(DataError(f"'{name}' needs a tuple of {what.__name__}; got {part!r}."))
            return
    for m in dataset.modalities:
        if m.kind not in kinds or (isinstance(dataset, Scene) and m.kind != "grid"):
            may = "grid, in a scene" if isinstance(dataset, Scene) else ", ".join(kinds)
            faults.append(DataError(f"modality '{m.name}' is of kind {m.kind!r}; it may be {may}."))
    for c in dataset.classes:
        if not isinstance(c.name, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", str(c.colour)):
            faults.append(DataError(f"a class has a name and a colour '#rrggbb'; got {c.name!r} and {c.colour!r}."))
    for parts, names in (("modalities", [m.name for m in dataset.modalities]), ("classes", [c.name for c in dataset.classes])):
        faults += [DataError(f"'{name}' has two {parts} of the name {n!r}; give each its own.") for n in repeated(names)]


def _scene(scene: Scene, faults: list[DataError]) -> Scene:
    if isinstance(scene.tiles, Tile) or not scene.tiles or not all(isinstance(t, Tile) for t in scene.tiles):
        raise DataError(f"'{scene.name}' needs a tuple of one Tile or more; got {type(scene.tiles).__name__}.")
    names = [str(t.name) for t in scene.tiles]
    faults += [DataError(f"'{scene.name}' has two tiles of the name {n!r}; give each its own.") for n in repeated(names)]
    tiles = tuple(_tile(tile, scene, faults) for tile in scene.tiles)
    return replace(scene, modalities=tuple(scene.modalities), classes=tuple(scene.classes), tiles=tiles)


def _tile(tile: Tile, scene: Scene, faults: list[DataError]) -> Tile:
    """Return a tile with all of the scene's modalities; one that it does not hold is nowhere available."""
    where, shape = f"tile '{tile.name}'", np.shape(tile.labels)
    if len(shape) != 2 or not np.size(tile.labels):
        faults.append(ShapeMismatch(f"{where}: labels have shape {shape}; they must be (H, W), a whole number a pixel."))
        return tile
    values: dict[str, np.ndarray] = {}
    available: dict[str, np.ndarray] = {}
    for m in scene.modalities:
        if m.name not in tile.values:
            values[m.name] = np.zeros((m.bands, *shape), dtype=np.float32)
            available[m.name] = np.zeros(shape, dtype=bool)
            continue
        with _gathered(faults):
            given = _values(tile.values[m.name], (m.bands, *shape), f"{where}: '{m.name}'")
            there = availability(
                tile.available.get(m.name, np.ones(shape, dtype=bool)), shape, f"{where}: availability of '{m.name}'"
            )
            there = _unmasked(tile.values[m.name], there, 0)
            values[m.name], available[m.name] = given, measured_only(given, there, m.name, where)
    _unknown({**tile.values, **tile.available}, scene.modalities, where, faults)
    labels, official = tile.labels, tile.official
    with _gathered(faults):
        labels = whole_labels(labels, len(scene.classes), f"{where}: labels")
    with _gathered(faults):
        official = None if official is None else _official(official, shape, f"{where}: official")
    place = tile.georeference
    with _gathered(faults):
        place = _georeference(place, where)
    group = tile.name if tile.group is None else tile.group
    with _gathered(faults):
        group = str(decoded(group, f"{where}: its groups"))
    return replace(tile, values=values, available=available, labels=labels, group=group, georeference=place, official=official)


def _georeference(place: Georeference, where: str) -> Georeference:
    """Return a georeference with its CRS as WKT; "EPSG:32632" and a rasterio CRS are understood, too."""
    try:
        a, b, c, d, e, f = (float(x) for x in tuple(place.transform)[:6])
    except (TypeError, ValueError, AttributeError):
        raise DataError(f"{where}: it needs a Georeference of a CRS and six numbers (a, b, c, d, e, f); got {place!r}.") from None
    try:
        wkt = CRS.from_user_input(place.crs).to_wkt() if place.crs else ""
    except (CRSError, ValueError) as error:
        raise DataError(f"{where}: {place.crs!r} is no CRS ({error}); give WKT, or a code such as 'EPSG:32632'.") from None
    said_so = isinstance(place.crs, str) and "[" in place.crs
    return replace(place, crs=place.crs if said_so else wkt, transform=(a, b, c, d, e, f))


def _samples(dataset: SampleSet, faults: list[DataError]) -> SampleSet:
    where, count = f"'{dataset.name}'", len(dataset.labels)
    modalities: list[Modality] = []
    values: dict[str, np.ndarray] = {}
    available: dict[str, np.ndarray] = {}
    for m in dataset.modalities:
        with _gathered(faults):
            if m.name not in dataset.samples.values:
                raise DataError(f"{where} has no values of '{m.name}'; give them, or leave the modality out.")
            raw = dataset.samples.values[m.name]
            if np.ndim(raw) != AXES[m.kind]:
                raise DataError(f"{where}: '{m.name}' has shape {np.shape(raw)}; a {m.kind} has {AXES[m.kind]} axes.")
            given = _values(raw, (count, m.bands, *np.shape(raw)[2:]), f"{where}: '{m.name}'")
            rest = given.shape[:1] + given.shape[2:]
            there = availability(dataset.samples.available[m.name], rest, f"{where}: availability of '{m.name}'")
            there = measured_only(given, _unmasked(raw, there, 1), m.name, where, 1)
            if m.kind == "text":
                there = there & says_something(np.where(there[:, None], given, 0), f"{where}: '{m.name}'")
            values[m.name], available[m.name] = given, there
            modalities.append(_with_length(m, given))
    _unknown({**dataset.samples.values, **dataset.samples.available}, dataset.modalities, where, faults)
    labels, groups, official = dataset.labels, dataset.groups, dataset.official
    with _gathered(faults):
        labels = sample_labels(labels, len(dataset.classes), f"{where}: labels")
    with _gathered(faults):
        groups = text_groups(groups, (count,), f"{where}: groups")
    with _gathered(faults):
        official = None if official is None else _official(official, (count,), f"{where}: official")
    _raise(faults)
    return replace(
        dataset,
        modalities=tuple(modalities),
        classes=tuple(dataset.classes),
        samples=Batch(values, available),
        labels=labels,
        groups=groups,
        official=official,
    )


def _with_length(modality: Modality, values: np.ndarray) -> Modality:
    """Return a series with the length of its values, which it need not have said."""
    if modality.kind != "series" or modality.length == values.shape[2]:
        return modality
    if modality.length != 1:
        raise ShapeMismatch(f"'{modality.name}' has {values.shape[2]} time steps, and says {modality.length}; which is right?")
    return replace(modality, length=values.shape[2])


def _unknown(given: Iterable[str], modalities: Sequence[Modality], where: str, faults: list[DataError]) -> None:
    known = [m.name for m in modalities]
    for name in (n for n in given if n not in known):
        faults.append(DataError(f"{where} holds '{name}', which is none of its modalities: {', '.join(known)}."))


def _values(raw: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    if np.shape(raw) != shape:
        raise ShapeMismatch(f"{where} has values of shape {np.shape(raw)}; expected {shape}.")
    return numbers(np.asarray(raw), where)


def availability(raw: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return availability as bool; raises ShapeMismatch, and DataError for what is neither True nor False, 1 nor 0."""
    mask = np.asarray(filled(raw, False))
    if mask.shape != shape:
        raise ShapeMismatch(f"{where} has shape {mask.shape}; it must be {shape}, the values' without the band axis.")
    if mask.dtype != bool and (mask.dtype.kind not in "iuf" or not np.isin(mask, (0, 1)).all()):
        held = f"; it holds {mask[~np.isin(mask, (0, 1))][0]:g}" if mask.dtype.kind in "iuf" else ""
        raise DataError(f"{where} is of type {mask.dtype}; it must be True where there is a value, and False elsewhere{held}.")
    return mask.astype(bool, copy=False)


def _unmasked(raw: Any, available: np.ndarray, bands: int) -> np.ndarray:
    """Return where a modality is available and, of a masked array as rasterio reads it, no band is masked."""
    return available & ~np.ma.getmaskarray(raw).any(axis=bands) if isinstance(raw, np.ma.MaskedArray) else available


def filled(raw: Any, instead: Any) -> Any:
    """Return a masked array with `instead` where it masks, of a type that holds it; anything else as it is."""
    return np.where(np.ma.getmaskarray(raw), instead, raw.data) if isinstance(raw, np.ma.MaskedArray) else raw


def says_something(values: np.ndarray, where: str) -> np.ndarray:
    """Return which texts (n, L) are not empty, bool (n,); raises DataError if one is not UTF-8."""
    try:
        decode_texts(values)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return np.asarray(values.any(axis=1))


def _official(raw: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    parts = np.asarray(filled(raw, UNUSED))
    if parts.shape != shape or not np.isin(parts, (UNUSED, TRAIN, TEST)).all():
        raise DataError(
            f"{where} must have shape {shape} and hold {UNUSED} (none), {TRAIN} (train) or {TEST} (test); in files, test is 2."
        )
    return parts.astype(np.int8)


def numbers(raw: np.ndarray, where: str) -> np.ndarray:
    """Return numbers as float32; raises DataError for what is none."""
    if raw.dtype.kind not in "buif":
        raise DataError(
            f"{where} is of type {raw.dtype}; it must hold numbers, a text its bytes (mamol.data.texts.encode_texts)."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and so missing
        return raw.astype(np.float32, copy=False)


def whole_labels(raw: Any, classes: int, where: str) -> np.ndarray:
    """Return labels as int16; raises DataError for what is no whole number from -1 to the last class."""
    if classes > np.iinfo(np.int16).max:
        raise DataError(f"{where}: {classes} classes are more than the {np.iinfo(np.int16).max} that labels can tell apart.")
    given = np.asanyarray(raw)
    if given.dtype.kind not in "iuf":
        raise DataError(f"{where} must be whole numbers, 0 to {classes - 1}; got {given.dtype}.")
    labels = np.asarray(filled(given, np.int64(UNLABELLED)))
    if labels.dtype.kind == "f":
        if np.isnan(labels).any():
            raise DataError(f"{where}: {int(np.isnan(labels).sum())} are NaN; write what is unlabelled as {UNLABELLED}.")
        if (labels != np.round(labels)).any():
            raise DataError(f"{where} must be whole numbers; got {labels[labels != np.round(labels)][0]}.")
    if labels.size and not UNLABELLED <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"{where} lie in {labels.min()}..{labels.max()}; with {classes} classes they must lie in "
            f"{UNLABELLED}..{classes - 1} ({UNLABELLED}: unlabelled)."
        )
    return labels.astype(np.int16)


def sample_labels(raw: Any, classes: int, where: str) -> np.ndarray:
    """Return the labels of samples as int16 (n,); raises as `whole_labels`, and ShapeMismatch."""
    if np.ndim(raw) != 1:
        raise ShapeMismatch(f"{where} have shape {np.shape(raw)}; they must be one whole number per sample, (n,).")
    return whole_labels(raw, classes, where)


def shaped(raw: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return what has one value per label, or another known shape; raises DataError for any other."""
    if raw.shape != shape:
        raise DataError(f"{where} has shape {raw.shape}; beside the labels and values it must have {shape}.")
    return raw


def text_groups(raw: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return the group of each sample as text, (n,); one that has none (null, NaN) is alone in its own."""
    raw = filled(raw, None)
    groups = shaped(np.asarray(raw, dtype=None if isinstance(raw, np.ndarray) else object), shape, where)
    groups = without_bytes(groups, where)
    given = zip(groups, pd.isna(groups), strict=True)
    return np.array([f"(no group) {i}" if absent else str(group) for i, (group, absent) in enumerate(given)], dtype=str)
