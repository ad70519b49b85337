"""One expert per pattern, hard: what adapting once per combination of sensors would give (METHOD.md section 4).

    g_e = 1 for the expert of the pattern, 0 else

The bits of a pattern are its number: modality m counts 2^m. An expert whose pattern never came up in training is still
at zero, so an unseen pattern gets the frozen model. A modality that comes later (Adapted.add_modality) has experts of its
own and no part in the number; a sample that has nothing else takes expert 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mamol.config import RouterConfig
from mamol.errors import ConfigError
from mamol.model.router import Gates, Router


class Table(Router):
    """Looks the expert up; nothing is learned."""

    uses_features = False

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Check that there is an expert for every pattern."""
        need_one_each(self.n, modalities, "table")

    def decide(self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Tensor | None) -> Gates:
        """Return the gates."""
        gates = nn.functional.one_hot(pattern_number(present), self.n).to(present.dtype)
        return Gates(gates, gates, loss=gates.new_zeros(()) if self.balance else None)


def pattern_number(present: Float[Tensor, "*batch M"]) -> Int[Tensor, " *batch"]:
    """Return the number of each pattern, 0 .. 2^M - 2; nothing at all counts as 0."""
    bits = torch.ones((), dtype=torch.long, device=present.device) << torch.arange(present.shape[-1], device=present.device)
    return ((present > 0).long() * bits).sum(-1).sub(1).clamp_min(0)


def need_one_each(experts: int, modalities: int, rule: str) -> None:
    """Raise ConfigError unless there are as many experts as patterns."""
    if experts != 2**modalities - 1:
        raise ConfigError(
            f'router.rule = "{rule}" needs one dynamic expert for each of the {2**modalities - 1} patterns of {modalities} '
            f"modalities; set experts.n_dynamic to that (now {experts})."
        )
