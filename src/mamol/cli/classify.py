"""`mamol classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Dataset, Overwrite, Run, Without
from mamol.cli.show import bars, written


def classify(
    run: Run,
    dataset: Dataset,
    file: Annotated[Path, typer.Option("--out", metavar="FILE.csv", help="Table to write: .csv or .parquet.")],
    without: Without = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="A column p_CLASS for every class, too.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Classify a sample set into a table: class, confidence and sensors of every sample.

    Rows are in the set's order, and hold its groups. The set needs no labels, and may lack sensors: each sample is
    classified by those that it has, and one that has none gets no class. A scene is mapped: `mamol map`.

    Example: mamol classify runs/cereal new-points --out crops.csv

    Example: mamol classify runs/cereal new-points --out crops.parquet --without s2 --probabilities
    """
    from mamol import api

    with bars() as progress:
        path = api.classify_samples(run, dataset, file, tuple(without or ()), probabilities, overwrite, progress)
    written([path])
