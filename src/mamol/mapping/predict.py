"""Map a scene window by window: read a block with a rim around it, predict, write the block without its rim.

    block  = BLOCK_PX x BLOCK_PX, its corner on a multiple of the predictor's stride
    rim    = one window of the model on every side, cut off at the scene's border

Block and rim are multiples of the stride, so a pixel is covered by the same model windows as in a scene read whole:
the map does not depend on the block's size. Any scene size works, also smaller than one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamol.data.dataset import ClassInfo
from mamol.data.reader import Reader
from mamol.errors import AllModalitiesMissing, UsageError, unknown
from mamol.mapping.rasters import MapLayout, MapPaths, MapWriter
from mamol.modality import Batch, Predictor

BLOCK_PX = 256


@dataclass(frozen=True)
class MapRequest:
    """What to map and how: `without` names modalities to ignore; `rim_px` is the model's window (0 for none)."""

    tile: str
    classes: Sequence[ClassInfo]
    without: Sequence[str] = ()
    rim_px: int = 16
    block_px: int = BLOCK_PX
    overwrite: bool = False


def map_tile(
    predictor: Predictor,
    reader: Reader,
    request: MapRequest,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MapPaths:
    """Write the map of one tile and return where its rasters are.

    Raises UnknownName for an unknown modality or tile, AllModalitiesMissing if nothing is left to predict from,
    OutputExists, WriteFailed, and what the reader raises.
    """
    kept = check_without(predictor.modalities, request.without)
    if request.tile not in reader.tile_names:
        raise unknown("tile", request.tile, reader.tile_names)
    if request.rim_px and request.block_px % request.rim_px:
        raise UsageError(f"block_px {request.block_px} must be a multiple of rim_px {request.rim_px}.")
    if not _in_both(reader, kept):
        raise AllModalitiesMissing(
            f"the scene has {', '.join(m.name for m in reader.modalities)}; the model can use {', '.join(kept)}: none in common. "
            "Name the scene's modalities as the model's."
        )
    height, width = reader.shape(request.tile)
    layout = MapLayout(height, width, reader.georeference(request.tile), request.classes, predictor.modalities)
    blocks = [(y, x) for y in range(0, height, request.block_px) for x in range(0, width, request.block_px)]
    paths, mapped = MapPaths.beside(out), 0
    with MapWriter(paths, layout, request.overwrite) as writer:
        for done, (y, x) in enumerate(blocks, 1):
            probability, pattern = _block(predictor, reader, request, (y, x), kept)
            writer.write(y, x, probability, pattern)
            mapped += int((pattern > 0).sum())
            progress(done, len(blocks))
        if not mapped:
            raise AllModalitiesMissing(
                f"tile '{request.tile}' has no pixel with any of {', '.join(kept)}; nothing to map"
                f"{' without ' + ', '.join(request.without) if request.without else ''}."
            )
    return paths


def check_without(modalities: Sequence[str], without: Iterable[str]) -> tuple[str, ...]:
    """Return the modalities that remain; raises UnknownName, and AllModalitiesMissing if none does."""
    dropped = set(without)
    for name in sorted(dropped - set(modalities)):
        raise unknown("modality", name, modalities)
    kept = tuple(m for m in modalities if m not in dropped)
    if not kept:
        raise AllModalitiesMissing(f"--without names all of {', '.join(modalities)}; keep at least one.")
    return kept


def _block(
    predictor: Predictor, reader: Reader, request: MapRequest, corner: tuple[int, int], kept: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (K, h, w) and pattern bits (h, w) of one block without its rim."""
    shape = reader.shape(request.tile)
    block = tuple(slice(c, min(c + request.block_px, n)) for c, n in zip(corner, shape, strict=True))
    around = tuple(
        slice(max(s.start - request.rim_px, 0), min(s.stop + request.rim_px, n)) for s, n in zip(block, shape, strict=True)
    )
    batch = _known(reader.read(request.tile, around[0], around[1]), predictor.modalities).only(_in_both(reader, kept))
    inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(block, around, strict=True))
    pattern = pattern_bits(batch, predictor.modalities)[inner]
    classes = len(request.classes)
    if not any(a.any() for a in batch.available.values()):
        return np.full((classes, *pattern.shape), np.nan, dtype=np.float32), pattern
    return predictor.predict(batch)[0][:, inner[0], inner[1]], pattern


def _known(batch: Batch, modalities: Sequence[str]) -> Batch:
    """Drop the sensors that the model was not trained on."""
    names = [m for m in batch.names() if m in modalities]
    return Batch({m: batch.values[m] for m in names}, {m: batch.available[m] for m in names})


def _in_both(reader: Reader, kept: Sequence[str]) -> list[str]:
    there = {m.name for m in reader.modalities}
    return [m for m in kept if m in there]


def pattern_bits(batch: Batch, order: Sequence[str]) -> np.ndarray:
    """Return which modalities each pixel of a batch of one has, uint32 (H, W): bit i is `order[i]`."""
    some = next(iter(batch.available.values()))[0]
    bits = np.zeros(some.shape, dtype=np.uint32)
    for i, m in enumerate(order):
        if m in batch.available:
            bits |= batch.available[m][0].astype(np.uint32) << np.uint32(i)
    return bits
