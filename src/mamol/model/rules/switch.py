"""A linear softmax cut to its top k: Switch (2101.03961), and DeepSeekMoE's gate over its routed experts (2401.06066).

p = softmax(W h)        g_e = p_e for the k largest, 0 else        L = E sum_e f_e P_e
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router


class Switch(Router):
    """Top k of a linear softmax; gates are not scaled up to one again."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the linear scores."""
        self.score = nn.Linear(inputs, self.n)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        return self.cut(torch.softmax(self.score(h) / self.temperature, dim=-1), weight)
