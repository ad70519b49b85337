"""Look a data set over before it is used: what is there, what is missing where, and every fault in one list.

Reading stops at the first fault; this does not: each key, tile and sensor is tried on its own, so that a person mends
a scene.toml in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mamol.data.catalog import CATALOG, is_samples, load_dataset
from mamol.data.dataset import UNLABELLED, Dataset, Scene, class_names, label_arrays
from mamol.data.handles import as_place, is_remote
from mamol.data.labels import label_file, read_labels
from mamol.data.raster import read_modality
from mamol.data.reader import STAC_SUFFIXES, FileReader, open_scene, open_spec
from mamol.data.spec_file import examine_spec
from mamol.errors import DataError, MamolError, UsageError
from mamol.files import lies_there

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
    _said: set[str] = field(default_factory=set)

    def blame(self, where: str, error: MamolError) -> None:
        """Add a fault; one that was found before, in another tile that shares the file, is not said again."""
        new = [said for said in error.faults() if said not in self._said]
        self._said |= set(new)
        self.faults += [where + said for said in new]

    @contextmanager
    def blaming(self, where: str) -> Iterator[None]:
        """Add the fault that is raised inside, if any, and go on."""
        try:
            yield
        except MamolError as error:
            self.blame(where, error)


def check(name_or_path: str | Path) -> Check:
    """Check a catalogue name, a scene.toml or a sample set; raises only if it cannot be opened at all.

    Raises FileMissing, UnknownName, ConfigError and DataError for a path, a name or a description that cannot be read.
    """
    place = as_place(name_or_path)
    if place not in CATALOG and (is_remote(place) or lies_there(place)) and not is_samples(place):
        return _check_scene(str(place))
    report = Check(str(name_or_path))
    try:
        return _describe(load_dataset(name_or_path), report)
    except (DataError, UsageError) as error:
        if isinstance(error, UsageError) and not is_samples(place):
            raise
        report.blame("", error)
        return report


def _check_scene(place: str) -> Check:
    """Check a STAC document, or a scene.toml: its keys, then the files as far as the keys can be understood."""
    if is_remote(place) or Path(place).suffix.lower() in STAC_SUFFIXES:
        reader = open_scene(place)
        return _check_files(reader, Check(reader.name), frozenset())
    found = examine_spec(Path(place))
    report = Check(place if found.spec is None else found.spec.name)
    for fault in found.faults:
        report.blame("", fault)
    if found.spec is None or "tiles" in found.doubtful:  # which files there should be, nobody knows
        return report
    try:
        reader = open_spec(found.spec)
    except MamolError as error:
        if not report.faults:
            raise
        report.blame("", error)
        return report
    return _check_files(reader, report, found.doubtful)


def _check_files(reader: FileReader, report: Check, doubtful: frozenset[str]) -> Check:
    """Try every file; with `doubtful` keys at fault it is not known what labels mean, so they are only looked for."""
    bands: dict[str, int | None] = dict.fromkeys(reader.spec.modalities)
    unequal: MamolError | None = None
    try:
        bands = {m.name: m.bands for m in reader.modalities}
    except MamolError as error:
        unequal = error
    with report.blaming(""):
        reader.spec.tile_groups(reader.tile_names)
    labels = "skip" if reader.spec.labels is None else "look" if doubtful & {"labels", "classes"} else "read"
    try:
        report.classes = [c.name for c in reader.classes] if labels == "read" else []
    except MamolError as error:
        report.blame("", error)
        labels = "look"
    for name in bands:
        with report.blaming(f"'{name}': "):
            report.remarks += _nowhere(reader, name)
    before = len(report.faults)
    for tile in reader.tile_names:
        _check_tile(reader, tile, bands, report)
    if unequal is not None and len(report.faults) == before:
        report.blame("", unequal)
    for tile in reader.tile_names if labels != "skip" else ():
        _check_labels(reader, tile, labels == "read", report)
    if not report.faults:
        try:
            return _describe(reader.load(), report)
        except MamolError as error:
            report.blame("", error)
    report.modalities = [f"{name}: {count} bands" for name, count in bands.items() if count is not None]
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


def _check_tile(reader: FileReader, tile: str, bands: dict[str, int | None], report: Check) -> None:
    """Try the grid and every sensor of one tile, each on its own; `bands` are the numbers expected, None any."""
    try:
        grid = reader.grid(tile)
    except MamolError as error:
        report.blame(f"tile '{tile}': ", error)
        return
    with report.blaming(f"tile '{tile}': "):
        if other := reader.other_pixels(tile):
            report.remarks.append(f"{other}.")
    everything = (slice(0, grid.height), slice(0, grid.width))
    for name, count in bands.items():
        try:
            sources = reader.sources(tile, name)
            if not sources:
                continue
            values, available = read_modality(sources, grid, everything, reader.mask(tile, name))
            if len(values) != (count or len(values)):
                raise DataError(f"{sources[0].place} gives {len(values)} bands; the other tiles give {count}.")
            if not available.any():
                report.remarks.append(f"tile '{tile}': '{name}' has no value there (nodata, NaN or masked everywhere).")
        except MamolError as error:
            report.blame(f"tile '{tile}', '{name}': ", error)


def _check_labels(reader: FileReader, tile: str, read: bool, report: Check) -> None:
    """Read the labels of one tile, or only look whether they are there."""
    labels = reader.spec.labels
    shared = labels is None or "{tile}" not in labels.path
    try:
        label_file(reader.spec, tile)
        if read:
            read_labels(reader.spec, tile, reader.grid(tile), reader.class_values)
    except MamolError as error:  # a tile without a grid was said before, and is not said again
        report.blame("" if shared else f"tile '{tile}': ", error)


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
