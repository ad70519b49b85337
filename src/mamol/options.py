"""What train_model and map_scene may be asked for beside their data: as Python callers and the command line both say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from mamol.config import Config
from mamol.configs import load_config
from mamol.data.area import Area, read_area
from mamol.errors import UsageError, no_text
from mamol.mapping.engines import Engine, cluster, here, processes
from mamol.mapping.layers import DEFAULT


@dataclass(frozen=True)
class TrainOptions:
    """How to train: `config` a TOML file, a shipped name or a Config; `overrides` "section.key=value".

    `extend` names the folder of a trained run whose data set has got new sensors: they are learnt beside what the run knows,
    and what it says of data without them stays as it is, to the bit. Configuration (but for train.*), split and seed are the
    run's own.
    """

    config: Config | Path | str | None = None
    overrides: Sequence[str] = ()
    split: str = "block"
    seed: int = 0
    resume: bool = False
    extend: Path | str | None = None

    def __post_init__(self) -> None:
        no_text(self.overrides, "overrides", "train.steps=300")
        if not isinstance(self.config, Config | Path | str | None):
            raise UsageError(f"config is a file, the name of a shipped one or a mamol.config.Config; got {self.config!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise UsageError(f"seed must be a whole number from 0; got {self.seed!r}.")
        object.__setattr__(self, "seed", int(self.seed))

    def resolved(self) -> Config:
        """Return the whole configuration; raises ConfigError, UnknownName and FileMissing."""
        if isinstance(self.config, Config):
            return load_config(None, self.overrides, self.config.model_dump(mode="json", exclude_unset=True))
        return load_config(self.config, self.overrides)


@dataclass(frozen=True)
class MapOptions:
    """What to map, and how.

    `without` modalities to ignore; `tiles` by name (empty: all of them); `layers` beside the classes (mapping/layers.py);
    `area` a vector file to clip to, `area_layer` the layer of it (None: its only one). `stride_px` moves the model's windows
    by that many pixels (it divides the window; None: half of it; the window itself is quickest and shows seams). `workers`
    processes on this machine, or `scheduler`, the address of a Dask cluster. `resume` goes on with a map that was stopped.
    """

    without: Sequence[str] = ()
    tiles: Sequence[str] = ()
    layers: Sequence[str] = DEFAULT
    area: str | Path | None = None
    stride_px: int | None = None
    workers: int = 1
    scheduler: str | None = None
    overwrite: bool = False
    resume: bool = False
    area_layer: str | None = None

    def __post_init__(self) -> None:
        no_text(self.without, "without", "s1")
        no_text(self.tiles, "tiles", "tile_1")
        no_text(self.layers, "layers", "entropy")

    def clip(self) -> Area | None:
        """Return the area to clip to, if any; raises UsageError for a layer without a file, and as `read_area`."""
        if self.area is None and self.area_layer is not None:
            raise UsageError(f"--area-layer {self.area_layer} names a layer of the file that --area gives; give --area too.")
        return None if self.area is None else read_area(self.area, self.area_layer)

    def engine(self) -> Engine:
        """Return who computes the blocks; raises UsageError."""
        if self.scheduler is not None and self.workers != 1:
            raise UsageError("--workers counts processes on this machine; with --scheduler the cluster's own workers are used.")
        if self.scheduler is not None:
            return cluster(self.scheduler)
        return here if self.workers == 1 else processes(self.workers)


_Options = TypeVar("_Options", TrainOptions, MapOptions)


def given_or_default(given: _Options | None, kind: type[_Options]) -> _Options:
    """Return what a caller asked for, the defaults for None; raises UsageError for anything else, such as a dict."""
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise UsageError(f"options is a mamol.{kind.__name__}(...) with names for its settings; got {given!r}.")
    return given
