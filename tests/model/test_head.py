"""Experts in the head: what they add, pattern by pattern, and what is left after folding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from made import MODALITIES, made_samples, tiny_config
from mamol.config import Config
from mamol.modality import patterns
from mamol.model.classifier import Classifier, InputShape
from mamol.model.head import HeadExperts

SCENE = InputShape(MODALITIES, {m.name: m.bands for m in MODALITIES}, 3, True)
SAMPLES = InputShape(made_samples(4).modalities, {m.name: m.bands for m in made_samples(4).modalities}, 3, False)


def config(**experts: object) -> Config:
    return tiny_config(experts={"head_rank": 2, **experts})


def shaken(shape: InputShape) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(shape, config()).eval()
    assert model.head_experts is not None
    for p in [*model.mixture.banks.parameters(), *model.head_experts.parameters()]:
        nn.init.normal_(p, std=0.2)
    return model


def test_each_row_takes_the_experts_of_its_own_pattern() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    own = HeadExperts(head, 2, config(n_dynamic=0, scale=0.5).experts, config().router)
    bank = own.banks["1"]
    nn.init.normal_(bank.B)
    x = torch.randn(5, 4)
    present = torch.tensor([[True, False], [False, True], [True, True], [True, False], [False, True]])
    z = head[0](x)
    one, two = (0.5 * z @ bank.A[s].T @ bank.B[:, s].T for s in (slice(0, 2), slice(2, 4)))
    expected = head(x) + present[:, :1] * one + present[:, 1:] * two
    torch.testing.assert_close(own(head, x, present), expected)


def test_untrained_experts_change_nothing_to_the_bit() -> None:
    torch.manual_seed(0)
    model = Classifier(SAMPLES, config()).eval()
    batch = made_samples(6).samples
    values = {m: torch.from_numpy(v) for m, v in batch.values.items()}
    available = {m: torch.from_numpy(a) for m, a in batch.available.items()}
    assert torch.equal(model(values, available).logits, model(values, available, experts=False).logits)


@pytest.mark.parametrize("present", patterns([m.name for m in MODALITIES]))
def test_a_folded_head_says_the_same_without_experts(present: tuple[str, ...]) -> None:
    model = shaken(SCENE)
    values = {m.name: torch.randn(2, m.bands, 8, 8) for m in MODALITIES}
    available = {m.name: torch.full((2, 8, 8), m.name in present) for m in MODALITIES}
    folded = model.folded(present)
    assert folded.head_experts is None
    with torch.no_grad():
        torch.testing.assert_close(folded(values, available).logits, model(values, available).logits, atol=1e-5, rtol=1e-5)


def test_a_pixel_takes_its_own_pattern_not_its_windows() -> None:
    model = shaken(SCENE)
    assert model.head_experts is not None
    seen: list[torch.Tensor] = []
    model.head_experts.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    values = {m.name: torch.randn(1, m.bands, 8, 8) for m in MODALITIES}
    available = {m.name: torch.rand(1, 8, 8) > 0.3 for m in MODALITIES}
    available["hsi"][:] = True
    model(values, available)
    assert torch.equal(seen[0], torch.stack([available[m.name] for m in MODALITIES], dim=-1))


def test_their_weights_are_counted_and_trained() -> None:
    plain = Classifier(SCENE, tiny_config()).parameter_counts()
    counts = shaken(SCENE).parameter_counts()
    assert counts["experts"] > plain["experts"]
    assert counts["router"] > plain["router"]
    assert counts["head"] == plain["head"]
