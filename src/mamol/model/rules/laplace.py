"""Distance instead of product: FuseMoE's Laplace gate (2402.03226).

s_e = -||W_e - h||_2        g = softmax over the k largest s, 0 else
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router, balance_loss, top_mask


class Laplace(Router):
    """The k nearest experts, scaled to sum to one."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make one centre an expert."""
        self.centre = nn.Parameter(torch.randn(self.n, inputs) * inputs**-0.5)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        # The small constant keeps the gradient finite where a token lies on a centre.
        score = -((h[..., None, :] - self.centre).square().sum(-1) + 1e-12).sqrt() / self.temperature
        values = torch.softmax(score.masked_fill(top_mask(score, self.top_k) == 0, -torch.inf), dim=-1)
        p = torch.softmax(score, dim=-1)
        return Gates(values, p, loss=balance_loss(p, values, weight) if self.balance else None)
