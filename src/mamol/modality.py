"""What a modality is, and the one container in which values and their availability travel.

The letters of every shape in this package:

    B samples or windows   M modalities   C bands of one modality   H, W pixels down and across
    T time steps           N tokens of one modality   S tokens of one sequence   D width of the transformer
    E experts              R rank         K classes   P patterns

`available` is True where a value was observed. There is no second convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from mamol.errors import ShapeMismatch, UsageError, no_text, unknown

Kind = Literal["grid", "series", "vector", "text"]
AXES: dict[str, int] = {"grid": 4, "series": 3, "vector": 2, "text": 2}


def name_fault(name: str) -> str:
    """Return why a text cannot name a modality, "" if it can: patterns are written "s1+s2", weights have names with dots."""
    if name.strip() and not re.search(r"[./+]", name):
        return ""
    return f"{name!r} cannot name a modality: it must not be empty, nor hold a dot, a slash or a plus; use '_' instead"


@dataclass(frozen=True)
class Modality:
    """One sensor: its name, number of bands, and how one sample of it is laid out.

    `kind`: "grid" (C, H, W), "series" (C, T), "vector" (C,) or "text" (C,), the UTF-8 bytes of a text (data/texts.py).
    `gsd_m`: ground sample distance of the source, metres, None if it has none. `unit`: physical unit of the values.
    `band_names`: what the bands are, in a backbone's own vocabulary ("VV", "B4", "elevation"); empty if nobody asks.
    They do not take part in ==: a backbone folder from before they were given is still one for the same sensor.
    Raises UsageError for no bands, for band names that are not one per band, and for what cannot name it (`name_fault`).
    """

    name: str
    bands: int
    kind: Kind = "grid"
    gsd_m: float | None = None
    unit: str = ""
    length: int = 1
    """Time steps of a series; 1 otherwise."""
    band_names: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if fault := name_fault(self.name):
            raise UsageError(f"{fault}.")
        if self.band_names and len(self.band_names) != self.bands:
            raise UsageError(
                f"modality '{self.name}' has {self.bands} bands and {len(self.band_names)} band names; give one per band or none."
            )
        if self.bands < 1:
            raise UsageError(f"modality '{self.name}' has {self.bands} bands; it needs at least one.")


@dataclass(frozen=True)
class Batch:
    """Samples or windows on one ground, each modality with its own availability.

    `values[m]`: float32, (B, C, H, W) for a grid, (B, C, T) for a series, (B, C) for a vector or a text.
    `available[m]`: bool, the same shape without the band axis: (B, H, W), (B, T), (B,).
    Values where `available` is False may be anything, also NaN; nothing may depend on them.
    """

    values: Mapping[str, np.ndarray]
    available: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if len({np.shape(value)[:1] for value in self.values.values()}) > 1:
            counts = ", ".join(f"'{name}' {np.shape(value)}" for name, value in self.values.items())
            raise ShapeMismatch(f"every modality of a batch needs as many samples as the others; got {counts}.")
        for name, value in self.values.items():
            shape = np.shape(value)
            expected = shape[:1] + shape[2:]
            got = np.shape(self.available[name]) if name in self.available else None
            if got != expected:
                raise ShapeMismatch(
                    f"modality '{name}' has values of shape {shape} and availability of shape {got}; "
                    f"availability must be {expected}, the values' shape without the band axis."
                )

    def __len__(self) -> int:
        return next((len(value) for value in self.values.values()), 0)

    def names(self) -> tuple[str, ...]:
        """Return the names of the modalities, in order."""
        return tuple(self.values)

    def only(self, present: Iterable[str]) -> Batch:
        """Return the batch as if only the modalities in `present` had been observed; the values are not copied."""
        no_text(present, "present", "s1")
        kept = set(present)
        for name in kept - set(self.values):
            raise unknown("modality", name, self.values)
        hidden = {m: a if m in kept else np.zeros_like(a) for m, a in self.available.items()}
        return replace(self, available=hidden)

    def pattern(self, order: Iterable[str]) -> np.ndarray:
        """Return which modalities each sample has anywhere, bool (B, M), columns in `order`."""
        return np.stack([self.available[m].any(axis=tuple(range(1, self.available[m].ndim))) for m in order], axis=1)

    def take(self, index: np.ndarray | slice) -> Batch:
        """Return the samples at `index` (integers, booleans or a slice along B)."""
        return Batch({m: v[index] for m, v in self.values.items()}, {m: a[index] for m, a in self.available.items()})


@runtime_checkable
class Predictor(Protocol):
    """Anything that classifies a batch: MaMOL, a forest, a stranger's model.

    `predict` returns probabilities, float32: (B, K) for samples, (B, K, H, W) for grids of any height and width; NaN
    in every class where a grid's pixel has no modality at all. It raises AllModalitiesMissing if a whole sample has
    none, and never depends on values that are not available nor on the order of the modalities.
    """

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def predict(self, batch: Batch) -> np.ndarray: ...


def patterns(modalities: Iterable[str]) -> list[tuple[str, ...]]:
    """List the 2^M - 1 non-empty sets of modalities, the full one first, single ones last.

    >>> patterns(["hsi", "lidar"])
    [('hsi', 'lidar'), ('hsi',), ('lidar',)]
    """
    names = tuple(modalities)
    return [chosen for size in range(len(names), 0, -1) for chosen in combinations(names, size)]
