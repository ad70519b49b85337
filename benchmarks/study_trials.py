"""Trials on the validation part: a cell with some settings changed, one small record each, and the table of all of them.

    python benchmarks/study.py mfeat/lora --seed 0 --validate --set train.distill=0.5
    -> results/trials/mfeat--lora--patterns--0--train.distill=0.5.json

A trial says how the choice of a default came about; the test part is not looked at.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study_cells import HERE, Cell
from study_records import METHODS, SETS, Study, shown, signed

from mamol.evaluate.interval import paired_interval
from mamol.evaluate.record import environment
from mamol.files import write_json

TRIALS = HERE / "results" / "trials"
AS_IT_IS = "as it is"
"""What a trial without changed settings is called; a cell's record has the same score, where it has a record."""


def trial_path(cell: Cell, overrides: Sequence[str]) -> Path:
    """Return where the record of a trial lies, or will."""
    name = " ".join(sorted(overrides)) or AS_IT_IS
    return TRIALS / f"{cell.stem}--{name.replace('/', '_').replace(' ', '_')}.json"


def write_trial(cell: Cell, overrides: Sequence[str], training: dict[str, Any]) -> Path:
    """Write the record of a trial and return its path; raises OutputExists if there is one."""
    words = [*cell.command.split(), "--validate", *(w for o in overrides for w in ("--set", o))]
    path = trial_path(cell, overrides)
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = {
        "trial": 1,
        "set": cell.set_name,
        "method": cell.method,
        "protocol": cell.protocol,
        "seed": cell.seed,
        "overrides": sorted(overrides),
        "training": training,
        "environment": environment(),
        "command": shlex.join(words),
    }
    write_json(path, tree, overwrite=False)
    return path


def read_trials() -> dict[tuple[str, str, str], dict[int, float]]:
    """Read every trial of the protocol `patterns`: (set, method, overrides joined by spaces) -> seed -> its best score."""
    out: dict[tuple[str, str, str], dict[int, float]] = {}
    for path in sorted(TRIALS.glob("*.json")):
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["protocol"] == "patterns":
            key = tree["set"], tree["method"], " ".join(tree["overrides"]) or AS_IT_IS
            out.setdefault(key, {})[tree["seed"]] = tree["training"]["best_score"]
    return out


def trials_table(study: Study) -> str:
    """Every trial, and what it has over the cell as it is, paired by seed."""
    trials = read_trials()
    rows = ["| set | method | changed | score | minus as it is |", "|---|---|---|---:|---:|"]
    for name, method, changed in sorted(trials, key=lambda k: (SETS.index(k[0]), _place(k[1]), k[2])):
        ours, before = trials[name, method, changed], _as_it_is(study, name, method) | trials.get((name, method, AS_IT_IS), {})
        seeds = sorted(set(ours) & set(before)) if changed != AS_IT_IS else []
        over = signed(paired_interval([ours[s] for s in seeds], [before[s] for s in seeds]) if seeds else None)
        rows.append(f"| {name} | {method} | `{changed}` | {shown(list(ours.values()))} | {over} |")
    note = (
        "On the validation part, mean over patterns of (OA + AA) / 2, percent, at the step that is best by it; the difference "
        "is paired by seed, with a 95 % interval from three seeds on. A score that is the best of a run's own evaluations is a "
        "little too good, most of all of many. `python benchmarks/study.py SET/METHOD --seed N --validate --set CHANGED`."
    )
    return "\n".join([*rows, "", note]) if trials else "No trial has a record yet."


def _place(method: str) -> tuple[int, str]:
    """Order methods as in the other tables, ablations after them."""
    return (METHODS.index(method) if method in METHODS else len(METHODS)), method


def _as_it_is(study: Study, name: str, method: str) -> dict[int, float]:
    """Return seed -> validation score of a cell, from its records."""
    runs = study.get((name, method, "patterns"), {})
    return {s: r["training"]["best_score"] for s, r in runs.items() if "best_score" in r.get("training", {})}
