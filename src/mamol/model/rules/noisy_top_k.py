"""Noisy top-k gating with the importance and load losses (Shazeer et al., 1701.06538, eqs. 3 to 10).

H_e  = (W h)_e + N(0, 1) softplus((W_noise h)_e)         noise while training only
g    = softmax over the k largest H, 0 else
L    = CV^2(sum_x g) + CV^2(sum_x P(x, e))                P: chance that e is among the k under fresh noise
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.model.router import Gates, Router, top_mask, weighted_mean

LEAST_NOISE = 1e-2


class NoisyTopK(Router):
    """Top k of noisy linear scores, scaled to sum to one."""

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make scores and noise levels; they start at zero, so that every expert is tried."""
        self.score, self.noise = nn.Linear(inputs, self.n, bias=False), nn.Linear(inputs, self.n, bias=False)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.noise.weight)

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        clean = self.score(h) / self.temperature
        level = nn.functional.softplus(self.noise(h)) + LEAST_NOISE
        noisy = clean + torch.randn_like(clean) * level if self.training else clean
        kept = top_mask(noisy, self.top_k)
        values = torch.softmax(noisy.masked_fill(kept == 0, -torch.inf), dim=-1)
        loss = self._uneven(values, clean, noisy, level, weight) if self.balance else None
        return Gates(values, torch.softmax(noisy, dim=-1), loss=loss)

    def _uneven(self, values: Tensor, clean: Tensor, noisy: Tensor, level: Tensor, weight: Tensor | None) -> Tensor:
        loss = squared_variation(weighted_mean(values, weight))
        if self.top_k < self.n:
            loss = loss + squared_variation(weighted_mean(chance_kept(clean, noisy, level, self.top_k), weight))
        return loss


def chance_kept(
    clean: Float[Tensor, "*batch E"], noisy: Float[Tensor, "*batch E"], level: Float[Tensor, "*batch E"], k: int
) -> Float[Tensor, "*batch E"]:
    """Return the chance that each expert is among the k largest if only its own noise were drawn again."""
    top = noisy.topk(k + 1, dim=-1).values
    inside = noisy > top[..., k : k + 1]
    others = torch.where(inside, top[..., k : k + 1], top[..., k - 1 : k])  # the k-th largest of the other experts
    return torch.special.ndtr((clean - others) / level)


def squared_variation(total: Float[Tensor, " E"]) -> Float[Tensor, ""]:
    """Return the squared coefficient of variation: variance over squared mean."""
    return total.var(correction=0) / total.mean().square().clamp_min(1e-10)
