"""A sensor that comes later: MaMOL trained without it and extended by it, beside MaMOL that had it from the start.

    python benchmarks/study_later.py worldcereal-canada/aux --seed 0      one sensor of a set
    python benchmarks/study_later.py worldcereal-canada                   each of its sensors, seeds 0 to 2, what has no record

The steps are those of the set, for the first training and for the extension each; the backbone is pretrained without the
sensor, too. Records: results/later/<set>--<sensor>--<seed>.json; their table is in study_conditions.py. What stays as it was is
tested in tests/train/test_extend.py.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from study import slim
from study_cells import HERE, Cell, config_of, read_base, read_set
from study_conditions import LATER
from study_records import LEAST

from mamol.api import TrainOptions, train_model
from mamol.data.catalog import load_dataset
from mamol.data.dataset import lacking, modality_names
from mamol.data.split import make_split
from mamol.evaluate.record import make_record, write_record
from mamol.evaluate.score import score
from mamol.model.checkpoint import read_run


def record_of(set_name: str, sensor: str, seed: int) -> Path:
    """Return where a record lies, or will."""
    return LATER / f"{set_name}--{sensor}--{seed}.json"


def run_one(set_name: str, sensor: str, seed: int) -> None:
    """Train without a sensor, extend by it, score under every pattern, write the record."""
    own = read_set(set_name)
    dataset, kind = load_dataset(own["dataset"]), str(own["split"])
    earlier = lacking(dataset, [sensor])
    config = config_of(Cell(set_name, "mamol", seed), modality_names(earlier))
    work = HERE / "work" / "later" / record_of(set_name, sensor, seed).stem
    before, after = work / "before", work / "after"
    train_model(earlier, before, TrainOptions(config, split=kind, seed=seed, resume=before.exists()))
    predictor = train_model(dataset, after, TrainOptions(extend=before, resume=after.exists()))
    documents = {run.name: read_run(run) for run in (before, after)}
    seconds = sum(document.training["seconds"] for document in documents.values())
    result = slim(score(predictor, dataset, make_split(dataset, kind, seed, config.tokens.window_px), "patterns"))
    result |= {"parameters": {name: document.parameters for name, document in documents.items()}, "sensor": sensor}
    command = f"python benchmarks/study_later.py {set_name}/{sensor} --seed {seed}"
    record = make_record("mamol, extended", config.model_dump(mode="json"), result, dataset.provenance, seconds, command)
    write_record(record_of(set_name, sensor, seed), record)
    shutil.rmtree(work)
    print(f"{set_name}/{sensor} {seed}: mean OA {result['mean_oa']:.1f}", flush=True)


def wanted_of(words: Sequence[str], sensors_of: Callable[[str], Sequence[str]]) -> list[tuple[str, str]]:
    """List (set, sensor) of words such as SET or SET/SENSOR; exits with the known sensors for one that is not there."""
    out = []
    for word in words:
        name, _, sensor = word.partition("/")
        known = sensors_of(name)
        if sensor and sensor not in known:
            sys.exit(f"'{name}' has no sensor '{sensor}'; it has {', '.join(known)}")
        out += [(name, m) for m in ([sensor] if sensor else known)]
    return out


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Extend MaMOL by a sensor that comes later; what has no record yet.")
    parser.add_argument("cell", nargs="+", help="<set>/<sensor> or <set>")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; default: 0 to 2")
    options = parser.parse_args()

    def sensors_of(name: str) -> Sequence[str]:
        if read_base(read_set(name)).get("backbone", {}).get("kind", "scene") != "scene":
            sys.exit(f"'{name}' is not on the scene backbone, so a run on it is not extended")
        return modality_names(load_dataset(read_set(name)["dataset"]))

    for seed in options.seed or range(LEAST):
        for name, sensor in wanted_of(options.cell, sensors_of):
            if not record_of(name, sensor, seed).exists():
                run_one(name, sensor, seed)


if __name__ == "__main__":
    main()
