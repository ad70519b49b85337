"""What one forward pass knows of its patterns: the distinct ones, each token's, and what the routers chose for them.

Source: METHOD.md section 3. Gates that depend on the pattern alone are found once per distinct pattern.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mamol.model.packing import Packing


@dataclass
class Routing:
    """What one forward pass knows of its patterns, and what it learns of its gates.

    `codes` (G, M): the distinct availability codes; `own` (G,): the token's own modality, or None when gates do not
    depend on it; `index` (B, S): each token's row; `keep` (B, S): which tokens there are, None for all. `chosen` collects
    the mean gates per layer, (B, E), each token by its `share` (B, S) of its sample, None for equal ones; `balance` collects
    what the routers add to the loss. `packing`: the tokens are one row of all samples' (1, T), as are `index`, `keep`, `share`.
    """

    codes: Float[Tensor, "G M"]
    own: Int[Tensor, " G"] | None
    index: Int[Tensor, "B S"]
    keep: Bool[Tensor, "B S"] | None = None
    share: Float[Tensor, "B S"] | None = None
    packing: Packing | None = None
    chosen: dict[int, Tensor] = field(default_factory=dict)
    balance: list[Tensor] = field(default_factory=list)

    def count(self, layer: int, gates: Float[Tensor, "B S E"]) -> None:
        """Add the gates of one sequence's tokens to what a layer has chosen."""
        if self.share is None:
            mean = gates.mean(dim=1)
        elif self.packing is None:
            mean = (gates * self.share[..., None]).sum(dim=1)
        else:
            nothing = gates.new_zeros(self.packing.shape[0], gates.shape[-1])
            mean = nothing.index_add(0, self.packing.sample, gates[0] * self.share[0, :, None])
        self.chosen[layer] = self.chosen[layer] + mean if layer in self.chosen else mean

    def packed(self, packing: Packing) -> Routing:
        """Return it for the row of tokens that a packing makes; what it learns is shared."""
        share = None if self.share is None else packing.pack(self.share)
        return replace(self, index=packing.pack(self.index), keep=packing.keep, share=share, packing=packing)


def route(available: Bool[Tensor, "B S M"], modality_of: Int[Tensor, " S"], own: bool) -> Routing:
    """Find the distinct patterns among the tokens; with `own`, the distinct pairs of pattern and token's modality.

    While a graph is traced nothing may depend on what the data are, so every token then counts as distinct.
    """
    modalities = available.shape[-1]
    if torch.compiler.is_compiling():
        batch, length = available.shape[:2]
        index = torch.arange(batch * length, device=available.device).view(batch, length)
        return Routing(available.flatten(0, 1).float(), modality_of.repeat(batch) if own else None, index)
    bits = torch.ones((), dtype=torch.long, device=available.device) << torch.arange(modalities, device=available.device)
    key = (available.long() * bits).sum(-1)  # (B, S)
    if own:
        key = key * modalities + modality_of
    rows, index = torch.unique(key, return_inverse=True)
    pattern = rows // modalities if own else rows
    codes = (pattern[:, None] & bits) > 0
    return Routing(codes.float(), rows % modalities if own else None, index)
