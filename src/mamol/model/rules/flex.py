"""Flex-MoE: the first expert is the pattern's, the others are free (2410.08245).

    g = the k largest of softmax(W h), 0 else        L = -log softmax(W h)[pattern]

The loss ties the top one to the observed combination: without router.balance nothing does. Its learned bank for the missing
is tokens.placeholder = "learned", one token a modality whatever else is there; there it is one for each observed combination.
Needs an expert for every pattern.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router, top_mask, weighted_mean
from mamol.model.rules.table import need_one_each, pattern_number


class Flex(Router):
    """Top k of a softmax whose first is taught to be the pattern's own expert."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the linear scores."""
        need_one_each(self.n, modalities, "flex")
        self.score = nn.Linear(inputs, self.n)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        logits = self.score(h) / self.temperature
        p, loss = torch.softmax(logits, dim=-1), None
        if self.balance:
            own = torch.log_softmax(logits, dim=-1).gather(-1, pattern_number(present)[..., None])
            loss = -weighted_mean(own, weight).sum()
        return Gates(p * top_mask(p, self.top_k), p, loss=loss)
