"""`mamol map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Dataset, Overwrite, Run, Without
from mamol.cli.show import bars, written

Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="confidence, pattern, entropy, probability, probability-float, expert. May be repeated; default: the first two.",
    ),
]


def map_command(
    run: Run,
    dataset: Dataset,
    file: Annotated[Path, typer.Option("--out", metavar="FILE.tif", help="Class raster to write.")],
    without: Without = None,
    tile: Annotated[
        list[str] | None, typer.Option("--tile", metavar="NAME", help="Map only this tile. May be repeated; default: all.")
    ] = None,
    area: Annotated[
        Path | None, typer.Option("--area", metavar="FILE", help="Clip to the polygons of a vector file, in any CRS.")
    ] = None,
    area_layer: Annotated[
        str | None, typer.Option("--area-layer", metavar="NAME", help="Layer of the --area file. Default: its only one.")
    ] = None,
    layer: Layers = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", metavar="PX", help="How far windows move; divides the model's window. Default: half of it."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Compute on this Dask cluster.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a map that was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Map a scene: classes (FILE.tif), confidence (FILE_confidence.tif), sensors there (FILE_pattern.tif).

    The rasters are cloud-optimised GeoTIFFs; beside them lie a style for QGIS, a legend and a STAC Item. A scene of
    several tiles gives FILE_<tile>.tif for each that has anything to map. Holes in a sensor are filled from the other
    sensors; a pixel that no sensor sees has no data. Memory does not grow with the scene.

    Example: mamol map runs/idtrees idtrees --out map.tif --tile MLBS_1

    Example: mamol map runs/mine my-scene/scene.toml --out no-lidar.tif --without lidar --workers 4
    """
    from mamol import api
    from mamol.mapping.layers import DEFAULT
    from mamol.options import MapOptions

    layers = tuple(layer) if layer else DEFAULT
    options = MapOptions(
        tuple(without or ()), tuple(tile or ()), layers, area, stride, workers, scheduler, overwrite, resume, area_layer
    )
    with bars() as progress:
        paths = api.map_scene(run, dataset, file, options, progress)
    written([p for each in paths for p in each.all()])
