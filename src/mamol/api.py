"""The main job in a few calls; the command line does nothing that these do not.

mamol.train_model("idtrees", "runs/idtrees")            # split, pretrain, train: one model for every combination
scores = mamol.evaluate_run("runs/idtrees")             # every pattern of missing sensors, on the test part
mamol.map_scene("runs/idtrees", "idtrees", "map.tif", mamol.MapOptions(without=["lidar"]))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamol.baselines.forest import ESTIMATORS, ForestSettings, fit_trees
from mamol.data.catalog import CATALOG, load_dataset, open_reader
from mamol.data.checked import checked
from mamol.data.dataset import UNLABELLED, Dataset, SampleSet, Scene, label_arrays
from mamol.data.glance import warn_of_dataset, warn_of_samples, warn_of_scene
from mamol.data.split import TEST, UNUSED, Split, make_split, split_again, unlabelled_split
from mamol.errors import UsageError, no_text, unknown
from mamol.evaluate.activation import expert_activation
from mamol.evaluate.score import score
from mamol.files import sha256_file
from mamol.mapping.classify import check_table, classify, write_table
from mamol.mapping.paths import MapPaths
from mamol.mapping.predict import BLOCK_PX, MapRequest
from mamol.mapping.tiles import map_tiles, touched_tiles
from mamol.model.checkpoint import RunDocument, load_run, read_run
from mamol.model.predictor import MamolPredictor
from mamol.options import MapOptions, TrainOptions, given_or_default
from mamol.train import backbones
from mamol.train import run as training
from mamol.train.extend import prepare_extension
from mamol.train.folder import must_be_free
from mamol.train.prepare import Prepared, on_backbone, prepare

Progress = Callable[[str, int, int, str], None]
"""Called as progress(what, done, total, note)."""
BASELINES = ("forest", "boosted")


def silent(what: str, done: int, total: int, note: str) -> None:
    """Show nothing."""


def train_model(
    dataset: Dataset | str | Path, out: str | Path, options: TrainOptions | None = None, progress: Progress = silent
) -> MamolPredictor:
    """Train one classifier for every combination of the data set's sensors; fill the folder `out`; return it.

    `dataset` is a catalogue name, a path (scene.toml, a sample set's folder) or a Scene or SampleSet in memory. Raises
    MamolError: OutputExists for a folder in use, DataError for labels that cannot be trained on, ConfigError.
    """
    options = given_or_default(options, TrainOptions)
    return training.train(_prepare(dataset, options), Path(out), options.resume, progress)


def pretrain_backbone(
    dataset: Dataset | str | Path, out: str | Path, options: TrainOptions | None = None, progress: Progress = silent
) -> Path:
    """Pretrain a backbone without labels and write its folder; use it with backbone.path.

    Where there are labels, it stays out of the test part of their split; without any, all of the data are used. With
    backbone.path it goes on from the weights of another one. Raises as `train_model`.
    """
    options = given_or_default(options, TrainOptions)
    if options.extend is not None:
        raise UsageError("a run is extended by train_model, not by a pretraining; leave extend out.")
    must_be_free(Path(out), backbones.LAST, backbones.WHAT, options.resume)  # before the data are read
    data = _opened(dataset)
    config = on_backbone(options.resolved(), data)
    if any((a != UNLABELLED).any() for a in label_arrays(data)):
        split = make_split(data, options.split, options.seed, config.tokens.window_px)
    else:
        split = unlabelled_split(data, options.seed)
    backbones.pretrain_backbone(prepare(data, split, config, options.seed), Path(out), options.resume, progress)
    return Path(out)


def _prepare(dataset: Dataset | str | Path, options: TrainOptions) -> Prepared:
    source = _source(dataset)
    if options.extend is None:
        data = _opened(dataset)
        config = on_backbone(options.resolved(), data)
        split = make_split(data, options.split, options.seed, config.tokens.window_px)
        return prepare(data, split, config, options.seed, source)
    if options.config is not None:
        raise UsageError("a run that is extended keeps its configuration; leave config (--config) out, train.* may be set.")
    if (options.split, options.seed) != (TrainOptions.split, TrainOptions.seed):
        raise UsageError("a run that is extended keeps its split and its seed; leave both out.")
    return prepare_extension(_opened(dataset), Path(options.extend), options.overrides, source)


def _opened(dataset: Dataset | str | Path) -> Dataset:
    return load_dataset(dataset) if isinstance(dataset, str | Path) else checked(dataset)


def _source(dataset: Dataset | str | Path) -> str:
    if not isinstance(dataset, str | Path):
        return ""
    return str(dataset) if str(dataset) in CATALOG else str(Path(dataset).resolve())


@dataclass(frozen=True)
class Evaluation:
    """Scores by method, ours first ("mamol"), and the mean gate of every expert per pattern and layer."""

    results: Mapping[str, Mapping[str, Any]]
    activation: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return ours at the top level and the other methods under "baselines"."""
        ours, *rest = self.results
        return {**self.results[ours], "activation": self.activation, "baselines": {m: self.results[m] for m in rest}}


def evaluate_run(
    run: str | Path,
    dataset: Dataset | str | Path | None = None,
    protocol: str = "patterns",
    baselines: Sequence[str] = BASELINES,
    progress: Progress = silent,
) -> Evaluation:
    """Score a run with sensors missing, and tree baselines trained on every pattern of the same split beside it.

    `dataset` None takes the one that was trained on, and its test part. Another data set counts wholly as test; the
    baselines are then left out, for they would have to be trained on it. `protocol` is "patterns", "rate",
    "pixel" or "degraded" (scenes). Raises UnknownName, UsageError for other classes, DataError if the split or the labels
    of the training part changed since (values are not compared).
    """
    no_text(baselines, "baselines", "forest")
    for kind in baselines:
        if kind not in ESTIMATORS:
            raise unknown("tree baseline", kind, ESTIMATORS)
    document, predictor = read_run(Path(run)), load_run(run)
    data, split = _test_data(document, dataset)
    predictor.must_know(isinstance(data, Scene), data.modalities)
    if split.kind == "all":
        warn_of_dataset(data, predictor.model.modalities, predictor.normalizer)
    results: dict[str, Mapping[str, Any]] = {}
    seed = int(document.split["seed"])
    ours = score(predictor, data, split, protocol, progress)
    results["mamol"] = ours | {"parameters": document.parameters, "run": document.split}
    if split.kind != "all":
        for kind in baselines:
            progress(f"fit {kind}", 0, 1, "")
            trees = fit_trees(data, split, ForestSettings(kind=kind, seed=seed))
            progress(f"fit {kind}", 1, 1, "")
            results[kind] = score(trees, data, split, protocol, progress)
    return Evaluation(results, expert_activation(predictor, data, split))


def _test_data(document: RunDocument, dataset: Dataset | str | Path | None) -> tuple[Dataset, Split]:
    """Open what to test on: the run's own data with its split, or other data of which everything is test."""
    if dataset is None:
        if not document.source:
            raise UsageError(f"this run was trained on '{document.dataset}' from memory; say what to evaluate on with --data.")
        dataset = document.source
    data = _opened(dataset)
    if data.name != document.dataset:
        roles = [np.where(a == UNLABELLED, UNUSED, TEST).astype(np.int8) for a in label_arrays(data)]
        test = float(sum(int((r == TEST).sum()) for r in roles))
        overlap = {"patch_px": document.config.tokens.window_px, "test": test, "overlapping": 0.0, "percent": 0.0}
        return data, Split("all", int(document.split["seed"]), roles, overlap)
    advice = "Give the old data, train anew, or give the data another name to use all of them as a test."
    return data, split_again(data, document.split, document.config.tokens.window_px, advice)


def map_scene(
    run: str | Path,
    dataset: Scene | str | Path,
    out: str | Path,
    options: MapOptions | None = None,
    progress: Progress = silent,
) -> list[MapPaths]:
    """Map a scene: a cloud-optimised GeoTIFF a layer on the scene's own grid, and what lies beside; return where they are.

    One tile goes to `out`; several go to OUT_<tile>.tif each, and with an area those tiles that it touches. A tile with
    nothing to map is left out, and that is logged. The scene needs no labels, and may lack sensors that the run knows.
    Raises MamolError: UnknownName, AllModalitiesMissing if no tile has anything to map, ShapeMismatch for other bands,
    OutputExists, UsageError for files that two maps would share, GridMismatch for an area beside the scene.
    """
    options, document, predictor = given_or_default(options, MapOptions), read_run(Path(run)), load_run(run)
    reader = open_reader(dataset, predictor.modalities)
    predictor.must_know(scene=True)
    for name in options.tiles:
        if name not in reader.tile_names:
            raise unknown("tile", name, reader.tile_names)
    side, stride = document.config.tokens.window_px, options.stride_px
    if stride is not None and (stride < 1 or side % stride):
        raise UsageError(f"--stride {stride} must divide the model's window of {side} pixels.")
    predictor.stride_px = stride
    area = options.clip()
    tiles = touched_tiles(reader, list(dict.fromkeys(options.tiles)) or reader.tile_names, area)
    warn_of_scene(reader, tiles, [m for m in predictor.model.modalities if m.name not in options.without], predictor.normalizer)
    identity, model_files = sha256_file(Path(run) / "mamol.json"), [f for f in Path(run).iterdir() if f.is_file()]
    requests = [
        MapRequest(
            tile, document.classes, options.without, side, side * max(1, BLOCK_PX // side), options.layers, area,
            options.overwrite, options.resume, identity, stride or max(1, side // 2), model_files,
        )
        for tile in tiles
    ]  # fmt: skip
    return map_tiles(predictor, reader, requests, Path(out), options.engine(), progress)


def classify_samples(
    run: str | Path,
    dataset: SampleSet | str | Path,
    out: str | Path,
    without: Sequence[str] = (),
    probabilities: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Classify a sample set: a table with a row per sample, CSV or Parquet as the name `out` ends; return where it is.

    Its columns are those of `mamol.mapping.classify`. The set needs no labels, and may lack sensors that the run knows;
    `without` names more to ignore. Raises MamolError: UsageError for a scene or another ending, UnknownName,
    AllModalitiesMissing if no sample has anything to go by, ShapeMismatch for other bands, OutputExists.
    """
    check_table(Path(out), overwrite)
    predictor, data = load_run(run), _opened(dataset)
    no_text(without, "without", "s1")
    if isinstance(data, Scene):
        raise UsageError(f"'{data.name}' is a scene: `mamol map` (map_scene) maps it; a table is for a sample set.")
    predictor.must_know(False, [m for m in data.modalities if m.name not in without])
    for name in without:
        if name not in predictor.modalities:
            raise unknown("modality", name, predictor.modalities)
    warn_of_samples(data, [m for m in predictor.model.modalities if m.name not in without], predictor.normalizer)
    table = classify(predictor, data, without, progress)
    if not probabilities:
        table = table[[c for c in table if not c.startswith("p_")]]
    write_table(table, Path(out), overwrite)
    return Path(out)
