"""Soft MoE: slots are means of tokens, tokens are means of slots."""

import torch
from made_rule import BOTH, X, made, put, softmax
from torch import nn

from mamol.config import MixtureConfig
from mamol.model.experts import ExpertBank

ROWS = [[1.0, 0.0], [0.0, 2.0]]


def test_dispatch_sums_to_one_over_tokens_and_combine_over_experts() -> None:
    slots = put(made("soft", experts=2), ROWS)(BOTH, X).slots
    # Scores per token: (1, 0), (0, 2), (1, 2).
    torch.testing.assert_close(slots.dispatch[0, :, 0, 0], torch.tensor(softmax(1, 0, 1)))
    torch.testing.assert_close(slots.combine[0, 0, :, 0], torch.tensor(softmax(1, 0)))


def test_hidden_tokens_reach_no_slot() -> None:
    slots = put(made("soft", experts=2), ROWS)(BOTH, X, torch.tensor([[1.0, 0.0, 1.0]])).slots
    torch.testing.assert_close(slots.dispatch[0, :, 1, 0], torch.tensor([softmax(0, 2)[0], 0.0, softmax(0, 2)[1]]))


def test_a_bank_runs_the_experts_on_the_slots() -> None:
    found = put(made("soft", experts=2), ROWS)(BOTH, X)
    bank = ExpertBank(2, 4, [3, 2, 2], MixtureConfig(shared_rank=3, dynamic_rank=2, scale=1.0))
    nn.init.normal_(bank.B)
    gates = torch.cat([torch.ones(1, 3, 1), found.values], dim=-1)
    got = bank.low_rank(X, gates, found.slots)
    shared = X @ bank.A[:3].T @ bank.B[:, :3].T
    expected = shared
    for e in range(2):
        rows = slice(3 + 2 * e, 5 + 2 * e)
        slot = (found.slots.dispatch[0, :, e, 0, None] * X[0]).sum(0)  # the mean token of expert e
        said = bank.B[:, rows] @ (bank.A[rows] @ slot)
        expected = expected + found.slots.combine[0, :, e, 0, None] * said
    torch.testing.assert_close(got, expected)
