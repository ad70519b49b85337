"""A classifier on backbones that others pretrained: towers -> one feature each -> mean over those present -> head.

    image ─► vision model + mixture ──► feature ─┐
    title ─► language model + mixture ► feature ─┼─► standardised, linear ─► mean over the present ─► head ─► class
    rest  ─► mamol's own tokenizer ───► feature ─┘
    or, for Sentinel-1 and -2, terrain and weather: one Galileo + mixture over all of them ─► head

It stands where classifier.Classifier does: the same call, the same training loop, predictor and run folder. The frozen
models are not written into a run folder but named and hashed there. Source: METHOD.md section 3, "Backbones" (b), (c).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import Config
from mamol.data.normalize import Normalizer
from mamol.errors import ConfigError, UnknownName
from mamol.model.adapted import Adapted
from mamol.model.backbone import fingerprint
from mamol.model.classifier import InputShape, Output, refuse_empty, upsampled
from mamol.model.galileo_tower import GalileoTower
from mamol.model.router import Router
from mamol.model.routing import Routing
from mamol.model.rules import by_pattern
from mamol.model.tokens import anywhere, pixel_stem
from mamol.model.towers import Feature, ImageTower, PlainTower, TextTower, Tower

SUITED = {"grid": "facebook/dinov2-small", "text": "minilm"}
"""A model that reads modalities of a kind, for advice."""


class Standard(nn.Module):
    """Feature (..., D) less its mean, over its deviation, each measured once before training.

    What a frozen model says is mostly the same for every sample; a head on top learns slowly before that is taken off.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def measure(self, x: Float[Tensor, "n D"]) -> None:
        """Take the statistics of n features; fewer than two leave them as they are."""
        if len(x) > 1:
            self.mean.copy_(x.mean(0))
            self.deviation.copy_(x.std(0).clamp_min(1e-3 * float(x.std(0).mean()) + 1e-9))

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised feature."""
        return (x - self.mean) / self.deviation


class PretrainedClassifier(nn.Module):
    """MaMOL on pretrained models: each is frozen, one small set of weights serves every combination of modalities."""

    def __init__(self, shape: InputShape, config: Config) -> None:
        super().__init__()
        self.shape, self.modalities, self.config = shape, shape.modalities, config
        self.task = "dense" if shape.is_scene else "sample"
        _check(shape, config)
        self.towers = nn.ModuleDict(_towers(shape, config))
        width, classes = config.model.head_hidden, shape.classes
        self.project = nn.ModuleDict({n: nn.Sequential(Standard(t.width), nn.Linear(t.width, width)) for n, t in self._each()})
        planes = sum(shape.bands.values()) + len(shape.modalities)
        self.stem = pixel_stem(planes, config.tokens.stem) if shape.is_scene else None
        inputs = width + (config.tokens.stem if shape.is_scene else 0)
        self.head = nn.Sequential(
            nn.GELU(), nn.Dropout(config.model.dropout), nn.LayerNorm(inputs), nn.Linear(inputs, classes)
        )  # fmt: skip
        self.fixed: tuple[int, ...] | None = None
        self.freeze()

    def forward(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], experts: bool = True) -> Output:
        """Classify as Classifier.forward does: (B, K) logits for samples, (B, K, H, W) for windows."""
        present = torch.stack([anywhere(available[m.name]) for m in self.modalities], dim=1)
        losses: list[Tensor] | None = [] if experts else None
        features = {n: t(values, available, present, losses) for n, t in self._used(present)}
        fused = self._fuse(features)
        if self.stem is None:
            logits = self.head(fused)
        else:
            pixels = self.stem(self._planes(values, available))
            grid = upsampled(fused, pixels.shape[-2:])
            logits = self.head(torch.cat([grid, pixels], dim=1).movedim(1, -1)).movedim(-1, 1)
        told = experts and not torch.compiler.is_compiling()
        return Output(logits, self._routing(present, losses or []) if told else _nothing(present))

    def folded(self, pattern: Sequence[str]) -> PretrainedClassifier:
        """Return a copy for one known pattern, W(p) in plain Linear layers; raises UsageError as Adapted.fold."""
        twin = copy.deepcopy(self)
        for (_, tower), (_, own) in zip(twin._each(), self._each(), strict=True):
            if own.adapted is not None:
                tower.model = own.adapted.fold(pattern)
        twin.fixed = tuple(i for i, m in enumerate(self.modalities) if m.name in pattern)
        return twin

    def pattern_gates(self, pattern: Sequence[str]) -> Float[Tensor, "L E"]:
        """Return the gates of every adapted layer for one pattern, counted through the towers."""
        found = [g for _, t in self._each() if t.adapted is not None for g in t.adapted.gates(tuple(pattern)).values()]
        return torch.cat(found) if found else torch.zeros(0, 0)

    def stand_in(self, normalizer: Normalizer) -> None:
        """Tell the towers what the normalisation did."""
        for _, tower in self._each():
            tower.stand_in(normalizer)

    def measure(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor]) -> None:
        """Measure mean and deviation of every tower's feature on one batch of training samples, before training.

        Values that are far from what a tower's model has seen are logged.
        """
        for _, tower in self._each():
            tower.warn_of_units()
        present = torch.stack([anywhere(available[m.name]) for m in self.modalities], dim=1)
        self.eval()
        with torch.no_grad():
            for name, tower in self._used(present):
                feature = tower(values, available, present, [])
                rows = feature.values[feature.keep]
                standard = self.project.get_submodule(f"{name}.0")
                if isinstance(standard, Standard):
                    standard.measure((rows.movedim(1, -1) if rows.dim() == 4 else rows).flatten(0, -2))

    def freeze(self) -> None:
        """Freeze the pretrained models (unless backbone.freeze is False) and mamol's tokenizers as configured."""
        for _, tower in self._each():
            if isinstance(tower, PlainTower):
                tower.requires_grad_(self.config.train.train_tokenizers)
            elif tower.backbone is not None:
                tower.backbone.requires_grad_(not self.config.backbone.freeze)

    def train(self, mode: bool = True) -> PretrainedClassifier:
        """Set training mode; frozen models stay in evaluation mode, so that their dropout is off."""
        super().train(mode)
        for _, tower in self._each():
            if tower.backbone is not None and self.config.backbone.freeze:
                tower.backbone.eval()
        return self

    def backbone_hash(self) -> str:
        """Return the fingerprint of all pretrained models; taken before training if they are trained whole."""
        return fingerprint(nn.ModuleDict({n: t.backbone for n, t in self._each() if t.backbone is not None}))

    def own_state(self) -> dict[str, Tensor]:
        """Return what a run folder keeps: everything that is not a frozen pretrained model."""
        frozen = set()
        if self.config.backbone.freeze:
            for n, t in self._each():
                inside = "model.base." if isinstance(t.model, Adapted) else "model."
                if t.backbone is not None:
                    frozen |= {f"towers.{n}.{inside}{k}" for k in t.backbone.state_dict()}
        return {k: v for k, v in self.state_dict().items() if k not in frozen}

    def expert_names(self) -> list[str]:
        """Name the experts in the order of their gates."""
        return self.config.experts.names([m.name for m in self.modalities])

    def parameter_counts(self) -> dict[str, int]:
        """Count the weights: experts, router, tokenizers, head, and the backbones, frozen or trained."""

        def size(*modules: nn.Module) -> int:
            return sum(p.numel() for m in modules for p in m.parameters())

        adapted = [t.adapted for _, t in self._each() if t.adapted is not None]
        # A router that sees content sits in its place, the others in the gating.
        in_places = size(*(m for a in adapted for m in a.places.modules() if isinstance(m, Router)))
        models = [t.backbone for _, t in self._each() if t.backbone is not None]
        head = size(self.head, self.project) + (size(self.stem) if self.stem is not None else 0)
        return {
            "experts": size(*(a.places for a in adapted)) - in_places,
            "router": in_places + size(*(a.gating for a in adapted)),
            "tokenizers": size(*(t for _, t in self._each() if isinstance(t, PlainTower))),
            "head": head,
            "backbone": 0 if self.config.backbone.freeze else size(*models),
            "frozen": size(*models) if self.config.backbone.freeze else 0,
        }

    def _used(self, present: Bool[Tensor, "B M"]) -> list[tuple[str, Tower]]:
        """Return the towers to run: those that some sample of the batch needs."""
        if torch.compiler.is_compiling():  # a traced graph serves every batch
            fixed = range(len(self.modalities)) if self.fixed is None else self.fixed
            return [(n, t) for n, t in self._each() if set(self._columns(t)) & set(fixed)]
        refuse_empty(present)
        return [(n, t) for n, t in self._each() if bool(present[:, self._columns(t)].any())]

    def _each(self) -> list[tuple[str, Tower]]:
        return [(n, t) for n, t in self.towers.items() if isinstance(t, Tower)]

    def _columns(self, tower: Tower) -> list[int]:
        return [i for i, m in enumerate(self.modalities) if m.name in tower.names]

    def _fuse(self, features: Mapping[str, Feature]) -> Tensor:
        """Project each tower's feature to one width and average over the towers that a sample has."""
        total, count = torch.zeros(()), torch.zeros(())
        for name, feature in features.items():
            channels_last = feature.values.movedim(1, -1) if feature.values.dim() == 4 else feature.values
            part = self.project[name](channels_last)
            part = part.movedim(-1, 1) if feature.values.dim() == 4 else part
            keep = feature.keep.view(-1, *[1] * (part.dim() - 1)).to(part.dtype)
            total, count = total + part * keep, count + keep
        return total / count.clamp_min(1.0)

    def _planes(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor]) -> Tensor:
        """Stack the values of every modality and where they were observed, for the per-pixel stem."""
        masks = {m.name: available[m.name][:, None] for m in self.modalities}
        planes = [torch.where(masks[m.name], values[m.name], 0.0) for m in self.modalities]
        return torch.cat([*planes, *(mask.to(planes[0].dtype) for mask in masks.values())], dim=1)

    def _routing(self, present: Bool[Tensor, "B M"], losses: list[Tensor]) -> Routing:
        """Record the gates of every adapted layer, counted through the towers, and what the routers add to the loss."""
        out, layer = _nothing(present), 0
        out.balance += losses
        for _, tower in self._each():
            if tower.adapted is None or not by_pattern(self.config.experts, self.config.router):
                continue  # gates of a router that sees content belong to tokens, not to patterns
            for gates in tower.adapted.gates(present).values():
                out.chosen[layer] = gates.detach()
                layer += 1
            if self.config.router.balance:
                out.balance += tower.adapted.gating.balance(present.float())
        return out


def _nothing(present: Tensor) -> Routing:
    return Routing(present.float(), None, torch.arange(present.shape[0], device=present.device)[:, None])


def _towers(shape: InputShape, config: Config) -> dict[str, Tower]:
    if config.backbone.kind == "galileo-nano":
        return {"galileo": GalileoTower(shape.modalities, config, shape.is_scene)}
    names = [m.name for m in shape.modalities]
    out: dict[str, Tower] = {}
    for m in shape.modalities:
        if m.name not in config.backbone.models:
            out[m.name] = PlainTower(m, shape.bands[m.name], config)
        else:
            out[m.name] = TextTower(m, names, config) if m.kind == "text" else ImageTower(m, names, config)
    return out


def _check(shape: InputShape, config: Config) -> None:
    """Refuse settings that have no meaning here."""
    names = [m.name for m in shape.modalities]
    suited = [f'{m.name} = "{SUITED[m.kind]}"' for m in shape.modalities if m.kind in SUITED]
    for key, table, example in (
        ("models", config.backbone.models, ", ".join(suited)),
        ("depths", config.backbone.depths, ""),
    ):
        if strange := [n for n in table if n not in names]:
            raise UnknownName(
                f"the configuration's backbone.{key} names {', '.join(map(repr, strange))}, but the modalities of the data set "
                f"are: {', '.join(names)}. Set it for these, for example --set 'backbone.{key}={{{example}}}'."
            )
    kind = config.backbone.kind
    if kind == "transformers" and shape.is_scene:
        raise ConfigError('backbone.kind = "transformers" classifies samples; for a scene use "scene" or "galileo-nano".')
    if kind == "transformers" and not config.backbone.models:
        raise ConfigError('backbone.kind = "transformers" needs backbone.models, for example {image = "facebook/dinov2-small"}.')
    for m in shape.modalities:
        if m.kind == "text" and m.name not in config.backbone.models:
            raise ConfigError(
                f"'{m.name}' is text and needs a language model; start from --config fashion-products with "
                f"--set 'backbone.models={{{', '.join(suited)}}}' --set 'backbone.depths={{}}'."
            )
    _refuse_scene_settings(shape, config)


def _refuse_scene_settings(shape: InputShape, config: Config) -> None:
    if shape.is_scene and config.model.task != "dense":
        raise ConfigError(f'model.task = "{config.model.task}" is for the scene backbone; a pretrained one classifies densely.')
    if config.experts.path != "auto" or config.backbone.path:
        raise ConfigError("experts.path and backbone.path are settings of the scene backbone; leave them out here.")
    if config.tokens.placeholder != "none" or config.model.fusion != "joint":
        raise ConfigError("tokens.placeholder and model.fusion are settings of the scene backbone; leave them out here.")
