"""What goes into Galileo and what comes out: bands, groups of bands, values with what is seen of them, tokens.

    part        values            tokens           groups
    space_time  (B, H, W, T, 13)  (B, h, w, T, 7)  S1, S2 (five), NDVI
    space       (B, H, W, 16)     (B, h, w, 3)     terrain; land cover and crop maps
    time        (B, T, 6)         (B, T, 3)        weather, water balance, night lights
    static      (B, 18)           (B, 4)           population, location, both maps' shares

A token is one group of bands in one ground cell (h = H / patch) at one time step, as far as its part has these. Names
and order are those of the weights. Source: Galileo (2502.09356, section 3 and appendix on data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mamol.errors import DataError, ShapeMismatch

_DW = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice")
_WC = ("temporarycrops", "maize", "wintercereals", "springcereals", "irrigation")
_MAPS = (*(f"DW_{name}" for name in _DW), *(f"WC_{name}" for name in _WC))

SPACE_TIME_BANDS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "NDVI")
SPACE_BANDS = ("elevation", "slope", *_MAPS)
TIME_BANDS = ("temperature_2m", "total_precipitation_sum", "def", "soil", "aet", "avg_rad")
STATIC_BANDS = ("LS", "x", "y", "z", *(f"{name}_static" for name in _MAPS))
SPACE_TIME_GROUPS: Mapping[str, Sequence[int]] = {
    "S1": (0, 1), "S2_RGB": (2, 3, 4), "S2_Red_Edge": (5, 6, 7), "S2_NIR_10m": (8,), "S2_NIR_20m": (9,),
    "S2_SWIR": (10, 11), "NDVI": (12,),
}  # fmt: skip
SPACE_GROUPS: Mapping[str, Sequence[int]] = {"SRTM": (0, 1), "DW": tuple(range(2, 11)), "WC": tuple(range(11, 16))}
TIME_GROUPS: Mapping[str, Sequence[int]] = {"ERA5": (0, 1), "TC": (2, 3, 4), "VIIRS": (5,)}
STATIC_GROUPS: Mapping[str, Sequence[int]] = {
    "LS": (0,), "location": (1, 2, 3), "DW_static": tuple(range(4, 13)), "WC_static": tuple(range(13, 18)),
}  # fmt: skip


@dataclass
class GalileoInput:
    """Normalised values (galileo_statistics) and, True where seen, `keep_*`: bool per token, h = H / patch, w = W / patch.

    `months` are 0..11. Values under a False are never read; those under a True must be finite.
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
    """Every token after the last norm, zeros where it was not seen, and the `keep_*` of the input."""

    space_time: Float[Tensor, "B h w T 7 D"]
    space: Float[Tensor, "B h w 3 D"]
    time: Float[Tensor, "B T 3 D"]
    static: Float[Tensor, "B 4 D"]
    keep_space_time: Bool[Tensor, "B h w T 7"]
    keep_space: Bool[Tensor, "B h w 3"]
    keep_time: Bool[Tensor, "B T 3"]
    keep_static: Bool[Tensor, "B 4"]

    def mean(self) -> Float[Tensor, "B D"]:
        """Return the mean over the seen tokens of each sample."""
        own, own_count = self._cells()
        around, around_count = self._around()
        return (own.sum((1, 2)) + around) / (own_count.sum((1, 2)) + around_count).clamp_min(1)[:, None]

    def grid_mean(self) -> Float[Tensor, "B h w D"]:
        """Return, per ground cell, the mean over its seen space-time and space tokens.

        A cell without any takes the mean over the sample's seen time and static tokens, or zeros if it has none either.
        """
        own, own_count = self._cells()
        around, around_count = self._around()
        general = (around / around_count.clamp_min(1)[:, None])[:, None, None]
        return torch.where(own_count[..., None] > 0, own / own_count.clamp_min(1)[..., None], general)

    def _cells(self) -> tuple[Float[Tensor, "B h w D"], Int[Tensor, "B h w"]]:
        """Return the sum and the number of each cell's tokens."""
        total = self.space_time.sum((3, 4)) + self.space.sum(3)
        return total, self.keep_space_time.sum((3, 4)) + self.keep_space.sum(3)

    def _around(self) -> tuple[Float[Tensor, "B D"], Int[Tensor, " B"]]:
        """Return the sum and the number of the tokens without a place."""
        return self.time.sum((1, 2)) + self.static.sum(1), self.keep_time.sum((1, 2)) + self.keep_static.sum(1)


def check_input(inputs: GalileoInput, patch_px: int, longest: int, side: int) -> None:
    """Raise ShapeMismatch, and DataError for months outside 0..11.

    `longest` is the most time steps and `side` the largest patch, in pixels, that the model knows.
    """
    given, bands = tuple(inputs.space_time.shape), len(SPACE_TIME_BANDS)
    if len(given) != 5 or given[-1] != bands or min(given) < 1:
        wanted = f"(B, H, W, T, {bands}) with bands {', '.join(SPACE_TIME_BANDS)}"
        raise ShapeMismatch(f"space_time has shape {given}; expected {wanted}, none of them empty.")
    batch, height, width, steps, _ = given
    if not 1 <= patch_px <= side:
        raise ShapeMismatch(f"patch_px is {patch_px}; this model embeds patches of 1 to {side} px.")
    if height % patch_px or width % patch_px:
        raise ShapeMismatch(f"{height} x {width} px cannot be cut into patches of {patch_px} px; pad or crop the window.")
    if steps > longest:
        raise ShapeMismatch(f"{steps} time steps came, the model knows at most {longest}; select or average time steps.")
    cells = (batch, height // patch_px, width // patch_px)
    for name, x, expected in (
        ("space", inputs.space, (batch, height, width, len(SPACE_BANDS))),
        ("time", inputs.time, (batch, steps, len(TIME_BANDS))),
        ("static", inputs.static, (batch, len(STATIC_BANDS))),
        ("months", inputs.months, (batch, steps)),
        ("keep_space_time", inputs.keep_space_time, (*cells, steps, len(SPACE_TIME_GROUPS))),
        ("keep_space", inputs.keep_space, (*cells, len(SPACE_GROUPS))),
        ("keep_time", inputs.keep_time, (batch, steps, len(TIME_GROUPS))),
        ("keep_static", inputs.keep_static, (batch, len(STATIC_GROUPS))),
    ):
        if tuple(x.shape) != expected:
            beside = f"beside space_time {given} and patches of {patch_px} px"
            raise ShapeMismatch(f"{name} has shape {tuple(x.shape)}; {beside} it must be {expected}.")
    if not torch.compiler.is_compiling() and bool(((inputs.months < 0) | (inputs.months > 11)).any()):
        found = f"{int(inputs.months.min())}..{int(inputs.months.max())}"
        raise DataError(f"months are {found}; expected 0 (January) to 11 (December); subtract one if they count from 1.")
