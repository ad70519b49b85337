"""Batches and patterns."""

import numpy as np
import pytest

from mamol.errors import ShapeMismatch, UnknownName, UsageError
from mamol.modality import Batch, Modality, patterns


def batch() -> Batch:
    values = {"a": np.zeros((3, 2, 4, 4), np.float32), "b": np.zeros((3, 5), np.float32)}
    return Batch(values, {"a": np.ones((3, 4, 4), bool), "b": np.array([True, False, True])})


def test_all_patterns_the_full_one_first() -> None:
    found = patterns("abc")
    assert len(found) == len(set(found)) == 7
    assert found[0] == ("a", "b", "c")
    assert found[-1] == ("c",)


def test_only_hides_and_pattern_tells() -> None:
    assert batch().pattern(["b", "a"]).tolist() == [[True, True], [False, True], [True, True]]
    assert batch().only(["b"]).pattern(["a", "b"]).tolist() == [[False, True], [False, False], [False, True]]
    assert len(batch().take(np.array([0, 2]))) == 2
    with pytest.raises(UnknownName):
        batch().only(["c"])


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeMismatch, match=r"\(3, 5\) and availability of shape \(2,\)"):
        Batch({"b": np.zeros((3, 5))}, {"b": np.ones(2, bool)})
    with pytest.raises(UsageError, match="0 bands"):
        Modality("x", 0)
