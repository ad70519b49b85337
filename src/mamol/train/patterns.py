"""How modalities go missing in training (PROTOCOL.md section 3, "Training augmentation").

    none      nothing is hidden
    dropout   each modality is hidden on its own with probability `rate`
    uniform   each sample takes one of its possible patterns, all equally likely

A sample always keeps at least one of the modalities that it really has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mamol.errors import unknown


def draw_training_patterns(observed: np.ndarray, kind: str, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Draw which modalities each sample keeps, bool (B, M), a subset of `observed` (B, M).

    Rows without any observed modality stay empty. Raises UnknownName for an unknown `kind`.
    """
    if kind not in KINDS:
        raise unknown("training pattern", kind, KINDS)
    return KINDS[kind](observed, rate, rng)


def _none(observed: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    return observed.copy()


def _dropout(observed: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    kept = observed & (rng.random(observed.shape) >= rate)
    return _never_empty(kept, observed, rng)


def _uniform(observed: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    # A fair coin per modality is uniform over all subsets; empty ones are thrown again.
    kept = observed & (rng.random(observed.shape) < 0.5)
    for _ in range(64):
        empty = ~kept.any(1) & observed.any(1)
        if not empty.any():
            return kept
        kept[empty] = observed[empty] & (rng.random((int(empty.sum()), observed.shape[1])) < 0.5)
    return _never_empty(kept, observed, rng)


def _never_empty(kept: np.ndarray, observed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give rows that lost everything one of their observed modalities back."""
    chance = np.where(observed, rng.random(observed.shape), -1.0)
    one = chance == chance.max(1, keepdims=True)
    return np.where(kept.any(1, keepdims=True), kept, one & observed)


KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "none": _none,
    "dropout": _dropout,
    "uniform": _uniform,
}
