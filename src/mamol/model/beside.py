"""The mixture beside one Linear of somebody's model, and what one call tells it.

    x ──┬──► frozen ───────────────┬──► y        low-rank:  any mix of patterns, training
        └──► A ─► scale(b) ─► B ───┘             folded:    W(p) x, where one call is one pattern; inference
                                                 grouped:   W(p_b) x_b per sample, where samples are long; inference

A `Place` holds weights. `Place.bound(frozen, call)` is a shallow copy of it that holds one call's gates, too; views.py
puts it where the frozen layer was. The gates of sample b scale the columns of A x, so inactive experts add exact zeros.

Experts of a modality that was added later are a second bank, which runs only where a sample has that modality: what
was trained before keeps its outputs to the bit. Source: METHOD.md section 3, "Where the experts sit".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mamol.config import MixtureConfig, RouterConfig
from mamol.errors import ShapeMismatch
from mamol.model.experts import ExpertBank
from mamol.model.rules import by_pattern, make_router
from mamol.model.views import shallow

GROUPING_PAYS = 60
"""Multiply-adds of the low-rank path per weight of the frozen layer, per sample, above which a weight per sample is less
work than the two thin products: measured on layers of width 96 to 384 (docs/decisions/003-any-backbone.md)."""


@dataclass(frozen=True)
class Call:
    """What one forward pass tells every adapted layer.

    `present` (rows, M): 0 or 1 per sample, or one row for the whole batch. `static` (rows, E_s): gates of the shared
    and specific experts. `scales[layer]`: per bank, the gates as factors of the columns of A, (rows, R); None leaves a
    bank out. `samples`: B, where the availability was told sample by sample, else None. `index` (B,): the row that each
    sample takes; None if row b is sample b's, or one row everyone's. `folds`: no gradients and one row a pattern, so that
    a layer may run W(p) where that is less work. `losses` collects what routers that see content add to the loss.
    """

    present: Float[Tensor, "rows M"]
    static: Float[Tensor, "rows E"]
    scales: Mapping[str, Sequence[Tensor | None]]
    samples: int | None
    index: Int[Tensor, " B"] | None
    folds: bool
    losses: list[Tensor] | None = None


class Place(nn.Module):
    """The experts beside one Linear layer; `layer` names the router whose gates it takes."""

    def __init__(self, shape: tuple[int, int], layer: str, modalities: int, mixture: MixtureConfig, router: RouterConfig) -> None:
        super().__init__()
        self.d_in, self.d_out = shape
        self.layer = layer
        self.mixture = mixture
        self.banks = nn.ModuleList([ExpertBank(*shape, mixture.ranks(modalities), mixture)])
        self.router = None if by_pattern(mixture, router) else make_router(modalities, self.d_in, mixture, router)
        self.call: Call | None = None

    def grow(self, name: str) -> None:
        """Add the experts of one more modality as a bank of their own; there is none that they could share an A with."""
        bank = ExpertBank(self.d_in, self.d_out, [self.mixture.later_rank], self.mixture.model_copy(update={"tied": False}))
        self.banks.append(bank.to(next(self.parameters()).device))
        if self.router is not None:
            self.router.grow(name)

    def bound(self, frozen: nn.Module, call: Call | None) -> Place:
        """Return a copy that runs beside `frozen` with the gates of `call`; the weights are shared."""
        copy = shallow(self)
        copy._modules["frozen"] = frozen
        copy.call = call
        return copy

    @property
    def weight(self) -> Tensor:
        """Return the frozen layer's weight: some models look at its dtype or device."""
        return self._frozen().weight

    @property
    def bias(self) -> Tensor | None:
        """Return the frozen layer's bias."""
        return self._frozen().bias

    @property
    def in_features(self) -> int:
        """Return the frozen layer's input width."""
        return self.d_in

    @property
    def out_features(self) -> int:
        """Return the frozen layer's output width."""
        return self.d_out

    def _frozen(self) -> nn.Linear:
        frozen = self._modules.get("frozen")
        if not isinstance(frozen, nn.Linear):
            raise AttributeError("a place has a frozen layer only while it is bound to a call")
        return frozen

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Return the frozen layer's output plus the mixture's."""
        call = self.call
        frozen = self._frozen()
        if call is None:
            return frozen(x)
        if call.samples is not None and (x.dim() < 2 or x.shape[0] != call.samples):
            raise _other_batch(x, call.samples)
        if self.router is not None:
            return self._low_rank(x, frozen, self._routed(x, call))
        scales, size = call.scales[self.layer], self.d_in * self.d_out
        rows = x.numel() // self.d_in
        folds = call.folds and is_plain(frozen)
        if call.index is None:
            if folds and rows * (self.d_in + self.d_out) > size:
                return nn.functional.linear(x, self.folded(frozen, scales)[0], frozen.bias)
            return self._low_rank(x, frozen, scales)
        thin = rows // max(x.shape[0], 1) * self.bank(0).B.shape[1] * (self.d_in + self.d_out)
        if folds and x.dim() > 2 and thin > GROUPING_PAYS * size:
            weight = self.folded(frozen, scales)[call.index].transpose(1, 2)
            out = (
                torch.bmm(x.flatten(1, -2), weight)
                if frozen.bias is None
                else torch.baddbmm(frozen.bias, x.flatten(1, -2), weight)
            )
            return out.view(*x.shape[:-1], self.d_out)
        return self._low_rank(x, frozen, [None if s is None else s[call.index] for s in scales])

    def folded(self, frozen: nn.Linear, scales: Sequence[Tensor | None]) -> Float[Tensor, "rows d_out d_in"]:
        """Return W(p) for every row of `scales`."""
        dtype = torch.promote_types(frozen.weight.dtype, self.bank(0).B.dtype)
        weight = frozen.weight.to(dtype)[None]
        for i, scale in enumerate(scales):
            if scale is not None:
                A = self.bank(i).down.to(dtype).expand(len(scale), -1, -1)
                B = (self.bank(i).B * scale[:, None]).to(dtype)
                weight = torch.baddbmm(weight.expand(len(scale), -1, -1), B, A)
        return weight.to(frozen.weight.dtype)

    def bank(self, i: int) -> ExpertBank:
        """Return the experts trained at first (0), or those of the i-th modality that was added later."""
        bank = self.banks[i]
        if not isinstance(bank, ExpertBank):
            raise TypeError(f"{type(bank).__name__} is not a bank of experts")
        return bank

    def _low_rank(self, x: Tensor, frozen: nn.Linear, scales: Sequence[Tensor | None]) -> Tensor:
        """Add two thin products per bank to the frozen layer's output."""
        y = frozen(x)
        # The product adds in place where nobody else can hold the output: a pass over the memory less.
        own = is_plain(frozen)
        flat = y.reshape(-1, self.d_out)
        for i, scale in enumerate(scales):
            if scale is None:
                continue
            bank = self.bank(i)
            same = x.dtype == bank.A.dtype or torch.is_autocast_enabled(x.device.type)
            down = nn.functional.linear(x if same else x.to(bank.A.dtype), bank.down)
            down = (down * _beside(scale, x).to(down.dtype)).reshape(-1, bank.B.shape[1])
            if not same:
                flat = flat + (down @ bank.B.T).to(flat.dtype)
            elif own and down.dtype == flat.dtype == bank.B.dtype:
                flat.addmm_(down, bank.B.T)
            else:
                flat = torch.addmm(flat, down, bank.B.T)
        return flat.reshape(y.shape)

    def _routed(self, x: Tensor, call: Call) -> list[Tensor | None]:
        """Return scales per token, from a router that sees what the tokens hold."""
        if self.router is None:
            raise TypeError("this place has no router")
        lead = x.shape[:-1]
        dtype = self.bank(0).A.dtype
        present = _beside(call.present, x).expand(*lead, -1)
        routed = self.router(present.to(dtype), x.to(dtype))
        if routed.loss is not None and call.losses is not None:
            call.losses.append(routed.loss)
        gates = torch.cat([_beside(call.static, x).expand(*lead, -1), routed.values], dim=-1)
        later = call.scales[self.layer][1:]
        return [self.bank(0).scale(gates), *later]


def is_plain(layer: nn.Module) -> bool:
    """Tell whether calling a layer does nothing but the product: no subclass of Linear, and no hook that wants to see."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is nn.Linear and not any(hooks)


def _beside(rows: Tensor, x: Tensor) -> Tensor:
    """Shape (rows, n) or (*batch, n) for multiplication with x (B, ..., d): one row serves the whole batch."""
    if rows.dim() == x.dim():
        return rows
    if rows.shape[0] not in (1, x.shape[0]):
        raise _other_batch(x, rows.shape[0])
    return rows.reshape(rows.shape[0], *[1] * (x.dim() - 2), rows.shape[1])


def _other_batch(x: Tensor, samples: int) -> ShapeMismatch:
    return ShapeMismatch(
        f"an adapted layer got an input of shape {tuple(x.shape)} in a call with availability for {samples} samples; its "
        "first axis must be the batch. Give one pattern for the call, or leave the layer out."
    )
