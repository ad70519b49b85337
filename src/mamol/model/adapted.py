"""Any frozen model with a mixture beside its Linear layers: `adapt`.

    adapted = adapt(model, ("image", "title"), target_modules=["query", "value"])
    adapted(pixel_values=x, available=mask)      what model(pixel_values=x) returns, with the experts of each sample
    adapted.fold(("image",))                     a plain model of the same class for one pattern, without mamol

    available (B, M) ─► routers, once per layer ─► Call ─┐
    model ───────────────────────────────────────────────┴─► view (views.py) with bound places (beside.py) ─► called

The model itself is never edited: its code, its names and its weights stay as they are, so removing the mixture is
forgetting it. Gates belong to the call's own view: two models, two threads, a recomputation in the backward pass
(gradient checkpointing) or a replica each see their own. Under torch.compile, which cannot trace the making of a view,
one view made beforehand is handed the gates as values of the traced graph.

Source: METHOD.md section 3; names and conventions as in PEFT.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mamol.config import RouterConfig
from mamol.errors import UsageError, unknown
from mamol.model.adapter_settings import AdapterSettings, make_settings, ranks_of, refuse_name
from mamol.model.beside import Call, Place
from mamol.model.gating import Available, Gating, presence
from mamol.model.places import ALL_LINEAR, find_places, layer_name
from mamol.model.rules import by_pattern
from mamol.model.views import Tree, name_tree, swap, view


def adapt(
    model: nn.Module,
    modalities: Sequence[str],
    target_modules: str | Sequence[str] = "all-linear",
    layers: Iterable[int] | int | None = None,
    rank: int | Sequence[int] | None = None,
    modules_to_save: Sequence[str] = (),
    router: RouterConfig | None = None,
) -> Adapted:
    """Put a mixture of low-rank experts beside Linear layers of `model` and freeze the rest.

    `modalities`: the names whose availability each call tells. `target_modules`, `layers`: as in PEFT (places.py).
    `rank`: one rank for every expert, or (shared, specific, dynamic); None takes MixtureConfig's. For other settings
    build `Adapted(model, AdapterSettings(...))`. `modules_to_save`: parts of the model that are trained as a whole
    (its output layer), in a copy. Raises UnknownName for a name that matches nothing, ConfigError, and UsageError.
    """
    if isinstance(modalities, str):
        raise UsageError(f"modalities must be a sequence of names; got one text, {modalities!r}. Write ({modalities!r},).")
    settings = make_settings(
        {
            "modalities": modalities,
            "target_modules": target_modules,
            "layers": (layers,) if isinstance(layers, int) else layers,
            "modules_to_save": modules_to_save,
            "experts": {} if rank is None else ranks_of(rank),
            "router": router or RouterConfig(),
        }
    )
    return Adapted(model, settings)


class Adapted(nn.Module):
    """A frozen model, `base`, and the mixture beside it. Parameters of `base` are the caller's own objects."""

    def __init__(self, base: nn.Module, settings: AdapterSettings) -> None:
        super().__init__()
        if not isinstance(base, nn.Module):
            raise UsageError(f"a torch.nn.Module can be adapted; got {type(base).__name__}.")
        if any(isinstance(m, (Adapted, Place)) for m in base.modules()):
            raise UsageError("the model is adapted already; adapt its `base`, or take the mixture off with remove().")
        self.base, self.settings = base, settings
        first = len(settings.modalities) - len(settings.added)
        found = _outside(find_places(base, settings.target_modules, settings.layers), settings)
        self.alias, self.places = _make_places(found, first, settings)
        layers = [_place(p).layer for p in self.places.values()]
        self.gating = Gating(first, layers, settings.experts, settings.router)
        self._was_trainable = {n: p.requires_grad for n, p in base.named_parameters()}
        self.saved = nn.ModuleDict({_key(n): _own_copy(base, n) for n in settings.modules_to_save})
        for name in settings.added:
            self._grow(name)
        device = next(iter(found.values())).weight.device
        self.places.to(device)
        self.gating.to(device)
        self._lay_out()
        self._resting = [(m, m.training) for m in base.modules() if isinstance(m, _BatchNorm)]
        base.requires_grad_(False)  # last: what fails above leaves the model as it came
        self._rest_statistics()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the availability's columns."""
        return self.settings.modalities

    def forward(self, *args: Any, available: Available, **kwargs: Any) -> Any:
        """Call the model with the experts that `available` turns on; everything else is handed to the model as it is.

        Raises AllModalitiesMissing for a sample without any, ShapeMismatch, UnknownName.
        """
        present = self.presence(available)
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            return self._traced(present, args, kwargs)
        return self._view(self._call(present))(*args, **kwargs)

    def bind(self, available: Available, losses: list[Tensor] | None = None) -> nn.Module:
        """Return a view of the model that holds these gates: an ordinary module of the model's class, for one call.

        Use it to call another method than forward (generate, get_image_features). `losses` takes what routers that see
        content add to the training loss while the view runs (router.balance above 0).
        """
        return self._view(self._call(self.presence(available), losses))

    def gates(self, available: Available) -> dict[str, Tensor]:
        """Return the gates per layer, (B, E) in the order shared, specific, dynamic, added; routers that see no content."""
        present = self.presence(available)
        rows = present.to(_place(next(iter(self.places.values()))).bank(0).A.dtype)
        later = rows[:, self.gating.known :]
        return {_name(layer): torch.cat([own, later], dim=1) for layer, own in self.gating.tables(rows).items()}

    def presence(self, available: Available) -> Bool[Tensor, "rows M"]:
        """Return the availability as bool (B, M), or (1, M) for one pattern; raises as `forward`."""
        return presence(available, self.modalities, self.gating.device.device)

    def fold(self, pattern: Available) -> nn.Module:
        """Return an ordinary module of the model's own class for one known pattern: W(p) in plain Linear layers.

        It shares nothing with this object and costs what the frozen model costs. Raises UsageError if the router sees
        content, for then no pattern has one weight.
        """
        if not by_pattern(self.settings.experts, self.settings.router):
            raise UsageError(f"the router sees content (router.input = '{self.settings.router.input}'), so nothing folds.")
        present = self.presence(pattern)
        if len(present) > 1:
            raise UsageError(
                f"one pattern folds, for example {list(self.modalities)[:1]}; got an availability of {len(present)} samples."
            )
        with torch.no_grad():
            call = self._call(present)
            folded = copy.deepcopy(self.base)
            swap(folded, self._tree, lambda name, own: self._folded_part(name, own, call))
        for name, p in folded.named_parameters():
            p.requires_grad_(self._was_trainable.get(name, True))
        return folded.train(self.base.training)

    def remove(self) -> nn.Module:
        """Return the model as it was before `adapt`, to the bit; this object should not be used afterwards."""
        for name, p in self.base.named_parameters():
            p.requires_grad_(self._was_trainable.get(name, p.requires_grad))
        for module, mode in self._resting:
            module.training = mode
        return self.base

    def add_modality(self, name: str) -> None:
        """Take one more modality: only its own experts and router inputs train from here on, all else is frozen.

        Outputs for patterns without it stay equal to the bit. Raises UsageError if the name is taken or none.
        """
        if name in self.modalities:
            raise UsageError(f"'{name}' is one of the modalities already: {', '.join(self.modalities)}.")
        try:
            refuse_name(name)
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{error}.") from None
        self.settings = self.settings.model_copy(
            update={"modalities": (*self.modalities, name), "added": (*self.settings.added, name)}
        )
        self._grow(name)
        self._lay_out()

    def train(self, mode: bool = True) -> Adapted:
        """Set training mode here, in the model and in the view that torch.compile traces.

        The running statistics of frozen batch normalisation stay as they are: they belong to the model.
        """
        super().train(mode)
        for module in self._compiled[0].modules():
            module.training = mode
        self._rest_statistics()
        return self

    def _rest_statistics(self) -> None:
        saved = {id(m) for m in self.saved.modules()}
        for module in (*self.base.modules(), *self._compiled[0].modules()):
            if isinstance(module, _BatchNorm) and id(module) not in saved:
                module.training = False

    def _grow(self, name: str) -> None:
        """Freeze what is there and add the parts of one more modality; a gradient that is left could still move it."""
        for p in (*self.places.parameters(), *self.gating.parameters(), *self.saved.parameters()):
            p.requires_grad_(False)
            p.grad = None
        for place in self.places.values():
            _place(place).grow(f"for {name}")
        self.gating.grow(f"for {name}")

    def _lay_out(self) -> None:
        """Make the view that torch.compile traces; in a tuple, so that it is not one more child module."""
        self._tree: Tree = name_tree([*self.alias, *self.settings.modules_to_save])
        traced = self._view(None)
        self._compiled = (traced, [m for m in traced.modules() if isinstance(m, Place)])

    def _view(self, call: Call | None) -> nn.Module:
        def part(name: str, old: nn.Module) -> nn.Module:
            key = self.alias.get(name)
            return self.saved[_key(name)] if key is None else _place(self.places[key]).bound(old, call)

        return view(self.base, self._tree, part)

    def _traced(self, present: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the view made beforehand; its gates are set and taken away again within the traced graph."""
        traced, bound = self._compiled
        call = self._call(present)
        for place in bound:
            place.call = call
        out = traced(*args, **kwargs)
        for place in bound:
            place.call = None
        return out

    def _call(self, present: Bool[Tensor, "rows M"], losses: list[Tensor] | None = None) -> Call:
        return self.gating(present, _place(next(iter(self.places.values()))), losses)

    def _folded_part(self, name: str, own: nn.Module, call: Call) -> nn.Module:
        """Return `own`, the copy's layer, with W(p): itself where it is a plain Linear, so that its hooks stay."""
        key = self.alias.get(name)
        if key is None:
            return copy.deepcopy(self.saved[_key(name)])
        old = self.base.get_submodule(name)
        if not isinstance(old, nn.Linear) or old.weight.shape != (old.out_features, old.in_features):
            raise UsageError(f"'{name}' is a {type(old).__name__} with packed weights; it cannot be folded.")
        if type(old).forward is not nn.Linear.forward:
            raise UsageError(f"'{name}' is a {type(old).__name__} with a forward of its own; it is no product that folds.")
        place = _place(self.places[key])
        weight = nn.Parameter(place.folded(old, call.scales[place.layer])[0])
        if type(own) is not nn.Linear:  # a parametrised weight: what it computes becomes a weight
            plain = nn.Linear(old.in_features, old.out_features, old.bias is not None, weight.device, weight.dtype)
            plain.bias = None if old.bias is None else nn.Parameter(old.bias.clone())
            own = plain
        own.weight = weight
        return own


def _make_places(found: dict[str, nn.Linear], modalities: int, settings: AdapterSettings) -> tuple[dict[str, str], nn.ModuleDict]:
    """Build one place per Linear object; return the names' keys and the places."""
    alias: dict[str, str] = {}
    keys: dict[int, str] = {}
    places = nn.ModuleDict()
    for name, linear in found.items():
        if id(linear) not in keys:
            keys[id(linear)] = _key(name)
            shape = (linear.in_features, linear.out_features)
            layer = _key(layer_name(name) or "rest")
            places[_key(name)] = Place(shape, layer, modalities, settings.experts, settings.router)
        alias[name] = keys[id(linear)]
    return alias, places


def _outside(found: dict[str, nn.Linear], settings: AdapterSettings) -> dict[str, nn.Linear]:
    """Leave out Linear layers inside modules_to_save if all were asked for; refuse them if they were named."""
    inside = [n for n in found if any(n == s or n.startswith(s + ".") for s in settings.modules_to_save)]
    rest = {n: m for n, m in found.items() if n not in inside}
    if inside and (settings.target_modules != ALL_LINEAR or not rest):
        raise UsageError(f"'{inside[0]}' lies in modules_to_save, which trains as a whole; name it in one of the two only.")
    return rest


def _key(name: str) -> str:
    """Return a dotted name as a key that torch accepts for a child module, whatever the name is."""
    return "/" + name.replace(".", "/")


def _name(key: str) -> str:
    """Return the dotted name behind a key."""
    return key[1:].replace("/", ".")


def _place(module: nn.Module) -> Place:
    if not isinstance(module, Place):
        raise TypeError(f"{type(module).__name__} is not a place")
    return module


def _own_copy(base: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(base.get_submodule(name)).requires_grad_(True)
    except AttributeError:
        raise unknown("module in modules_to_save", name, [n for n, _ in base.named_children()]) from None
