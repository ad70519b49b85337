"""`mamol export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Overwrite, Run
from mamol.cli.show import written


def export(
    run: Run,
    file: Annotated[Path, typer.Option("--out", metavar="FILE.onnx", help="ONNX file to write.")],
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="A+B", help="Fold for these sensors only, such as s1+s2. Default: any, by a mask."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a trained model as ONNX, to be run without mamol or torch.

    Without --pattern the graph takes the availability as an input and serves every combination of sensors; with it
    the experts are folded into plain matrices. The availability is one value per sample and sensor: pixels or months
    that are missing within a sensor count as observed. Class names and normalisation are in the file's metadata.

    Example: mamol export runs/cereal --out cereal.onnx

    Example: mamol export runs/cereal --out s1-only.onnx --pattern s1
    """
    from mamol.model.export import export_run

    sensors = tuple(p.strip() for p in pattern.split("+")) if pattern is not None else None
    written([export_run(run, file, sensors, overwrite)])
