"""Experts choose tokens: each takes those that suit it best (2202.09368, section 3.2).

    s = softmax_e(W h)        expert e takes its c best tokens, g = s there, 0 else        c = k S / E, rounded up

S counts the tokens of one sample that take part, so a prediction does not depend on the batch that it came with (the
paper chooses over the whole batch).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router


class ExpertChoice(Router):
    """A token may get several experts or none; every expert is used equally by construction."""

    mixes_tokens = True

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the linear scores."""
        self.score = nn.Linear(inputs, self.n)

    def decide(self, h: Float[Tensor, "B S D"], present: Float[Tensor, "B S M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        p = torch.softmax(self.score(h) / self.temperature, dim=-1)
        takes_part = torch.ones_like(p[..., 0]) if weight is None else (weight > 0).to(p.dtype)
        capacity = (self.top_k * takes_part.sum(1) / self.n).ceil()[:, None, None]
        place = p.masked_fill(takes_part[..., None] == 0, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        chosen = (place < capacity) & (takes_part[..., None] > 0)
        zero = p.new_zeros(()) if self.balance else None  # nothing to balance
        return Gates(p * chosen, p, loss=zero)
