"""`mamol map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Dataset, Overwrite, Run
from mamol.cli.show import bars, written


def map_command(
    run: Run,
    dataset: Dataset,
    file: Annotated[Path, typer.Option("--out", metavar="FILE.tif", help="Class raster to write.")],
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="MODALITY", help="Ignore this sensor. May be repeated.")
    ] = None,
    tile: Annotated[
        list[str] | None, typer.Option("--tile", metavar="NAME", help="Map only this tile. May be repeated; default: all.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Map a scene: classes (FILE.tif), confidence (FILE_confidence.tif), sensors there (FILE_pattern.tif).

    A scene of several tiles gives FILE_<tile>.tif for each. Holes in a sensor are filled from the other sensors; a
    pixel that no sensor sees has no data.

    Example: mamol map runs/idtrees idtrees --out map.tif --tile MLBS_1

    Example: mamol map runs/mine my-scene/scene.toml --out no-lidar.tif --without lidar
    """
    from mamol import api

    options = api.MapOptions(tuple(without or ()), tuple(tile or ()), overwrite)
    with bars() as progress:
        paths = api.map_scene(run, dataset, file, options, progress)
    written([p for each in paths for p in each.all()])
