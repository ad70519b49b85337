"""A view of a module: the same weights, with some of its parts replaced for one call.

    root ─┬─ a ─── ...        shared with the original: the same object
          └─ b ─┬─ c          copied shallowly (it lies on the way): own list of parts, same parameters and buffers
                └─ q  ◄────── replaced

Nothing of the original is touched, so two calls, two threads and a recomputation in the backward pass each keep what
they were given. This is what lets gates reach the experts inside somebody's model without global state: a call is a
view whose adapted layers hold that call's gates. It costs a dictionary copy per module on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

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
    """Copy a module without copying what it holds; its list of parts is its own."""
    copy = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    copy.__dict__["_modules"] = dict(module._modules)
    return copy


def view(root: M, tree: Tree, replace: Callable[[str, nn.Module], nn.Module]) -> M:
    """Return `root` with `replace(name, part)` in place of every named part of the tree."""
    copy = shallow(root)
    for part, rest in tree.items():
        inside = root._modules[part]
        if inside is None:
            raise KeyError(part)
        new = replace(rest, inside) if isinstance(rest, str) else view(inside, rest, replace)
        copy._modules[part] = new
    if isinstance(copy, nn.TransformerEncoderLayer):
        # In evaluation it hands the weights of its layers to one fused kernel, past the layers; this turns that off.
        copy.activation_relu_or_gelu = 0
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
