"""Flex: the pattern's expert first, others beside it."""

import math

import pytest
import torch
from made_rule import X, made, put, softmax

from mamol.errors import ConfigError

ROWS = [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]


def test_top_k_of_the_softmax_as_it_is() -> None:
    gates = put(made("flex", top_k=2), ROWS)(torch.ones(1, 3, 2), X).values[0, 2]
    p = softmax(1, 2, 0)
    torch.testing.assert_close(gates, torch.tensor([p[0], p[1], 0.0]))


def test_the_loss_names_the_pattern() -> None:
    router = put(made("flex", top_k=2, balance=1.0), ROWS)
    present = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    expected = -(math.log(softmax(1, 0, 0)[0]) + math.log(softmax(0, 2, 0)[1]) + math.log(softmax(1, 2, 0)[2])) / 3
    torch.testing.assert_close(router(present, X).loss, torch.tensor(expected))
    alone = router(present, X, torch.tensor([[0.0, 0.0, 1.0]])).loss
    torch.testing.assert_close(alone, torch.tensor(-math.log(softmax(1, 2, 0)[2])))


def test_another_number_of_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 patterns"):
        made("flex", experts=4)
