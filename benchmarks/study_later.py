"""A sensor that comes later: MaMOL trained without it and extended by it, beside MaMOL that had it from the start.

    python benchmarks/study_later.py worldcereal-canada/aux --seed 0      one sensor of a set
    python benchmarks/study_later.py worldcereal-canada                   each of its sensors, seeds 0 to 2, what has no record

The steps are those of the set, for the first training and for the extension each; the backbone is pretrained without the
sensor, too. Records: results/later/<set>--<sensor>--<seed>.json. What stays as it was is tested in tests/train/test_extend.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study_cells import HERE, Cell, config_of, read_base, read_set
from study_records import LEAST, Study, signed

from mamol.api import TrainOptions, train_model
from mamol.data.catalog import load_dataset
from mamol.data.dataset import lacking, modality_names
from mamol.data.split import make_split
from mamol.evaluate.interval import mean_interval
from mamol.evaluate.record import make_record, write_record
from mamol.evaluate.score import score
from mamol.model.checkpoint import read_run

RECORDS = HERE / "results" / "later"
LEFT_OUT = ("reliability", "confusion")
"""Matrices of every pattern, nine tenths of a record."""


def record_of(set_name: str, sensor: str, seed: int) -> Path:
    """Return where a record lies, or will."""
    return RECORDS / f"{set_name}--{sensor}--{seed}.json"


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
    seconds = sum(read_run(run).training["seconds"] for run in (before, after))
    result = score(predictor, dataset, make_split(dataset, kind, seed, config.tokens.window_px), "patterns")
    rows = [{k: v for k, v in row.items() if k not in LEFT_OUT} for row in result["patterns"]]
    counts = {"before": read_run(before).parameters, "after": read_run(after).parameters}
    result = {**result, "patterns": rows, "parameters": counts, "sensor": sensor}
    command = f"python benchmarks/study_later.py {set_name}/{sensor} --seed {seed}"
    record = make_record("mamol, extended", config.model_dump(mode="json"), result, dataset.provenance, seconds, command)
    write_record(record_of(set_name, sensor, seed), record)
    shutil.rmtree(work)
    print(f"{set_name}/{sensor} {seed}: mean OA {result['mean_oa']:.1f}", flush=True)


def read_later() -> dict[tuple[str, str], dict[int, list[dict[str, Any]]]]:
    """Read every record: (set, sensor) -> seed -> the rows of its patterns."""
    out: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for path in sorted(RECORDS.glob("*.json")):
        name, sensor, seed = path.stem.split("--")
        rows = json.loads(path.read_text(encoding="utf-8"))["result"]["patterns"]
        out.setdefault((name, sensor), {})[int(seed)] = rows
    return out


def later_table(study: Study) -> str:
    """What a later sensor gains on what was there, and what it lacks on having been there from the start."""
    heads = ("seeds", "without it: from the start", "with it: gained", "with it: from the start", "it alone: from the start")
    rows = [f"| set | sensor | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for (name, sensor), runs in read_later().items():
        start = study.get((name, "mamol", "patterns"), {})
        gains = [gains_of(_oa(runs[s]), _oa(start[s]["patterns"]), sensor) for s in sorted(set(runs) & set(start))]
        cells = [signed(mean_interval(column)) for column in zip(*gains, strict=True)]
        if cells:
            rows.append(f"| {name} | {sensor} | {len(gains)} | {' | '.join(cells)} |")
    note = (
        "Points of OA, mean over patterns, paired by seed, with 95 % intervals. MaMOL is trained without the sensor, then "
        "extended by it (`mamol train --extend`), all of before frozen. Without it: the patterns that lack it, which an "
        "extension leaves as they were to the bit, minus those of MaMOL that had the sensor from the start. With it, gained: "
        "the patterns of some others and it, minus the same without it. From the start: minus MaMOL that had it from the start. "
        "Both trainings have the steps of the set each. Where a sensor has holes, patterns are tested on the places that have "
        "some of them. `python benchmarks/study_later.py SET/SENSOR --seed N`."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No record yet (`python benchmarks/study_later.py SET/SENSOR`)."


Row = dict[frozenset[str], float]
"""The OA of every pattern of a run."""


def gains_of(later: Row, start: Row, sensor: str) -> list[float]:
    """Return the four differences of the table for one seed."""

    def mean(row: Row, wanted: Sequence[frozenset[str]]) -> float:
        return sum(row[p] for p in wanted) / len(wanted)

    old, alone = [p for p in later if sensor not in p], frozenset({sensor})
    new = [p | alone for p in old]
    return [
        mean(later, old) - mean(start, old),
        mean(later, new) - mean(later, old),
        mean(later, new) - mean(start, new),
        later[alone] - start[alone],
    ]


def _oa(rows: Sequence[dict[str, Any]]) -> Row:
    return {frozenset(r["present"]): r["oa"] for r in rows}


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
