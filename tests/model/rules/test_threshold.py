"""Threshold: as many experts as pass it."""

import torch
from made_rule import BOTH, X, made, put, softmax


def test_what_passes_the_threshold_shares_what_is_over_it() -> None:
    router = put(made("threshold"), [[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    with torch.no_grad():
        router.threshold.weight.zero_()
        router.threshold.bias.zero_()
    gates = router(BOTH, X).values[0]
    limit = 0.5 / 3  # sigmoid(0) / E
    p = softmax(2, 2, 0)  # two pass, the third (0.063) does not
    over = [v - limit for v in p[:2]]
    torch.testing.assert_close(gates[2], torch.tensor([over[0] / sum(over), over[1] / sum(over), 0.0]))
    assert (gates > 0).sum(1).tolist() == [1, 1, 2]


def test_at_least_one_expert_passes_a_high_threshold() -> None:
    router = put(made("threshold"), [[0.0, 0.0], [0.0, 0.01], [0.0, 0.0]])
    with torch.no_grad():
        router.threshold.bias.fill_(200.0)
    gates = router(BOTH, X).values[0]
    torch.testing.assert_close(gates.sum(-1), torch.ones(3))
    assert gates[0].tolist() == [1.0, 0.0, 0.0]  # equal scores, and the sigmoid is 1: none is over the threshold
