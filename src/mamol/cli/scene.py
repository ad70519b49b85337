"""`mamol scene`: write the embedded scene, check a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Dataset, Overwrite, Seed
from mamol.cli.show import lines, out, written

app = typer.Typer(help="Make and check scenes.", no_args_is_help=True, rich_markup_mode=None)


@app.command("make")
def make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    size: Annotated[int, typer.Option("--size", help="Side in pixels of 10 m.")] = 256,
    bands: Annotated[int, typer.Option("--bands", help="Hyperspectral bands, 8 to 400.")] = 48,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write the embedded scene: three sensors with holes as GeoTIFFs, labels, the truth, and a scene.toml.

    Example: mamol scene make my-scene --size 512

    Example: mamol scene make large --size 2048 --bands 144
    """
    from mamol.data.synthetic import write_scene

    written([write_scene(folder, size, seed, overwrite, bands)])


@app.command("check")
def check(dataset: Dataset) -> None:
    """Look a data set over: grids, bands, nodata, classes, what is missing where. Exit 1 with every fault listed.

    Every key of the description, every sensor in every tile and the labels are tried, each on its own.

    Example: mamol scene check my-scene/scene.toml
    """
    from mamol.data.check import check as check_dataset

    report = check_dataset(dataset)
    out.print(report.name, style="bold", markup=False)
    lines("grids", report.grids)
    lines("modalities", report.modalities)
    lines("classes, labels", report.classes)
    lines("remarks", report.remarks)
    if report.faults:
        lines(f"{len(report.faults)} fault(s)", report.faults)
        raise typer.Exit(1)
    out.print("no fault found")
