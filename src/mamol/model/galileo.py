"""Galileo: a pretrained transformer over Sentinel-1 and -2, terrain, weather and maps (Tseng et al., ICML 2025).

    space and time  (B, H, W, T, 13)  7 groups ─► patches of p x p px ─┐  + [ group | time | month | place ]
    space           (B, H, W, 16)     3 groups ─► patches of p x p px ─┤    four parts, a quarter of the width each
    time            (B, T, 6)         3 groups ─► linear ──────────────┤
    nothing         (B, 18)           4 groups ─► linear ──────────────┴─► one sequence ─► blocks ─► norm

One patch embedding, learned at 8 x 8 px, serves every patch size: its kernel is carried over by the pseudo-inverse of
the resizing (FlexiViT, 2212.08013). A group that no sample of the batch has costs nothing; a token that one sample
lacks takes no part in its attention, and its value is never read.

Written from the specification beside the weights, and equal to the reference outputs there. Source: 2502.09356,
section 3 and appendix; weights MIT. The layers are named as in those weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mamol.errors import AllModalitiesMissing, ShapeMismatch

SPACE_TIME_BANDS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "NDVI")
SPACE_BANDS = ("elevation", "slope", *(f"DW_{i}" for i in range(9)), *(f"WC_{i}" for i in range(5)))
TIME_BANDS = ("temperature_2m", "total_precipitation_sum", "def", "soil", "aet", "avg_rad")
STATIC_BANDS = ("LS", "x", "y", "z", *(f"DW_static_{i}" for i in range(9)), *(f"WC_static_{i}" for i in range(5)))
SPACE_TIME_GROUPS: Mapping[str, Sequence[int]] = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,), "S2_NIR_20m": (9,),
    "S2_SWIR": (10, 11), "NDVI": (12,),
}  # fmt: skip
SPACE_GROUPS: Mapping[str, Sequence[int]] = {"SRTM": (0, 1), "DW": tuple(range(2, 11)), "WC": tuple(range(11, 16))}
TIME_GROUPS: Mapping[str, Sequence[int]] = {"ERA5": (0, 1), "TC": (2, 3, 4), "VIIRS": (5,)}
STATIC_GROUPS: Mapping[str, Sequence[int]] = {
    "LS": (0,), "location": (1, 2, 3), "DW_static": tuple(range(4, 13)), "WC_static": tuple(range(13, 18)),
}  # fmt: skip


@dataclass(frozen=True)
class GalileoConfig:
    """Sizes of the encoder; the defaults are Galileo nano's."""

    embedding_size: int = 128
    depth: int = 4
    num_heads: int = 8
    mlp_ratio: int = 4
    max_sequence_length: int = 24
    max_patch_size: int = 8


@dataclass
class GalileoInput:
    """Normalised values with what is seen of them.

    `space_time` (B, H, W, T, 13), `space` (B, H, W, 16), `time` (B, T, 6), `static` (B, 18), `months` (B, T) in 0..11.
    `keep_*`: bool per token and group, True where seen: (B, h, w, T, 7), (B, h, w, 3), (B, T, 3), (B, 4) with h = H / p.
    """

    space_time: Float[Tensor, "B H W T 13"]
    space: Float[Tensor, "B H W 16"]
    time: Float[Tensor, "B T 6"]
    static: Float[Tensor, "B 18"]
    months: Int[Tensor, "B T"]
    keep_space_time: Bool[Tensor, "B h w T 7"]
    keep_space: Bool[Tensor, "B h w 3"]
    keep_time: Bool[Tensor, "B T 3"]
    keep_static: Bool[Tensor, "B 4"]


@dataclass
class GalileoTokens:
    """Every token after the last norm, in the layout of GalileoInput with the width in place of the bands.

    Tokens that were not computed (of groups that nobody has) are zeros; `keep_*` says which were seen.
    """

    space_time: Float[Tensor, "B h w T 7 D"]
    space: Float[Tensor, "B h w 3 D"]
    time: Float[Tensor, "B T 3 D"]
    static: Float[Tensor, "B 4 D"]
    inputs: GalileoInput

    def mean(self) -> Float[Tensor, "B D"]:
        """Return the mean over the seen tokens of each sample."""
        i = self.inputs
        pairs = [(self.space_time, i.keep_space_time), (self.space, i.keep_space)]
        pairs += [(self.time, i.keep_time), (self.static, i.keep_static)]
        total = sum((x * k[..., None]).flatten(1, -2).sum(1) for x, k in pairs)
        count = sum(k.flatten(1).sum(1) for _, k in pairs)
        return torch.as_tensor(total) / torch.as_tensor(count).clamp_min(1)[:, None]

    def grid_mean(self) -> Float[Tensor, "B h w D"]:
        """Return, per ground cell, the mean over its own seen tokens and those of the whole window (time, static)."""
        i = self.inputs
        own = (self.space_time * i.keep_space_time[..., None]).sum((3, 4)) + (self.space * i.keep_space[..., None]).sum(3)
        own_count = i.keep_space_time.sum((3, 4)) + i.keep_space.sum(3)
        around = (self.time * i.keep_time[..., None]).sum((1, 2)) + (self.static * i.keep_static[..., None]).sum(1)
        around_count = i.keep_time.sum((1, 2)) + i.keep_static.sum(1)
        total = own + around[:, None, None]
        return total / (own_count + around_count[:, None, None]).clamp_min(1)[..., None]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        seen = None if keep is None else keep[:, None, None, :]
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, config: GalileoConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = _Attention(width, config.num_heads), _Mlp(width, width * config.mlp_ratio)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), keep)
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """A convolution learned at max_patch_size that serves every smaller patch."""

    def __init__(self, bands: int, config: GalileoConfig) -> None:
        super().__init__()
        self.side = config.max_patch_size
        self.proj = nn.Conv2d(bands, config.embedding_size, self.side, stride=self.side)

    def forward(self, x: Float[Tensor, "N C H W"], resize: Float[Tensor, "new old"]) -> Float[Tensor, "N D h w"]:
        """Embed patches of the size that `resize` takes the kernel to."""
        patch_px = round(resize.shape[0] ** 0.5)
        kernel = (self.proj.weight.flatten(2) @ resize.T).unflatten(2, (patch_px, patch_px))
        return nn.functional.conv2d(x, kernel, self.proj.bias, stride=patch_px)


def resizing(old: int, new: int) -> Float[Tensor, "new*new old*old"]:
    """Return the matrix that takes a kernel of old x old to new x new pixels.

    With R the matrix of bicubic, antialiased resizing, it is the pseudo-inverse of R^T: a patch and its resized self
    then give the same product with their kernels. Source: FlexiViT (2212.08013, section 3.4).
    """
    if old == new:
        return torch.eye(old * old)
    basis = torch.eye(old * old).view(old * old, 1, old, old)
    resized = nn.functional.interpolate(basis, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.linalg.pinv(resized.flatten(1))  # (new^2, old^2), for the rows of `resized` are R's columns


def place_code(count: int, metres: float, width: int) -> Float[Tensor, "count width"]:
    """Return sines then cosines of a place along one axis, in units of 10 m; wavelengths as in the weights' training."""
    omega = 10_000.0 ** (-torch.arange(width // 2) / (2 * width))
    angle = torch.arange(count)[:, None] * (metres / 10.0) * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Galileo(nn.Module):
    """The encoder. Its Linear layers are blocks.N.attn.{q, k, v, proj} and blocks.N.mlp.{fc1, fc2}."""

    def __init__(self, config: GalileoConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GalileoConfig()
        width, part = config.embedding_size, config.embedding_size // 4
        self.space_time_embed = nn.ModuleDict({g: PatchEmbedding(len(b), config) for g, b in SPACE_TIME_GROUPS.items()})
        self.space_embed = nn.ModuleDict({g: PatchEmbedding(len(b), config) for g, b in SPACE_GROUPS.items()})
        self.time_embed = nn.ModuleDict({g: nn.Linear(len(b), width) for g, b in TIME_GROUPS.items()})
        self.static_embed = nn.ModuleDict({g: nn.Linear(len(b), width) for g, b in STATIC_GROUPS.items()})
        self.pos_embed = nn.Parameter(torch.zeros(config.max_sequence_length, part))
        self.month_embed = nn.Embedding(12, part)
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME_GROUPS), part))
        self.sp_channel_embed = nn.Parameter(torch.zeros(len(SPACE_GROUPS), part))
        self.t_channel_embed = nn.Parameter(torch.zeros(len(TIME_GROUPS), part))
        self.st_channel_embed = nn.Parameter(torch.zeros(len(STATIC_GROUPS), part))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        for patch in range(1, config.max_patch_size + 1):
            self.register_buffer(f"resize_{patch}", resizing(config.max_patch_size, patch), persistent=False)

    def forward(self, inputs: GalileoInput, patch_px: int, gsd_m: float = 10.0) -> GalileoTokens:
        """Encode a batch; `patch_px` is the side of a ground cell in pixels, `gsd_m` a pixel's size in metres.

        Raises ShapeMismatch, and AllModalitiesMissing for a sample of which nothing is seen.
        """
        self._check(inputs, patch_px)
        traced = torch.compiler.is_compiling()
        tokens, keeps, chosen = [], [], {}
        for name, embed in (
            ("space_time", self._space_time), ("space", self._space), ("time", self._time), ("static", self._static),
        ):  # fmt: skip
            keep = getattr(inputs, f"keep_{name}")
            groups = keep.shape[-1]
            used = list(range(groups)) if traced else keep.flatten(0, -2).any(0).nonzero()[:, 0].tolist()
            chosen[name] = used
            if used:
                tokens.append(embed(inputs, used, patch_px, gsd_m).flatten(1, -2))
                keeps.append(keep[..., used].flatten(1))
        x, keep = torch.cat(tokens, dim=1), torch.cat(keeps, dim=1)
        mask = None if not traced and bool(keep.all()) else keep
        for block in self.blocks:
            x = block(x, mask)
        return self._unpack(self.norm(x), chosen, inputs)

    def _check(self, inputs: GalileoInput, patch_px: int) -> None:
        batch, height, width, steps, bands = inputs.space_time.shape
        wanted = (batch, height // max(patch_px, 1), width // max(patch_px, 1), steps, len(SPACE_TIME_GROUPS))
        if not 1 <= patch_px <= self.config.max_patch_size or height % patch_px or width % patch_px:
            raise ShapeMismatch(
                f"a window of {height} x {width} px cannot be cut into patches of {patch_px} px; the patch must be "
                f"1..{self.config.max_patch_size} px and divide the window."
            )
        if bands != len(SPACE_TIME_BANDS) or steps > self.config.max_sequence_length:
            raise ShapeMismatch(
                f"space_time has {bands} bands and {steps} time steps; expected {len(SPACE_TIME_BANDS)} bands "
                f"({', '.join(SPACE_TIME_BANDS)}) and at most {self.config.max_sequence_length} steps."
            )
        if tuple(inputs.keep_space_time.shape) != wanted:
            raise ShapeMismatch(f"keep_space_time has shape {tuple(inputs.keep_space_time.shape)}; expected {wanted}.")
        if not torch.compiler.is_compiling():
            keeps = (inputs.keep_space_time, inputs.keep_space, inputs.keep_time, inputs.keep_static)
            seen = torch.stack([k.flatten(1).any(1) for k in keeps]).any(0)
            if not bool(seen.all()):
                raise AllModalitiesMissing(f"sample {int((~seen).nonzero()[0])} of the batch has no group of bands that is seen.")

    def _space_time(self, inputs: GalileoInput, used: list[int], patch_px: int, gsd_m: float) -> Float[Tensor, "B h w T g D"]:
        batch, _, _, steps, _ = inputs.space_time.shape
        flat = inputs.space_time.permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B T, 13, H, W)
        names = list(SPACE_TIME_GROUPS.items())
        parts = []
        for g in used:
            name, bands = names[g]
            cells = self.space_time_embed[name](flat[:, list(bands)], self.get_buffer(f"resize_{patch_px}"))  # (B T, D, h, w)
            parts.append(cells.unflatten(0, (batch, steps)).permute(0, 3, 4, 1, 2))
        x = torch.stack(parts, dim=4)
        place = self._places(x.shape[1], x.shape[2], patch_px * gsd_m).to(x)[None, :, :, None, None]
        moment = self.pos_embed[:steps].view(1, 1, 1, steps, 1, -1)
        month = self.month_embed(inputs.months).view(batch, 1, 1, steps, 1, -1)
        return x + _joined(x, self.s_t_channel_embed[used], moment, month, place)

    def _space(self, inputs: GalileoInput, used: list[int], patch_px: int, gsd_m: float) -> Float[Tensor, "B h w g D"]:
        flat = inputs.space.permute(0, 3, 1, 2)
        names = list(SPACE_GROUPS.items())
        resize = self.get_buffer(f"resize_{patch_px}")
        parts = [self.space_embed[names[g][0]](flat[:, list(names[g][1])], resize).permute(0, 2, 3, 1) for g in used]
        x = torch.stack(parts, dim=3)
        place = self._places(x.shape[1], x.shape[2], patch_px * gsd_m).to(x)[None, :, :, None]
        return x + _joined(x, self.sp_channel_embed[used], None, None, place)

    def _time(self, inputs: GalileoInput, used: list[int], patch_px: int, gsd_m: float) -> Float[Tensor, "B T g D"]:
        names = list(TIME_GROUPS.items())
        x = torch.stack([self.time_embed[names[g][0]](inputs.time[..., list(names[g][1])]) for g in used], dim=2)
        moment = self.pos_embed[: x.shape[1]].view(1, x.shape[1], 1, -1)
        return x + _joined(x, self.t_channel_embed[used], moment, self.month_embed(inputs.months)[:, :, None], None)

    def _static(self, inputs: GalileoInput, used: list[int], patch_px: int, gsd_m: float) -> Float[Tensor, "B g D"]:
        names = list(STATIC_GROUPS.items())
        x = torch.stack([self.static_embed[names[g][0]](inputs.static[:, list(names[g][1])]) for g in used], dim=1)
        return x + _joined(x, self.st_channel_embed[used], None, None, None)

    def _places(self, height: int, width: int, metres: float) -> Float[Tensor, "h w part"]:
        half = self.config.embedding_size // 8
        across = place_code(width, metres, half)[None].expand(height, -1, -1)
        down = place_code(height, metres, half)[:, None].expand(-1, width, -1)
        return torch.cat([across, down], dim=2)

    def _unpack(self, x: Tensor, chosen: Mapping[str, list[int]], inputs: GalileoInput) -> GalileoTokens:
        """Cut the sequence back into the layout of the inputs."""
        out, start = {}, 0
        for name, used in chosen.items():
            keep = getattr(inputs, f"keep_{name}")
            full = x.new_zeros(*keep.shape, x.shape[-1])
            if used:
                count = keep[..., used].flatten(1).shape[1]
                part = x[:, start : start + count].view(*keep.shape[:-1], len(used), -1)
                full = part if len(used) == keep.shape[-1] else full.index_copy(-2, torch.tensor(used, device=x.device), part)
                start += count
            out[name] = full
        return GalileoTokens(**out, inputs=inputs)


def _joined(x: Tensor, group: Tensor, moment: Tensor | None, month: Tensor | None, place: Tensor | None) -> Tensor:
    """Return [group | time | month | place] broadcast to the tokens x (..., g, D); zeros for what a part has not."""
    shape = (*x.shape[:-1], group.shape[-1])
    parts = [torch.zeros_like(group) if p is None else p for p in (group, moment, month, place)]
    return torch.cat([p.expand(shape) for p in parts], dim=-1)
