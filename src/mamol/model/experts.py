"""The mixture of LoRA experts beside a frozen transformer.

             x ──┬────────► frozen W ────────┬──► y        y = W x + sum_e g_e s_e B_e A_e x
                 │   A_1 ─► g_1 ─► B_1       │
                 └─► ...                     ┘             g from router.py: shared | specific | dynamic
                     A_E ─► g_E ─► B_E

All A of a place are stacked into one (R, d_in) matrix and all B into one (d_out, R), so that a mixture costs two thin
products however many experts it has; a gate scales the columns of its expert. Where the gates depend on the pattern
alone, the mixture is a change of the weight, and a known pattern costs exactly the frozen layer:

    W(p) = W + B diag(g(p) s) A                                                                  (METHOD 3, "fold")

s_e is one scale for all experts (ours), or alpha / r_e.

The expert of a modality that came after a mixture was trained is a bank of its own, which runs only in a call in which some
token has that modality: what was trained before keeps its outputs to the bit in all others.

Source: arXiv 2511.11460; METHOD.md sections 2, 3. Ours: beside single Linear layers too; B starts at zero, so an
untrained mixture changes nothing. Gates are an argument: nothing here remembers a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mamol.config import Config, MixtureConfig
from mamol.model.backbone import Adapt, plain
from mamol.model.router import Gates, Router, Slots, StaticGates
from mamol.model.routing import Routing
from mamol.model.rules import make_router

MAX_FOLDED = 16
"""With more distinct gate rows in one batch than this, "auto" takes the low-rank path."""


class ExpertBank(nn.Module):
    """All experts beside one place: stacked low-rank factors.

    `A` has a row per unit of rank; with experts.tied the dynamic experts share one A (HydraLoRA, 2404.19245) and `row`
    says which row each of the R columns of `B` belongs to.
    """

    column_expert: Tensor
    column_scale: Tensor
    row: Tensor

    def __init__(self, d_in: int, d_out: int, ranks: Sequence[int], config: MixtureConfig, projection: bool = False) -> None:
        super().__init__()
        total, tied = sum(ranks), config.n_dynamic if config.tied and config.has_dynamic else 0
        first = total - tied * config.dynamic_rank
        row = [*range(first), *[first + i for i in range(config.dynamic_rank)] * tied]
        self.A = nn.Parameter(torch.empty(max(row) + 1, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, total))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)
        if config.init_b == "normal":
            nn.init.normal_(self.B, std=0.02)
        self.projection = nn.Linear(d_out, d_out) if projection else None
        column_expert = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks), output_size=total)
        scale = torch.full((total,), config.scale) if config.scale else config.alpha / torch.tensor(ranks)[column_expert].float()
        self.register_buffer("column_expert", column_expert, persistent=False)
        self.register_buffer("column_scale", scale, persistent=False)
        self.register_buffer("row", torch.tensor(row if tied else []), persistent=False)

    @property
    def down(self) -> Float[Tensor, "R d_in"]:
        """Return the A of every expert, one above the other."""
        return self.A[self.row] if self.row.numel() else self.A

    def scale(self, gates: Float[Tensor, "*rows E"]) -> Float[Tensor, "*rows R"]:
        """Return the gates as factors of the columns of A x, each expert's times its scale."""
        return gates[..., self.column_expert] * self.column_scale

    def low_rank(
        self, x: Float[Tensor, "B S d_in"], gates: Float[Tensor, "B S E"], slots: Slots | None = None
    ) -> Float[Tensor, "B S d_out"]:
        """Return the experts' sum for gates that may differ from token to token; `slots` mix the dynamic experts' tokens."""
        thin = x @ self.down.T
        if slots is not None:
            first = gates.shape[-1] - slots.combine.shape[2]
            routed = self.column_expert >= first
            mixed = slots.mix(thin[..., routed], self.column_expert[routed] - first)
            thin = torch.cat([thin[..., ~routed], mixed], dim=-1)
            gates = torch.cat([gates[..., :first], torch.ones_like(gates[..., first:])], dim=-1)
        out = (thin * self.scale(gates)) @ self.B.T
        return out if self.projection is None else self.projection(nn.functional.gelu(out))

    def weight_change(self, gates: Float[Tensor, " E"]) -> Float[Tensor, "d_out d_in"]:
        """Return what one row of gates adds to the frozen weight."""
        return (self.B * self.scale(gates)) @ self.down


def _a_bank(found: nn.Module) -> ExpertBank:
    if not isinstance(found, ExpertBank):
        raise TypeError(f"{type(found).__name__} is not a bank of experts")
    return found


@dataclass(frozen=True)
class LayerGates:
    """The gates of one layer: `values` (G, E) per distinct pattern, or (B, S, E) per token where the router sees content."""

    values: Tensor
    per_token: bool
    slots: Slots | None = None


class Mixture(nn.Module):
    """The experts and routers of every adapted layer of one backbone.

    The last of the `modalities` may have come `later`, by name; `known` counts the others.
    """

    def __init__(self, modalities: int, config: Config, later: Sequence[str] = ()) -> None:
        super().__init__()
        self.config, self.known = config.experts, modalities - len(later)
        self.balance = config.router.balance
        width, wide = config.backbone.width, config.backbone.width * config.backbone.mlp_ratio
        shapes = {"fc1": (width, wide), "fc2": (wide, width)}
        e = config.experts
        self.has = {"shared": e.shared_rank > 0, "specific": e.specific_rank > 0, "dynamic": e.has_dynamic}
        ranks = e.ranks(self.known)
        every = range(config.backbone.depth)
        self.layers = tuple(every) if e.layers == "all" else tuple(e.layers)
        if not ranks:
            self.layers = ()
        places = {f"{i}_{t}": shapes.get(t, (width, width)) for i in self.layers for t in e.targets}
        self.banks = nn.ModuleDict({p: ExpertBank(*shape, ranks, e, e.projection) for p, shape in places.items()})
        shown = wide if set(e.targets) == {"fc2"} else width  # by the first adapted place of a layer
        self.routers = nn.ModuleDict(
            {str(i): make_router(self.known, shown, e, config.router) for i in self.layers if self.has["dynamic"]}
        )
        self.static = StaticGates(self.known, e.specific_gate)
        alone = e.model_copy(update={"tied": False})
        self.later = nn.ModuleDict(
            {m: nn.ModuleDict({p: ExpertBank(*shape, [e.later_rank], alone) for p, shape in places.items()}) for m in later}
        )
        for i, m in product(self.routers, later):
            self.router(int(i)).grow(m)

    @property
    def mixes_tokens(self) -> bool:
        """Return whether some router must see all tokens of a sample at once."""
        return any(self.router(int(i)).mixes_tokens for i in self.routers)

    def bank(self, layer: int, place: str) -> ExpertBank:
        """Return the experts beside one place of one layer."""
        return _a_bank(self.banks[f"{layer}_{place}"])

    def later_bank(self, modality: str, layer: int, place: str) -> ExpertBank:
        """Return the expert of a modality that came later, beside one place of one layer."""
        return _a_bank(self.later.get_submodule(f"{modality}.{layer}_{place}"))

    def later_gates(self, routing: Routing) -> dict[str, Float[Tensor, "G 1"]]:
        """Return the gates of the modalities that came later: of those that some token has, of all while a graph is traced."""
        found = {m: routing.codes[:, i, None] for i, m in enumerate(self.later, self.known)}
        return {m: gates for m, gates in found.items() if torch.compiler.is_compiling() or bool(gates.any())}

    def adapt(self, layer: int, routing: Routing) -> Adapt:
        """Return the function through which block `layer` calls its parts, with this batch's gates bound to it."""
        if layer not in self.layers:
            return plain
        return _Bound(self, layer, routing)

    def gates(self, layer: int, routing: Routing, content: Tensor | None) -> LayerGates:
        """Return the gates of one layer; `content` is what the router may look at, (B, S, D)."""
        codes = routing.codes
        static = [torch.ones_like(codes[:, :1])] if self.has["shared"] else []
        static += [self.static(codes[:, : self.known], routing.own)] if self.has["specific"] else []
        if not self.has["dynamic"]:
            return LayerGates(torch.cat(static, dim=-1), per_token=False)
        found, per_token = self._routed(self.router(layer), routing, content)
        if found.loss is not None:
            routing.balance.append(found.loss)
        beside = [s[routing.index] for s in static] if per_token else static
        return LayerGates(torch.cat([*beside, found.values], dim=-1), per_token, found.slots)

    def router(self, layer: int) -> Router:
        """Return the router of one layer."""
        found = self.routers[str(layer)]
        if not isinstance(found, Router):
            raise TypeError(f"{type(found).__name__} is not a router")
        return found

    def _routed(self, router: Router, routing: Routing, content: Tensor | None) -> tuple[Gates, bool]:
        """Ask a router token by token if it must see them, else once per distinct pattern."""
        keep = None if routing.keep is None else routing.keep.float()
        if router.sees_content or router.mixes_tokens:
            return router(routing.codes[routing.index], content, keep), True
        count = None
        if router.balance:
            one = torch.ones(routing.index.numel(), device=routing.index.device) if keep is None else keep.flatten()
            count = torch.zeros(len(routing.codes), device=one.device).index_add(0, routing.index.flatten(), one)
        return router(routing.codes, None, count), False


class _Bound:
    """One layer's mixture with one batch's gates: what a block calls its parts through."""

    def __init__(self, mixture: Mixture, layer: int, routing: Routing) -> None:
        self.mixture, self.layer, self.routing = mixture, layer, routing
        self.gates: LayerGates | None = None
        self.later = mixture.later_gates(routing)

    def __call__(self, place: str, frozen: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if place not in self.mixture.config.targets:
            return frozen(x)
        if self.gates is None:  # the first adapted place of a layer shows the router what the tokens hold
            self.gates = self.mixture.gates(self.layer, self.routing, x)
            shown = self._per_token(self.gates.values.detach())
            if self.mixture.later:
                shown = torch.cat([shown, self.routing.codes[:, self.mixture.known :][self.routing.index]], dim=-1)
            self.routing.count(self.layer, shown)
        bank = self.mixture.bank(self.layer, place)
        later = [(self.mixture.later_bank(m, self.layer, place), gates) for m, gates in self.later.items()]
        if isinstance(frozen, nn.Linear) and self._folds(x):
            return folded(frozen, [(bank, self.gates.values), *later], x, self.routing.index)
        out = frozen(x) + bank.low_rank(x, self._per_token(self.gates.values), self.gates.slots)
        for own, gates in later:
            out = out + own.low_rank(x, gates[self.routing.index])
        return out

    def _per_token(self, values: Tensor) -> Tensor:
        return values if self.gates is not None and self.gates.per_token else values[self.routing.index]

    def _folds(self, x: Tensor) -> bool:
        never = self.mixture.config.projection or self.mixture.config.path == "low-rank" or torch.compiler.is_compiling()
        if self.gates is None or self.gates.per_token or never:
            return False
        return self.mixture.config.path == "folded" or (not x.requires_grad and len(self.routing.codes) <= MAX_FOLDED)


def folded(
    frozen: nn.Linear,
    banks: Sequence[tuple[ExpertBank, Float[Tensor, "G _"]]],
    x: Float[Tensor, "B S d_in"],
    index: Int[Tensor, "B S"],
) -> Float[Tensor, "B S d_out"]:
    """Run each group of tokens with equal gates through its own weight W(p); one group costs one frozen product.

    `banks`, each with a row of gates a group, add up.
    """
    groups = range(len(banks[0][1]))
    weights = [sum((bank.weight_change(table[i]) for bank, table in banks), start=frozen.weight) for i in groups]
    if len(weights) == 1:
        return nn.functional.linear(x, weights[0], frozen.bias)
    flat, order = x.flatten(0, 1), index.flatten().argsort(stable=True)
    counts = torch.bincount(index.flatten(), minlength=len(weights)).tolist()
    parts = flat[order].split(counts)
    out = torch.cat([nn.functional.linear(g, w, frozen.bias) for g, w in zip(parts, weights, strict=True)])
    return torch.empty_like(out).index_copy(0, order, out).unflatten(0, index.shape)
