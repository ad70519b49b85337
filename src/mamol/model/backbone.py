"""The `scene` backbone: a small pre-norm vision transformer over the tokens of all sensors.

    x = x + out(attention(q(n1 x), k(n1 x), v(n1 x)))          tokens of absent modalities take no part in attention
    x = x + fc2(gelu(fc1(n2 x)))

Every Linear is called through `adapt(place, layer, x)`, an argument of the forward pass: `plain` runs the frozen
layer, a mixture adds its experts (experts.py). The backbone knows nothing of experts and keeps no state.

Source: ViT (2010.11929), pre-norm; METHOD.md section 3, "Backbones" (a).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import BackboneConfig
from mamol.model.packing import Attend, Packing, attend_to

Adapt = Callable[[str, Callable[[Tensor], Tensor], Tensor], Tensor]
"""Runs one named part of a block, adapt(place, frozen, x), with or without something beside it."""


def plain(place: str, frozen: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run the frozen layer and nothing else."""
    return frozen(x)


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, width * mlp_ratio), nn.Linear(width * mlp_ratio, width)

    def forward(self, x: Float[Tensor, "B S D"], attend: Attend, adapt: Adapt = plain) -> Float[Tensor, "B S D"]:
        """Return the block's output; `attend` says which tokens see each other."""
        h = self.norm1(x)
        parts = (adapt(name, part, h) for name, part in (("q", self.q), ("k", self.k), ("v", self.v)))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in parts)  # (B, S, heads, D / heads)
        x = x + adapt("out", self.out, attend(q, k, v).flatten(2))
        return x + adapt("ffn", lambda z: self._ffn(z, adapt), self.norm2(x))

    def _ffn(self, x: Tensor, adapt: Adapt) -> Tensor:
        return adapt("fc2", self.fc2, nn.functional.gelu(adapt("fc1", self.fc1, x)))


class Backbone(nn.Module):
    """A stack of blocks and a last norm."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.width = config.width
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        tokens: Float[Tensor, "B S D"],
        keep: Bool[Tensor, "B S"] | None = None,
        adapt: Callable[[int], Adapt] = lambda layer: plain,
        prompts: Float[Tensor, "B L P D"] | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Return every token after the last norm. `adapt(i)` is what block i calls its parts through.

        `keep` False hides a token from attention, None hides none. `prompts[:, i]` stand before the tokens within block i
        and are dropped after it (prompts.py). With `packing` the tokens are the row that it made, and so is the answer.
        """
        if keep is not None and not torch.compiler.is_compiling() and bool(keep.all()):
            keep = None
        if prompts is not None and keep is not None:
            keep = torch.cat([keep.new_ones(len(keep), prompts.shape[2]), keep], dim=1)
        attend = attend_to(keep) if packing is None else packing.attend()
        for i, block in enumerate(self.blocks):
            if prompts is None:
                tokens = block(tokens, attend, adapt(i))
            else:
                tokens = block(torch.cat([prompts[:, i], tokens], dim=1), attend, adapt(i))[:, prompts.shape[2] :]
        return self.norm(tokens)


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights, names and shapes: what an adapter checkpoint is tied to."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, Tensor):  # what a module keeps by get_extra_state
            digest.update(f"{name}{tensor!r}".encode())
            continue
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
