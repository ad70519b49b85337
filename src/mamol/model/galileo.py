"""Galileo: one pretrained transformer over Sentinel-1 and -2, terrain, weather and maps (Tseng et al., ICML 2025).

    space_time  (B, H, W, T, 13)  7 groups of bands ─► patches of p x p px ─┐
    space       (B, H, W, 16)     3 groups          ─► patches of p x p px ─┤ + [group | time step | month | place]
    time        (B, T, 6)         3 groups          ─► linear ──────────────┤   a quarter of the width each
    static      (B, 18)           4 groups          ─► linear ──────────────┘
    the seen tokens of each sample, side by side  ─► blocks ─► norm ─► back to the layout, zeros where nothing was seen

The sequence is as long as the most tokens that one sample has seen: what nobody has costs nothing, and where all have
equally many there is no mask. A value that is not seen is replaced before anything is computed from it: it may be NaN.
While being compiled or exported the shapes may not follow the data: then every token is computed, and a mask keeps the
unseen ones out of attention.

One patch embedding, learned at 8 x 8 px, serves every smaller patch: the pseudo-inverse of the resizing carries its
kernel over (FlexiViT, 2212.08013, section 3.4). Source: 2502.09356, section 3 ("Model architecture"); weights MIT;
modules are named as in those weights (galileo_weights.py loads them). Departure: no stochastic depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.errors import AllModalitiesMissing, ConfigError
from mamol.model.galileo_inputs import (
    SPACE_BANDS,
    SPACE_GROUPS,
    SPACE_TIME_BANDS,
    SPACE_TIME_GROUPS,
    STATIC_BANDS,
    STATIC_GROUPS,
    TIME_BANDS,
    TIME_GROUPS,
    GalileoInput,
    GalileoTokens,
    check_input,
)
from mamol.model.packing import attend_to

__all__ = [
    "SPACE_BANDS",
    "SPACE_GROUPS",
    "SPACE_TIME_BANDS",
    "SPACE_TIME_GROUPS",
    "STATIC_BANDS",
    "STATIC_GROUPS",
    "TIME_BANDS",
    "TIME_GROUPS",
    "Galileo",
    "GalileoConfig",
    "GalileoInput",
    "GalileoTokens",
    "PatchEmbedding",
    "carry_over",
    "place_code",
]


@dataclass(frozen=True)
class GalileoConfig:
    """Sizes of the encoder; the defaults are Galileo nano's. Raises ConfigError for sizes that do not go together."""

    embedding_size: int = 128
    depth: int = 4
    num_heads: int = 8
    mlp_ratio: int = 4
    max_sequence_length: int = 24
    max_patch_size: int = 8

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = (self.embedding_size, self.depth, self.num_heads, self.mlp_ratio, self.max_sequence_length, self.max_patch_size)
        if (
            min(sizes) < 1
            or max(sizes) > 4096
            or self.depth > 128
            or self.max_patch_size > 64
            or self.embedding_size % 16
            or self.embedding_size % self.num_heads
        ):
            raise ConfigError(
                f"{self}: sizes must be positive and not absurd; embedding_size must divide by 16 and by num_heads."
            )


class _Part(NamedTuple):
    """One part of the input; an axis that it has not is one long. `size` is what a token covers, in pixels."""

    groups: Mapping[str, Sequence[int]]
    values: Float[Tensor, "B H W T C"]
    keep: Bool[Tensor, "B h w T G"]
    size: int
    has_place: bool
    has_time: bool


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"] | None) -> Float[Tensor, "B S D"]:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.q, self.k, self.v))
        return self.proj(attend_to(keep)(q, k, v).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, config: GalileoConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = _Attention(width, config.num_heads), _Mlp(width, width * config.mlp_ratio)

    def forward(self, x: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"] | None) -> Float[Tensor, "B S D"]:
        x = x + self.attn(self.norm1(x), keep)
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """A convolution without overlap, as one product per patch, learned at one side and carried over to smaller ones."""

    def __init__(self, bands: int, config: GalileoConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, config.embedding_size, config.max_patch_size, stride=config.max_patch_size)

    def forward(self, patches: Float[Tensor, "*N Cpp"], carry: Float[Tensor, "old new"]) -> Float[Tensor, "*N D"]:
        """Embed patches whose pixels lie band by band, row by row; `carry` as returned by carry_over."""
        kernel = self.proj.weight.flatten(2) @ carry  # (D, C, pixels of the patch)
        return nn.functional.linear(patches, kernel.flatten(1), self.proj.bias)


def carry_over(old_px: int, new_px: int) -> Float[Tensor, "old new"]:
    """Return what takes a kernel of old_px^2 pixels (as a row) to new_px^2 pixels: the pseudo-inverse of the resizing R.

    R (new_px^2, old_px^2) is bicubic and antialiased. A patch under the new kernel then gives what its resized self gives
    under the old one, as nearly as can be. Source: FlexiViT (2212.08013, section 3.4).
    """
    unit = torch.eye(old_px**2, dtype=torch.float64, device="cpu").view(-1, 1, old_px, old_px)
    columns = nn.functional.interpolate(unit, size=(new_px, new_px), mode="bicubic", antialias=True, align_corners=False)
    return torch.linalg.pinv(columns.flatten(1).T).float()


def place_code(count: int, step: float, width: int) -> Float[Tensor, "count width"]:
    """Return sines then cosines of a cell's place along one axis; `step` is a cell's side in units of 10 m."""
    omega = 10_000.0 ** (-torch.arange(width // 2) / (2 * width))  # 2 * width, not width / 2: what the weights know
    angle = torch.arange(count)[:, None] * step * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Galileo(nn.Module):
    """The encoder. Its adaptable Linear layers are blocks.N.attn.{q, k, v, proj} and blocks.N.mlp.{fc1, fc2}."""

    def __init__(self, config: GalileoConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GalileoConfig()
        width, quarter, side = config.embedding_size, config.embedding_size // 4, config.max_patch_size
        self.space_time_embed = nn.ModuleDict({g: PatchEmbedding(len(b), config) for g, b in SPACE_TIME_GROUPS.items()})
        self.space_embed = nn.ModuleDict({g: PatchEmbedding(len(b), config) for g, b in SPACE_GROUPS.items()})
        self.time_embed = nn.ModuleDict({g: nn.Linear(len(b), width) for g, b in TIME_GROUPS.items()})
        self.static_embed = nn.ModuleDict({g: nn.Linear(len(b), width) for g, b in STATIC_GROUPS.items()})
        self.s_t_channel_embed = nn.Parameter(torch.randn(len(SPACE_TIME_GROUPS), quarter) * 0.02)
        self.sp_channel_embed = nn.Parameter(torch.randn(len(SPACE_GROUPS), quarter) * 0.02)
        self.t_channel_embed = nn.Parameter(torch.randn(len(TIME_GROUPS), quarter) * 0.02)
        self.st_channel_embed = nn.Parameter(torch.randn(len(STATIC_GROUPS), quarter) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(config.max_sequence_length, quarter) * 0.02)
        self.month_embed = nn.Embedding(12, quarter)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        for px in range(1, side + 1):  # follows from the sizes, so it is not stored
            self.register_buffer(f"carry_{px}", carry_over(side, px), persistent=False)

    def forward(self, inputs: GalileoInput, patch_px: int, gsd_m: float = 10.0) -> GalileoTokens:
        """Encode a batch; `patch_px` is the side of a ground cell in pixels, `gsd_m` a pixel's size in metres.

        Raises ShapeMismatch, DataError for months outside 0..11, and AllModalitiesMissing for a sample of which nothing
        is seen (zeros come out for it while compiling, when values cannot be looked at).
        """
        check_input(inputs, patch_px, self.config.max_sequence_length, self.config.max_patch_size)
        parts = _parts(inputs, patch_px)
        used = _used(parts)
        tables = (
            (self.space_time_embed, self.s_t_channel_embed), (self.space_embed, self.sp_channel_embed),
            (self.time_embed, self.t_channel_embed), (self.static_embed, self.st_channel_embed),
        )  # fmt: skip
        codes = self.pos_embed[: inputs.months.shape[1], None], self.month_embed(inputs.months)[:, None, None, :, None]
        pieces, keeps = [], []
        for part, groups, (embed, names) in zip(parts, used, tables, strict=True):
            if groups:
                code = _code(part, names[groups], codes, patch_px * gsd_m / 10.0)
                pieces.append(self._embed(part, groups, embed) + code)
                keeps.append(part.keep[..., groups])
        x = self._encode(torch.cat([p.flatten(1, 4) for p in pieces], dim=1), torch.cat([k.flatten(1) for k in keeps], dim=1))
        return _laid_out(x, parts, used, inputs)

    def _embed(self, part: _Part, groups: list[int], embed: nn.ModuleDict) -> Float[Tensor, "B h w T g D"]:
        """Turn the values of some groups into tokens, without their codes."""
        carry, tokens, table = self.get_buffer(f"carry_{part.size}"), [], list(part.groups.items())
        for g in groups:
            name, bands = table[g]
            patches = torch.where(part.keep[..., g, None], _patches(part.values[..., list(bands)], part.size), 0.0)
            tokens.append(embed[name](patches, carry) if part.has_place else embed[name](patches))
        return torch.stack(tokens, dim=4)

    def _encode(self, x: Float[Tensor, "B N D"], keep: Bool[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Run the blocks over the seen tokens; zeros come out for the others."""
        if torch.compiler.is_compiling():
            some = keep | ~keep.any(1, keepdim=True)  # a softmax over nothing would be NaN
            return torch.where(keep[..., None], self._blocks(x, some), 0.0)
        count = keep.sum(1)
        longest = int(count.max())
        seen_first = keep.byte().argsort(dim=1, descending=True, stable=True)[:, :longest, None].expand(-1, -1, x.shape[2])
        filled = torch.arange(longest, device=x.device) < count[:, None]
        out = self._blocks(x.gather(1, seen_first), None if bool(filled.all()) else filled)
        return torch.zeros_like(x).scatter(1, seen_first, torch.where(filled[..., None], out, 0.0))

    def _blocks(self, x: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"] | None) -> Float[Tensor, "B S D"]:
        for block in self.blocks:
            x = block(x, keep)
        return self.norm(x)


def _parts(inputs: GalileoInput, patch_px: int) -> list[_Part]:
    """Return the four parts in one layout."""
    i = inputs
    return [
        _Part(SPACE_TIME_GROUPS, i.space_time, i.keep_space_time, patch_px, True, True),
        _Part(SPACE_GROUPS, i.space[:, :, :, None], i.keep_space[:, :, :, None], patch_px, True, False),
        _Part(TIME_GROUPS, i.time[:, None, None], i.keep_time[:, None, None], 1, False, True),
        _Part(STATIC_GROUPS, i.static[:, None, None, None], i.keep_static[:, None, None, None], 1, False, False),
    ]


def _used(parts: Sequence[_Part]) -> list[list[int]]:
    """Return the groups of each part that any sample has; raises AllModalitiesMissing. All of them while compiling."""
    if torch.compiler.is_compiling():
        return [list(range(len(p.groups))) for p in parts]
    groups = torch.cat([p.keep.flatten(1, 3).any(1) for p in parts], dim=1)  # (B, 17)
    if not bool(groups.any(1).all()):
        first = int(groups.any(1).long().argmin())
        raise AllModalitiesMissing(f"sample {first} of the batch has no group of bands that is seen; leave it out.")
    anyone = iter(groups.any(0).tolist())
    return [[g for g in range(len(p.groups)) if next(anyone)] for p in parts]


def _patches(x: Float[Tensor, "B H W T C"], side: int) -> Float[Tensor, "B h w T Cpp"]:
    """Cut into patches of side x side pixels, band by band, row by row."""
    return x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).permute(0, 1, 3, 5, 6, 2, 4).flatten(4)


def _code(part: _Part, group: Float[Tensor, "g q"], codes: tuple[Tensor, Tensor], step: float) -> Float[Tensor, "B h w T g D"]:
    """Return [group | time step | month | place] of every token, zeros for what its part has not."""
    batch, height, width, steps, _ = part.keep.shape
    moment, month = codes if part.has_time else (torch.zeros_like(group[:1]),) * 2
    place = torch.zeros_like(group[:1])
    if part.has_place:
        half = group.shape[1] // 2
        across = place_code(width, step, half)[None].expand(height, -1, -1)
        down = place_code(height, step, half)[:, None].expand(-1, width, -1)
        place = torch.cat([across, down], dim=2).to(group)[:, :, None, None]
    shape = (batch, height, width, steps, *group.shape)
    return torch.cat([p.expand(shape) for p in (group, moment, month, place)], dim=5)


def _laid_out(x: Float[Tensor, "B N D"], parts: Sequence[_Part], used: list[list[int]], inputs: GalileoInput) -> GalileoTokens:
    """Cut the sequence back into the layout of the inputs, with zeros for the groups that nobody has."""
    out, start = [], 0
    for part, groups in zip(parts, used, strict=True):
        shape = (*part.keep.shape[:4], len(groups), x.shape[2])
        piece = x[:, start : (start := start + part.keep[0, ..., 0].numel() * len(groups))].reshape(shape)
        full = x.new_zeros(*part.keep.shape, x.shape[2])
        out.append(full.index_copy(4, torch.tensor(groups, dtype=torch.long, device=x.device), piece))
    i = inputs
    space_time, space, time, static = out[0], out[1][:, :, :, 0], out[2][:, 0, 0], out[3][:, 0, 0, 0]
    return GalileoTokens(space_time, space, time, static, i.keep_space_time, i.keep_space, i.keep_time, i.keep_static)
