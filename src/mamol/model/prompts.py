"""Missing-aware prompts: learned tokens for every pattern, put before the sequence in every layer (2303.03369).

    layer i:   [ P_i(pattern) ; x ] -> block -> x          the prompts' own outputs are dropped, the next layer has its own

A baseline on the same frozen backbone: what can be told to it by its input alone. Source: PROTOCOL.md section 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.model.rules.table import pattern_number


class Prompts(nn.Module):
    """`length` tokens per pattern and layer; those of a pattern that training never showed stay where they start."""

    def __init__(self, modalities: int, depth: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(2**modalities - 1, depth, length, width) * 0.02)

    def forward(self, present: Bool[Tensor, "B M"]) -> Float[Tensor, "B L P D"]:
        """Return every layer's prompts for the pattern of each sample."""
        return self.tokens[pattern_number(present.float())]


def make_prompts(modalities: int, depth: int, length: int, width: int) -> Prompts | None:
    """Build the prompts; None for a length of 0."""
    return Prompts(modalities, depth, length, width) if length else None
