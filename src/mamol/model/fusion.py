"""From the tokens of several sensors to one feature, through the backbone with whatever stands beside it.

    joint   one sequence of all tokens, attention across modalities     ->  mean over the modalities that are there
    late    the backbone once per modality                              ->  a feature each; zeros for what was not seen

Source: METHOD.md sections 2 and 3; `joint` is ours, `late` the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mamol.model.backbone import Adapt, Backbone, plain
from mamol.model.packing import packing_of
from mamol.model.routing import Routing
from mamol.model.tokens import Tokens

BindExperts = Callable[[int, Routing], Adapt]


@dataclass(frozen=True)
class Around:
    """What stands beside the frozen backbone in one call: experts, layer by layer, and prompts.

    `tokenwise`: what a token gets from them does not depend on the other tokens of its sample.
    """

    adapt: BindExperts
    prompts: Tensor | None
    tokenwise: bool


def no_experts(layer: int, routing: Routing) -> Adapt:
    """Leave every layer as it is."""
    return plain


def joint(backbone: Backbone, tokens: dict[int, Tokens], routing: Routing, around: Around, dense: bool) -> Tensor:
    """Run one sequence of all tokens; return (B, N, D) per ground cell if dense, else (B, D)."""
    sequence = torch.cat([t.values for t in tokens.values()], dim=1)
    keep = torch.cat([t.keep for t in tokens.values()], dim=1)
    packing = packing_of(keep) if around.tokenwise and not torch.compiler.is_compiling() else None
    if packing is None:
        out = backbone(sequence, keep, lambda i: around.adapt(i, routing), around.prompts)
    else:
        row = routing.packed(packing)
        out = packing.unpack(backbone(packing.pack(sequence), None, lambda i: around.adapt(i, row), packing=packing))
    weight = keep[..., None].to(out.dtype)
    if dense:
        out, weight = (x.unflatten(1, (len(tokens), -1)) for x in (out, weight))  # (B, M', N, D)
    return (out * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def late(backbone: Backbone, tokens: dict[int, Tokens], routing: Routing, around: Around, dense: bool) -> dict[int, Tensor]:
    """Run the backbone once per modality; return each one's feature, zeros where it was not seen.

    That holds for what a placeholder stands in for, too: it takes part in attention and has no feature of its own.
    """
    start, features = 0, {}
    every = torch.cat([t.seen for t in tokens.values()], dim=1).sum(1, keepdim=True).clamp_min(1)
    for i, t in tokens.items():
        n = t.values.shape[1]
        mine = slice(start, start := start + n)
        part = replace(routing, index=routing.index[:, mine], keep=t.keep, share=t.seen / every)
        # A sample without the modality would attend to nothing: let it attend to its fill, then zero it.
        keep = t.keep | ~t.keep.any(1, keepdim=True)
        out = backbone(t.values, keep, lambda layer, part=part: around.adapt(layer, part), around.prompts)
        weight, seen = (x[..., None].to(out.dtype) for x in (t.keep, t.seen))
        mean = (out * weight).sum(1) / weight.sum(1).clamp_min(1.0)
        features[i] = out * seen if dense else mean * seen.amax(1)
    return features
