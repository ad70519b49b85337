"""From who is there to what every adapted layer needs: availability -> gates -> one Call.

    available  ─► presence (rows, M) ─► static gates  1 | a_1 .. a_M ─┐
                                   └──► router per layer ─► dynamic ──┴─► per layer: factors of the columns of A

It runs on (rows, M) once per call, before the model does; the model's layers only read the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mamol.config import MixtureConfig, RouterConfig
from mamol.errors import AllModalitiesMissing, ShapeMismatch, UsageError, unknown
from mamol.model.beside import Call, Place
from mamol.model.router import Router, StaticGates
from mamol.model.rules import by_pattern, make_router

Available = Any
"""Which modalities are there: a bool (B, M), one pattern as names for the whole batch, or a bool (B,) per name; an array
or nested lists do for a tensor."""


class Gating(nn.Module):
    """Static gates and the routers of every layer, for `known` modalities and those that were added later."""

    device: Tensor

    def __init__(self, known: int, layers: Iterable[str], experts: MixtureConfig, router: RouterConfig) -> None:
        super().__init__()
        self.known, self.experts = known, experts
        self.layers = sorted(set(layers))
        routed = self.layers if experts.has_dynamic and by_pattern(experts, router) else []
        self.routers = nn.ModuleDict({layer: make_router(known, 1, experts, router) for layer in routed})
        self.static = StaticGates(known, experts.specific_gate)
        self.register_buffer("device", torch.zeros(0), persistent=False)

    def grow(self, name: str) -> None:
        """Let every router see one more modality."""
        for router in self.routers.values():
            if isinstance(router, Router):
                router.grow(name)

    def tables(self, rows: Float[Tensor, "rows M"]) -> dict[str, Float[Tensor, "rows E"]]:
        """Return the gates per layer; without the dynamic ones where their router sees content."""
        static = self._static(rows)
        routed = {layer: torch.cat([static, router(rows).values], dim=1) for layer, router in self.routers.items()}
        return routed or dict.fromkeys(self.layers, static)

    def balance(self, rows: Float[Tensor, "rows M"]) -> list[Tensor]:
        """Return what every router that sees the pattern only adds to the loss."""
        return [loss for router in self.routers.values() if (loss := router(rows).loss) is not None]

    def forward(self, present: Bool[Tensor, "rows M"], like: Place, losses: list[Tensor] | None = None) -> Call:
        """Return what one call tells every layer; `like` is any of the places, for the shape of its banks.

        `losses` takes what routers that see content add to the loss (those of the pattern alone: `balance`).
        """
        traced = torch.compiler.is_compiling()
        still = not traced and not torch.is_grad_enabled()
        alone, index = not (self.experts.has_dynamic and not self.routers), None
        samples = None if traced or len(present) == 1 else len(present)
        if still and (alone or bool((present == present[:1]).all())):
            present, index = torch.unique(present, dim=0, return_inverse=True)
            index = index if len(present) > 1 else None
        rows = present.to(like.bank(0).A.dtype)
        # A modality that was added later and that no sample has must not change a bit: its bank is left out.
        later = [rows[:, i : i + 1] for i in range(self.known, rows.shape[1])]
        kept = [c if traced or bool(c.any()) else None for c in later]
        extra = [None if c is None else like.bank(i).scale(c) for i, c in enumerate(kept, 1)]
        scales = {layer: [like.bank(0).scale(t), *extra] for layer, t in self._complete(rows).items()}
        return Call(rows, self._static(rows), scales, samples, index, folds=still and alone, losses=losses)

    def _complete(self, rows: Tensor) -> dict[str, Tensor]:
        """Return tables as wide as the first bank: where routers see content, the place fills in the dynamic gates."""
        missing = self.experts.n_dynamic if self.experts.has_dynamic and not self.routers else 0
        return {layer: nn.functional.pad(t, (0, missing)) for layer, t in self.tables(rows).items()}

    def _static(self, rows: Tensor) -> Tensor:
        known = rows[:, : self.known]
        parts = [torch.ones_like(known[:, :1])] if self.experts.shared_rank else []
        parts += [self.static(known, None)] if self.experts.specific_rank else []
        return torch.cat(parts, dim=1) if parts else known[:, :0]


def presence(available: Available, names: Sequence[str], device: torch.device) -> Bool[Tensor, "rows M"]:
    """Return the availability as bool (B, M) in the order of `names`, or (1, M) for one pattern.

    Raises UnknownName, ShapeMismatch, UsageError for what is no availability, and AllModalitiesMissing for a row with none.
    """
    if isinstance(available, Mapping):
        present = _by_name(available, names).to(device)
    elif isinstance(available, str) or _are_names(available):
        given = (available,) if isinstance(available, str) else tuple(available)
        for name in given:
            if name not in names:
                raise unknown("modality", name, names)
        present = torch.tensor([[m in given for m in names]], device=device)
    else:
        present = _as_bool(available, "available").to(device)
        if present.dim() != 2 or present.shape[1] != len(names):
            raise ShapeMismatch(
                f"available has shape {tuple(present.shape)}; expected (batch, {len(names)}), one column for "
                f"each of {', '.join(names)}."
            )
    if not torch.compiler.is_compiling() and not bool(present.any(dim=1).all()):
        i = int((~present.any(dim=1)).nonzero()[0])
        raise AllModalitiesMissing(f"sample {i} has none of the modalities {', '.join(names)}; drop such samples.")
    return present


def _are_names(given: object) -> bool:
    return isinstance(given, (tuple, list, set, frozenset)) and all(isinstance(m, str) for m in given)


def _as_bool(given: object, what: str) -> Bool[Tensor, ...]:
    """Return a tensor, an array or rows of booleans as a bool tensor; numbers must be 0 or 1."""
    try:
        found = given if isinstance(given, Tensor) else torch.as_tensor(given)
        found = found.to_dense() if found.layout != torch.strided else found
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"{what} is {type(given).__name__}; it must be a bool tensor (batch, modality), names, or one bool (batch,) per name."
        ) from None
    if found.dtype != torch.bool and not torch.compiler.is_compiling() and not bool(((found == 0) | (found == 1)).all()):
        raise UsageError(f"{what} must hold True and False (or 1 and 0); it holds other numbers, such as {_other(found)}.")
    return found.bool()


def _other(found: Tensor) -> float:
    return float(found[(found != 0) & (found != 1)].flatten()[0])


def _by_name(available: Mapping[str, object], names: Sequence[str]) -> Bool[Tensor, "B M"]:
    """Stack one bool (B,) per name; a modality that is not named is absent."""
    for name in available:
        if name not in names:
            raise unknown("modality", str(name), names)
    given = {m: _as_bool(a, f"available['{m}']") for m, a in available.items()}
    shapes = {m: tuple(a.shape) for m, a in given.items()}
    if not shapes or any(len(s) != 1 for s in shapes.values()) or len(set(shapes.values())) > 1:
        raise ShapeMismatch(f"available by name must be one bool tensor (batch,) per modality, all of one length; got {shapes}.")
    absent = torch.zeros_like(next(iter(given.values())))
    return torch.stack([given.get(m, absent) for m in names], dim=1)
