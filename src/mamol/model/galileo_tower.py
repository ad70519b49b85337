"""Sentinel-1, Sentinel-2, terrain and weather through the frozen Galileo nano.

    modality's bands, by their names ("VV", "B4", "elevation", ...)  ─► Galileo's band groups, in its units
    observed where (per pixel and month)                             ─► which tokens are seen
    Galileo + mixture                                                ─► mean token, or one feature per ground cell

A group is seen where every one of its bands is; NDVI follows from B4 and B8, and is taken as given where these are not
both seen. Sample sets are time series of one pixel (kind "series", a step a month, all of one length); scenes are windows
of one month, cut into cells of tokens.token_px pixels.
Source: Galileo (2502.09356); galileo.py has the encoder itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mamol.config import Config
from mamol.data.normalize import Normalizer
from mamol.errors import ConfigError, ShapeMismatch, UsageError, unknown
from mamol.modality import Modality
from mamol.model.galileo import (
    SPACE_GROUPS,
    SPACE_TIME_BANDS,
    SPACE_TIME_GROUPS,
    STATIC_GROUPS,
    TIME_GROUPS,
    GalileoInput,
)
from mamol.model.galileo_weights import PARTS, galileo_statistics, load_galileo
from mamol.model.towers import Experts, Feature, Raw, Tower, mixture_of

log = logging.getLogger(__name__)
Convert = Callable[[Tensor], Tensor]
UNITS: dict[str, Convert] = {"reflectance": lambda x: x * 10_000.0}
"""From a modality's unit to Galileo's."""
ALIASES: dict[str, tuple[str, Convert]] = {
    "log_precipitation_mm": ("total_precipitation_sum", lambda x: torch.expm1(x) / 1000.0),
    "NDVI": ("NDVI", lambda x: x),
}
"""Bands whose form or unit is not that of their modality: Galileo's name, and the conversion."""
GROUPS = {"space_time": SPACE_TIME_GROUPS, "space": SPACE_GROUPS, "time": TIME_GROUPS, "static": STATIC_GROUPS}
EPSILON = 1e-6
LEAST_SPREAD = 0.01
"""Optical bands that deviate by less, in the deviations of Galileo's own training, are likely to have another unit."""


class GalileoTower(Tower):
    """All modalities of a data set through one Galileo.

    Raises UsageError and UnknownName for bands that it does not know, ConfigError for series of several lengths.
    """

    def __init__(self, modalities: Sequence[Modality], config: Config, is_scene: bool) -> None:
        _check_lengths(modalities)
        model = load_galileo()
        super().__init__(modalities, model.config.embedding_size)
        self.is_scene = is_scene
        self.config = config
        self.units = {m.name: m.unit for m in modalities}
        self.where = {m.name: _find_bands(m) for m in modalities}
        self.model = mixture_of(model, self.names, config, "galileo-nano")
        self.raw = torch.nn.ModuleDict({m.name: Raw(m.bands) for m in modalities})
        for part, (mean, divisor) in galileo_statistics().items():
            self.register_buffer(f"mean_{part}", mean, persistent=False)
            self.register_buffer(f"divisor_{part}", divisor, persistent=False)

    def stand_in(self, normalizer: Normalizer) -> None:
        """Learn the statistics of every modality, to undo them."""
        for name, raw in self.raw.items():
            if isinstance(raw, Raw):
                raw.fill(normalizer, name)

    def warn_of_units(self) -> None:
        """Log optical bands that hardly vary in Galileo's units: likely they are in another one than is said."""
        for name, raw in self.raw.items():
            if isinstance(raw, Raw):
                self._warn_of_unit(name, raw)

    def _warn_of_unit(self, name: str, raw: Raw) -> None:
        varies = []
        for i, (part, k, convert) in enumerate(self.where[name]):
            if part == "space_time" and PARTS[part][k].startswith("B"):
                step = convert(raw.mean[i] + raw.std[i]) - convert(raw.mean[i])
                varies.append(float(step.abs() / self.get_buffer(f"divisor_{part}")[k]))
        if varies and max(varies) < LEAST_SPREAD:
            log.warning(
                "'%s' varies by %.1g of what Galileo has seen: its values look like reflectance in 0..1, which is multiplied by "
                "10,000 if its unit is 'reflectance'; the unit is %r", name, max(varies), self.units[name],
            )  # fmt: skip

    def forward(
        self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], present: Tensor, experts: Experts
    ) -> Feature:
        """Return the mean of the seen tokens, (B, D), or per ground cell, (B, D, h, w), of a scene's windows."""
        patch = self.config.tokens.token_px if any(v.dim() == 4 for v in values.values()) else 1
        inputs = self.inputs(values, available, patch)
        tokens = self.bound(present, experts)(inputs, patch)
        kept = present.any(1)
        return Feature(tokens.grid_mean().permute(0, 3, 1, 2) if self.is_scene else tokens.mean(), kept)

    def inputs(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], patch: int) -> GalileoInput:
        """Put normalised values into Galileo's arrays, (B, H, W, T, band), with what is seen per token."""
        size, steps, some = _layout(values, patch)
        batch, device = some.shape[0], some.device
        field = {p: torch.zeros(batch, *size, steps, len(b), device=device) for p, b in PARTS.items()}
        seen = {p: torch.zeros(batch, *size, steps, len(b), dtype=torch.bool, device=device) for p, b in PARTS.items()}
        for name, places in self.where.items():
            there = available[name]
            raw = self.raw[name](torch.where(there[:, None], values[name], 0.0))  # what is missing becomes the band's mean
            for i, (part, k, convert) in enumerate(places):
                field[part][..., k] = _lay(convert(raw[:, i]), size, steps)
                seen[part][..., k] = _lay(there, size, steps)
        _add_ndvi(field["space_time"], seen["space_time"])
        ready = {p: self._normalised(x, p) for p, x in field.items()}
        keep = {p: _by_group(seen[p], GROUPS[p]) for p in PARTS}
        months = (torch.arange(steps, device=device) + self.config.backbone.first_month) % 12
        return GalileoInput(
            space_time=ready["space_time"],
            space=_over_time(ready["space"], seen["space"]),
            time=_over_space(ready["time"], seen["time"]),
            static=_first(ready["static"], seen["static"]),
            months=months.expand(batch, -1),
            keep_space_time=_cells(keep["space_time"], patch),
            keep_space=_cells(keep["space"].any(3, keepdim=True), patch)[..., 0, :],
            keep_time=keep["time"].any(2).any(1),
            keep_static=keep["static"].flatten(1, 3).any(1),
        )

    def _normalised(self, x: Tensor, part: str) -> Tensor:
        return (x - self.get_buffer(f"mean_{part}")) / self.get_buffer(f"divisor_{part}")


def _check_lengths(modalities: Sequence[Modality]) -> None:
    """Refuse series of several lengths; one of a single step is the same at every step."""
    lengths = {m.name: m.length for m in modalities if m.kind == "series" and m.length > 1}
    if len(set(lengths.values())) > 1:
        raise ConfigError(
            f"galileo-nano reads all series on one time axis, a step a month; the data set has "
            f"{', '.join(f'{m} {n}' for m, n in lengths.items())} time steps. Bring them to one length (months that were not "
            'observed as not available), or use backbone.kind = "scene".'
        )


def _find_bands(modality: Modality) -> list[tuple[str, int, Convert]]:
    """Return, per band, Galileo's part, the band's index there, and the conversion of its unit."""
    if not modality.band_names:
        raise UsageError(
            f"galileo-nano needs the band names of '{modality.name}' (Modality.band_names), for example VV, VH or B2, B3."
        )
    unit = UNITS.get(modality.unit, lambda x: x)
    found = []
    for name in modality.band_names:
        own, convert = ALIASES.get(name, (name, unit))
        part = next((p for p, bands in PARTS.items() if own in bands), None)
        if part is None:
            raise unknown("band of galileo-nano", name, {b for bands in PARTS.values() for b in bands} | ALIASES.keys())
        found.append((part, PARTS[part].index(own), convert))
    complete = [all((part, i) in {f[:2] for f in found} for i in bands) for part, g in GROUPS.items() for bands in g.values()]
    if not any(complete):
        whole = "; ".join(" + ".join(PARTS[part][i] for i in bands) for part, g in GROUPS.items() for bands in g.values())
        raise UsageError(
            f"galileo-nano reads groups of bands; '{modality.name}' ({', '.join(modality.band_names)}) completes none of: "
            f"{whole}. Put bands of one group into one modality."
        )
    return found


def _layout(values: Mapping[str, Tensor], patch: int) -> tuple[tuple[int, int], int, Tensor]:
    """Return height and width, time steps, and some tensor, over all modalities; raises ShapeMismatch for grids of several sizes
    or that are not cut into cells of `patch` pixels.
    """
    some = next(iter(values.values()))
    sizes = {m: (v.shape[2], v.shape[3]) for m, v in values.items() if v.dim() == 4}
    if len(set(sizes.values())) > 1 or any(side % patch for size in sizes.values() for side in size):
        raise ShapeMismatch(
            f"galileo-nano lays all grids on one ground and cuts it into cells of {patch} pixels (tokens.token_px); got "
            f"{', '.join(f'{m} of {h} x {w}' for m, (h, w) in sizes.items())} pixels."
        )
    size = next(iter(sizes.values()), (1, 1))
    return size, max((v.shape[2] for v in values.values() if v.dim() == 3), default=1), some


def _lay(x: Tensor, size: tuple[int, int], steps: int) -> Tensor:
    """Lay one band, (B,), (B, T) or (B, H, W), out over (B, H, W, T)."""
    if x.dim() == 1:
        x = x.view(-1, 1, 1, 1)
    elif x.dim() == 2:
        x = x[:, None, None]
    else:
        x = x[..., None]
    return x.expand(-1, *size, steps)


def _add_ndvi(x: Tensor, seen: Tensor) -> None:
    """Fill NDVI = (B8 - B4) / (B8 + B4) in place, seen where both are; where they are not, a given one stays."""
    red, infrared, ndvi = (SPACE_TIME_BANDS.index(b) for b in ("B4", "B8", "NDVI"))
    both = seen[..., infrared] & seen[..., red]
    given = seen[..., ndvi] & ~both
    total = x[..., infrared] + x[..., red]
    safe = total.abs() > EPSILON
    computed = torch.where(safe, (x[..., infrared] - x[..., red]) / torch.where(safe, total, 1.0), 0.0)
    x[..., ndvi] = torch.where(given, x[..., ndvi], computed)
    seen[..., ndvi] = given | both


def _by_group(seen: Tensor, groups: Mapping[str, Sequence[int]]) -> Tensor:
    """Return (..., G): a group is seen where all of its bands are."""
    return torch.stack([seen[..., list(bands)].all(-1) for bands in groups.values()], dim=-1)


def _cells(keep: Tensor, patch: int) -> Tensor:
    """Return (B, h, w, T, G) from (B, H, W, T, G): a token is seen where any of its pixels is."""
    batch, height, width, steps, groups = keep.shape
    return keep.view(batch, height // patch, patch, width // patch, patch, steps, groups).any(4).any(2)


def _first(x: Tensor, seen: Tensor) -> Tensor:
    """Return each band of (B, H, W, T, C) where and when it was first seen, (B, C)."""
    first = seen.flatten(1, 3).int().argmax(1, keepdim=True)
    return x.flatten(1, 3).gather(1, first)[:, 0]


def _over_time(x: Tensor, seen: Tensor) -> Tensor:
    """Average (B, H, W, T, C) over the time steps at which it was seen."""
    return (x * seen).sum(3) / seen.sum(3).clamp_min(1)


def _over_space(x: Tensor, seen: Tensor) -> Tensor:
    """Average (B, H, W, T, C) over the pixels at which it was seen, to (B, T, C)."""
    return (x * seen).sum((1, 2)) / seen.sum((1, 2)).clamp_min(1)
