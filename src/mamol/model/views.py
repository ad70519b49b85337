"""A view of a module: the same weights, with some of its parts replaced for one call.

    root ─┬─ a ─── ...        each module copied shallowly: own list of parts and hooks, same parameters and buffers
          └─ b ─┬─ c
                └─ q  ◄────── replaced

Nothing of the original is touched, also by hooks that a model sets while it runs (Hugging Face's output_hidden_states),
so two calls, two threads and a recomputation in the backward pass each keep what they were given. This is what lets
gates reach the experts inside somebody's model without global state: a call is a view whose adapted layers hold that
call's gates. It costs a few dictionary copies per module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn

from mamol.errors import UsageError

OWN = (
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""What a copy of a module does not share with the original."""
M = TypeVar("M", bound=nn.Module)
Tree = dict[str, Any]
"""Names of parts; a leaf holds the full dotted name, an inner node another tree."""


def name_tree(names: Iterable[str]) -> Tree:
    """Return dotted names as a tree of their parts."""
    tree: Tree = {}
    for name in names:
        *way, last = name.split(".")
        node = tree
        for part in way:
            node = node.setdefault(part, {})
        node[last] = name
    return tree


def shallow(module: M) -> M:
    """Copy a module without copying what it holds; its lists of parts and of hooks are its own.

    Raises UsageError if `forward` was replaced on the object itself (torch.compile, hooks of accelerate): what stands
    there runs the original, so that a copy's parts would never be called.
    """
    if "forward" in module.__dict__:
        raise UsageError(
            f"the forward of a {type(module).__name__} in the model was replaced on the object itself, as torch.compile and "
            "accelerate's hooks do; experts inside would never run. Adapt the plain model, and compile what `adapt` returns."
        )
    copy = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    for name in OWN:
        copy.__dict__[name] = type(module.__dict__[name])(module.__dict__[name])
    # What module.compile() left runs the original; the copy runs as it is.
    copy.__dict__["_compiled_call_impl"] = None
    return copy


def view(root: M, tree: Tree, replace: Callable[[str, nn.Module], nn.Module]) -> M:
    """Return a shallow copy of `root` and of all in it, with `replace(name, part)` in place of every named part."""
    return _view(root, tree, replace, {})


def _view(module: M, tree: Tree, replace: Callable[[str, nn.Module], nn.Module], done: dict[int, nn.Module]) -> M:
    copy = shallow(module)
    for part in tree:
        if module._modules.get(part) is None:
            raise KeyError(part)
    for part, inside in module._modules.items():
        rest = tree.get(part, {})
        if isinstance(rest, str) and inside is not None:
            copy._modules[part] = replace(rest, inside)
        elif isinstance(rest, dict) and inside is not None and not isinstance(inside, torch.jit.ScriptModule):
            if id(inside) not in done or rest:
                done[id(inside)] = _view(inside, rest, replace, done)
            copy._modules[part] = done[id(inside)]
    if isinstance(copy, nn.TransformerEncoderLayer):
        # In evaluation it hands the weights of its layers to one fused kernel, past the layers; this turns that off.
        copy.activation_relu_or_gelu = 0
    if isinstance(copy, nn.TransformerEncoder):
        # Nor may layers without experts pass on nested tensors, which the others could not read.
        copy.enable_nested_tensor = copy.use_nested_tensor = False
    return copy


def swap(root: nn.Module, tree: Tree, new: Callable[[str, nn.Module], nn.Module]) -> None:
    """Put `new(name, part)` in place of every named part of `root`, in place."""
    for part, rest in tree.items():
        inside = root._modules[part]
        if inside is None:
            raise KeyError(part)
        if isinstance(rest, str):
            root._modules[part] = new(rest, inside)
        else:
            swap(inside, rest, new)
