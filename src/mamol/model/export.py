"""ONNX files: with the availability mask as an input (every pattern), or folded for one pattern.

    export_run      a trained classifier   inputs: normalised values per modality [, available (B, M)]  ->  logits
    export_adapted  any adapted module     inputs: what its forward takes by name [, available (B, M)]  ->  output

A folded graph holds plain matrices only. The file's metadata name the modalities in the mask's order, the classes, the
normalisation and the temperatures, as JSON. The batch is free; a window of a scene is tokens.window_px, a grid of a
sample what it was in training, and the other inputs have the sizes of the example. Needs `mamol[onnx]`; onnxruntime runs
the result without torch or mamol (docs/export.md).
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamol.errors import FileMissing, ShapeMismatch, UsageError, unknown
from mamol.files import atomic, must_not_exist
from mamol.modality import Modality
from mamol.model.adapted import Adapted
from mamol.model.build import AnyClassifier
from mamol.model.predictor import MamolPredictor

MASK = "available"
EXAMPLE_BATCH = 5
"""Neither 0 nor 1, which a tracer would take for constants."""


def export_run(
    predictor: MamolPredictor, path: str | Path, pattern: Sequence[str] | None = None, overwrite: bool = False
) -> Path:
    """Write a trained classifier; `pattern` None keeps the mask as an input, else the graph is folded for that pattern.

    Inputs are `<modality>` (B, C, ...), normalised as the metadata say, and `available` (B, M), bool; the output is
    `logits`, (B, K) or (B, K, H, W). Raises UnknownName, UsageError for text, for what does not fold and for a run folder
    that does not tell the size of its grids, OutputExists, FileMissing without the extra.
    """
    model, path = predictor.model, Path(path)
    must_not_exist(path, overwrite)
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
    return _write(wrapped, inputs, "logits", about, path, overwrite)


def export_adapted(
    adapted: Adapted,
    example: Mapping[str, Tensor],
    path: str | Path,
    pattern: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write an adapted module; `example` are its inputs by name, first axis the batch, of two samples or more.

    With `pattern` None the graph takes `available` (B, M), too; else it is folded. The output is the module's tensor, or
    the first one of what it returns. Raises as `export_run`, and ShapeMismatch for an example of one sample.
    """
    if not isinstance(adapted, Adapted):
        raise UsageError(f"export_adapted takes what `adapt` returned; got {type(adapted).__name__}.")
    if MASK in example or not all(isinstance(v, Tensor) for v in example.values()):
        kinds = {k: type(v).__name__ for k, v in example.items()}
        raise UsageError(f"the example must be tensors by name, without '{MASK}'; got {kinds}.")
    pattern = (pattern,) if isinstance(pattern, str) else pattern
    sizes = {k: tuple(v.shape) for k, v in example.items()}
    if not sizes or len({s[:1] for s in sizes.values()}) > 1 or min(s[0] if s else 0 for s in sizes.values()) < 2:
        raise ShapeMismatch(f"the example needs tensors of one batch of at least two samples; got {sizes}.")
    inputs = dict(example)
    if pattern is None:
        module: nn.Module = _Called(adapted, tuple(example), masked=True)
        inputs[MASK] = torch.ones(next(iter(sizes.values()))[0], len(adapted.modalities), dtype=torch.bool)
    else:
        module = _Called(adapted.fold(pattern), tuple(example), masked=False)
    about = {"modalities": list(adapted.modalities), "pattern": list(pattern) if pattern else "", "classes": list(classes)}
    return _write(module, inputs, "output", about, Path(path), overwrite)


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
        self.module, self.names, self.masked = module, names, masked

    def forward(self, *inputs: Tensor) -> Tensor:
        named: dict[str, Any] = dict(zip((*self.names, MASK) if self.masked else self.names, inputs, strict=True))
        out = self.module(**named)
        if isinstance(out, Mapping):
            out = next(iter(out.values()))
        return out if isinstance(out, Tensor) else out[0]


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


def _write(
    module: nn.Module, inputs: Mapping[str, Tensor], output: str, about: Mapping[str, Any], path: Path, overwrite: bool
) -> Path:
    """Trace on the CPU, write with metadata, whole or not at all."""
    must_not_exist(path, overwrite)
    try:
        import onnx
        import onnxscript  # noqa: F401 (what torch.onnx writes with)
    except ImportError:
        raise FileMissing("writing ONNX needs the packages onnx and onnxscript: pip install 'mamol[onnx]'.") from None
    batch = torch.export.Dim("batch", min=1, max=65536)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                copy.deepcopy(module).cpu().eval(),  # the caller's own stays where and as it is
                tuple(v.cpu() for v in inputs.values()),
                dynamo=True,
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),
                input_names=list(inputs),
                output_names=[output],
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(f"torch could not trace the module for ONNX with inputs {', '.join(inputs)}: {reason}") from error
    if program is None:
        raise UsageError("torch could not trace the module for ONNX.")
    told = {"producer": f"mamol {metadata.version('mamol')}", **about}
    with atomic(path, overwrite) as partial:
        model = program.model_proto
        onnx.helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in told.items()})
        onnx.save(model, str(partial))
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch's exporter says of itself: deprecations in its own code, and packages it does not find."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
