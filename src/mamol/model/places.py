"""Which Linear layers of somebody's model the experts sit beside, named as PEFT names them.

    target_modules  "all-linear"                     every Linear but the output layer (classifier, score, lm_head)
                    ["query", "fc1"]                 whole names or suffixes of names, cut at dots
                    "encoder\\.layer\\.\\d+\\..*fc1"     one text: a regular expression that matches the whole name
    layers          None or [6, 7, 8] or [-2, -1]    the number that follows the list of layers in a name

A name that matches nothing is an error that lists close ones. Source: the conventions of PEFT's LoraConfig
(`target_modules`, `layers_to_transform`), so that a configuration carries over.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from torch import nn

from mamol.errors import UnknownName, UsageError

ALL_LINEAR = "all-linear"
OUTPUT = ("classifier", "score", "lm_head")
CANONICAL = {
    "q": r"(.*\.)?(q|query|q_proj|q_lin|to_q)",
    "k": r"(.*\.)?(k|key|k_proj|k_lin|to_k)",
    "v": r"(.*\.)?(v|value|v_proj|v_lin|to_v)",
    "out": r"(.*\.)?(attn\.proj|attention\.output\.dense|out_proj|o_proj|out_lin|to_out\.0)",
    "fc1": r"(.*\.)?(fc1|intermediate\.dense|lin1|up_proj|c_fc)",
    "fc2": r"(.*\.)?(fc2|(?<!attention\.)output\.dense|lin2|down_proj)",
}
"""The six places of a transformer block as common models name them, regular expressions over whole names."""


def find_places(
    model: nn.Module, target_modules: str | Sequence[str], layers: Iterable[int] | None = None
) -> dict[str, nn.Linear]:
    """Return the Linear layers that `target_modules` and `layers` name, in the model's order.

    A layer that is registered under several names is listed under each. Raises UnknownName for a name that matches
    nothing, and UsageError for a match that cannot be adapted.
    """
    modules = {n: m for n, m in model.named_modules(remove_duplicate=False) if n}
    linear = {n: m for n, m in modules.items() if isinstance(m, nn.Linear)}
    if not linear:
        raise _no_linear(model, modules)
    matched = _every(model, linear) if target_modules == ALL_LINEAR else _matched(target_modules, modules, linear)
    kept = _in_layers(model, matched, layers) if layers is not None else matched
    for name in kept:
        if _uncalled(model, name):
            raise UsageError(
                f"'{name}' belongs to torch.nn.MultiheadAttention, which reads its weight and never calls it; experts there "
                "would have no effect. Leave it out, or adapt the feed-forward layers."
            )
        if isinstance(linear[name].weight, nn.parameter.UninitializedParameter):
            raise UsageError(f"'{name}' has no weight yet (LazyLinear); call the model once, then adapt it.")
    return {n: linear[n] for n in kept}


def layer_name(name: str) -> str | None:
    """Return a name up to the first whole number among its parts: the layer it belongs to, or None.

    A number that the name begins with counts only if there is no other: it is a place in a Sequential.

    >>> layer_name("0.encoder.layer.7.attention.query")
    '0.encoder.layer.7'
    """
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
    chosen = next((i for i in numbers if i), numbers[0] if numbers else None)
    return None if chosen is None else ".".join(parts[: chosen + 1])


def layer_number(name: str) -> int | None:
    """Return the number of the layer that a name belongs to, or None.

    >>> layer_number("encoder.layer.7.attention.query")
    7
    """
    layer = layer_name(name)
    return None if layer is None else int(layer.rpartition(".")[2])


def _every(model: nn.Module, linear: dict[str, nn.Linear]) -> list[str]:
    """Return every Linear that is called and is not the model's output layer."""
    outputs = getattr(model, "get_output_embeddings", None)
    last = outputs() if callable(outputs) else None
    found = [n for n, m in linear.items() if n.split(".")[0] not in OUTPUT and m is not last and not _uncalled(model, n)]
    if not found:
        raise UsageError(
            f"the only Linear layers of {type(model).__name__} are {', '.join(list(linear)[:4])}: output layers, or such as "
            "their module never calls. Name the layers in target_modules if they are to have experts."
        )
    return found


def _matched(target: str | Sequence[str], modules: dict[str, nn.Module], linear: dict[str, nn.Linear]) -> list[str]:
    if isinstance(target, str):
        try:
            found = [n for n in modules if re.fullmatch(target, n)]
        except re.error as error:
            raise UsageError(f"target_modules {target!r} is not a regular expression: {error}.") from None
        _refuse_other_kinds([n for n in found if n not in linear], modules, bool(set(found) & set(linear)))
        if not found:
            raise _no_match(target, linear, is_text=True)
        return [n for n in found if n in linear]
    if not target:
        raise UsageError("target_modules is empty; name at least one Linear layer, or 'all-linear'.")
    chosen = set()
    for wanted in target:
        found = [n for n in modules if n == wanted or n.endswith("." + wanted)]
        if not found:
            raise _no_match(wanted, linear)
        _refuse_other_kinds([n for n in found if n not in linear], modules, bool(set(found) & set(linear)))
        chosen |= set(found)
    return [n for n in linear if n in chosen]


def _refuse_other_kinds(others: list[str], modules: dict[str, nn.Module], some_linear: bool) -> None:
    """Refuse a name that only matches modules of other kinds; beside Linear ones they are passed over."""
    if others and not some_linear:
        kind = type(modules[others[0]]).__name__
        raise UsageError(
            f"'{others[0]}' is a {kind}; experts sit beside torch.nn.Linear only. Name Linear layers, or 'all-linear'."
        )


def _no_match(wanted: str, linear: dict[str, nn.Linear], is_text: bool = False) -> UnknownName:
    endings = sorted({n.rsplit(".", 1)[-1] for n in linear} | {".".join(n.split(".")[-2:]) for n in linear} | set(linear))
    near = difflib.get_close_matches(wanted, endings, n=4, cutoff=0.4)
    listed = near or sorted({n.rsplit(".", 1)[-1] for n in linear})[:12]
    advice = "Give suffixes of names, a regular expression for whole names, or 'all-linear'."
    if is_text and any(n == wanted or n.endswith("." + wanted) for n in linear):
        advice = f"Here a text is a regular expression for the whole name; write [{wanted!r}]."
    return UnknownName(
        f"target_modules '{wanted}' matches no layer of the model. {'Close' if near else 'Its Linear layers'}: "
        f"{', '.join(listed)}. {advice}"
    )


def _no_linear(model: nn.Module, modules: dict[str, nn.Module]) -> UsageError:
    """Build the error for a model without Linear layers; it names the kinds that hold its matrices (GPT-2: Conv1D)."""
    kinds: dict[str, str] = {}
    for name, module in modules.items():
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.dim() > 1 and not isinstance(module, nn.Embedding):
            kinds.setdefault(type(module).__name__, name)
    held = ", ".join(f"{kind} ({name})" for kind, name in kinds.items())
    return UsageError(
        f"{type(model).__name__} holds no torch.nn.Linear, and experts sit beside torch.nn.Linear only"
        f"{f'; its weights are in {held}' if held else ''}."
    )


def _in_layers(model: nn.Module, names: list[str], layers: Iterable[int]) -> list[str]:
    wanted = list(layers)
    if not wanted:
        raise UsageError("layers is empty; name at least one layer, or None for all.")
    numbers = sorted({n for n in map(layer_number, names) if n is not None})
    if not numbers:
        raise UsageError(f"layers {wanted} were asked for, but the matched names hold no layer number: {', '.join(names[:4])}.")
    count = numbers[-1] + 1
    exact = [i + count if i < 0 else i for i in wanted]
    for asked, i in zip(wanted, exact, strict=True):
        if i not in numbers:
            raise UnknownName(
                f"layer {asked} is not among the matched layers {numbers[0]}..{numbers[-1]} of {type(model).__name__}; name "
                f"layers of {numbers[0]}..{numbers[-1]}, or count from the end, -1 the last (layers=, in a configuration "
                "experts.layers)."
            )
    return [n for n in names if layer_number(n) in exact]


def _uncalled(model: nn.Module, name: str) -> bool:
    """Tell whether a Linear's parent reads its weight without calling it: experts beside it would never run."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention)
