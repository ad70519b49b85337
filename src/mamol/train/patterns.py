"""How modalities go missing in training (PROTOCOL.md section 3, "Training augmentation").

    none      nothing is hidden
    dropout   each modality is hidden on its own with probability `rate`
    uniform   each sample takes one of its possible patterns, all equally likely

A sample always keeps at least one of the modalities that it really has. Patterns that are held out (train.held_out, the
`unseen` protocol) are drawn again; only a sample that has nothing else shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mamol.errors import unknown


def draw_training_patterns(
    observed: np.ndarray,
    kind: str,
    rate: float,
    rng: np.random.Generator,
    held_out: np.ndarray | None = None,
    needed: np.ndarray | None = None,
) -> np.ndarray:
    """Draw which modalities each sample keeps, bool (B, M), a subset of `observed` (B, M).

    Rows without any observed modality stay empty. `held_out` (n, M): patterns that must not come up. `needed` (M,): the
    modalities of which a row keeps at least one, where it has one; None for all. Raises UnknownName for an unknown `kind`.
    """
    if kind not in KINDS:
        raise unknown("training pattern", kind, KINDS)
    some = observed if needed is None else observed & needed
    wanted = np.where(some.any(1, keepdims=True), some, observed)
    kept = KINDS[kind](observed, wanted, rate, rng)
    if held_out is None or not len(held_out):
        return kept
    for _ in range(64):
        again = (kept[:, None] == held_out).all(2).any(1)
        if not again.any():
            break
        kept[again] = _uniform(observed[again], wanted[again], rate, rng)
    return kept


def held_out_patterns(names: Sequence[str], order: Sequence[str]) -> np.ndarray:
    """Return patterns such as "s1+s2" as bool (n, M); raises UnknownName for a modality that is not in `order`."""
    rows = [name.split("+") for name in names]
    for m in (m for row in rows for m in row if m not in order):
        raise unknown("modality in train.held_out", m, order)
    return np.array([[m in row for m in order] for row in rows], dtype=bool).reshape(len(rows), len(order))


def _none(observed: np.ndarray, wanted: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    return observed.copy()


def _dropout(observed: np.ndarray, wanted: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    kept = observed & (rng.random(observed.shape) >= rate)
    return _never_without(kept, wanted, rng)


def _uniform(observed: np.ndarray, wanted: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    # A fair coin per modality is uniform over all subsets; those without a wanted one are thrown again.
    kept = observed & (rng.random(observed.shape) < 0.5)
    for _ in range(64):
        lost = ~(kept & wanted).any(1) & wanted.any(1)
        if not lost.any():
            return kept
        kept[lost] = observed[lost] & (rng.random((int(lost.sum()), observed.shape[1])) < 0.5)
    return _never_without(kept, wanted, rng)


def _never_without(kept: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give rows that lost all that is wanted one of it back."""
    chance = np.where(wanted, rng.random(wanted.shape), -1.0)
    one = chance == chance.max(1, keepdims=True)
    return np.where((kept & wanted).any(1, keepdims=True), kept, kept | (one & wanted))


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "none": _none,
    "dropout": _dropout,
    "uniform": _uniform,
}
