"""One expert and one score a modality, the missing ones left out of the softmax: SimMLM (2507.19264).

g = softmax(W h / T  with -inf where a_m = 0)

Here an expert is a low-rank correction of every token; there it is an encoder of its own modality.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.errors import ConfigError
from mamol.model.router import Gates, Router, balance_loss


class Masked(Router):
    """A softmax over the experts of the modalities that are there."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make one score a modality."""
        if self.n != modalities:
            raise ConfigError(
                f'router.rule = "masked" needs one dynamic expert for each of the {modalities} modalities; set '
                f"experts.n_dynamic to that (now {self.n})."
            )
        self.score = nn.Linear(inputs, self.n)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates; a row without any modality has none."""
        absent = present <= 0
        logits = self.score(h) / self.temperature  # under autocast of another type than h
        p = torch.softmax(logits.masked_fill(absent, torch.finfo(logits.dtype).min), dim=-1) * ~absent
        return Gates(p, p, loss=balance_loss(p, p, weight) if self.balance else None)
