"""What a map is made of: each layer's numbers, from the probabilities and the availability of a block.

    class        0 no data, 1..K the classes                                   uint8, or uint16 over 255 classes
    confidence   probability of that class, 0..1                               float32, NaN no data
    pattern      which modalities were there: bit i (value 2^i) is modality i  uint8, uint16 or uint32; 0 none
    entropy      of the probabilities over log K: 0 sure, 1 no idea            float32, NaN no data
    probability  of every class, one band each, in steps of 1/250              uint8, 255 no data; scale 0.004
    probability-float  the same as it is                                       float32, NaN no data
    expert       the dynamic expert with the largest mean gate, 1..E           uint8, 0 no data or none

A pixel has data where any modality was observed there and the model gave it finite probabilities; its pattern is told anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mamol.errors import UsageError, unknown
from mamol.modality import Batch

STEPS = 250
MOST_CLASSES = 65_535
DEFAULT = ("class", "confidence", "pattern")


@dataclass(frozen=True)
class Block:
    """What is known of one block of a map.

    `probability` (K, h, w), NaN where nothing is; `pattern` (h, w), bits; `expert` (h, w) or None if nobody asked.
    """

    probability: np.ndarray
    pattern: np.ndarray
    expert: np.ndarray | None = None


@dataclass(frozen=True)
class Layer:
    """One raster of a map: the end of its file's name, its type, what no data is, and how it follows from a block."""

    suffix: str
    dtype: str
    nodata: float
    bands: int
    describe: str
    compute: Callable[[Block], np.ndarray]
    overviews: str = "average"
    """How overviews are resampled: "mode" for what is counted, "average" for what is measured."""
    scale: float = 1.0


def make_layers(names: Sequence[str], classes: int, modalities: int) -> dict[str, Layer]:
    """Return the wanted layers in the order of their names; "class" is always the first.

    Raises UnknownName for an unknown layer, and UsageError for more classes or modalities than a raster can tell apart.
    """
    if classes > MOST_CLASSES or modalities > 32:
        raise UsageError(
            f"a map holds at most {MOST_CLASSES} classes and 32 modalities; the model has {classes} and {modalities}."
        )
    known = _known(classes, modalities)
    for name in names:
        if name not in known:
            raise unknown("layer", name, known)
    return {n: layer for n, layer in known.items() if n in names or n == "class"}


def _known(classes: int, modalities: int) -> dict[str, Layer]:
    kind = "uint8" if classes <= 255 else "uint16"
    bits = "uint8" if modalities <= 8 else "uint16" if modalities <= 16 else "uint32"
    nan = float("nan")
    return {
        "class": Layer("", kind, 0, 1, "class", lambda b: _classes(b, kind), "mode"),
        "confidence": Layer("_confidence", "float32", nan, 1, "probability of the class", _confidence),
        "pattern": Layer(
            "_pattern", bits, 0, 1, "available modalities, one bit each", lambda b: b.pattern[None].astype(bits), "mode"
        ),
        "entropy": Layer("_entropy", "float32", nan, 1, "entropy over log K", _entropy),
        "probability": Layer("_probability", "uint8", 255, classes, "probability", _steps, scale=1 / STEPS),
        "probability-float": Layer("_probability-float", "float32", nan, classes, "probability", _probability),
        "expert": Layer("_expert", "uint8", 0, 1, "dynamic expert with the largest mean gate", _expert, "mode"),
    }


def _seen(block: Block) -> np.ndarray:
    return (block.pattern > 0) & np.isfinite(block.probability).all(0)


def _filled(block: Block) -> np.ndarray:
    return np.where(_seen(block), block.probability, 0)


def _classes(block: Block, kind: str) -> np.ndarray:
    return np.where(_seen(block), _filled(block).argmax(0) + 1, 0).astype(kind)[None]


def _confidence(block: Block) -> np.ndarray:
    return np.where(_seen(block), _filled(block).max(0), np.nan).astype(np.float32)[None]


def _entropy(block: Block) -> np.ndarray:
    p = _filled(block)
    total = -(p * np.log(np.maximum(p, 1e-12))).sum(0) / np.log(max(len(p), 2))
    return np.where(_seen(block), np.clip(total, 0, 1), np.nan).astype(np.float32)[None]


def _steps(block: Block) -> np.ndarray:
    return np.where(_seen(block), np.rint(_filled(block) * STEPS), 255).astype(np.uint8)


def _probability(block: Block) -> np.ndarray:
    return np.where(_seen(block), block.probability, np.nan).astype(np.float32)


def _expert(block: Block) -> np.ndarray:
    if block.expert is None:
        return np.zeros((1, *block.pattern.shape), dtype=np.uint8)
    return np.where(_seen(block), block.expert, 0).astype(np.uint8)[None]


def pattern_bits(batch: Batch, order: Sequence[str]) -> np.ndarray:
    """Return which modalities each pixel of a batch of one has, uint32 (H, W): bit i is `order[i]`."""
    some = next(iter(batch.available.values()))[0]
    bits = np.zeros(some.shape, dtype=np.uint32)
    for i, m in enumerate(order):
        if m in batch.available:
            bits |= batch.available[m][0].astype(np.uint32) << np.uint32(i)
    return bits
