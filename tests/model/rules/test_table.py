"""Table: one expert per pattern."""

import pytest
import torch
from made_rule import X, made

from mamol.errors import ConfigError


def test_each_pattern_has_its_own_expert() -> None:
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert torch.equal(made("table")(present).values, torch.eye(3))


def test_it_has_no_weights_and_never_sees_content() -> None:
    router = made("table")
    assert not list(router.parameters())
    assert not router.sees_content
    assert torch.equal(router(torch.ones(1, 3, 2), X).values, router(torch.ones(1, 3, 2)).values)


def test_another_number_of_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"7 patterns of 3 modalities; set experts\.n_dynamic"):
        made("table", experts=6, modalities=3)
