"""What holds for every rule."""

import pytest
import torch
from made_rule import X, made

from mamol.config import MixtureConfig, RouterConfig, Rule
from mamol.errors import ConfigError
from mamol.model.rules import RULES, by_pattern, refuse_mixing

EXPERTS = {"table": 3, "flex": 3, "masked": 2}
PRESENT = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])


def test_the_configuration_names_every_rule() -> None:
    assert set(Rule.__args__) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("input", ["pattern", "pattern+content", "content"])
def test_gates_are_finite_non_negative_and_trained(rule: str, input: str) -> None:
    router = made(rule, EXPERTS.get(rule, 4), top_k=2, input=input, balance=0.1).train()
    found = router(PRESENT, X, torch.tensor([[1.0, 1.0, 0.0]]))
    assert found.values.shape == (1, 3, EXPERTS.get(rule, 4))
    assert bool(((found.values >= 0) & (found.values <= 1 + 1e-6)).all())
    assert bool(found.loss.isfinite())
    if list(router.parameters()):
        ((found.values * torch.rand_like(found.values)).sum() + found.loss).backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in router.parameters())


@pytest.mark.parametrize("rule", RULES)
def test_without_balance_there_is_no_loss(rule: str) -> None:
    assert made(rule, EXPERTS.get(rule, 4))(PRESENT, X).loss is None


def test_only_gates_of_the_pattern_alone_fold() -> None:
    experts = MixtureConfig(n_dynamic=3)
    for rule, folds in (("mlp", True), ("dense", True), ("table", True), ("soft", False), ("expert-choice", False)):
        assert by_pattern(experts, RouterConfig(rule=rule)) is folds
    assert not by_pattern(experts, RouterConfig(rule="dense", input="content"))
    assert by_pattern(experts, RouterConfig(rule="table", input="content"))
    assert by_pattern(MixtureConfig(n_dynamic=0), RouterConfig(rule="soft", input="content"))


def test_rules_that_mix_tokens_are_refused_beside_somebodys_model() -> None:
    with pytest.raises(ConfigError, match="take one of: mlp, table, dense"):
        refuse_mixing(MixtureConfig(), RouterConfig(rule="soft"))
    refuse_mixing(MixtureConfig(n_dynamic=0), RouterConfig(rule="soft"))
