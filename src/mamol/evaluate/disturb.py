"""Test pixels with holes or with worse sensors, step by step (PROTOCOL.md section 3, `pixel` and `degraded`).

    pixel      one sensor has a hole in the test scenes: clouds, missing scan lines, the side beyond a swath's edge
    degraded   one sensor is there, but worse: noise and bias in standard deviations of its band, a shift in pixels

Holes and noise are a function of (what, sensor, step, tile, seed) alone, so every method sees the same ones. A degraded
sensor says that it is available: no method is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mamol.data.availability import cloud_mask, stripe_mask, swath_mask
from mamol.modality import Batch
from mamol.seed import generator

COVERAGES = (0.1, 0.3, 0.5, 0.7)
STRIPE_PX = 10
HOLES: dict[str, Callable[[tuple[int, int], float, int], np.ndarray]] = {
    "cloud": lambda shape, share, seed: cloud_mask(shape, share, seed, max(1.0, min(shape) / 10)),
    "stripes": lambda shape, share, seed: stripe_mask(shape, STRIPE_PX, round(share * STRIPE_PX)),
    "swath edge": lambda shape, share, seed: swath_mask(shape, share),
}
STEPS = {"noise": (0.25, 0.5, 1.0, 2.0), "bias": (0.25, 0.5, 1.0, 2.0), "shift": (1.0, 2.0, 3.0)}


@dataclass(frozen=True)
class Disturbance:
    """One thing that happens to one modality. `step`: the share covered, standard deviations, or pixels."""

    kind: str
    modality: str
    step: float

    @property
    def name(self) -> str:
        """Return how a table names it: "cloud over hsi, 30 %"."""
        if self.kind in HOLES:
            return f"{self.kind} in {self.modality}, {self.step:.0%}"
        return f"{self.kind} in {self.modality}, {self.step:g} {'px' if self.kind == 'shift' else 'sd'}"

    def hole(self, shape: tuple[int, int], tile: int, seed: int) -> np.ndarray:
        """Return where the modality is made missing, bool (H, W); nowhere unless this is a hole."""
        draw = HOLES.get(self.kind)
        own = int(generator(seed, f"{self.kind} {self.modality}", tile).integers(2**31))
        return np.zeros(shape, dtype=bool) if draw is None else draw(shape, self.step, own)

    def apply(self, batch: Batch, tile: int, seed: int) -> Batch:
        """Return one tile's batch (1, C, H, W) with this done to it."""
        values, available = batch.values[self.modality], batch.available[self.modality]
        if self.kind in HOLES:
            available = available & ~self.hole(available.shape[1:], tile, seed)
        elif self.kind == "shift":
            values, available = _shifted(values, available, int(self.step))
        else:
            values = values + self._change(values, available, tile, seed)
        return Batch({**batch.values, self.modality: values}, {**batch.available, self.modality: available})

    def _change(self, values: np.ndarray, available: np.ndarray, tile: int, seed: int) -> np.ndarray:
        spread = self.step * _spread(values, available)[None, :, None, None]
        if self.kind == "bias":
            return spread.astype(np.float32)
        noise = generator(seed, f"{self.kind} {self.modality}", tile).standard_normal(values.shape)
        return (spread * noise).astype(np.float32)


def disturbances(protocol: str, modalities: tuple[str, ...]) -> Iterator[Disturbance]:
    """List what a protocol does, in order."""
    steps = dict.fromkeys(HOLES, COVERAGES) if protocol == "pixel" else STEPS
    for kind, own in steps.items():
        for modality in modalities:
            yield from (Disturbance(kind, modality, step) for step in own)


def _spread(values: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Return the standard deviation of every band over the available pixels, (C,)."""
    seen = values[:, :, available[0]]
    return seen.std(axis=(0, 2)) if seen.shape[2] else np.zeros(values.shape[1])


def _shifted(values: np.ndarray, available: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Move a sensor to the right and down; what comes in at the border is missing."""
    moved = np.roll(values, (pixels, pixels), axis=(-2, -1))
    there = np.roll(available, (pixels, pixels), axis=(-2, -1))
    there[..., :pixels, :] = False
    there[..., :, :pixels] = False
    return moved, there
