"""The mixture of LoRA experts beside a frozen transformer.

             x ──┬────────► frozen W ────────┬──► y        y = W x + sum_e g_e (alpha / r_e) B_e A_e x
                 │   A_1 ─► g_1 ─► B_1       │
                 └─► ...                     ┘             g from router.py: shared | specific | dynamic
                     A_E ─► g_E ─► B_E

All A of a place are stacked into one (R, d_in) matrix and all B into one (d_out, R), so that a mixture costs two thin
products however many experts it has; a gate scales the columns of its expert. Where the gates depend on the pattern
alone, the mixture is a change of the weight, and a known pattern costs exactly the frozen layer:

    W(p) = W + B diag(g(p) alpha / r) A                                                          (METHOD 3, "fold")

Source: arXiv 2511.11460; METHOD.md sections 2, 3. Ours: beside single Linear layers too; B starts at zero, so an
untrained mixture changes nothing. Gates are an argument: nothing here remembers a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mamol.config import Config, MixtureConfig
from mamol.model.backbone import Adapt, plain
from mamol.model.router import Router, StaticGates, balance_loss

MAX_FOLDED = 16
"""With more distinct gate rows in one batch than this, "auto" takes the low-rank path."""


@dataclass
class Routing:
    """What one forward pass knows of its patterns, and what it learns of its gates.

    `codes` (G, M): the distinct availability codes; `own` (G,): the token's own modality, or None when gates do not
    depend on it; `index` (B, S): each token's row. `chosen` collects the mean gates per layer, `balance` the losses.
    """

    codes: Float[Tensor, "G M"]
    own: Int[Tensor, " G"] | None
    index: Int[Tensor, "B S"]
    chosen: dict[int, Tensor] = field(default_factory=dict)
    balance: list[Tensor] = field(default_factory=list)


def route(available: Bool[Tensor, "B S M"], modality_of: Int[Tensor, " S"], own: bool) -> Routing:
    """Find the distinct patterns among the tokens; with `own`, the distinct pairs of pattern and token's modality.

    While a graph is traced nothing may depend on what the data are, so every token then counts as distinct.
    """
    modalities = available.shape[-1]
    if torch.compiler.is_compiling():
        batch, length = available.shape[:2]
        index = torch.arange(batch * length, device=available.device).view(batch, length)
        return Routing(available.flatten(0, 1).float(), modality_of.repeat(batch) if own else None, index)
    bits = torch.ones((), dtype=torch.long, device=available.device) << torch.arange(modalities, device=available.device)
    key = (available.long() * bits).sum(-1)  # (B, S)
    if own:
        key = key * modalities + modality_of
    rows, index = torch.unique(key, return_inverse=True)
    pattern = rows // modalities if own else rows
    codes = (pattern[:, None] & bits) > 0
    return Routing(codes.float(), rows % modalities if own else None, index)


class ExpertBank(nn.Module):
    """All experts beside one place: stacked low-rank factors."""

    column_expert: Tensor
    column_scale: Tensor

    def __init__(self, d_in: int, d_out: int, ranks: Sequence[int], config: MixtureConfig, projection: bool = False) -> None:
        super().__init__()
        total = sum(ranks)
        self.A = nn.Parameter(torch.empty(total, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, total))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)
        if config.init_b == "normal":
            nn.init.normal_(self.B, std=0.02)
        self.projection = nn.Linear(d_out, d_out) if projection else None
        column_expert = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks), output_size=total)
        self.register_buffer("column_expert", column_expert, persistent=False)
        self.register_buffer("column_scale", config.alpha / torch.tensor(ranks)[column_expert].float(), persistent=False)

    def scale(self, gates: Float[Tensor, "*rows E"]) -> Float[Tensor, "*rows R"]:
        """Return the gates as factors of the columns of A x, each expert's times alpha / rank."""
        return gates[..., self.column_expert] * self.column_scale

    def low_rank(self, x: Float[Tensor, "B S d_in"], gates: Float[Tensor, "B S E"]) -> Float[Tensor, "B S d_out"]:
        """Return the experts' sum for gates that may differ from token to token."""
        out = ((x @ self.A.T) * self.scale(gates)) @ self.B.T
        return out if self.projection is None else self.projection(nn.functional.gelu(out))

    def weight_change(self, gates: Float[Tensor, " E"]) -> Float[Tensor, "d_out d_in"]:
        """Return what one row of gates adds to the frozen weight."""
        return (self.B * self.scale(gates)) @ self.A


class Mixture(nn.Module):
    """The experts and routers of every adapted layer of one backbone."""

    def __init__(self, modalities: int, config: Config) -> None:
        super().__init__()
        self.config = config.experts
        self.balance = config.router.balance
        width, wide = config.backbone.width, config.backbone.width * config.backbone.mlp_ratio
        shapes = {"fc1": (width, wide), "fc2": (wide, width)}
        e = config.experts
        self.has = {"shared": e.shared_rank > 0, "specific": e.specific_rank > 0, "dynamic": e.has_dynamic}
        ranks = e.ranks(modalities)
        every = range(config.backbone.depth)
        self.layers = tuple(every) if e.layers == "all" else tuple(e.layers)
        if not ranks:
            self.layers = ()
        self.banks = nn.ModuleDict(
            {
                f"{i}_{t}": ExpertBank(*shapes.get(t, (width, width)), ranks, e, e.projection)
                for i in self.layers
                for t in e.targets
            }
        )
        self.routers = nn.ModuleDict(
            {str(i): Router(modalities, width, e, config.router) for i in self.layers if self.has["dynamic"]}
        )
        self.static = StaticGates(modalities, e.specific_gate)

    def bank(self, layer: int, place: str) -> ExpertBank:
        """Return the experts beside one place of one layer."""
        found = self.banks[f"{layer}_{place}"]
        if not isinstance(found, ExpertBank):
            raise TypeError(f"{type(found).__name__} is not a bank of experts")
        return found

    def adapt(self, layer: int, routing: Routing) -> Adapt:
        """Return the function through which block `layer` calls its parts, with this batch's gates bound to it."""
        if layer not in self.layers:
            return plain
        return _Bound(self, layer, routing)

    def gates(self, layer: int, routing: Routing, content: Tensor | None) -> tuple[Tensor, bool]:
        """Return gates (G, E) per distinct pattern, or (B, S, E) per token if the router sees content, and which."""
        codes = routing.codes
        static = [torch.ones_like(codes[:, :1])] if self.has["shared"] else []
        static += [self.static(codes, routing.own)] if self.has["specific"] else []
        if not self.has["dynamic"]:
            return torch.cat(static, dim=-1), False
        router = self.routers[str(layer)]
        if not router.sees_content:
            dynamic, probability = router(codes)
            table, per_token = torch.cat([*static, dynamic], dim=-1), False
        else:
            dynamic, probability = router(codes[routing.index], content)
            table = torch.cat([*[s[routing.index] for s in static], dynamic], dim=-1)
            per_token = True
        if self.balance:
            rows = (probability, dynamic) if per_token else (probability[routing.index], dynamic[routing.index])
            routing.balance.append(balance_loss(*rows))
        return table, per_token


class _Bound:
    """One layer's experts with one batch's gates: called by the block in place of each of its parts."""

    def __init__(self, mixture: Mixture, layer: int, routing: Routing) -> None:
        self.mixture, self.layer, self.routing = mixture, layer, routing
        self.table: Tensor | None = None
        self.per_token = False

    def __call__(self, place: str, frozen: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if place not in self.mixture.config.targets:
            return frozen(x)
        if self.table is None:  # the first adapted place of a layer shows the router what the tokens hold
            self.table, self.per_token = self.mixture.gates(self.layer, self.routing, x)
            seen = self.table.detach() if self.per_token else self.table.detach()[self.routing.index]
            self.routing.chosen[self.layer] = seen.mean(dim=1)
        bank = self.mixture.bank(self.layer, place)
        if isinstance(frozen, nn.Linear) and self._folds(x):
            return folded(frozen, bank, x, self.table, self.routing.index)
        gates = self.table if self.per_token else self.table[self.routing.index]
        return frozen(x) + bank.low_rank(x, gates)

    def _folds(self, x: Tensor) -> bool:
        never = self.mixture.config.projection or self.mixture.config.path == "low-rank" or torch.compiler.is_compiling()
        if self.per_token or never:
            return False
        return self.mixture.config.path == "folded" or (not x.requires_grad and len(self.routing.codes) <= MAX_FOLDED)


def folded(
    frozen: nn.Linear,
    bank: ExpertBank,
    x: Float[Tensor, "B S d_in"],
    table: Float[Tensor, "G E"],
    index: Int[Tensor, "B S"],
) -> Float[Tensor, "B S d_out"]:
    """Run each group of tokens with equal gates through its own weight W(p); one group costs one frozen product."""
    weights = [frozen.weight + bank.weight_change(gates) for gates in table]
    if len(weights) == 1:
        return nn.functional.linear(x, weights[0], frozen.bias)
    flat, order = x.flatten(0, 1), index.flatten().argsort(stable=True)
    counts = torch.bincount(index.flatten(), minlength=len(weights)).tolist()
    groups = flat[order].split(counts)
    out = torch.cat([nn.functional.linear(g, w, frozen.bias) for g, w in zip(groups, weights, strict=True)])
    return torch.empty_like(out).index_copy(0, order, out).unflatten(0, index.shape)
