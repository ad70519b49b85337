"""The frozen transformer: hidden tokens change nothing, and its fingerprint is of every weight."""

import torch

from made import tiny_config
from mamol.model.backbone import Backbone, fingerprint, plain


def build() -> Backbone:
    torch.manual_seed(0)
    return Backbone(tiny_config().backbone).eval()


def test_hidden_tokens_change_nothing_for_the_others() -> None:
    model, tokens = build(), torch.randn(2, 6, 16)
    keep = torch.tensor([[True] * 4 + [False] * 2] * 2)
    out = model(tokens, keep)[:, :4]
    assert torch.allclose(out, model(tokens[:, :4])[:, :4], atol=1e-6)
    other = tokens.clone()
    other[:, 4:] = 99
    assert torch.equal(out, model(other, keep)[:, :4])


def test_every_named_part_can_be_adapted() -> None:
    model, tokens, seen = build(), torch.randn(1, 3, 16), []

    def adapt(layer: int) -> object:
        def run(place: str, frozen: object, x: torch.Tensor) -> torch.Tensor:
            seen.append((layer, place))
            return plain(place, frozen, x)

        return run

    assert torch.equal(model(tokens, None, adapt), model(tokens))
    assert {p for _, p in seen} == {"q", "k", "v", "out", "ffn", "fc1", "fc2"}
    assert {i for i, _ in seen} == {0, 1}


def test_fingerprint_sees_one_changed_weight() -> None:
    a, b = build(), build()
    assert fingerprint(a) == fingerprint(b)
    with torch.no_grad():
        b.blocks[1].q.weight[0, 0] += 1e-7
    assert fingerprint(a) != fingerprint(b)
