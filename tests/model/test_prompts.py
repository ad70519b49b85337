"""Missing-aware prompts: whose they are, and where they stand."""

from __future__ import annotations

import pytest
import torch

from made import MODALITIES, tiny_config
from mamol.errors import ConfigError
from mamol.model.backbone import Backbone
from mamol.model.classifier import Classifier, InputShape
from mamol.model.packing import attend_to
from mamol.model.prompts import Prompts

SCENE = InputShape(MODALITIES, {m.name: m.bands for m in MODALITIES}, 3, True)
NONE = {"shared_rank": 0, "specific_rank": 0, "n_dynamic": 0}


def test_each_sample_has_the_prompts_of_its_pattern() -> None:
    prompts = Prompts(2, depth=2, length=3, width=4)
    present = torch.tensor([[True, False], [True, True], [True, False]])
    got = prompts(present)
    assert torch.equal(got, prompts.tokens[[0, 2, 0]])
    assert got.shape == (3, 2, 3, 4)


def test_a_layer_sees_its_own_prompts_and_drops_them() -> None:
    torch.manual_seed(0)
    backbone = Backbone(tiny_config().backbone)
    x, keep = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    prompts = torch.randn(2, 2, 3, 16)
    by_hand = x
    for i, block in enumerate(backbone.blocks):
        by_hand = block(torch.cat([prompts[:, i], by_hand], 1), attend_to(torch.cat([torch.ones(2, 3).bool(), keep], 1)))[:, 3:]
    torch.testing.assert_close(backbone(x, keep, prompts=prompts), backbone.norm(by_hand))


@pytest.mark.parametrize("fusion", ["joint", "late"])
def test_only_the_pattern_that_came_up_is_trained(fusion: str) -> None:
    torch.manual_seed(0)
    model = Classifier(SCENE, tiny_config(experts=NONE, model={"prompts": 2, "fusion": fusion}))
    values = {m.name: torch.randn(2, m.bands, 8, 8) for m in MODALITIES}
    available = {m.name: torch.full((2, 8, 8), m.name != "lidar") for m in MODALITIES}
    model(values, available).logits.sum().backward()
    moved = model.prompts.tokens.grad.abs().sum((1, 2, 3)) > 0
    assert moved.tolist() == [False, False, True, False, False, False, False]  # hsi + sar is number 2
    assert model.parameter_counts()["experts"] == model.prompts.tokens.numel()


def test_prompts_and_experts_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="without experts"):
        tiny_config(model={"prompts": 2})
