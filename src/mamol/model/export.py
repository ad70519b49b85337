"""ONNX files: with the availability mask as an input (every pattern), or folded for one pattern.

    export_run      a trained classifier   inputs: normalised values per modality [, available (B, M)]  ->  logits
    export_adapted  any adapted module     inputs: what its forward takes by name [, available (B, M)]  ->  output

A folded graph holds plain matrices only. The file's metadata name the modalities in the mask's order, the classes, the
normalisation and the temperatures, as JSON. The batch is free; a window of a scene is tokens.window_px, a grid of a
sample what it was in training, and the other inputs have the sizes of the example. Needs `mamol[onnx]`; onnxruntime runs
the result without torch or mamol (docs/export.md).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamol.errors import MamolError, ShapeMismatch, UsageError, no_text, unknown
from mamol.files import must_not_exist
from mamol.modality import Modality
from mamol.model.adapted import Adapted
from mamol.model.build import AnyClassifier
from mamol.model.checkpoint import load_run
from mamol.model.onnx_files import at_rest, reason, write_onnx
from mamol.model.predictor import MamolPredictor

log = logging.getLogger(__name__)
MASK = "available"
EXAMPLE_BATCH = 5
"""Neither 0 nor 1, which a tracer would take for constants."""


def export_run(
    run: MamolPredictor | str | Path, path: str | Path, pattern: Sequence[str] | None = None, overwrite: bool = False
) -> Path:
    """Write a trained classifier, given as it is or by its run folder.

    `pattern` None keeps the mask as an input, else the graph is folded for that pattern.

    Inputs are `<modality>` (B, C, ...), normalised as the metadata say, and `available` (B, M), bool; the output is
    `logits`, (B, K) or (B, K, H, W). Raises UnknownName, UsageError for text, for what does not fold and for a run folder
    that does not tell the size of its grids, OutputExists, FileMissing without the extra.
    """
    path = Path(path)
    must_not_exist(path, overwrite)
    if pattern is not None:
        no_text(pattern, "pattern", "s1")
    predictor = run if isinstance(run, MamolPredictor) else load_run(run)
    model = predictor.model
    names = [m.name for m in model.modalities]
    for name in pattern or ():
        if name not in names:
            raise unknown("modality", name, names)
    for m in model.modalities:
        if m.kind == "text" and (pattern is None or m.name in pattern):
            raise UsageError(f"'{m.name}' is text; its tokenizer is no part of an ONNX graph. Export a pattern without it.")
    wrapped = _Masked(model) if pattern is None else _Folded(model, pattern)
    inputs = {m.name: torch.zeros(_example_shape(m, model)) for m in model.modalities if m.name in (pattern or names)}
    if pattern is None:
        inputs[MASK] = torch.ones(EXAMPLE_BATCH, len(names), dtype=torch.bool)
    about = {
        "modalities": [{"name": m.name, "kind": m.kind, "bands": m.bands, "unit": m.unit} for m in model.modalities],
        "pattern": list(pattern) if pattern else "",
        "classes": list(predictor.classes),
        "normalisation": predictor.normalizer.to_json(),
        "temperatures": dict(predictor.temperatures),
    }
    return write_onnx(at_rest(wrapped), inputs, "logits", about, path, overwrite)


def export_adapted(
    adapted: Adapted,
    example: Mapping[str, Tensor],
    path: str | Path,
    pattern: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write an adapted module; `example` are its inputs by name, first axis the batch, of two samples or more.

    With `pattern` None the graph takes `available` (B, M), too; else it is folded. Only the batch is free: every other
    size, such as the length of a sequence, is fixed to the example's, so give one of the length that will be used. One
    output is kept, the first of what the module returns; `kept` and `left_out` in the metadata name it and the others.
    Raises as `export_run`, ShapeMismatch for an example of one sample, UnknownName for an input that the model's forward
    does not take, and UsageError for one that the model cannot be called with.
    """
    if not isinstance(adapted, Adapted):
        raise UsageError(f"export_adapted takes what `adapt` returned; got {type(adapted).__name__}.")
    path = Path(path)
    must_not_exist(path, overwrite)
    sizes = _example_sizes(adapted.base, example)
    pattern = (pattern,) if isinstance(pattern, str) else pattern
    inputs = {k: v.cpu() for k, v in example.items()}
    if pattern is None:
        module = _Called(adapted, tuple(example), masked=True)
        inputs[MASK] = torch.ones(next(iter(sizes.values()))[0], len(adapted.modalities), dtype=torch.bool)
    else:
        module = _Called(adapted.fold(pattern), tuple(example), masked=False)
    resting = at_rest(module)
    kept, *left_out = _output_names(resting, inputs, adapted.base)
    if left_out:
        log.info("%s: the graph keeps the output %s; %s left out", path, kept, ", ".join(left_out))
    about = {
        "modalities": list(adapted.modalities),
        "pattern": list(pattern) if pattern else "",
        "classes": list(classes),
        "kept": kept,
        "left_out": left_out,
    }
    return write_onnx(resting, inputs, "output", about, path, overwrite)


def _example_sizes(base: nn.Module, example: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input; raises as `export_adapted` if they are not a batch that the model takes by name."""
    if not isinstance(example, Mapping):
        raise UsageError(
            f"the example must be tensors by name, as a dict such as {{'{_takes(base)[0][0]}': tensor}}; "
            f"got a {type(example).__name__}."
        )
    if MASK in example or not all(isinstance(v, Tensor) for v in example.values()):
        kinds = {k: type(v).__name__ for k, v in example.items()}
        raise UsageError(f"the example must be tensors by name, without '{MASK}'; got {kinds}.")
    named, others = _takes(base)
    for name in example:
        if name not in named and not others:
            raise unknown(f"input of {type(base).__name__}", name, named)
    sizes = {k: tuple(v.shape) for k, v in example.items()}
    if not sizes or len({s[:1] for s in sizes.values()}) > 1 or min(s[0] if s else 0 for s in sizes.values()) < 2:
        raise ShapeMismatch(f"the example needs tensors of one batch of at least two samples; got {sizes}.")
    return sizes


def _takes(base: nn.Module) -> tuple[list[str], bool]:
    """Return the names of what a module's forward takes ("input" if it names none), and whether it takes any other."""
    parameters = inspect.signature(base.forward).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return named or ["input"], any(p.kind is p.VAR_KEYWORD for p in parameters)


def _output_names(module: _Called, inputs: Mapping[str, Tensor], base: nn.Module) -> list[str]:
    """Call the module once as torch's exporter will, and name its outputs; raises UsageError in words of the model."""
    own = type(base).__name__
    try:
        with torch.no_grad():
            out = module.called(*inputs.values())
            first = _first(out)
    except MamolError:
        raise
    except Exception as error:  # whatever a stranger's forward raises
        given = ", ".join(k for k in inputs if k != MASK)
        takes = ", ".join(_takes(base)[0])
        raise UsageError(f"{own} cannot be called with {given}: {reason(error)}. Its forward takes {takes}.") from error
    if not isinstance(first, Tensor):
        raise UsageError(
            f"the first output of {own} is a {type(first).__name__}; wrap the model in a module whose forward returns a tensor."
        )
    return list(_outputs(out))


class _Masked(nn.Module):
    """A classifier as a function of tensors in order, the mask last: one mask per sample, spread over its values."""

    def __init__(self, model: AnyClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        names = [m.name for m in self.model.modalities]
        *values, mask = inputs
        available = {m: _spread(mask[:, i], v) for i, (m, v) in enumerate(zip(names, values, strict=True))}
        return self.model(dict(zip(names, values, strict=True)), available).logits


class _Folded(nn.Module):
    """A classifier for one pattern as a function of that pattern's tensors in order."""

    def __init__(self, model: AnyClassifier, pattern: Sequence[str]) -> None:
        super().__init__()
        self.model = model.folded(pattern)
        self.names = [m.name for m in model.modalities if m.name in pattern]
        self.absent = {m.name: _example_shape(m, model)[1:] for m in model.modalities if m.name not in pattern}

    def forward(self, *inputs: Tensor) -> Tensor:
        values = dict(zip(self.names, inputs, strict=True))
        batch, device = inputs[0].shape[0], inputs[0].device
        values |= {m: torch.zeros(batch, *rest, device=device) for m, rest in self.absent.items()}
        here = torch.ones(batch, dtype=torch.bool, device=device)
        available = {m: _spread(here if m in self.names else ~here, v) for m, v in values.items()}
        return self.model(values, available).logits


class _Called(nn.Module):
    """Somebody's module as a function of tensors in order, with one tensor as its output."""

    def __init__(self, module: nn.Module, names: tuple[str, ...], masked: bool) -> None:
        super().__init__()
        self.module, self.names = module, (*names, MASK) if masked else names

    def called(self, *inputs: Tensor) -> Any:
        """Return all that the module returns."""
        return self.module(**dict(zip(self.names, inputs, strict=True)))

    def forward(self, *inputs: Tensor) -> Tensor:
        return _first(self.called(*inputs))


def _outputs(out: Any) -> dict[str, Any]:
    """Return what a module returned, by name or by number."""
    if isinstance(out, Mapping):
        return dict(out)
    if isinstance(out, (tuple, list)):
        return dict(zip(getattr(out, "_fields", map(str, range(len(out)))), out, strict=True))
    return {"output": out}


def _first(out: Any) -> Any:
    while isinstance(out, (Mapping, tuple, list)) and out:
        out = next(iter(_outputs(out).values()))
    return out


def _spread(mask: Tensor, values: Tensor) -> Tensor:
    """Give every value of a sample the sample's mask: (B,) to the values' shape without the band axis."""
    return mask.view(-1, *[1] * (values.dim() - 2)).expand(-1, *values.shape[2:])


def _example_shape(m: Modality, model: AnyClassifier) -> tuple[int, ...]:
    """Return the shape of the example of one modality, (B, C, ...); raises UsageError if a grid's size is not known."""
    side, shape = model.config.tokens.window_px, model.shape
    if m.kind == "grid" and not shape.is_scene and m.name not in shape.pixels:
        raise UsageError(
            f"the run folder does not tell how many pixels a sample of '{m.name}' has, for an older mamol wrote it. Train it "
            f'anew, or add "pixels": {{"{m.name}": [H, W]}} to its mamol.json.'
        )
    rest = {"grid": shape.pixels.get(m.name, (side, side)), "series": (m.length,)}.get(m.kind, ())
    return (EXAMPLE_BATCH, shape.bands[m.name], *rest)
