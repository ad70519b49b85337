"""Dense: softmax over all, nothing cut."""

import torch
from made_rule import BOTH, X, made, put, softmax


def test_gates_are_the_softmax_of_the_scores() -> None:
    gates = put(made("dense"), [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])(BOTH, X).values
    expected = torch.tensor([[softmax(1, 0, 0), softmax(0, 2, 0), softmax(1, 2, 0)]])
    torch.testing.assert_close(gates, expected)


def test_temperature_divides_the_scores() -> None:
    gates = put(made("dense", temperature=2.0), [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])(BOTH, X).values
    torch.testing.assert_close(gates[0, 2], torch.tensor(softmax(0.5, 1, 0)))
