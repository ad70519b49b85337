"""The mixture against its equation, computed by hand with plain loops."""

import pytest
import torch
from torch import nn

from made import tiny_config
from mamol.model.backbone import Backbone
from mamol.model.experts import ExpertBank, Mixture, folded
from mamol.model.routing import route

TARGETS = ["q", "v", "fc1", "fc2"]


@pytest.fixture
def bank() -> ExpertBank:
    torch.manual_seed(0)
    bank = ExpertBank(5, 7, ranks=[3, 1, 2], config=tiny_config(experts={"alpha": 6.0, "scale": 0.0}).experts)
    nn.init.normal_(bank.B)
    return bank


def by_hand(bank: ExpertBank, x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """sum_e g_e (alpha / r_e) B_e A_e x, one expert at a time."""
    out, start = 0, 0
    for e, rank in enumerate([3, 1, 2]):
        a, b = bank.A[start : start + rank], bank.B[:, start : start + rank]
        out = out + gates[..., e : e + 1] * (6.0 / rank) * (x @ a.T @ b.T)
        start += rank
    return out


def test_low_rank_equals_the_equation(bank: ExpertBank) -> None:
    x, gates = torch.randn(2, 4, 5), torch.rand(2, 4, 3)
    torch.testing.assert_close(bank.low_rank(x, gates), by_hand(bank, x, gates))


def test_tied_experts_share_one_a_and_keep_their_own_b() -> None:
    config = tiny_config(experts={"tied": True, "n_dynamic": 2, "dynamic_rank": 2, "scale": 0.5}).experts
    bank = ExpertBank(5, 7, [3, 2, 2], config)
    nn.init.normal_(bank.B)
    assert bank.A.shape == (3 + 2, 5)
    x, gates = torch.randn(2, 4, 5), torch.rand(2, 4, 3)
    own, a = bank.A[:3], bank.A[3:]
    one, two = bank.B[:, 3:5], bank.B[:, 5:]
    expected = 0.5 * (gates[..., :1] * (x @ own.T @ bank.B[:, :3].T))
    expected = expected + 0.5 * (gates[..., 1:2] * (x @ a.T @ one.T) + gates[..., 2:] * (x @ a.T @ two.T))
    torch.testing.assert_close(bank.low_rank(x, gates), expected)
    torch.testing.assert_close(x[0] @ bank.weight_change(gates[0, 0]).T, bank.low_rank(x, gates[:1, :1].expand(2, 4, 3))[0])
    assert config.rows(1) == sum(config.ranks(1)) - 2


def test_one_scale_for_all_takes_the_place_of_alpha_over_r() -> None:
    bank = ExpertBank(5, 7, [3, 1, 2], tiny_config(experts={"scale": 1.5}).experts)
    assert bank.column_scale.tolist() == [1.5] * 6


def test_folded_equals_low_rank_for_mixed_patterns(bank: ExpertBank) -> None:
    frozen, x = nn.Linear(5, 7), torch.randn(3, 4, 5)
    table = torch.rand(4, 3)
    index = torch.randint(0, 4, (3, 4))
    expected = frozen(x) + bank.low_rank(x, table[index])
    torch.testing.assert_close(folded(frozen, [(bank, table)], x, index), expected, atol=1e-5, rtol=1e-5)


def test_one_pattern_is_one_frozen_product(bank: ExpertBank) -> None:
    frozen, x, gates = nn.Linear(5, 7), torch.randn(1, 4, 5), torch.rand(1, 3)
    got = folded(frozen, [(bank, gates)], x, torch.zeros(1, 4, dtype=torch.long))
    weight = frozen.weight + bank.weight_change(gates[0])
    assert torch.equal(got, nn.functional.linear(x, weight, frozen.bias))


def test_route_finds_the_distinct_patterns() -> None:
    available = torch.tensor([[[True, False], [True, True], [True, False]]])
    routing = route(available, torch.tensor([0, 0, 1]), own=False)
    assert routing.codes[routing.index].tolist() == available.float().tolist()
    assert len(routing.codes) == 2


def test_route_with_own_modality_tells_tokens_of_one_pattern_apart() -> None:
    available = torch.ones(1, 4, 2, dtype=torch.bool)
    routing = route(available, torch.tensor([0, 0, 1, 1]), own=True)
    assert routing.own is not None
    assert routing.own[routing.index].tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(("kind", "folds"), [("pattern", True), ("pattern+content", False), ("content", False)])
def test_both_paths_agree_through_a_backbone(kind: str, folds: bool) -> None:
    outputs = {}
    for path in ("low-rank", "folded"):
        config = tiny_config(experts={"targets": TARGETS, "path": path}, router={"input": kind})
        torch.manual_seed(1)
        backbone, mixture = Backbone(config.backbone), Mixture(3, config)
        for p in mixture.parameters():
            nn.init.normal_(p, std=0.3)
        x = torch.randn(4, 6, 16)
        available = torch.rand(4, 1, 3).gt(0.4).expand(-1, 6, -1) | torch.tensor([True, False, False])
        routing = route(available, torch.zeros(6, dtype=torch.long), own=False)
        with torch.no_grad():
            outputs[path] = backbone(x, None, lambda i, m=mixture, r=routing: m.adapt(i, r))
        assert mixture.gates(0, routing, x).per_token is not folds
    torch.testing.assert_close(outputs["low-rank"], outputs["folded"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", [["fc2"], ["fc2", "out"], ["fc1", "fc2"], ["fc2", "ffn"]])
def test_a_router_is_as_wide_as_what_the_first_adapted_place_of_a_layer_sees(targets: list[str]) -> None:
    config = tiny_config(experts={"targets": targets}, router={"input": "pattern+content"})
    backbone, mixture = Backbone(config.backbone), Mixture(2, config)
    routing = route(torch.ones(2, 5, 2, dtype=torch.bool), torch.zeros(5, dtype=torch.long), own=False)
    out = backbone(torch.randn(2, 5, 16), None, lambda i: mixture.adapt(i, routing))
    assert out.shape == (2, 5, 16)
    assert mixture.router(0)(routing.codes, torch.randn(1, 16 * (2 if targets == ["fc2"] else 1))).values.shape == (1, 2)


@pytest.mark.parametrize("targets", [TARGETS, ["ffn"]])
def test_an_untrained_mixture_changes_not_one_bit(targets: list[str]) -> None:
    config = tiny_config(experts={"targets": targets})
    torch.manual_seed(0)
    backbone, mixture, x = Backbone(config.backbone), Mixture(2, config), torch.randn(2, 5, 16)
    routing = route(torch.ones(2, 5, 2, dtype=torch.bool), torch.zeros(5, dtype=torch.long), own=False)
    assert torch.equal(backbone(x, None, lambda i: mixture.adapt(i, routing)), backbone(x))


def test_specific_experts_follow_the_mask() -> None:
    config = tiny_config(experts={"n_dynamic": 0})
    mixture = Mixture(3, config)
    routing = route(torch.tensor([[[True, False, True]]]), torch.tensor([0]), own=False)
    found = mixture.gates(0, routing, None)
    gates, per_token = found.values, found.per_token
    assert gates.tolist() == [[1.0, 1.0, 0.0, 1.0]]
    assert not per_token
    assert mixture.config.names(["a", "b", "c"]) == ["shared", "specific a", "specific b", "specific c"]


def test_own_scope_keeps_only_the_tokens_own_expert() -> None:
    mixture = Mixture(2, tiny_config(experts={"n_dynamic": 0, "scope": "own"}))
    routing = route(torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([0, 1]), own=True)
    gates = mixture.gates(0, routing, None).values
    assert gates[routing.index].tolist() == [[[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]]


def test_layers_not_chosen_are_plain() -> None:
    mixture = Mixture(2, tiny_config(experts={"layers": [1]}))
    assert [name for name, _ in mixture.banks.named_children()] == [f"1_{t}" for t in mixture.config.targets]


def test_the_papers_projection_is_trained_beside_the_ffn() -> None:
    config = tiny_config(experts={"targets": ["ffn"], "projection": True, "init_b": "normal"})
    bank = Mixture(2, config).banks["0_ffn"]
    assert bank.projection is not None
    assert bank.B.abs().sum() > 0
