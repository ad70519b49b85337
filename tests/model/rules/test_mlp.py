"""MaMOL's rule: softmax of a small network, cut to its top k."""

import torch
from made_rule import BOTH, X, made, softmax


def test_the_largest_keeps_its_softmax_value() -> None:
    router = made("mlp", experts=2, hidden=2)
    with torch.no_grad():
        for linear, weight in ((router.mlp[0], torch.eye(2)), (router.mlp[2], torch.tensor([[3.0, 0.0], [0.0, 1.0]]))):
            linear.weight.copy_(weight)
            linear.bias.zero_()
    gelu = torch.nn.functional.gelu(torch.tensor(1.0)).item()
    first, _ = softmax(3 * gelu, gelu)
    torch.testing.assert_close(router(BOTH, X).values[0, 2], torch.tensor([first, 0.0]))
