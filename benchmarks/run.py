"""Run experiments that have no record yet; stop at any time, start again, and it goes on.

    python benchmarks/run.py                                all experiments whose data are here, seeds 0 to 2
    python benchmarks/run.py idtrees/mamol --seed 0         one

An experiment is benchmarks/experiments/<data set>/<method>.toml: a configuration as `mamol train --config` takes it, only
what differs from the defaults or from its `base`; a [baseline] table makes it a tree baseline.
Its record is benchmarks/results/<data set>-<method>-<split>-<seed>.json; records are never edited. A killed training
run lies in benchmarks/work/ and is resumed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mamol.api import TrainOptions, train_model
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.config import Config
from mamol.configs import load_config
from mamol.data.catalog import load_dataset
from mamol.data.dataset import Dataset
from mamol.data.split import Split, make_split
from mamol.errors import FileMissing
from mamol.evaluate.record import make_record, write_record
from mamol.evaluate.score import score
from mamol.model.checkpoint import read_run

HERE = Path(__file__).resolve().parent
Experiment = tuple[str, str]


def experiments(wanted: list[str]) -> list[Experiment]:
    """List (data set, method) of the experiment files, all of them or the wanted ones."""
    found = sorted((f.parent.name, f.stem) for f in (HERE / "experiments").glob("*/*.toml"))
    unknown = [w for w in wanted if tuple(w.split("/")) not in found]
    if unknown:
        sys.exit(f"no such experiment: {', '.join(unknown)}; there are {', '.join('/'.join(e) for e in found)}")
    return [e for e in found if not wanted or "/".join(e) in wanted]


def show(what: str, done: int, total: int, note: str) -> None:
    """Print a line now and then; a grid's log is read later, not watched."""
    if done == total or done % 100 == 0:
        print(f"  {what} {done}/{total} {note}", flush=True)


def run_mamol(
    dataset: Dataset, split: Split, config: Config, seed: int, work: Path
) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Train (or resume) and score; return the configuration, the scores and the seconds of training."""
    predictor = train_model(dataset, work, TrainOptions(config, split=split.kind, seed=seed, resume=work.exists()), show)
    document = read_run(work)
    keep = ("best_score", "best_step", "rows", "seconds")
    result = score(predictor, dataset, split) | {
        "parameters": document.parameters,
        "training": {k: document.training[k] for k in keep} | {"backbone_hash": document.backbone_hash},
    }
    return config.model_dump(mode="json"), result, float(document.training["seconds"])


def run_trees(dataset: Dataset, split: Split, tree: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Fit and score a tree baseline; return its settings, the scores and the seconds of fitting."""
    settings = ForestSettings(**tree["baseline"], seed=seed)
    started = time.monotonic()
    predictor = fit_trees(dataset, split, settings)
    seconds = time.monotonic() - started
    return asdict(settings), score(predictor, dataset, split), seconds


def run_one(experiment: Experiment, seed: int, kind: str) -> None:
    """Run one experiment for one seed, unless its record is there."""
    name, method = experiment
    record = HERE / "results" / f"{name}-{method}-{kind}-{seed}.json"
    if record.exists():
        return
    file = HERE / "experiments" / name / f"{method}.toml"
    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        dataset = load_dataset(name)
    except FileMissing as error:
        print(f"skipped {name}/{method}: {error}")
        return
    print(f"{name}/{method} {kind} split, seed {seed}", flush=True)
    split = make_split(dataset, kind, seed)
    work = HERE / "work" / record.stem
    if "baseline" in tree:
        config, result, seconds = run_trees(dataset, split, tree, seed)
    else:
        config, result, seconds = run_mamol(dataset, split, load_config(file), seed, work)
    command = f"python benchmarks/run.py {name}/{method} --seed {seed} --split {kind}"
    write_record(record, make_record(method, config, result, dataset.provenance, seconds, command))
    shutil.rmtree(work, ignore_errors=True)
    print(f"  mean OA {result['mean_oa']:.1f}, mean AA {result['mean_aa']:.1f}, {seconds:.0f} s", flush=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Run experiments that have no record yet.")
    parser.add_argument("experiment", nargs="*", help="<data set>/<method>; default: all")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; default: 0 1 2")
    parser.add_argument("--split", default="block", choices=("block", "random", "official"))
    options = parser.parse_args()
    for seed in options.seed or [0, 1, 2]:
        for experiment in experiments(options.experiment):
            run_one(experiment, seed, options.split)


if __name__ == "__main__":
    main()
