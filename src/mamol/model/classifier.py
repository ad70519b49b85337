"""The whole method, top to bottom: tokens -> frozen backbone with experts -> masked mean -> head.

    values, available ── tokenizers ──► tokens of every modality, with `keep`
                                           │  patterns of the tokens ──► gates (router.py)
                                           ▼
                       joint: one sequence, attention across modalities      late: the backbone once per modality
                                           │                                        │
                            mean over the present modalities             concatenated, the missing one zeroed
                                           └────────────────┬─────────────────────────┘
      dense:  token's feature + pixel's own stem feature ───┤───► a class for every pixel of the window
      centre: mean token      + centre pixel's stem feature ┤───► a class for the patch's middle pixel
      sample: mean token                                    ┘───► a class for the sample

Source: METHOD.md sections 2 and 3. `dense` and `joint` are ours; `centre` and `late` are the paper's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import Config
from mamol.data.normalize import Normalizer
from mamol.errors import AllModalitiesMissing, UsageError
from mamol.modality import Modality
from mamol.model.backbone import Backbone, fingerprint
from mamol.model.experts import Mixture
from mamol.model.fusion import Around, joint, late, no_experts
from mamol.model.prompts import make_prompts
from mamol.model.routing import Routing, route
from mamol.model.rules import by_pattern
from mamol.model.tokens import Tokenizer, Tokens, anywhere


@dataclass
class Output:
    """Logits, (B, K) or (B, K, H, W), and what the gates did."""

    logits: Tensor
    routing: Routing


@dataclass(frozen=True)
class InputShape:
    """What a classifier is built for.

    `bands[m]` is the number of channels after normalisation (data.compress may have reduced it), `classes` K,
    `is_scene` whether every pixel has a label (a Scene) or every sample one (a SampleSet). `pixels[m]` is the height and
    width of a sample's grid; empty for a scene, which goes through in windows, and for run folders from before it was kept.
    `later` names the modalities, the last ones, that were added to a trained classifier (train/extend.py). Raises UsageError
    for a modality that is named as an attribute of every torch module.
    """

    modalities: tuple[Modality, ...]
    bands: Mapping[str, int]
    classes: int
    is_scene: bool
    pixels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    later: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        held = {False: dir(nn.ModuleDict()), True: dir(nn.ModuleDict()) + dir(nn.ParameterDict())}  # which go by name, too
        if taken := [m.name for m in self.modalities if m.name in held[m.name in self.later]]:
            raise UsageError(
                f"'{taken[0]}' cannot name a modality of a network: torch keeps this name for itself; rename the modality, "
                f"for example '{taken[0]}_1'."
            )
        if self.later != tuple(m.name for m in self.modalities[len(self.modalities) - len(self.later) :]):
            raise UsageError(f"the modalities that came later, {', '.join(self.later)}, must be the last ones, in their order.")


class Classifier(nn.Module):
    """MaMOL: one frozen backbone, one set of small weights, every combination of modalities."""

    def __init__(self, shape: InputShape, config: Config) -> None:
        super().__init__()
        modalities, bands, classes = shape.modalities, shape.bands, shape.classes
        self.shape, self.modalities, self.config = shape, modalities, config
        self.task = config.model.task if shape.is_scene else "sample"
        self.fixed: tuple[int, ...] | None = None
        self.tokenizers = nn.ModuleDict({m.name: Tokenizer(m, bands[m.name], config) for m in modalities})
        self.backbone = Backbone(config.backbone)
        self.mixture = Mixture(len(modalities), config, shape.later)
        self.prompts = make_prompts(len(modalities), config.backbone.depth, config.model.prompts, config.backbone.width)
        width = config.backbone.width * (len(modalities) if config.model.fusion == "late" else 1)
        inputs = width + (config.tokens.stem if shape.is_scene else 0)
        self.head = nn.Sequential(
            nn.LayerNorm(inputs),
            nn.Linear(inputs, config.model.head_hidden),
            nn.GELU(),
            nn.Dropout(config.model.dropout),
            nn.Linear(config.model.head_hidden, classes),
        )

    def forward(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], experts: bool = True) -> Output:
        """Classify normalised values (B, C, H, W), (B, C, T) or (B, C) with their availability (bool, no band axis).

        `experts` False runs the frozen backbone alone, between the same tokenizers and head. Raises
        AllModalitiesMissing if a sample has no modality anywhere.
        """
        present = torch.stack([anywhere(available[m.name]) for m in self.modalities], dim=1)  # (B, M)
        tokens = {i: self._tokenize(i, values, available) for i in self._used(present)}
        routing = self._route(tokens, available, present)
        feature = self._fuse(tokens, routing, self._around(present, experts))
        return Output(self._classify(feature, tokens, available), routing)

    def _around(self, present: Bool[Tensor, "B M"], experts: bool) -> Around:
        """Return what stands beside the frozen backbone: the mixture, and the prompts of each sample's pattern."""
        prompts = self.prompts(present) if experts and self.prompts is not None else None
        mixed = prompts is not None or self.mixture.mixes_tokens
        return Around(self.mixture.adapt if experts else no_experts, prompts, tokenwise=not mixed)

    def _used(self, present: Bool[Tensor, "B M"]) -> Sequence[int]:
        """Return the modalities to run: one that no sample of the batch has costs nothing, unless something stands in."""
        every = range(len(self.modalities))
        if torch.compiler.is_compiling():  # a traced graph serves every batch
            return every if self.fixed is None else self.fixed
        refuse_empty(present)
        stands_in = self.config.tokens.placeholder != "none"
        return [i for i in every if stands_in or bool(present[:, i].any())]

    def folded(self, pattern: Sequence[str]) -> Classifier:
        """Return a copy for one known pattern, W(p) in plain Linear layers and no experts.

        Raises UsageError if one pattern has no one weight: a router that sees content, or experts elsewhere than beside
        Linear layers or on their own modality's tokens only.
        """
        e, names = self.config.experts, [m.name for m in self.modalities]
        if not by_pattern(e, self.config.router) or e.scope == "own" or "ffn" in e.targets or self.prompts is not None:
            raise UsageError('only experts beside Linear layers, with scope "all" and a router that sees the pattern, fold.')
        twin = copy.deepcopy(self)
        with torch.no_grad():
            for layer, gates in zip(self.mixture.layers, self.pattern_gates(pattern), strict=True):
                for place in e.targets:
                    weight = getattr(twin.backbone.blocks[layer], place).weight
                    weight += self.mixture.bank(layer, place).weight_change(gates)
                    for m in (m for m in self.shape.later if m in pattern):
                        weight += self.mixture.later_bank(m, layer, place).weight_change(gates.new_ones(1))
        twin.mixture.layers = ()
        twin.fixed = tuple(i for i, m in enumerate(names) if m in pattern or self.config.tokens.placeholder != "none")
        return twin

    def pattern_gates(self, pattern: Sequence[str]) -> Float[Tensor, "L E"]:
        """Return the gates of every adapted layer for one pattern; the router must see the pattern only."""
        codes = torch.tensor([[float(m.name in pattern) for m in self.modalities]], device=next(self.parameters()).device)
        routing = Routing(codes, None, torch.zeros(1, 1, dtype=torch.long, device=codes.device))
        found = [self.mixture.gates(layer, routing, None).values for layer in self.mixture.layers]
        return torch.cat(found) if found else torch.zeros(0, 0)

    def _tokenize(self, i: int, values: Mapping[str, Tensor], available: Mapping[str, Tensor]) -> Tokens:
        name = self.modalities[i].name
        return self.tokenizers[name](values[name], available[name])

    def _route(self, tokens: dict[int, Tokens], available: Mapping[str, Tensor], present: Bool[Tensor, "B M"]) -> Routing:
        """Give each token its pattern: that of its own ground in a scene, that of the whole sample elsewhere."""
        if self.task == "dense":
            t = self.config.tokens.token_px
            cells = [nn.functional.max_pool2d(available[m.name][:, None].float(), t).flatten(1) for m in self.modalities]
            ground = torch.stack(cells, dim=-1) > 0  # (B, N, M)
            code = torch.cat([ground] * len(tokens), dim=1)
        else:
            length = sum(t.values.shape[1] for t in tokens.values())
            code = present[:, None].expand(-1, length, -1)
        whose = torch.cat([torch.full((t.values.shape[1],), i, device=code.device) for i, t in tokens.items()])
        routing = route(code, whose, own=self.config.experts.scope == "own")
        routing.keep = torch.cat([t.keep for t in tokens.values()], dim=1)
        routing.share = routing.keep / routing.keep.sum(1, keepdim=True).clamp_min(1)
        return routing

    def _fuse(self, tokens: dict[int, Tokens], routing: Routing, around: Around) -> Tensor:
        dense = self.task == "dense"
        if self.config.model.fusion == "joint":
            return joint(self.backbone, tokens, routing, around, dense)
        found = late(self.backbone, tokens, routing, around, dense)
        nothing = torch.zeros_like(next(iter(found.values())))
        return torch.cat([found.get(i, nothing) for i in range(len(self.modalities))], dim=-1)

    def _classify(self, feature: Tensor, tokens: dict[int, Tokens], available: Mapping[str, Tensor]) -> Tensor:
        if self.task == "sample":
            return self.head(feature)
        pixel = self._pixels(tokens, available)  # (B, F, H, W)
        height, width = pixel.shape[-2:]
        if self.task == "dense":
            t = self.config.tokens.token_px
            grid = feature.transpose(1, 2).unflatten(2, (height // t, width // t))
            return self.head(torch.cat([upsampled(grid, (height, width)), pixel], dim=1).movedim(1, -1)).movedim(-1, 1)
        return self.head(torch.cat([feature, pixel[..., height // 2, width // 2]], dim=1))

    def _pixels(self, tokens: dict[int, Tokens], available: Mapping[str, Tensor]) -> Float[Tensor, "B F H W"]:
        """Return the mean stem feature over the modalities that each pixel has; zeros where it has none."""
        total, count = torch.zeros(()), torch.zeros(())
        for i, t in tokens.items():
            if t.pixels is not None:
                mask = available[self.modalities[i].name][:, None].to(t.pixels.dtype)
                total, count = total + t.pixels * mask, count + mask
        return total / count.clamp_min(1.0)

    def stand_in(self, normalizer: Normalizer) -> None:
        """Set what the tokenizers put in place of missing values (tokens.placeholder)."""
        for name, tokenizer in self.tokenizers.items():
            if isinstance(tokenizer, Tokenizer):
                tokenizer.stand_in(normalizer, name)

    def freeze(self) -> None:
        """Freeze the backbone (and the tokenizers if train.train_tokenizers is False) as the configuration says."""
        self.backbone.requires_grad_(not self.config.backbone.freeze)
        self.tokenizers.requires_grad_(self.config.train.train_tokenizers)

    def freeze_all_but(self, later: Sequence[str]) -> None:
        """Freeze everything that does not belong to these modalities, of those that came later."""
        self.requires_grad_(False)
        for m in later:
            self.tokenizers[m].requires_grad_(True)
            self.mixture.later[m].requires_grad_(True)
        for name, step in self.mixture.routers.named_parameters():
            step.requires_grad_(name.endswith(tuple(f".added.{m}" for m in later)))

    def backbone_hash(self) -> str:
        """Return the fingerprint of the frozen transformer."""
        return fingerprint(self.backbone)

    def own_state(self) -> dict[str, Tensor]:
        """Return what adapters.safetensors holds: everything but the frozen backbone."""
        frozen = self.config.backbone.freeze
        return {k: v for k, v in self.state_dict().items() if not (frozen and k.startswith("backbone."))}

    def expert_names(self) -> list[str]:
        """Name the experts in the order of their gates."""
        known = [m.name for m in self.modalities if m.name not in self.shape.later]
        return self.config.experts.names(known) + [f"later {m}" for m in self.shape.later]

    def parameter_counts(self) -> dict[str, int]:
        """Count the weights: experts, router, tokenizers, head, and the backbone, frozen or trained."""

        def size(module: nn.Module) -> int:
            return sum(p.numel() for p in module.parameters())

        return {
            "experts": size(self.mixture.banks)
            + size(self.mixture.later)
            + (size(self.prompts) if self.prompts is not None else 0),
            "router": size(self.mixture.routers),
            "tokenizers": size(self.tokenizers),
            "head": size(self.head),
            "backbone": 0 if self.config.backbone.freeze else size(self.backbone),
            "frozen": size(self.backbone) if self.config.backbone.freeze else 0,
        }


def upsampled(grid: Float[Tensor, "B D h w"], size: tuple[int, int]) -> Float[Tensor, "B D H W"]:
    """Return features of ground cells at every pixel, bilinear."""
    return nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)


def refuse_empty(present: Bool[Tensor, "B M"]) -> None:
    """Raise AllModalitiesMissing if a row has no modality."""
    empty = (~present.any(dim=1)).nonzero()
    if len(empty):
        raise AllModalitiesMissing(
            f"sample {int(empty[0])} of the batch has no modality present ({len(empty)} of {len(present)} have none); "
            "drop such samples, or make fewer modalities missing."
        )
