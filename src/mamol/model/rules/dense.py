"""Every expert, weighted: MoLoRA (2309.05444), LoRAMoE without its loss (2312.09979).

g = softmax(W h / T)

Every expert serves every token, so there is no load to balance: router.balance adds nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router


class Dense(Router):
    """A linear softmax over all experts; nothing is cut."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the linear scores."""
        self.score = nn.Linear(inputs, self.n)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        p = torch.softmax(self.score(h) / self.temperature, dim=-1)
        return Gates(p, p, loss=p.new_zeros(()) if self.balance else None)
