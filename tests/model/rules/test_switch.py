"""Switch: a linear softmax, cut."""

import torch
from made_rule import BOTH, X, made, put, softmax

ROWS = [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]


def test_the_top_k_keep_their_share() -> None:
    p = softmax(1, 2, 0)
    gates = put(made("switch", top_k=2), ROWS)(BOTH, X).values
    torch.testing.assert_close(gates[0, 2], torch.tensor([p[0], p[1], 0.0]))


def test_the_loss_is_three_times_the_sum_of_use_times_probability() -> None:
    p = [softmax(1, 0, 0), softmax(0, 2, 0), softmax(1, 2, 0)]
    mean = [sum(row[e] for row in p) / 3 for e in range(3)]
    use = [1 / 3, 2 / 3, 0.0]  # k = 1: the first token takes expert 1, the others expert 2
    expected = 3 * sum(f * m for f, m in zip(use, mean, strict=True))
    torch.testing.assert_close(put(made("switch", balance=1.0), ROWS)(BOTH, X).loss, torch.tensor(expected))
