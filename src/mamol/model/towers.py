"""A tower turns one or several modalities into one feature per sample, or one per ground cell.

    ImageTower    RGB image          -> a pretrained vision model         -> mean of its tokens
    TextTower     text               -> a pretrained language model       -> mean of its words
    PlainTower    anything else      -> mamol's own tokenizer (trained)   -> mean of its tokens
    GalileoTower  Sentinel-1, -2, terrain, weather together               -> galileo_tower.py

Pretrained models stay frozen; the mixture sits beside their Linear layers (adapted.py) and sees the pattern of the
whole sample, so an image is read differently where its title is missing. A model runs only on the samples that have
its modality. Values come normalised by the data's Normalizer; a tower that needs physical units undoes that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import Config, MixtureConfig
from mamol.data.normalize import Normalizer
from mamol.data.texts import decode_texts
from mamol.errors import UnknownName, UsageError
from mamol.modality import Modality
from mamol.model.adapted import Adapted, AdapterSettings
from mamol.model.foreign import load_foreign
from mamol.model.places import CANONICAL
from mamol.model.rules import refuse_mixing
from mamol.model.tokens import Tokenizer

log = logging.getLogger(__name__)
MOST_TOKENS = 64
Experts = list[Tensor] | None
"""None runs the frozen model alone; a list turns the experts on, and takes what their routers add to the loss."""


@dataclass
class Feature:
    """`values` (B, D), or (B, D, h, w) per ground cell; `keep` (B,): which samples have any of the modalities."""

    values: Tensor
    keep: Bool[Tensor, " B"]


class Tower(nn.Module):
    """What every tower is: the modalities it reads, the width of its feature, and perhaps a frozen model."""

    def __init__(self, modalities: Sequence[Modality], width: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.names = tuple(m.name for m in modalities)
        self.width = width
        self.model: nn.Module | None = None

    @property
    def backbone(self) -> nn.Module | None:
        """Return the pretrained model, or None if the tower is all ours."""
        return self.model.base if isinstance(self.model, Adapted) else self.model

    @property
    def adapted(self) -> Adapted | None:
        """Return the pretrained model with its mixture, or None without experts."""
        return self.model if isinstance(self.model, Adapted) else None

    def stand_in(self, normalizer: Normalizer) -> None:
        """Learn from the normalisation what the tower has to undo; nothing by default."""

    def warn_of_units(self) -> None:
        """Log values that are far from what the pretrained model has seen; nothing by default."""

    def bound(self, present: Bool[Tensor, "B M"], experts: Experts) -> nn.Module:
        """Return the pretrained model with the experts that `present` turns on, for one call."""
        if self.model is None:
            raise TypeError("this tower has no pretrained model")
        if isinstance(self.model, Adapted):
            return self.model.base if experts is None else self.model.bind(present, experts)
        return self.model


class Raw(nn.Module):
    """Undoes the normalisation of one modality: x * deviation + mean, per band."""

    mean: Tensor
    std: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))

    def fill(self, normalizer: Normalizer, name: str) -> None:
        """Take the statistics of one modality; raises UsageError if it was compressed, or mapped by its quantiles."""
        s = normalizer.statistics[name]
        if s.components is not None or s.unit_spectrum:
            raise UsageError(f"a pretrained model needs the bands of '{name}' as they are; set data.compress = 0.")
        if s.knots is not None:
            raise UsageError(f"a pretrained model needs the values of '{name}' as they are; set data.quantiles = 0.")
        self.mean.copy_(torch.from_numpy(np.asarray(s.mean)))
        self.std.copy_(torch.from_numpy(np.asarray(s.std)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, ...) in the units of the data set."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.std.view(shape) + self.mean.view(shape)


def mixture_of(model: nn.Module, modalities: Sequence[str], config: Config, name: str) -> nn.Module:
    """Put the configured experts beside a pretrained model; return the model itself if there are none to put.

    experts.targets are found by their common names (places.CANONICAL); `name` is the model's in errors. Raises UsageError
    for the scene's own settings, UnknownName for layers and targets that the model lacks.
    """
    e = config.experts
    if not e.ranks(len(modalities)):
        return model
    if "ffn" in e.targets or e.projection or e.scope == "own":
        raise UsageError(
            'experts.targets = ["ffn"], experts.projection and experts.scope = "own" are for the scene backbone; beside a '
            "pretrained model experts sit at single Linear layers."
        )
    refuse_mixing(e, config.router)
    pattern = "|".join(f"(?:{CANONICAL[t]})" for t in e.targets)
    settings = AdapterSettings(
        modalities=tuple(modalities),
        target_modules=pattern,
        layers=None if e.layers == "all" else e.layers,
        experts=MixtureConfig(**{k: getattr(e, k) for k in MixtureConfig.model_fields}),
        router=config.router,
    )
    try:
        return Adapted(model, settings)
    except UnknownName as error:
        raise UnknownName(f"the model '{name}' of the configuration: {error}") from None


class ImageTower(Tower):
    """An RGB image (B, 3, H, W) through a pretrained vision model."""

    mean: Tensor
    std: Tensor

    def __init__(self, modality: Modality, every: Sequence[str], config: Config) -> None:
        if modality.bands != 3:
            raise UsageError(f"an image model reads three bands (RGB); '{modality.name}' has {modality.bands}.")
        name = config.backbone.models[modality.name]
        found = load_foreign(name, "grid")
        super().__init__([modality], found.width)
        self.side_px = found.side_px
        depth = config.backbone.depths.get(modality.name)
        self.model = mixture_of(_cut(found.model, depth, name), every, config, name)
        self.raw = Raw(3)
        self.register_buffer("mean", torch.tensor(found.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(found.std).view(1, 3, 1, 1), persistent=False)

    def stand_in(self, normalizer: Normalizer) -> None:
        """Learn the statistics of the image's bands."""
        self.raw.fill(normalizer, self.names[0])

    def warn_of_units(self) -> None:
        """Log that an image is no RGB in 0..1, such as one of 8-bit numbers."""
        low, high = float((self.raw.mean - 2 * self.raw.std).min()), float((self.raw.mean + 2 * self.raw.std).max())
        if high - low > 3 or high < 0 or low > 1:
            log.warning(
                "most values of '%s' lie in %.3g..%.3g; a pretrained vision model reads RGB in 0..1, divide 8-bit ones by 255",
                self.names[0], low, high,
            )  # fmt: skip

    def forward(
        self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], present: Bool[Tensor, "B M"], experts: Experts
    ) -> Feature:
        """Return the mean token per image; unavailable pixels are the mean colour of the model's training."""
        (name,) = self.names
        there = available[name].flatten(1).any(1)
        rows = _rows(there)
        pixels = (self.raw(values[name][rows]) - self.mean) / self.std
        pixels = torch.where(available[name][rows][:, None], pixels, torch.zeros_like(pixels))
        if self.side_px is not None and pixels.shape[-2:] != (self.side_px, self.side_px):
            pixels = nn.functional.interpolate(pixels, size=(self.side_px, self.side_px), mode="bilinear", antialias=True)
        tokens = self.bound(present[rows], experts)(pixel_values=pixels).last_hidden_state
        return Feature(_back(tokens.mean(1), rows, there), there)


class TextTower(Tower):
    """A text, as bytes (B, L), through a pretrained language model."""

    def __init__(self, modality: Modality, every: Sequence[str], config: Config) -> None:
        name = config.backbone.models[modality.name]
        found = load_foreign(name, "text")
        super().__init__([modality], found.width)
        self.tokenizer = found.tokenizer
        depth = config.backbone.depths.get(modality.name)
        self.model = mixture_of(_cut(found.model, depth, name), every, config, name)

    def forward(
        self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], present: Bool[Tensor, "B M"], experts: Experts
    ) -> Feature:
        """Return the mean over the words of each text."""
        (name,) = self.names
        there = available[name]
        rows = there.nonzero()[:, 0]
        texts = decode_texts(values[name][rows].cpu().numpy())
        words = self.tokenizer(texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        words = {k: v.to(rows.device) for k, v in words.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
        tokens = self.bound(present[rows], experts)(**words).last_hidden_state
        weight = words["attention_mask"][..., None].to(tokens.dtype)
        return Feature(_back((tokens * weight).sum(1) / weight.sum(1).clamp_min(1), rows, there), there)


class PlainTower(Tower):
    """Any modality through mamol's own tokenizer: two trained layers, no pretrained model, no experts."""

    def __init__(self, modality: Modality, bands: int, config: Config) -> None:
        super().__init__([modality], config.backbone.width)
        self.tokenizer = Tokenizer(modality, bands, config)

    def stand_in(self, normalizer: Normalizer) -> None:
        """Set what stands for missing values."""
        self.tokenizer.stand_in(normalizer, self.names[0])

    def forward(
        self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], present: Bool[Tensor, "B M"], experts: Experts
    ) -> Feature:
        """Return the mean of the kept tokens."""
        (name,) = self.names
        tokens = self.tokenizer(values[name], available[name])
        weight = tokens.keep[..., None].to(tokens.values.dtype)
        return Feature((tokens.values * weight).sum(1) / weight.sum(1).clamp_min(1), tokens.keep.any(1))


def _rows(there: Bool[Tensor, " B"]) -> Tensor:
    """Return the samples to run: those that are there; all of them while a graph is traced."""
    return torch.arange(there.shape[0], device=there.device) if torch.compiler.is_compiling() else there.nonzero()[:, 0]


def _back(feature: Float[Tensor, "n D"], rows: Tensor, there: Bool[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """Put the features of some samples back into the batch, zeros for the others."""
    if torch.compiler.is_compiling():
        return feature * there[:, None]
    return feature.new_zeros(len(there), feature.shape[1]).index_copy(0, rows, feature)


def _cut(model: nn.Module, depth: int | None, name: str) -> nn.Module:
    """Keep the first layers of a model only."""
    if depth is None:
        return model
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 1]
    if not lists or depth > len(lists[0][1]):
        raise UsageError(f"'{name}' cannot be cut to {depth} layers; it has {len(lists[0][1]) if lists else 'no list of them'}.")
    where, layers = lists[0]
    parent = model.get_submodule(where.rpartition(".")[0])
    setattr(parent, where.rpartition(".")[2], layers[:depth])
    return model
