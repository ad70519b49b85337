"""Masked: a softmax over the modalities that are there."""

import pytest
import torch
from made_rule import X, made, put, softmax

from mamol.errors import ConfigError


def test_missing_modalities_take_no_part_in_the_softmax() -> None:
    router = put(made("masked", modalities=3), [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    present = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    left, right = softmax(0.0, 0.0)
    expected = torch.tensor([[softmax(1, 0, 0), [left, 0.0, right], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(router(present, X).values, expected)


def test_a_row_without_any_has_no_gate() -> None:
    router = made("masked", modalities=3)
    assert torch.equal(router(torch.zeros(1, 3, 3), X).values, torch.zeros(1, 3, 3))


def test_half_precision_has_its_own_smallest_number() -> None:
    router = made("masked", modalities=3)
    present = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            gates = router(present, X).values
        assert torch.equal(gates > 0, present > 0)


def test_another_number_of_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match="each of the 3 modalities"):
        made("masked", experts=2, modalities=3)
