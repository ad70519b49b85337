"""A router of a given rule that sees tokens of width 2 and nothing else, with weights put in by hand."""

from __future__ import annotations

import torch

from mamol.config import MixtureConfig, RouterConfig
from mamol.model.router import Router
from mamol.model.rules import make_router

X = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
"""Three tokens of one sample."""
BOTH = torch.ones(1, 3, 2)
"""Both modalities are there, for each of them."""


def made(rule: str, experts: int = 3, top_k: int = 1, modalities: int = 2, **router: object) -> Router:
    torch.manual_seed(0)
    config = RouterConfig.model_validate({"rule": rule, "input": "content"} | router)
    return make_router(modalities, 2, MixtureConfig(n_dynamic=experts, top_k=top_k), config)


def put(router: Router, rows: list[list[float]], bias: list[float] | None = None) -> Router:
    """Set the linear scores of a rule."""
    with torch.no_grad():
        router.score.weight.copy_(torch.tensor(rows))
        if router.score.bias is not None:
            router.score.bias.copy_(torch.tensor(bias or [0.0] * len(rows)))
    return router


def softmax(*x: float) -> list[float]:
    """By hand."""
    e = [2.718281828459045**v for v in x]
    return [v / sum(e) for v in e]
