"""The study: every paradigm on one backbone and one budget of weights, one record a run; stop and start as you like.

    python benchmarks/study.py                                     all sets, all methods, seeds 0 to 4, what has no record
    python benchmarks/study.py mfeat/lora --seed 0                 one cell; a set or a method alone will do, too
    python benchmarks/study.py mfeat/lora --seed 0 --again         train it anew, print both; --in-between: as before f61dc49
    python benchmarks/study.py mfeat/ablations --seed 0            every ablation of MaMOL on a set
    python benchmarks/study.py idtrees/lora --protocol pixel       also unseen, degraded, rate-0.5 (trained so), labels-0.1, ...
    python benchmarks/study.py mfeat/mamol --seed 0 --validate     a trial: validation only; never tune on the test part
    python benchmarks/study.py mfeat/mamol --validate --set train.distill=0.5

Several processes may run the same command side by side: each takes the next cell that no other has (study_cells.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from study_cells import HERE, PROTOCOLS, Cell, cells, config_of, in_between, one_network, read_method, read_set
from study_labels import counted, thinned, with_test
from study_trials import trial_path, write_trial

from mamol.api import TrainOptions, pretrain_backbone, train_model
from mamol.baselines.combined import Average, Ensemble, PerPattern, hidden
from mamol.baselines.fill import Filled, fit_filler
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.config import Config
from mamol.data.availability import hide_at_rate, table_hash
from mamol.data.catalog import load_dataset
from mamol.data.dataset import Dataset, SampleSet, class_names, modality_names
from mamol.data.split import make_split
from mamol.errors import MamolError, UsageError
from mamol.evaluate.activation import expert_activation
from mamol.evaluate.record import make_record, read_record, write_record
from mamol.evaluate.score import score
from mamol.files import write_text
from mamol.modality import Predictor, patterns
from mamol.model.checkpoint import read_run
from mamol.model.predictor import MamolPredictor

WORK = (HERE / "work" / "study").resolve()
MOST_PATTERNS = 15
"""Gates are kept of sets with up to so many patterns."""
SHOWN = ("mean_oa", "mean_aa", "worst_oa")
MEMBERS_APART = 1000
"""How far apart the seeds of networks that are averaged are: no cell has one of theirs."""


def backbone_of(cell: Cell, dataset: Dataset, config: Config, split: str) -> Path:
    """Return the pretrained backbone of a data set and seed, made where it is not there."""
    shared = config.model_copy(update={"tokens": config.tokens.model_copy(update={"placeholder": "none"})})
    hidden_at = {"hidden at": cell.protocol} if cell.protocol.startswith(("rate-", "labels-")) else {}
    key = hidden_at | {
        "data": dataset.provenance,
        "tokens": shared.tokens,
        "pretrain": shared.pretrain,
        "backbone": shared.backbone,
        "values": {k: v for k, v in shared.data.model_dump(mode="json").items() if k != "quantiles" or v},  # 0: as before it
        "split": split,
    }
    text = json.dumps(key, default=lambda o: o.model_dump(mode="json"), sort_keys=True)
    folder = WORK / "backbones" / f"{read_set(cell.set_name)['dataset']}-{cell.seed}"
    with locked(f"backbone {folder.name}", wait=True):  # before looking: another process may be making one with another key
        made = folder.with_suffix(".key")
        if made.exists() and made.read_text(encoding="utf-8") != text:  # another pretraining: an ablation, or other defaults
            folder = folder.with_name(f"{folder.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
            made = folder.with_suffix(".key")
        if not (folder.exists() and made.exists()):
            shutil.rmtree(folder, ignore_errors=True)
            pretrain_backbone(dataset, folder, TrainOptions(shared, split=split, seed=cell.seed))
            write_text(made, text)
    return folder


def in_work(name: str) -> Path:
    """Return a place in work/; the / of a configuration's path is no folder."""
    return WORK / name.replace("/", "_")


def train_one(cell: Cell, dataset: Dataset, config: Config, kind: str, name: str) -> tuple[MamolPredictor, dict[str, Any]]:
    """Train (or resume) one network in a folder of work/ called `name`; return it and what its run says of itself."""
    work = in_work(name)
    predictor = train_model(dataset, work, TrainOptions(config, split=kind, seed=cell.seed, resume=work.exists()))
    document = read_run(work)
    kept = {k: document.training[k] for k in ("best_score", "best_step", "rows", "seconds")}
    kept["backbone_hash"] = document.backbone_hash
    kept["commit"] = document.training.get("environment", {}).get("commit")  # the record's own is that of the scoring
    return predictor, {"parameters": document.parameters, "training": kept}


def train_several(
    runs: Iterable[tuple[str, Cell, Dataset, str]], config: Config, stem: str
) -> tuple[list[Predictor], dict[str, Any]]:
    """Train a network for each (name, cell, data set, split) in a folder of its own; return them and what their runs say."""
    models: list[Predictor] = []
    parameters: dict[str, int] = {}
    training: dict[str, dict[str, Any]] = {}
    for name, cell, dataset, kind in runs:
        model, about = train_one(cell, dataset, config, kind, f"{stem} {name}")
        models.append(model)
        parameters = {k: parameters.get(k, 0) + v for k, v in about["parameters"].items()}
        training[name] = {k: v for k, v in about["training"].items() if k != "rows"}
    return models, {"parameters": parameters, "networks": len(models), "training": training}


def train_cell(cell: Cell, dataset: Dataset, kind: str, config: Config, stem: str) -> tuple[Predictor, dict[str, Any]]:
    """Train what a method is made of, in folders of work/ that begin with `stem`: one network, or several side by side."""
    method, order = read_method(cell.method), modality_names(dataset)
    if "members" in method:
        runs = member_runs(cell, dataset, kind, config, method["members"]["count"])
        models, about = train_several(runs, config, stem)
        return Average(models), about
    networks = method.get("networks", "")
    if not networks:
        return train_one(cell, dataset, config, kind, stem)
    wanted = {"per-pattern": patterns(order), "ensemble": [(m,) for m in order]}.get(networks, [order])
    models, about = train_several((("+".join(p), cell, hidden(dataset, p), kind) for p in wanted), config, stem)
    if networks == "ensemble":
        return Ensemble(dict(zip(order, models, strict=True)), class_names(dataset)), about
    if networks == "per-pattern":
        return PerPattern(dict(zip(wanted, models, strict=True)), order, class_names(dataset)), about
    split = make_split(dataset, kind, cell.seed, config.tokens.window_px)
    return Filled(models[0], fit_filler(dataset, split, networks.removeprefix("fill-"), cell.seed)), about


def member_runs(cell: Cell, dataset: Dataset, kind: str, config: Config, count: int) -> Iterator[tuple[str, Cell, Dataset, str]]:
    """Yield what `train_several` needs for one network several times: the first as the cell of its own method, the others from
    other starting weights, in another order, and each with another part of what is not tested to validate on.
    """
    open_again = with_test(dataset, make_split(dataset, kind, cell.seed, config.tokens.window_px))
    yield "member 0", cell, dataset, kind
    for k in range(1, count):
        yield f"member {k}", replace(cell, seed=cell.seed + MEMBERS_APART * k), open_again, "official"


def trained_config(cell: Cell, dataset: Dataset, kind: str, overrides: list[str]) -> Config:
    """Return a cell's configuration with the backbone that all methods of its set and seed share."""
    config = config_of(cell, modality_names(dataset), overrides)
    if config.backbone.kind != "scene":
        return config
    frozen = config.model_copy(update={"backbone": config.backbone.model_copy(update={"freeze": True})})
    folder = backbone_of(cell, dataset, frozen, kind)
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"path": str(folder)})})


def validate_cell(cell: Cell, overrides: list[str], again: bool) -> None:
    """Train one network, print its validation score and keep it as a trial; the test part is not looked at."""
    if cell.protocol.startswith(("rate-", "labels-")) or cell.protocol == "random":
        raise UsageError(f"--validate trains on the set's own split, all labels and what is there; it knows no {cell.protocol}.")
    if not one_network(cell.method):
        raise UsageError(f"'{cell.method}' is not one network with a validation score; --validate is for those that are.")
    kept = trial_path(cell, overrides)
    if kept.exists() and not again:
        print(f"{kept.name} is there; --again runs it once more", flush=True)
        return
    own = read_set(cell.set_name)
    dataset, kind = load_dataset(own["dataset"]), str(own["split"])
    config, name = trained_config(cell, dataset, kind, overrides), " ".join(["validate", cell.stem, *overrides])
    _, about = train_one(cell, dataset, config, kind, name)
    shutil.rmtree(in_work(name))
    training = about["training"]
    if not kept.exists():
        write_trial(cell, overrides, training)
    print(
        f"{cell.set_name}/{cell.method} {cell.seed} {' '.join(overrides)}: {training['best_score']:.2f} at "
        f"{training['best_step']}, {training['seconds']} s",
        flush=True,
    )


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out the matrices of every pattern, nine tenths of a record; the command in it makes them again."""
    left_out = ("reliability", "confusion")
    rows = {
        k: [{c: v for c, v in row.items() if c not in left_out} for row in result[k]]
        for k in ("patterns", "rates", "rows")
        if k in result
    }
    return {**result, **rows}


def measure_cell(cell: Cell, stem: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], float]:
    """Train and score on the test part; return the configuration, the result, what the data were, and the seconds."""
    own, method = read_set(cell.set_name), read_method(cell.method)
    dataset, kind = load_dataset(own["dataset"]), "random" if cell.protocol == "random" else str(own["split"])
    window = 16 if "baseline" in method else config_of(cell, modality_names(dataset)).tokens.window_px
    split = make_split(dataset, kind, cell.seed, window)
    seen, learnt, more = dataset, split, {}
    if cell.protocol == "random":
        more["labels"] = counted(dataset, split)
    if cell.protocol.startswith("rate-"):
        seen, table = hide_at_rate(dataset, split, float(cell.protocol.removeprefix("rate-")), cell.seed)
        more["train_table_hash"] = table_hash(table)
    if cell.protocol.startswith("labels-"):
        if not isinstance(dataset, SampleSet):
            raise UsageError(f"{cell.protocol} is for sets of samples; '{cell.set_name}' is a scene.")
        kind, seen = "official", thinned(dataset, split, float(cell.protocol.removeprefix("labels-")), cell.seed)
        learnt = make_split(seen, kind, cell.seed, window)
        more["labels"] = counted(seen, learnt)
    made = None if "baseline" in method else trained_config(cell, seen, kind, [])
    started = time.monotonic()
    predictor: Predictor
    if made is None:
        settings = ForestSettings(**method["baseline"], seed=cell.seed)
        predictor, config = fit_trees(seen, learnt, settings), asdict(settings)
    else:
        predictor, about = train_cell(cell, seen, kind, made, stem)
        more |= about
        config = made.model_dump(mode="json")
        config["backbone"]["path"] = ""  # made by the same command
        if cell.protocol == "unseen":
            more["held_out"] = list(made.train.held_out)
    seconds = time.monotonic() - started
    tested = cell.protocol.partition("-")[0]
    tested = "patterns" if tested in ("random", "unseen", "labels") else tested
    result = slim(score(predictor, dataset, split, tested)) | more
    if isinstance(predictor, MamolPredictor) and tested == "patterns" and len(result["patterns"]) <= MOST_PATTERNS:
        result["activation"] = expert_activation(predictor, dataset, split)
    return config, result, dataset.provenance, seconds


def run_cell(cell: Cell) -> None:
    """Run one cell and write its record."""
    config, result, data, seconds = measure_cell(cell, cell.run)
    write_record(cell.record, make_record(cell.method, config, result, data, seconds, cell.command))
    print(f"{cell.stem}: " + ", ".join(f"{k} {result[k]:.1f}" for k in SHOWN), flush=True)


def run_again(cell: Cell, between: bool) -> None:
    """Train one cell anew on its backbone and print what came beside what its record says; the record stays as it is."""
    stem = f"again {cell.stem}"
    _remove(stem)
    measure = partial(measure_cell, cell, stem)
    now, before = (in_between(measure) if between else measure)()[1], read_record(cell.record)["result"]
    _remove(stem)
    print(f"{cell.stem}: " + ", ".join(f"{k} {before[k]:.2f}, again {now[k]:.2f}" for k in SHOWN), flush=True)


def _remove(stem: str) -> None:
    for old in (WORK / stem, *WORK.glob(f"{stem} *")):  # not those of a seed that begins with the same digit
        shutil.rmtree(old, ignore_errors=True)


def locked(name: str, wait: bool) -> FileLock:
    """Return the lock of a network or a backbone, which dies with its process: many may fill one grid side by side."""
    (WORK / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(WORK / "locks" / in_work(name).name, blocking=wait)


def take(cell: Cell, options: argparse.Namespace) -> None:
    """Do with one cell what the command line says."""
    if options.validate:
        validate_cell(cell, options.overrides, options.again)
    elif options.again and cell.record.exists():
        run_again(cell, options.in_between)
    elif not options.again and not cell.record.exists():
        run_cell(cell)
    elif options.cell and not options.again:
        print(f"{cell.stem} has a record, {cell.record.relative_to(HERE.parent)}; --again runs it once more", flush=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Run the cells of the study that have no record yet.")
    parser.add_argument("cell", nargs="*", help="<set>/<method>, <set> or <method>; default: all")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; default: 0 to 4")
    parser.add_argument("--protocol", default="patterns", choices=PROTOCOLS)
    parser.add_argument("--again", action="store_true", help="run cells that have a record once more and print both")
    parser.add_argument("--in-between", action="store_true", help="with --again: missing tokens take up work, as before")
    parser.add_argument("--validate", action="store_true", help="score on validation only, a trial")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value, with --validate only")
    options = parser.parse_args()
    if options.overrides and not options.validate:
        parser.error("--set is for --validate; a record has its configuration from the study's files")
    failed = []
    for cell in cells(options.cell, options.seed or list(range(5)), options.protocol):
        try:
            with locked(" ".join([cell.run, *options.overrides]), wait=False):
                take(cell, options)
        except Timeout:
            print(f"{cell.stem} is being run by another process", flush=True)
        except MamolError as error:  # a long grid goes on with the next cell
            failed.append(f"{cell.command}: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
