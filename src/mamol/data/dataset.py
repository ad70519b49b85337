"""What every reader returns and every other part takes: a Scene of tiles, or a SampleSet.

A Scene is one or many tiles, each a piece of ground on one grid with a label per pixel. A SampleSet has one label per
sample. Both hold float32 values with availability beside them (see `mamol.modality.Batch`), classes with colours, and
the group of each tile or sample that a split must not tear apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mamol.errors import DataError, ShapeMismatch, repeated
from mamol.modality import Batch, Modality

UNLABELLED = -1
"""Label of a pixel or sample without a class. Class k of K is the integer k, 0 <= k < K."""


@dataclass(frozen=True)
class ClassInfo:
    """A class as people see it: its name and its colour on maps, "#rrggbb"."""

    name: str
    colour: str


@dataclass(frozen=True)
class Georeference:
    """Where a tile lies: CRS as WKT ("" if unknown) and the affine transform (a, b, c, d, e, f) of rasterio.

    (a, e) are the pixel's width and height in the CRS's unit; (c, f) is the outer corner of the upper left pixel.
    """

    crs: str = ""
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Tile:
    """One piece of ground: every modality on one H x W grid.

    `values[m]` float32 (C, H, W); `available[m]` bool (H, W); `labels` int16 (H, W) with UNLABELLED;
    `official` int8 (H, W): the published split, 0 none, 1 train, 3 test, or None if there is none.
    """

    name: str
    values: dict[str, np.ndarray]
    available: dict[str, np.ndarray]
    labels: np.ndarray
    group: str
    georeference: Georeference = field(default_factory=Georeference)
    official: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if np.shape(value)[1:] != np.shape(self.labels):
                raise ShapeMismatch(
                    f"tile '{self.name}': modality '{name}' is {np.shape(value)[1:]} pixels, labels are {np.shape(self.labels)}."
                )

    def batch(self) -> Batch:
        """Return the tile as a batch of one: values (1, C, H, W)."""
        return Batch({m: v[None] for m, v in self.values.items()}, {m: a[None] for m, a in self.available.items()})


@dataclass(frozen=True)
class Scene:
    """Tiles with the same modalities and classes."""

    name: str
    modalities: tuple[Modality, ...]
    classes: tuple[ClassInfo, ...]
    tiles: tuple[Tile, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    """Licence, citation, file hashes, resampling: carried into the record."""


@dataclass(frozen=True)
class SampleSet:
    """One label per sample: `labels` int16 (n,) with UNLABELLED, `groups` str (n,), `official` int8 (n,) or None."""

    name: str
    modalities: tuple[Modality, ...]
    classes: tuple[ClassInfo, ...]
    samples: Batch
    labels: np.ndarray
    groups: np.ndarray
    official: np.ndarray | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = [np.shape(self.labels), np.shape(self.groups)]
        if any(shape[:1] != (len(self.samples),) for shape in shapes):
            raise ShapeMismatch(
                f"'{self.name}' has {len(self.samples)} samples, labels of shape {shapes[0]} and groups of shape {shapes[1]}; "
                "there must be one of each per sample."
            )


Dataset = Scene | SampleSet


def label_arrays(dataset: Dataset) -> list[np.ndarray]:
    """Return the labels piece by piece: one array (H, W) per tile, or one array (n,)."""
    return [t.labels for t in dataset.tiles] if isinstance(dataset, Scene) else [dataset.labels]


def modality_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the modalities in the data set's order."""
    return tuple(m.name for m in dataset.modalities)


def lacking(dataset: Dataset, names: Collection[str]) -> Dataset:
    """Return a data set without some of its modalities, as if there had never been any; nothing is copied."""
    kept = tuple(m for m in dataset.modalities if m.name not in names)

    def rest(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m.name: arrays[m.name] for m in kept}

    if isinstance(dataset, Scene):
        tiles = tuple(replace(t, values=rest(t.values), available=rest(t.available)) for t in dataset.tiles)
        return replace(dataset, modalities=kept, tiles=tiles)
    samples = Batch(rest(dataset.samples.values), rest(dataset.samples.available))
    return replace(dataset, modalities=kept, samples=samples)


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the classes in the order of their integers."""
    return tuple(c.name for c in dataset.classes)


def grid_sizes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return the height and width of every grid of a sample; empty for a scene, whose tiles may have any size."""
    if isinstance(dataset, Scene):
        return {}
    shapes = {m.name: dataset.samples.values[m.name].shape for m in dataset.modalities if m.kind == "grid"}
    return {name: (shape[2], shape[3]) for name, shape in shapes.items()}


PALETTE: Sequence[str] = (
    "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#1f78b4", "#b2df8a", "#fb9a99",
    "#cab2d6", "#ffff99", "#8dd3c7", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5", "#bc80bd",
)  # fmt: skip
"""Colours for classes that name none, in order, then around again (ColorBrewer Dark2, Paired, Set3)."""


def classes_from(names: Sequence[str], colours: Sequence[str] | None = None) -> tuple[ClassInfo, ...]:
    """Build the classes from names, with PALETTE's colours where none are given; raises DataError on a repeated name."""
    if twice := sorted(repeated(names)):
        raise DataError(f"class names must differ; repeated: {', '.join(twice)}.")
    chosen = colours or [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    return tuple(ClassInfo(n, c) for n, c in zip(names, chosen, strict=True))
