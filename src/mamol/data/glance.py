"""A glance at data before a run is used on them: what would give a wrong map without an error is a warning.

a sensor under a name that the run does not know          it is left out
a tile without the sensor that defines the pixels          it has other pixels than the run was trained on
a sensor with pixels of another size than in training      its windows show another area, and other things
values of another magnitude than in training               another unit, or another product
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from mamol.data.dataset import Dataset, SampleSet, Scene, modality_names
from mamol.data.memory import MemoryReader, Reader
from mamol.data.normalize import Normalizer
from mamol.data.reader import FileReader
from mamol.errors import MamolError
from mamol.modality import Batch, Modality

log = logging.getLogger(__name__)
TILES, HALF_PX, SAMPLES = 20, 128, 2_000
"""How much is looked at: tiles, pixels to each side of a tile's middle, samples."""
SAME_SIZE = 1.2
"""Pixels that are wider than others by less than this factor pass for the same: 30 m and 28.5 m do, 10 m and 20 m do not."""


def warn_of_scene(reader: Reader, tiles: Sequence[str], kept: Sequence[Modality], normalizer: Normalizer) -> None:
    """Warn of what looks wrong in the tiles that are to be mapped with the modalities `kept` of a run."""
    there, names = list(reader.spec.modalities) if isinstance(reader, FileReader) else _names(reader.modalities), _names(kept)
    _warn_of_names(reader.name, there, names, normalizer)
    _warn_of_sizes(reader.name, reader.modalities, kept)
    warn_of_pixels(reader, tiles)
    _warn_unlike(normalizer, _middles(reader, tiles[:1], names))


def warn_of_samples(dataset: SampleSet, kept: Sequence[Modality], normalizer: Normalizer) -> None:
    """Warn of what looks wrong in samples that are to be classified with the modalities `kept` of a run."""
    _warn_of_names(dataset.name, modality_names(dataset), _names(kept), normalizer)
    _warn_of_sizes(dataset.name, dataset.modalities, kept)
    _warn_unlike(normalizer, iter([_some(dataset).only([m for m in _names(kept) if m in modality_names(dataset)])]))


def _names(modalities: Iterable[Modality]) -> list[str]:
    return [m.name for m in modalities]


def _warn_of_names(name: str, there: Sequence[str], kept: Sequence[str], normalizer: Normalizer) -> None:
    left_out, lacking = [m for m in there if m not in normalizer.statistics], [m for m in kept if m not in there]
    if left_out and lacking:
        log.warning(
            "'%s' has no '%s', which the run knows; what the run does not know is left out: %s. If they are the same sensor, "
            "give it the run's name", name, "', '".join(lacking), ", ".join(left_out),
        )  # fmt: skip


def _warn_of_sizes(name: str, given: Sequence[Modality], kept: Sequence[Modality]) -> None:
    """Warn of sensors whose pixels have another size than in training, where both are known in metres."""
    trained = {m.name: m.gsd_m for m in kept if m.gsd_m}
    for m in given:
        before = trained.get(m.name)
        if m.gsd_m and before and not 1 / SAME_SIZE < m.gsd_m / before < SAME_SIZE:
            log.warning(
                "'%s' has pixels of %.4g m in '%s', and had %.4g m in training; a run goes by the look of its pixels: bring "
                "them to that size, or train a run on such data", m.name, m.gsd_m, name, before,
            )  # fmt: skip


def warn_of_pixels(reader: Reader, tiles: Sequence[str]) -> None:
    """Warn of the first of some tiles that has other pixels than the scene's, for want of the sensor that defines them."""
    others = (reader.other_pixels(t) for t in tiles) if isinstance(reader, FileReader) else ()
    if other := next((o for o in others if o), None):
        log.warning("%s", other)


def warn_of_dataset(dataset: Dataset, kept: Sequence[Modality], normalizer: Normalizer) -> None:
    """Warn of pixels of another size and values of another magnitude in data that a run of `kept` is to be tested on."""
    _warn_of_sizes(dataset.name, dataset.modalities, kept)
    if isinstance(dataset, Scene):
        _warn_unlike(normalizer, _middles(MemoryReader(dataset), [t.name for t in dataset.tiles[:TILES]], normalizer.statistics))
        return
    _warn_unlike(normalizer, iter([_some(dataset)]))


def _some(dataset: SampleSet) -> Batch:
    return dataset.samples.take(slice(None, None, max(1, len(dataset.labels) // SAMPLES)))


def _middles(reader: Reader, tiles: Sequence[str], kept: Iterable[str]) -> Iterator[Batch]:
    """Read a window in the middle of some tiles; what cannot be read is said where it is needed."""
    for tile in tiles:
        with suppress(MamolError, OSError):
            rows, columns = (slice(max(0, n // 2 - HALF_PX), min(n, n // 2 + HALF_PX)) for n in reader.shape(tile))
            yield reader.read(tile, rows, columns).only(kept)


def _warn_unlike(normalizer: Normalizer, batches: Iterator[Batch]) -> None:
    said: dict[str, str] = {}
    for batch in batches:
        said = {**normalizer.unlike(batch), **said}
    for text in said.values():
        log.warning("%s", text)
