"""`mamol train` and `mamol pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import ConfigFile, Dataset, Seed, Set, SplitKind
from mamol.cli.show import bars, out, written


def train(
    dataset: Dataset,
    run: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the run.")],
    config: ConfigFile = None,
    settings: Set = None,
    split: SplitKind = "block",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    extend: Annotated[
        Path | None,
        typer.Option("--extend", metavar="RUN", help="Teach a trained run the sensors that are new in DATASET; the rest stays."),
    ] = None,
) -> None:
    """Train one classifier that works with every combination of the data set's sensors.

    Several processes: torchrun --nproc-per-node 2 -m mamol train DATASET --out RUN

    Example: mamol train idtrees --out runs/idtrees

    Example: mamol train my-scene/scene.toml --out runs/mine --set train.steps=500 --seed 1

    Example: mamol train my-scene --out runs/with-lidar --extend runs/mine
    """
    from mamol import api
    from mamol.model.checkpoint import read_run
    from mamol.options import TrainOptions

    options = TrainOptions(config, tuple(settings or ()), split, seed, resume, extend)
    with bars() as progress:
        api.train_model(dataset, run, options, progress)
    document = read_run(run)
    best = document.training["best_score"], document.training["best_step"]
    out.print(f"validation (OA + AA) / 2, mean over the patterns: {best[0]:.1f} at step {best[1]}")
    out.print("weights: " + ", ".join(f"{k} {v:,}" for k, v in document.parameters.items()))
    written([run])


def pretrain(
    dataset: Dataset,
    out_folder: Annotated[Path, typer.Option("--out", metavar="BACKBONE", help="Folder for the backbone.")],
    config: ConfigFile = None,
    settings: Set = None,
    split: SplitKind = "block",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a pretraining that was stopped.")] = False,
) -> None:
    """Pretrain a backbone without labels, outside the test area; train on it with --set backbone.path=BACKBONE.

    With --set backbone.path=OTHER it goes on from another backbone. Its state is saved every hundred steps.

    Example: mamol pretrain idtrees --out backbones/idtrees --set pretrain.steps=2000
    """
    from mamol import api
    from mamol.options import TrainOptions

    options = TrainOptions(config, tuple(settings or ()), split, seed, resume)
    with bars() as progress:
        path = api.pretrain_backbone(dataset, out_folder, options, progress)
    written([path])
