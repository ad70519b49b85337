"""What a block's layers hold, by hand."""

import numpy as np
import pytest

from made import made_scene
from mamol.errors import UnknownName, UsageError
from mamol.mapping.layers import Block, make_layers, pattern_bits
from mamol.modality import Batch


def block() -> Block:
    probability = np.array([[[0.5, 1.0, np.nan]], [[0.5, 0.0, np.nan]]], dtype=np.float32)
    return Block(probability, np.array([[1, 2, 0]], dtype=np.uint32), np.array([[2, 1, 0]], dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("class", [[[1, 1, 0]]]),
        ("confidence", [[[0.5, 1, np.nan]]]),
        ("pattern", [[[1, 2, 0]]]),
        ("entropy", [[[1, 0, np.nan]]]),
        ("probability", [[[125, 250, 255]], [[125, 0, 255]]]),
        ("probability-float", [[[0.5, 1, np.nan]], [[0.5, 0, np.nan]]]),
        ("expert", [[[2, 1, 0]]]),
    ],
)
def test_by_hand(name: str, expected: list[object]) -> None:
    layer = make_layers([name], 2, 2)[name]
    found = layer.compute(block())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == layer.dtype
    assert len(found) == layer.bands


def test_types_follow_the_counts_and_unknown_layers_are_named() -> None:
    assert make_layers([], 255, 8)["class"].dtype == "uint8"
    assert make_layers([], 256, 8)["class"].dtype == "uint16"
    assert [make_layers(["pattern"], 2, m)["pattern"].dtype for m in (8, 9, 17)] == ["uint8", "uint16", "uint32"]
    assert list(make_layers(["pattern"], 2, 2)) == ["class", "pattern"]
    with pytest.raises(UnknownName, match="Did you mean 'entropy'"):
        make_layers(["entropie"], 2, 2)
    with pytest.raises(UsageError, match="at most 65535 classes"):
        make_layers([], 70_000, 2)


def test_pattern_bits() -> None:
    batch = made_scene(1).tiles[0].batch()
    order = ("lidar", "none", *(m for m in batch.names() if m != "lidar"))
    bits = pattern_bits(Batch(batch.values, batch.available), order)
    for i, m in enumerate(order):
        seen = batch.available[m][0] if m in batch.available else np.zeros(bits.shape, bool)
        np.testing.assert_array_equal((bits >> i) & 1, seen)


def test_no_class_where_the_model_has_no_finite_probability() -> None:
    probability = np.array([[[0.5, np.nan, 0.9]], [[0.5, np.nan, np.inf]]], dtype=np.float32)
    made = Block(probability, np.array([[1, 3, 2]], dtype=np.uint32))
    layers = make_layers(["confidence", "pattern", "entropy", "probability", "probability-float"], 2, 2)
    found = {name: layer.compute(made) for name, layer in layers.items()}
    assert found["class"].tolist() == [[[1, 0, 0]]]
    assert found["pattern"].tolist() == [[[1, 3, 2]]]
    assert found["probability"].tolist() == [[[125, 255, 255]], [[125, 255, 255]]]
    for name in ("confidence", "entropy", "probability-float"):
        assert np.isnan(found[name][:, 0, 1:]).all()
        assert np.isfinite(found[name][:, 0, 0]).all()
