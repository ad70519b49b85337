"""`mamol demo`: the main job on the embedded scene, in minutes, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.show import bars, out, table, written

SETTINGS = ("train.steps=400", "pretrain.steps=150")


def demo(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for everything that is made.")] = Path("demo"),
    size: Annotated[int, typer.Option("--size", help="Side of the scene in pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Make a scene with holes in its sensors, train, score with sensors missing, map with and without them.

    Takes a few minutes on two cores.

    Example: mamol demo --out demo
    """
    from mamol import api
    from mamol.data.synthetic import CLASSES, write_scene
    from mamol.evaluate.plots import draw_all
    from mamol.evaluate.report import as_markdown, as_text
    from mamol.files import must_not_exist, write_json, write_text
    from mamol.mapping.picture import draw_maps, read_classes
    from mamol.options import MapOptions, TrainOptions

    must_not_exist(folder, overwrite=None)
    scene = write_scene(folder / "scene", size, seed)
    with bars() as progress:
        api.train_model(scene, folder / "run", TrainOptions(overrides=SETTINGS, seed=seed), progress)
        scores = api.evaluate_run(folder / "run", baselines=("forest",), progress=progress)
        every = api.map_scene(folder / "run", scene, folder / "map.tif", progress=progress)[0]
        fewer = api.map_scene(folder / "run", scene, folder / "map-without-hsi.tif", MapOptions(["hsi"]), progress)[0]
    truth = read_classes(folder / "scene" / "truth.tif")
    maps = {"truth": truth, "every sensor": read_classes(every.classes), "without hsi": read_classes(fewer.classes)}
    picture = draw_maps(maps, CLASSES, folder / "maps.png")
    drawn = draw_all(scores.results, scores.activation, folder / "plots")
    write_text(folder / "scores.md", as_markdown(scores.results))
    write_json(folder / "scores.json", scores.to_json())
    table(as_text(scores.results))
    for name in ("every sensor", "without hsi"):
        seen = maps[name] > 0
        right = 100 * (maps[name] == truth)[seen].mean()
        out.print(f"map, {name}: {right:.1f} % of {seen.sum():,} pixels are right (training pixels are among them)")
    written([every.classes, fewer.classes, folder / "scores.json", *drawn, picture])
