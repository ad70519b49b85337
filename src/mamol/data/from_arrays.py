"""From numpy arrays to a data set.

    samples_from_arrays("points", {"s2": (n, C, T), "weather": (n, C)}, labels, ["maize", "wheat"], groups=fields)
    scene_from_arrays("valley", {"hsi": (C, H, W), "lidar": (1, H, W)}, labels, ["forest", "water"])

What a modality is follows from its axes; NaN and what a masked array masks are missing, of labels unlabelled. For units,
band names or several tiles build Scene and SampleSet themselves, or change what comes back with dataclasses.replace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mamol.data.checked import checked, filled
from mamol.data.dataset import UNLABELLED, Georeference, SampleSet, Scene, Tile, classes_from
from mamol.data.texts import decoded, encode_texts, without_bytes
from mamol.errors import DataError, ShapeMismatch, UsageError, unknown
from mamol.modality import Batch, Kind, Modality

KIND_OF: dict[int, Kind] = {4: "grid", 3: "series", 2: "vector"}


def samples_from_arrays(
    name: str,
    values: Mapping[str, Any],
    labels: Any = None,
    classes: Sequence[str] = (),
    groups: Any = None,
    available: Mapping[str, Any] | None = None,
    official: Any = None,
) -> SampleSet:
    """Build a sample set of n samples.

    `values`: (n, C, H, W) a grid, (n, C, T) a series, (n, C) a vector, or n texts. `labels`: (n,) numbers from 0, -1
    unlabelled, or class names, None or "" unlabelled; None: nothing is labelled. `classes`: their names in order; they may be
    left out beside labels that are names. `groups`: (n,) samples of one group stay on one side of the split; None: each is on
    its own. `available`: bool by modality, without the band axis; None: wherever there is a number. `official`: (n,) the
    published split, 0 none, 1 train, 3 test. Raises DataError, and UsageError for what cannot be meant.
    """
    _by_name(values)
    texts = {m: t for m, v in values.items() if (t := _texts(v, m)) is not None}
    arrays = {m: _encoded(texts[m]) if m in texts else _as_array(v, m) for m, v in values.items()}
    modalities = tuple(_modality(m, a, m in texts) for m, a in arrays.items())
    count = len(next(iter(arrays.values())))
    numbers, names = _labels(labels, (count,), classes)
    there = {m.name: _there(available, m.name, arrays[m.name], 1) for m in modalities}
    _known(available, arrays)
    own = np.arange(count) if groups is None else groups
    batch = Batch(arrays, there)
    made = SampleSet(name, modalities, classes_from(names), batch, numbers, own, official, {"source": "arrays"})
    return checked(made)


def scene_from_arrays(
    name: str,
    values: Mapping[str, Any],
    labels: Any = None,
    classes: Sequence[str] = (),
    available: Mapping[str, Any] | None = None,
    georeference: Georeference | None = None,
    official: Any = None,
) -> Scene:
    """Build a scene of one tile of H x W pixels.

    `values`: (C, H, W) by modality, all on one grid, or (H, W) of one band. `labels`, `classes`, `available` and `official` as in
    `samples_from_arrays`, but (H, W). `georeference`: where it lies, for maps that a GIS can place. Raises as
    `samples_from_arrays`.
    """
    _by_name(values)
    arrays = {m: a[None] if (a := _as_array(v, m)).ndim == 2 else a for m, v in values.items()}
    for m, a in arrays.items():
        if a.ndim != 3:
            raise ShapeMismatch(f"'{m}' has shape {a.shape}; in a scene it must be (C, H, W), or (H, W) of one band.")
    shape = next(iter(arrays.values())).shape[1:]
    numbers, names = _labels(labels, shape, classes)
    there = {m: _there(available, m, a, 0) for m, a in arrays.items()}
    _known(available, arrays)
    tile = Tile(name, arrays, there, numbers, name, georeference or Georeference(), official)
    modalities = tuple(Modality(m, a.shape[0]) for m, a in arrays.items())
    return checked(Scene(name, modalities, classes_from(names), (tile,), {"source": "arrays"}))


def _by_name(values: Any) -> None:
    if not isinstance(values, Mapping) or not values or not all(isinstance(m, str) for m in values):
        raise UsageError(f"values are a dictionary of arrays by modality's name, one at least; got {type(values).__name__}.")


def _as_array(values: Any, name: str) -> np.ndarray:
    """Return values as an array, a masked one as it is."""
    try:
        return np.asanyarray(values)
    except ValueError as error:  # lists of unequal length
        raise DataError(f"'{name}' is no array of numbers ({error}); pad what is short with NaN.") from error


def _encoded(texts: Sequence[str]) -> np.ndarray:
    """Return the bytes of texts, as many columns as the longest has."""
    return encode_texts(texts, max(1, *(len(text.encode("utf-8", "replace")) for text in texts)))


def _texts(values: Any, name: str) -> list[str] | None:
    """Return values as texts, what is missing as "", if that is what they are."""
    if isinstance(values, np.ndarray) and (values.ndim != 1 or values.dtype.kind not in "OUS"):
        return None
    if not isinstance(values, np.ndarray | pd.Series | list | tuple) or not all(np.ndim(v) == 0 for v in values):
        return None
    there = [None if pd.isna(v) else decoded(v, f"values of '{name}'") for v in filled(values, None)]
    if not all(isinstance(v, str) for v in there if v is not None) or all(v is None for v in there):
        return None
    return [str(v or "") for v in there]


def _modality(name: str, values: np.ndarray, text: bool) -> Modality:
    if values.ndim not in KIND_OF:
        raise ShapeMismatch(
            f"'{name}' has shape {values.shape}; it must be (n, C, H, W) for a grid, (n, C, T) for a series, (n, C) for a "
            "vector, or n texts."
        )
    kind: Kind = "text" if text else KIND_OF[values.ndim]
    return Modality(name, values.shape[1], kind, length=values.shape[2] if kind == "series" else 1)


def _there(available: Mapping[str, Any] | None, name: str, values: np.ndarray, bands: int) -> np.ndarray:
    """Return where a modality is available: as said, or everywhere; what is no number is taken out by `checked`."""
    if available is not None and name in available:
        return np.asanyarray(available[name])
    return np.ones(values.shape[:bands] + values.shape[bands + 1 :], dtype=bool)


def _known(available: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray]) -> None:
    for name in available or ():
        if name not in arrays:
            raise unknown("modality in `available`:", name, arrays)


def _labels(raw: Any, shape: tuple[int, ...], classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as numbers, and the class names; of labels that are names, the sorted names if no classes are given."""
    names = () if isinstance(classes, str) else tuple(classes)
    if isinstance(classes, str) or not all(isinstance(n, str) for n in names):
        raise UsageError(f"classes are a list of names, which are texts; got {classes!r}.")
    if raw is None:
        return np.full(shape, UNLABELLED), names
    labels = np.asanyarray(raw, dtype=None if isinstance(raw, np.ndarray) else object)
    if labels.dtype.kind in "OUS":
        labels = without_bytes(filled(labels, None), "labels")
        flat = labels.ravel()
        absent = np.array([bool(pd.isna(v)) or v == "" for v in flat], dtype=bool)
        if absent.all() or all(isinstance(v, str) for v in flat[~absent]):
            return _numbered(flat, absent, names, labels.shape)
        if not all(isinstance(v, int | float | np.number) for v in flat[~absent]):
            raise DataError("labels are numbers or names, not both; None is unlabelled.")
        numbers = np.where(absent, UNLABELLED, flat).astype(float).reshape(labels.shape)
        labels = numbers.astype(int) if (numbers == np.round(numbers)).all() else numbers
    if not names:
        raise DataError("labels that are numbers need `classes`: the names of the classes 0, 1, ... in order.")
    return labels, names


def _numbered(
    flat: np.ndarray, absent: np.ndarray, classes: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the numbers of labels that are names, and all names."""
    found = sorted({str(n) for n in flat[~absent]})
    names = classes or tuple(found)
    if strange := [n for n in found if n not in names]:
        raise unknown("class in the labels:", strange[0], names)
    number = {n: k for k, n in enumerate(names)}
    codes = [UNLABELLED if gone else number[n] for n, gone in zip(flat, absent, strict=True)]
    return np.array(codes, dtype=np.int16).reshape(shape), names
