"""The head, and experts in it: features -> norm -> linear -> GELU -> dropout -> linear -> logits.

    y = W x + sum_e g_e s_e B_e A_e x         beside both linear layers, gates by the pattern of the pixel or sample

What a sensor's absence changes most is what the remaining features are worth: on frozen features one linear head for all
patterns is 5 points behind a head per pattern (docs/decisions/005-study.md). The head trains as a whole, so it has no
shared expert. Source: METHOD.md section 3, "beside any named Linear"; in the head: ours.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import Config, ExpertConfig, RouterConfig
from mamol.model.experts import ExpertBank, route
from mamol.model.router import StaticGates
from mamol.model.rules import make_router


class HeadExperts(nn.Module):
    """Modality-specific and dynamic experts beside the linear layers of a head."""

    def __init__(self, head: nn.Sequential, modalities: int, experts: ExpertConfig, router: RouterConfig) -> None:
        super().__init__()
        own = experts.model_copy(update={"shared_rank": 0, "specific_rank": experts.head_rank, "dynamic_rank": experts.head_rank})
        by_pattern = router.model_copy(update={"rule": "mlp", "input": "pattern"})
        places = {str(i): (m.in_features, m.out_features) for i, m in enumerate(head) if isinstance(m, nn.Linear)}
        self.banks = nn.ModuleDict({i: ExpertBank(*shape, own.ranks(modalities), own) for i, shape in places.items()})
        self.static = StaticGates(modalities, "mask")
        self.router = make_router(modalities, 1, own, by_pattern) if own.has_dynamic else None

    def gates(self, codes: Float[Tensor, "G M"]) -> Float[Tensor, "G E"]:
        """Return the gates of some patterns: specific, then dynamic."""
        static = self.static(codes, None)
        return static if self.router is None else torch.cat([static, self.router(codes).values], dim=-1)

    def fold(self, head: nn.Sequential, code: Float[Tensor, "1 M"]) -> None:
        """Add what the experts do under one pattern to the head's own weights."""
        gates = self.gates(code)[0]
        for i, bank in self.banks.items():
            layer = head[int(i)]
            if isinstance(bank, ExpertBank) and isinstance(layer, nn.Linear):
                layer.weight += bank.weight_change(gates)

    def forward(
        self, head: nn.Sequential, x: Float[Tensor, "*batch D"], present: Bool[Tensor, "*batch M"]
    ) -> Float[Tensor, "*batch K"]:
        """Return the logits of features under the pattern of each."""
        flat, codes = x.flatten(0, -2)[None], present.flatten(0, -2)[None]
        routing = route(codes, torch.zeros(codes.shape[1], dtype=torch.long, device=codes.device), own=False)
        table = self.gates(routing.codes)
        gates = table if len(table) == 1 else table[routing.index]
        for i, layer in enumerate(head):
            before, flat = flat, layer(flat)
            bank = dict(self.banks.items()).get(str(i))
            if isinstance(bank, ExpertBank):
                flat = flat + ((before @ bank.down.T) * bank.scale(gates)) @ bank.B.T
        return flat[0].unflatten(0, x.shape[:-1])


def make_head(inputs: int, classes: int, config: Config) -> nn.Sequential:
    """Build the head of the scene classifier."""
    m = config.model
    return nn.Sequential(
        nn.LayerNorm(inputs),
        nn.Linear(inputs, m.head_hidden),
        nn.GELU(),
        nn.Dropout(m.dropout),
        nn.Linear(m.head_hidden, classes),
    )


def make_head_experts(head: nn.Sequential, modalities: int, config: Config) -> HeadExperts | None:
    """Build the experts beside a head; None where experts.head_rank is 0."""
    return HeadExperts(head, modalities, config.experts, config.router) if config.experts.head_rank else None
