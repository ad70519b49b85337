"""As many experts as pass a learned threshold: AdaMoLE (2405.00361).

    p = softmax(W h)        t = sigmoid(v h) / E        g_e = max(p_e - t, 0) / sum of these

The largest p is at least 1 / E, so in exact arithmetic one expert passes; where rounding lets none, the first of the
largest takes all.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router, balance_loss, top_mask


class Threshold(Router):
    """The number of experts varies from token to token."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make scores and threshold."""
        self.score, self.threshold = nn.Linear(inputs, self.n), nn.Linear(inputs, 1)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        p = torch.softmax(self.score(h) / self.temperature, dim=-1)
        over = (p - torch.sigmoid(self.threshold(h)) / self.n).clamp_min(0)
        total = over.sum(-1, keepdim=True)
        values = torch.where(total > 0, over / total.clamp_min(torch.finfo(p.dtype).tiny), top_mask(p, 1))
        return Gates(values, p, loss=balance_loss(p, values, weight) if self.balance else None)
