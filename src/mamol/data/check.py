"""Look a data set over before it is used: what is there, what is missing where, and every fault in one list.

Reading stops at the first fault; this does not: each tile and each sensor is tried on its own, so that a person
mends a scene.toml in one go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mamol.data.catalog import CATALOG, is_samples, load_dataset
from mamol.data.dataset import UNLABELLED, Dataset, Scene, class_names, label_arrays
from mamol.data.handles import as_place, is_remote, is_there
from mamol.data.labels import read_labels
from mamol.data.raster import read_modality
from mamol.data.reader import FileReader, open_scene
from mamol.errors import DataError, FileMissing, MamolError

FEWEST = 2


@dataclass
class Check:
    """What was found: lines of text per section, and the faults (empty: the data set can be used)."""

    name: str
    grids: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check(name_or_path: str | Path) -> Check:
    """Check a catalogue name, a scene.toml or a sample set; raises only if it cannot be opened at all.

    Raises FileMissing, UnknownName and ConfigError for a path, a name or a description that cannot be read.
    """
    place = as_place(name_or_path)
    if place not in CATALOG and (is_remote(place) or Path(place).exists()) and not is_samples(place):
        return _check_files(open_scene(place))
    try:
        return _describe(load_dataset(name_or_path), Check(str(name_or_path)))
    except DataError as error:
        return Check(str(name_or_path), faults=[str(error)])


def _check_files(reader: FileReader) -> Check:
    report = Check(reader.name)
    try:
        modalities, classes = reader.modalities, reader.classes
    except MamolError as error:
        report.faults.append(str(error))
        _try_labels(reader, report)
        return report
    for m in modalities:
        try:
            report.remarks += _nowhere(reader, m.name)
        except MamolError as error:
            report.faults.append(f"'{m.name}': {error}")
    for tile in reader.tile_names:
        _check_tile(reader, tile, report)
    if not report.faults:
        try:
            _describe(reader.load(), report)
        except MamolError as error:
            report.faults.append(str(error))
    else:
        report.modalities = [f"{m.name}: {m.bands} bands" for m in modalities]
        report.classes = [c.name for c in classes]
    return report


def _nowhere(reader: FileReader, name: str) -> list[str]:
    """Say which files of a modality no tile has."""
    spec, tiles = reader.spec.modalities[name], reader.tile_names
    if not any(reader.sources(t, name) for t in tiles):
        looked = reader.spec.looked_for(tiles[0], name)
        return [f"no file of '{name}' in any tile ({looked}): it counts as absent everywhere."]
    asked = spec.mask or spec.mask_asset
    if asked and not any(reader.mask(t, name) for t in tiles):
        return [f"no mask raster of '{name}' in any tile ({asked}): nothing is masked."]
    return []


def _check_tile(reader: FileReader, tile: str, report: Check) -> None:
    """Try the grid, every sensor and the labels of one tile, each on its own."""
    try:
        grid = reader.grid(tile)
    except MamolError as error:
        report.faults.append(f"tile '{tile}': {error}")
        return
    everything = (slice(0, grid.height), slice(0, grid.width))
    for m in reader.modalities:
        try:
            sources = reader.sources(tile, m.name)
            if not sources:
                continue
            values, available = read_modality(sources, grid, everything, reader.mask(tile, m.name))
            if len(values) != m.bands:
                raise DataError(f"{sources[0].place} gives {len(values)} bands; the other tiles give {m.bands}.")
            if not available.any():
                report.remarks.append(f"tile '{tile}': '{m.name}' has no value there (nodata, NaN or masked everywhere).")
        except MamolError as error:
            report.faults.append(f"tile '{tile}', '{m.name}': {error}")
    try:
        read_labels(reader.spec, tile, grid, reader.class_values)
    except MamolError as error:
        report.faults.append(f"tile '{tile}', labels: {error}")


def _try_labels(reader: FileReader, report: Check) -> None:
    """With the sensors or classes unreadable, still look whether the label file is there."""
    labels = reader.spec.labels
    if labels is not None:
        for tile in reader.tile_names:
            place = reader.spec.place(labels.path, tile)
            if not is_there(place):
                report.faults.append(str(FileMissing(f"labels not found: {place}; check [labels] path in scene.toml.")))


def _describe(dataset: Dataset, report: Check) -> Check:
    """Fill in what the data hold, and judge whether a classifier can be trained on them."""
    if isinstance(dataset, Scene):
        for tile in dataset.tiles[:20]:
            place = tile.georeference
            where = f"pixel {abs(place.transform[0]):g}" if place.crs else "no georeference"
            report.grids.append(f"{tile.name}: {tile.labels.shape[0]} x {tile.labels.shape[1]} px, {where}")
        if len(dataset.tiles) > 20:
            report.grids.append(f"... and {len(dataset.tiles) - 20} more tiles")
        pieces = [(t.values, t.available) for t in dataset.tiles]
    else:
        report.grids.append(f"{len(dataset.labels)} samples in {len(np.unique(dataset.groups))} groups")
        pieces = [(dict(dataset.samples.values), dict(dataset.samples.available))]
    for m in dataset.modalities:
        masks = [available[m.name] for _, available in pieces]
        seen = 100 * sum(int(a.sum()) for a in masks) / max(1, sum(a.size for a in masks))
        absent = sum(not a.any() for a in masks)
        nowhere = f", absent from {absent} of {len(masks)} tiles" if absent and isinstance(dataset, Scene) else ""
        report.modalities.append(f"{m.name}: {m.bands} bands{f' in {m.unit}' if m.unit else ''}, {seen:.1f} % available{nowhere}")
        if not seen:
            report.remarks.append(f"'{m.name}' is absent everywhere.")
    labels = np.concatenate([a.ravel() for a in label_arrays(dataset)])
    counts = np.bincount(labels[labels != UNLABELLED], minlength=len(dataset.classes))
    report.classes = [f"{name}: {n:,}" for name, n in zip(class_names(dataset), counts, strict=True)]
    report.remarks += [f"class '{c}' has no label." for c, n in zip(class_names(dataset), counts, strict=True) if not n]
    if (counts > 0).sum() < FEWEST:
        report.remarks.append(
            f"{int((counts > 0).sum())} class(es) with labels: enough to map, too few to train (two are needed)."
        )
    return report
