"""Tokens in one row: the same answers as with the missing ones in between, for less."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from made import MODALITIES, tiny_config
from mamol.model import packing
from mamol.model.backbone import Backbone
from mamol.model.classifier import Classifier, InputShape, Output
from mamol.model.packing import MOST_LENGTHS, attend_to, packing_of
from mamol.model.rules import RULES

KEEP = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]]).bool()

EXPERTS = {"table": 7, "flex": 7, "masked": 3}
"""Rules that need so many dynamic experts with three modalities."""


def test_the_row_of_three_samples() -> None:
    row = packing_of(KEEP)
    assert row is not None
    assert row.place.tolist() == [0, 1, 10, 11, 4, 5, 6, 7]
    assert row.sample.tolist() == [0, 0, 2, 2, 1, 1, 1, 1]
    assert row.groups == ((2, 2), (1, 4))
    assert bool(row.keep.all())
    x = torch.arange(12.0).view(3, 4, 1)
    assert row.pack(x)[0, :, 0].tolist() == [0, 1, 10, 11, 4, 5, 6, 7]
    assert row.unpack(row.pack(x))[..., 0].tolist() == [[0, 1, 0, 0], [4, 5, 6, 7], [0, 0, 10, 11]]


def test_a_row_that_is_hardly_shorter_is_not_made() -> None:
    assert packing_of(torch.ones(3, 4, dtype=torch.bool)) is None
    assert packing_of(KEEP) is not None


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 30), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_attention_is_that_of_each_sample_alone(samples: int, length: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    keep = torch.rand(samples, length) < share
    keep[torch.arange(samples), torch.randint(length, (samples,))] = True
    row = packing_of(keep)
    if row is None:
        assert keep.sum() > packing.WORTH * keep.numel() or len(keep.sum(1).unique()) > MOST_LENGTHS
        return
    assert len(row.groups) <= MOST_LENGTHS
    assert sum(n * each for n, each in row.groups) == len(row.place) <= packing.WORTH * keep.numel()
    assert sorted(row.place[row.keep[0]].tolist()) == keep.flatten().nonzero()[:, 0].tolist()
    qkv = torch.randn(3, samples, length, 2, 4)
    expected = attend_to(keep)(*qkv)
    found = row.attend()(*(row.pack(x) for x in qkv))
    torch.testing.assert_close(row.unpack(found.flatten(2))[keep], expected.flatten(2)[keep])


def test_a_backbone_gives_the_same_features() -> None:
    torch.manual_seed(0)
    backbone = Backbone(tiny_config().backbone)
    x = torch.randn(3, 4, backbone.width)
    row = packing_of(KEEP)
    assert row is not None
    packed = row.unpack(backbone(row.pack(x), packing=row))
    torch.testing.assert_close(packed[KEEP], backbone(x, KEEP)[KEEP])


def with_holes(model: Classifier) -> tuple[Output, dict[str, Tensor]]:
    """Classify windows in which sensors are missing as a whole, and pixels in others; return gradients, too."""
    torch.manual_seed(1)
    values = {m.name: torch.randn(6, m.bands, 8, 8) for m in MODALITIES}
    available = {m.name: torch.rand(6, 8, 8) < 0.3 for m in MODALITIES}
    for i, m in enumerate(MODALITIES):
        available[m.name][i] = False
    available[MODALITIES[0].name][:, 0] = True
    available[MODALITIES[1].name][0, 0] = True
    model.zero_grad()
    out = model(values, available)
    (out.logits.square().mean() + sum(out.routing.balance, start=torch.zeros(()))).backward()
    return out, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("router_input", ["pattern", "pattern+content"])
@pytest.mark.parametrize("rule", RULES)
def test_a_classifier_answers_and_learns_alike(rule: str, router_input: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"rule": rule, "balance": 0.1, "input": router_input}
    config = tiny_config(router=changed, experts={"n_dynamic": EXPERTS.get(rule, 4)})
    torch.manual_seed(0)
    model = Classifier(InputShape(MODALITIES, {m.name: m.bands for m in MODALITIES}, 3, True), config).eval()
    for name, p in model.mixture.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(p, std=0.1)
    rows: list[bool] = []
    made = packing_of

    def watched(keep: Tensor) -> packing.Packing | None:
        rows.append((found := made(keep)) is not None)
        return found

    monkeypatch.setattr("mamol.model.fusion.packing_of", watched)
    out, gradients = with_holes(model)
    assert rows == ([] if model.mixture.mixes_tokens else [True])
    monkeypatch.setattr("mamol.model.fusion.packing_of", lambda keep: None)
    padded, expected = with_holes(model)
    torch.testing.assert_close(out.logits, padded.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.routing.chosen, padded.routing.chosen, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == expected.keys()
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-6)
