"""A sample set on disk: samples.toml and one table, samples.npz or samples.parquet; no pickle.

    name = "my points"
    classes = ["maize", "wheat"]
    [modalities.s2]
    kind = "series"          # grid (n, C, H, W), series (n, C, T), vector (n, C) or text (n, C)
    bands = 9                # of a text: how many bytes it may have
    band_names = ["B2", ...] # optional, one per band: for a backbone that knows bands by name

samples.npz holds values_<modality>, available_<modality> (optional; NaN means missing anyway), labels (integers from
0, -1 unlabelled; left out: all are unlabelled), groups (optional text; samples of one group stay on one side of a split)
and official (optional: the published split, 0 none, 1 train, 2 test). A text is its UTF-8 bytes, zeros to the end
(mamol.data.texts.encode_texts), as whole numbers or float.
samples.parquet holds one row per sample: the columns label, group and official, and a list column per modality, row-major
in the shape of one sample (and available_<modality> alike); a text is a column of strings, cut to `bands` bytes. An empty
text is not available, and a row without a group is a group of its own. Either takes label and labels, group and groups.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mamol.data.arrays import read_arrays
from mamol.data.checked import availability, checked, numbers, sample_labels, says_something, shaped, text_groups
from mamol.data.columns import find_columns
from mamol.data.dataset import UNLABELLED, SampleSet, class_names, classes_from
from mamol.data.faults import Place, find_faults
from mamol.data.split import TEST, TRAIN, UNUSED
from mamol.data.texts import encode_texts
from mamol.data.values import measured_only
from mamol.errors import ConfigError, DataError, FileMissing, missing, together
from mamol.files import atomic, lies_there, must_exist, read_text, sha256_file
from mamol.modality import AXES, Batch, Modality

ROLES = np.array([UNUSED, TRAIN, TEST], dtype=np.int8)
"""What 0, 1 and 2 of `official` mean."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleModality(_Part):
    """One modality in samples.toml."""

    kind: Literal["grid", "series", "vector", "text"]
    bands: int = Field(ge=1)
    band_names: tuple[str, ...] = ()
    unit: str = ""
    gsd_m: float | None = Field(None, gt=0)
    height: int = Field(1, ge=1)
    width: int = Field(1, ge=1)
    length: int = Field(1, ge=1)

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample; needed only for parquet."""
        return {
            "grid": (self.bands, self.height, self.width),
            "series": (self.bands, self.length),
            "vector": (self.bands,),
            "text": (self.bands,),
        }[self.kind]


class SamplesSpec(_Part):
    """samples.toml."""

    name: str
    classes: tuple[str, ...] = Field(min_length=1)
    modalities: dict[str, SampleModality] = Field(min_length=1)


def load_samples(folder: Path) -> SampleSet:
    """Read a sample set; raises FileMissing, ConfigError and UnknownName (every fault at once), and DataError."""
    spec = _read_spec(must_exist(folder / "samples.toml", "sample set description"))
    table, parquet = folder / "samples.npz", folder / "samples.parquet"
    if lies_there(table):
        arrays = _from_npz(table, spec)
    elif lies_there(parquet):
        arrays, table = _from_parquet(parquet, spec), parquet
    else:
        raise FileMissing(f"{folder} has neither samples.npz nor samples.parquet beside samples.toml.")
    first = arrays[f"values_{next(iter(spec.modalities))}"]
    labels = _labels(arrays.get("labels", np.full(first.shape[:1], UNLABELLED)), spec, table)
    modalities: list[Modality] = []
    values: dict[str, np.ndarray] = {}
    available: dict[str, np.ndarray] = {}
    for name, m in spec.modalities.items():
        value = numbers(arrays[f"values_{name}"], f"{table}: values_{name}")
        if value.ndim != AXES[m.kind] or value.shape[1] != m.bands or len(value) != len(labels):
            raise DataError(
                f"{table}: values_{name} has shape {value.shape}; a {m.kind} of {m.bands} bands for {len(labels)} labels "
                f"needs ({len(labels)}, {m.bands}{', ...' if AXES[m.kind] > 2 else ''})."
            )
        there = np.ones(value.shape[:1] + value.shape[2:], dtype=bool)
        if (said := arrays.get(f"available_{name}")) is not None:
            there = availability(said, there.shape, f"{table}: available_{name}")
        there = measured_only(value, there, name, str(table), 1)
        if m.kind == "text":
            there = there & says_something(np.where(there[:, None], value, 0), f"{table}: values_{name}")
        values[name] = np.where(np.expand_dims(there, 1), value, 0).astype(np.float32)
        available[name] = there
        length = value.shape[2] if m.kind == "series" else 1
        modalities.append(Modality(name, m.bands, m.kind, m.gsd_m, m.unit, length, m.band_names))
    groups = text_groups(arrays.get("groups", np.arange(len(labels))), labels.shape, f"{table}: groups")
    official = _official(arrays["official"], labels.shape, f"{table}: official") if "official" in arrays else None
    sources = {"sha256": {table.name: sha256_file(table)}}
    batch = Batch(values, available)
    return SampleSet(spec.name, tuple(modalities), classes_from(spec.classes), batch, labels, groups, official, sources)


def write_samples(dataset: SampleSet, folder: str | Path, overwrite: bool = False) -> Path:
    """Write a sample set as samples.toml and samples.npz; the folder appears whole or not at all.

    `overwrite` replaces a folder that holds nothing but these two. Raises DataError (`checked`), OutputExists and WriteFailed.
    """
    dataset, folder = checked(dataset), Path(folder)
    if not dataset.classes:
        raise DataError(f"'{dataset.name}' has no classes; a sample set on disk names one at least, also without labels.")
    arrays = {f"values_{m}": v for m, v in dataset.samples.values.items()}
    arrays |= {f"available_{m}": a for m, a in dataset.samples.available.items()}
    arrays |= {"labels": dataset.labels, "groups": dataset.groups.astype(str)}
    arrays |= {} if dataset.official is None else {"official": np.searchsorted(ROLES, dataset.official)}
    lines = [
        f"name = {_quoted(dataset.name)}",
        f"classes = {_quoted(class_names(dataset))}",
    ]
    for m in dataset.modalities:
        lines += ["", f"[modalities.{_quoted(m.name)}]", f'kind = "{m.kind}"', f"bands = {m.bands}", f"unit = {_quoted(m.unit)}"]
        lines += [f"gsd_m = {m.gsd_m}"] if m.gsd_m is not None else []
        lines += [f"band_names = {_quoted(m.band_names)}"] if m.band_names else []
    with atomic(folder, overwrite, ("samples.toml", "samples.npz")) as partial:
        partial.mkdir(parents=True)
        (partial / "samples.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        np.savez_compressed(partial / "samples.npz", allow_pickle=False, **arrays)
    return folder


def _read_spec(path: Path) -> SamplesSpec:
    try:
        tree = tomllib.loads(read_text(path, "utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    try:
        return SamplesSpec.model_validate(tree)
    except ValidationError as error:
        raise together(list(find_faults(error, tree, path, _keys).values())) from None


def _keys(place: Place) -> Iterable[str]:
    return SampleModality.model_fields if len(place) > 1 else SamplesSpec.model_fields


def _from_npz(path: Path, spec: SamplesSpec) -> dict[str, np.ndarray]:
    values = [f"values_{m}" for m in spec.modalities]
    arrays = read_arrays(path, values)
    named = find_columns([a for a in arrays if a not in values], spec.modalities, "array", path)
    return {name: arrays[held] for name, held in named.items()} | {v: arrays[v] for v in values}


def _from_parquet(path: Path, spec: SamplesSpec) -> dict[str, np.ndarray]:
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be truncated.") from error
    levels = {str(n): frame.index.get_level_values(k).to_series() for k, n in enumerate(frame.index.names) if n is not None}
    columns = levels | {str(c): frame[c] for c in frame}
    if absent := [m for m in spec.modalities if m not in columns]:
        raise missing(f"column in {path}:", absent, columns)
    named = find_columns([c for c in columns if c not in spec.modalities], spec.modalities, "column", path)
    arrays = {name: columns[held].to_numpy() for name, held in named.items()}
    for name, m in spec.modalities.items():
        where = f"{path}: '{name}'"
        read = _encoded(columns[name], m.bands, where) if m.kind == "text" else _stacked(columns[name], m.shape(), where)
        arrays[f"values_{name}"] = read
        if said := named.get(f"available_{name}"):
            arrays[said] = _stacked(columns[said], m.shape()[1:], f"{path}: {said}")
    return arrays


def _stacked(column: pd.Series, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return a column of lists as float32 (n, *shape); a missing one is NaN."""
    size = int(np.prod(shape))
    out = np.full((len(column), size), np.nan, dtype=np.float32)
    for i, row in enumerate(column):
        if row is None:
            continue
        try:
            found = np.asarray(row, dtype=np.float32).ravel()
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: row {i} is no flat list of {size} numbers ({error}); write it as one.") from error
        if len(found) != size:
            raise DataError(f"{where}: row {i} has {len(found)} values; a sample has {size}.")
        out[i] = found
    return out.reshape(len(column), *shape)


def _encoded(column: pd.Series, length: int, where: str) -> np.ndarray:
    """Return the bytes of a column of strings, (n, length); a missing one is empty."""
    texts = ["" if absent else text for text, absent in zip(column, column.isna(), strict=True)]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{where}: row {i} is {text!r}, a {type(text).__name__}; a text modality needs strings.")
    try:
        return encode_texts(texts, length)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _official(raw: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return the roles, int8 (n,), that the published split gives."""
    parts = shaped(numbers(raw, where), shape, where)
    if strange := sorted(set(parts.tolist()) - {0, 1, 2}):
        raise DataError(f"{where} must hold 0 (none), 1 (train) or 2 (test); got {strange[0]:g}.")
    return np.asarray(ROLES[parts.astype(int)])


def _quoted(value: str | tuple[str, ...]) -> str:
    """Write text or a list of texts for TOML, which takes what JSON writes."""
    return json.dumps(value, ensure_ascii=False)


def _labels(raw: np.ndarray, spec: SamplesSpec, path: Path) -> np.ndarray:
    if raw.shape == (0,):
        raise DataError(f"{path} holds no samples; a set has one at least.")
    return sample_labels(raw, len(spec.classes), f"{path}: labels")
