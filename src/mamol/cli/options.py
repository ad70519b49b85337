"""Every argument and option that more than one command takes.

DATASET      a catalogue name, a scene.toml or its folder, a STAC document, or a sample set's folder
RUN          a folder made by `mamol train`
--config     a TOML file or a shipped configuration                 train, pretrain
--set        section.key=value, may be repeated                     train, pretrain
--split      block, random or official                              train, pretrain
--seed       fold, initial weights, batches and missing tables      train, pretrain, scene make
--without    a sensor to ignore, may be repeated                    map, classify
--overwrite  replace an output that is there                        evaluate, map, classify, export, scene make
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.configs import shipped_configs

Dataset = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Catalogue name (docs/data.md), scene.toml or its folder, STAC document (file or URL), or a sample set's folder.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder made by `mamol train`.")]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="CONFIG", help=f"Configuration: a TOML file or a shipped name ({', '.join(shipped_configs())})."
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.steps=500. May be repeated.")
]
SplitKind = Annotated[
    str, typer.Option("--split", metavar="KIND", help="block (no test patch near training pixels), random (leaks), official.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides fold, initial weights, batches and missing tables.")]
Without = Annotated[list[str] | None, typer.Option("--without", metavar="MODALITY", help="Ignore this sensor. May be repeated.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")]
