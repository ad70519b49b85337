"""Which experts a trained mixture uses under every pattern."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mamol.data.dataset import Dataset, modality_names
from mamol.data.split import Split
from mamol.evaluate.report import pattern_name
from mamol.evaluate.score import test_part
from mamol.modality import Batch, patterns

BATCHES, ROWS = 8, 256
"""Of the test part: at most so many batches of at most so many windows or samples are looked at."""


class Mixture(Protocol):
    """What has experts and tells how much it uses them."""

    def activations(self, batch: Batch) -> np.ndarray:
        """Return the mean gate of every expert per layer, (L, E)."""
        ...

    def expert_names(self) -> list[str]:
        """Name the experts in the order of `activations`."""
        ...


def expert_activation(predictor: Mixture, dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return the mean gate of every expert under every pattern, over some of the test part.

    {"experts": names, "patterns": {"s1+s2": gates (layers, experts)}}; {} of a network without experts.
    """
    found: dict[str, list[list[float]]] = {}
    batches = [b.take(slice(0, ROWS)) for b in test_part(dataset, split).batches[:BATCHES]]
    for present in patterns(modality_names(dataset)):
        hidden = [b.only(present) for b in batches]
        some = [np.flatnonzero(b.pattern(b.names()).any(axis=1)) for b in hidden]
        gates = [predictor.activations(b.take(rows)) for b, rows in zip(hidden, some, strict=True) if len(rows)]
        if gates and gates[0].size:
            found[pattern_name(present)] = np.mean(gates, axis=0).round(4).tolist()
    return {"experts": predictor.expert_names(), "patterns": found} if found else {}
