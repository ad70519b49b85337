"""MaMOL's rule: a small network, softmax, and the top k as they are (METHOD.md sections 2 and 3).

p = softmax(MLP(h) / T)        g_e = p_e for the k largest, 0 else
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router


class Mlp(Router):
    """Softmax of a small network, cut to its top k; gates are not scaled up to one again, as in the paper."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the network."""
        self.mlp = nn.Sequential(nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, self.n))

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        return self.cut(torch.softmax(self.mlp(h) / self.temperature, dim=-1), weight)
