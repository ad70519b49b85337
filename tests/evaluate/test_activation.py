"""Mean gates by pattern: over the samples that have the pattern, with the experts' names."""

from __future__ import annotations

import numpy as np

from made import made_samples
from mamol.data.split import make_split
from mamol.evaluate.activation import expert_activation
from mamol.modality import Batch


class Gates:
    """One layer; the first expert is as strong as there are modalities, the second is on with the weather."""

    def activations(self, batch: Batch) -> np.ndarray:
        there = batch.pattern(("optical", "weather", "photo"))
        assert there.any(axis=1).all()
        return np.array([[there.sum(1).mean(), there[:, 1].mean()]])

    def expert_names(self) -> list[str]:
        return ["shared", "specific weather"]


class NoExperts(Gates):
    def activations(self, batch: Batch) -> np.ndarray:
        return np.zeros((1, 0))


def test_gates_by_pattern() -> None:
    data = made_samples()
    split = make_split(data, "block", 0, 8)
    found = expert_activation(Gates(), data, split)
    assert found["experts"] == ["shared", "specific weather"]
    assert len(found["patterns"]) == 7
    assert found["patterns"]["weather"] == [[1.0, 1.0]]
    assert found["patterns"]["optical"] == [[1.0, 0.0]]
    assert expert_activation(NoExperts(), data, split) == {}
