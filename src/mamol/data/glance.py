"""A glance at data before a run is used on them: what would give a wrong map without an error is a warning.

a sensor under a name that the run does not know          it is left out
a tile without the sensor that defines the pixels          it has other pixels than the run was trained on
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
from mamol.modality import Batch

log = logging.getLogger(__name__)
TILES, HALF_PX, SAMPLES = 20, 128, 2_000
"""How much is looked at: tiles, pixels to each side of a tile's middle, samples."""


def warn_of_scene(reader: Reader, tiles: Sequence[str], kept: Sequence[str], normalizer: Normalizer) -> None:
    """Warn of what looks wrong in the tiles that are to be mapped with the modalities `kept` of a run."""
    there = list(reader.spec.modalities) if isinstance(reader, FileReader) else [m.name for m in reader.modalities]
    _warn_of_names(reader.name, there, kept, normalizer)
    warn_of_pixels(reader, tiles)
    _warn_unlike(normalizer, _middles(reader, tiles[:1], kept))


def warn_of_samples(dataset: SampleSet, kept: Sequence[str], normalizer: Normalizer) -> None:
    """Warn of what looks wrong in samples that are to be classified with the modalities `kept` of a run."""
    _warn_of_names(dataset.name, modality_names(dataset), kept, normalizer)
    _warn_unlike(normalizer, iter([_some(dataset).only([m for m in kept if m in modality_names(dataset)])]))


def _warn_of_names(name: str, there: Sequence[str], kept: Sequence[str], normalizer: Normalizer) -> None:
    left_out, lacking = [m for m in there if m not in normalizer.statistics], [m for m in kept if m not in there]
    if left_out and lacking:
        log.warning(
            "'%s' has no '%s', which the run knows; what the run does not know is left out: %s. If they are the same sensor, "
            "give it the run's name", name, "', '".join(lacking), ", ".join(left_out),
        )  # fmt: skip


def warn_of_pixels(reader: Reader, tiles: Sequence[str]) -> None:
    """Warn of the first of some tiles that has other pixels than the scene's, for want of the sensor that defines them."""
    others = (reader.other_pixels(t) for t in tiles) if isinstance(reader, FileReader) else ()
    if other := next((o for o in others if o), None):
        log.warning("%s", other)


def warn_of_values(dataset: Dataset, normalizer: Normalizer) -> None:
    """Warn of values of another magnitude in data that a run is to be tested on."""
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
