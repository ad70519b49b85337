"""Gates against hand-computed examples."""

import torch

from made import tiny_config
from mamol.model.router import Router, StaticGates, balance_loss
from mamol.model.rules import make_router


def make(**router: object) -> Router:
    torch.manual_seed(0)
    config = tiny_config(router=router, experts={"n_dynamic": 3, "top_k": 1})
    return make_router(2, 16, config.experts, config.router)


def test_psi_is_a_sum_over_modalities() -> None:
    router = make()
    absent, there = router.psi
    assert torch.allclose(router.embed(torch.tensor([1.0, 0.0])), there[0] + absent[1])


def test_top_k_keeps_the_softmax_value_and_zeroes_the_rest() -> None:
    found = make()(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    gates, probability = found.values, found.probability
    assert (gates > 0).sum(-1).tolist() == [1, 1]
    assert torch.equal(gates.max(-1).values, probability.max(-1).values)
    assert torch.allclose(probability.sum(-1), torch.ones(2))


def test_a_pattern_router_never_sees_content() -> None:
    router, code = make(input="pattern"), torch.tensor([[1.0, 0.0]])
    assert torch.equal(router(code, torch.randn(1, 16)).values, router(code, torch.randn(1, 16)).values)


def test_a_content_router_never_sees_the_pattern() -> None:
    router, z = make(input="content"), torch.randn(1, 16)
    assert torch.equal(router(torch.tensor([[1.0, 0.0]]), z).values, router(torch.tensor([[0.0, 1.0]]), z).values)


def test_a_low_temperature_sharpens() -> None:
    code = torch.tensor([[1.0, 0.0]])
    assert make(temperature=0.3)(code).values.max() > make(temperature=3.0)(code).values.max()


def test_balance_is_one_when_even_and_e_when_collapsed() -> None:
    even = torch.full((4, 2), 0.5)
    gates = torch.tensor([[0.5, 0.0], [0.0, 0.5]] * 2)
    assert torch.isclose(balance_loss(even, gates), torch.tensor(1.0))
    one = torch.tensor([[1.0, 0.0]] * 4)
    assert torch.isclose(balance_loss(one, one), torch.tensor(2.0))


def test_embedding_gate_is_a_threshold_of_what_it_learned_to_be() -> None:
    torch.manual_seed(0)
    static = StaticGates(3, "embedding")
    gates = static(torch.tensor([[1.0, 0.0, 1.0]]), None)
    expected = torch.stack([static.embedding[1, 0], static.embedding[0, 1], static.embedding[1, 2]]) > 0.5
    assert gates.bool().tolist() == [expected.tolist()]
