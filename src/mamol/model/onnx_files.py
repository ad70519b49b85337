"""One ONNX file: torch's exporter held quiet, its errors in one plain sentence, metadata, whole or not at all."""

from __future__ import annotations

import copy
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mamol.errors import FileMissing, UsageError
from mamol.files import atomic, must_not_exist

M = TypeVar("M", bound=nn.Module)


def at_rest(module: M) -> M:
    """Return a copy on the CPU in evaluation mode; the caller's own stays where and as it is."""
    return copy.deepcopy(module).cpu().eval()


def write_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], output: str, about: Mapping[str, Any], path: Path, overwrite: bool
) -> Path:
    """Trace a module of tensors in order that rests on the CPU, and write it with `about` as its metadata.

    Raises OutputExists, FileMissing without the extra, UsageError for what torch cannot trace.
    """
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
                module,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),
                input_names=list(inputs),
                output_names=[output],
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise UsageError(
            f"torch could not trace the module for ONNX with inputs {', '.join(inputs)}: {reason(error)}."
        ) from error
    if program is None:
        raise UsageError("torch could not trace the module for ONNX.")
    told = {"producer": f"mamol {metadata.version('mamol')}", **about}
    with atomic(path, overwrite) as partial:
        model = program.model_proto
        onnx.helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in told.items()})
        onnx.save(model, str(partial))
    return path


def reason(error: BaseException) -> str:
    """Return the first line of what went wrong, without the exporter's own frame around it and without colours."""
    while isinstance(error, torch.onnx.errors.OnnxExporterError) and error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")


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
