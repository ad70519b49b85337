"""Soft MoE: experts see slots, which are means of tokens (2308.00951, section 2); one slot an expert.

L = h Phi        slot_e = sum_s softmax_s(L)[s, e] x_s        y_s = sum_e softmax_e(L)[s, e] expert_e(slot_e)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router, Slots


class Soft(Router):
    """Nothing is chosen: tokens are mixed into slots and slots into tokens."""

    mixes_tokens = True

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make one key a slot."""
        self.score = nn.Linear(inputs, self.n, bias=False)

    def decide(self, h: Float[Tensor, "B S D"], present: Float[Tensor, "B S M"], weight: Tensor | None) -> Gates:
        """Return the slots; the gates are what each token takes of every expert."""
        logits = self.score(h) / self.temperature
        combine = torch.softmax(logits, dim=-1)
        if weight is not None:
            logits = logits.masked_fill((weight <= 0)[..., None], torch.finfo(logits.dtype).min)
        slots = Slots(torch.softmax(logits, dim=1)[..., None], combine[..., None])
        return Gates(combine, combine, slots, loss=logits.new_zeros(()) if self.balance else None)
