"""Tokenizers: a patch or window, a time series or a vector of one modality becomes tokens on the transformer's width.

    grid    (B, C, H, W)  ->  per-pixel stem (1x1, GELU, 3x3, GELU)  ->  one token per token_px x token_px cell
    series  (B, C, T)     ->  two linear layers per time step        ->  one token per time step
    vector  (B, C)        ->  two linear layers                      ->  one token

The availability enters as one more channel; unavailable values are replaced before anything is computed from them, so
they can be NaN. A grid that cells do not divide is made larger by pixels that are not available. A token is seen where
any of its values was observed, and kept where it was seen or something stands in. Position is a fixed sine-cosine code, the
modality a learned one. Source: METHOD.md section 3, "Tokens".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import Config
from mamol.data.normalize import Normalizer
from mamol.modality import Modality


@dataclass
class Tokens:
    """Tokens of one modality: `values` (B, N, D), and `pixels` (B, F, H, W) of a grid's stem or None.

    `seen` (B, N): where anything was observed; `keep` (B, N): which take part in attention, what stands in among them.
    """

    values: Float[Tensor, "B N D"]
    seen: Bool[Tensor, "B N"]
    keep: Bool[Tensor, "B N"]
    pixels: Float[Tensor, "B F H W"] | None = None


def anywhere(available: Bool[Tensor, "B ..."]) -> Bool[Tensor, " B"]:
    """Return which samples have a modality at all, whatever the shape of its availability: (B,), (B, T), (B, H, W)."""
    return available.reshape(available.shape[0], -1).any(dim=1)


def sine_cosine(positions: Float[Tensor, " N"], width: int) -> Float[Tensor, "N width"]:
    """Return the fixed position code of Vaswani et al. (1706.03762, section 3.5), sines first; `width` is even."""
    frequency = 10_000.0 ** (-torch.arange(width // 2, device=positions.device) / (width // 2))
    angle = positions[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def grid_position(height: int, width: int, dim: int) -> Float[Tensor, "N dim"]:
    """Return the position code of a grid of tokens: half for the row, half for the column; `dim` divides by 4."""
    rows = sine_cosine(torch.arange(height).float(), dim // 2)[:, None].expand(-1, width, -1)
    columns = sine_cosine(torch.arange(width).float(), dim // 2)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def pixel_stem(channels: int, width: int) -> nn.Sequential:
    """Return the layers that see every pixel with its neighbours: (B, channels, H, W) to (B, width, H, W)."""
    return nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU())


def whole_cells(x: Tensor, cell: int) -> Tensor:
    """Return (..., H, W) with zeros (or False) added below and to the right, up to multiples of `cell` pixels."""
    right, below = -x.shape[-1] % cell, -x.shape[-2] % cell
    return nn.functional.pad(x, (0, right, 0, below)) if right or below else x


class Tokenizer(nn.Module):
    """One modality's tokenizer; `kind` of the modality decides its layers."""

    fill: Tensor

    def __init__(self, modality: Modality, bands: int, config: Config) -> None:
        super().__init__()
        width, stem, t = config.backbone.width, config.tokens.stem, config.tokens.token_px
        self.kind, self.token_px, self.width = modality.kind, t, width
        self.placeholder = config.tokens.placeholder
        if modality.kind == "grid":
            self.stem = pixel_stem(bands + 1, stem)
            self.embed: nn.Module = nn.Conv2d(stem, width, t, stride=t)
        else:
            self.embed = nn.Sequential(nn.Linear(bands + 1, width), nn.GELU(), nn.Linear(width, width))
        self.modality = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("fill", torch.zeros(bands))
        self.absent = nn.Parameter(torch.zeros(width)) if self.placeholder == "learned" else None

    def stand_in(self, normalizer: Normalizer, name: str) -> None:
        """Set what stands for missing values: raw zeros or ones as the normalisation sees them, else the band mean."""
        raw = {"zeros": 0.0, "ones": 1.0}.get(self.placeholder)
        if raw is not None:
            constant = np.full((1, len(normalizer.statistics[name].mean)), raw, dtype=np.float32)
            self.fill.copy_(torch.from_numpy(normalizer.apply(constant, name)[0]))

    def forward(self, values: Tensor, available: Bool[Tensor, "B ..."]) -> Tokens:
        """Tokenize (B, C, H, W), (B, C, T) or (B, C), normalised, with its availability without the band axis."""
        if self.kind == "grid":
            values, available = whole_cells(values, self.token_px), whole_cells(available, self.token_px)
        mask = available.unsqueeze(1)
        fill = self.fill.view(1, -1, *[1] * (values.dim() - 2))
        clean = torch.where(mask, values, fill.to(values.dtype))
        tokens = self._grid(clean, mask) if self.kind == "grid" else self._steps(clean, mask)
        if self.placeholder != "none":  # a stand-in takes part in attention like any other token
            if self.absent is not None:
                tokens.values = torch.where(tokens.seen[..., None], tokens.values, self.absent + self.modality)
            tokens.keep = torch.ones_like(tokens.seen)
        return tokens

    def _grid(self, clean: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Tokens:
        pixels = self.stem(torch.cat([clean, mask.to(clean.dtype)], dim=1))
        cells = self.embed(pixels)  # (B, D, H / t, W / t)
        seen = (nn.functional.max_pool2d(mask.float(), self.token_px) > 0).flatten(1)
        position = grid_position(cells.shape[-2], cells.shape[-1], self.width).to(cells)
        return Tokens(cells.flatten(2).transpose(1, 2) + position + self.modality, seen, seen, pixels)

    def _steps(self, clean: Tensor, mask: Tensor) -> Tokens:
        if self.kind == "vector":
            clean, mask = clean[..., None], mask[..., None]
        steps = torch.cat([clean, mask.to(clean.dtype)], dim=1).transpose(1, 2)  # (B, T, C + 1)
        position = sine_cosine(torch.arange(steps.shape[1], device=steps.device).float(), self.width)
        return Tokens(self.embed(steps) + position + self.modality, mask[:, 0], mask[:, 0])
