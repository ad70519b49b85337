"""A sensor that comes later: the four differences of the table, by hand, and what is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import study_conditions
from study_cells import Cell, config_of
from study_conditions import gains_of, later_table
from study_later import wanted_of
from study_records import Study

from mamol.config import Config
from mamol.evaluate.record import read_record

LATER = {"s1+aux": 70.0, "s1": 60.0, "aux": 30.0}
START = {"s1+aux": 72.0, "s1": 61.0, "aux": 36.0}


def rows(oa: dict[str, float]) -> list[dict[str, object]]:
    return [{"present": p.split("+"), "oa": v} for p, v in oa.items()]


def test_the_four_differences() -> None:
    later, start = ({frozenset(p.split("+")): v for p, v in oa.items()} for oa in (LATER, START))
    assert gains_of(later, start, "aux") == [-1.0, 10.0, -2.0, -6.0]


def test_a_row_is_over_the_seeds_that_both_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_conditions, "LATER", tmp_path)
    assert later_table({}).startswith("No record yet")
    for seed in (0, 1, 7):
        record = {"result": {"patterns": rows(LATER)}}
        (tmp_path / f"worldcereal-canada--aux--{seed}.json").write_text(json.dumps(record), encoding="utf-8")
    starts = {"mamol": {s: {"patterns": rows(START)} for s in (0, 1, 2)}, "double-steps": {1: {"patterns": rows(LATER)}}}
    study: Study = {("worldcereal-canada", m, "patterns"): runs for m, runs in starts.items()}
    (line,) = [r for r in later_table(study).splitlines() if r.startswith("| worldcereal-canada")]
    two = " | ".join(f"{v:+.1f} (2 seeds)" for v in (-1, 10, -2, -6))
    assert line == f"| worldcereal-canada | aux | 2 | {two} | +0.0 (1 seed) |"


def test_what_is_asked_for() -> None:
    assert wanted_of(["a", "b/s2"], lambda name: ("s1", "s2")) == [("a", "s1"), ("a", "s2"), ("b", "s2")]
    with pytest.raises(SystemExit, match="'a' has no sensor 's3'; it has s1, s2"):
        wanted_of(["a/s3"], lambda name: ("s1", "s2"))


def test_records_have_the_settings_that_they_would_have_today() -> None:
    wrong = []
    for path in sorted(study_conditions.LATER.glob("*.json")):
        name, sensor, seed = path.stem.split("--")
        record = read_record(path)
        earlier = [m for m in record["result"]["patterns"][0]["present"] if m != sensor]
        wanted = config_of(Cell(name, "mamol", int(seed)), earlier)
        command = f"python benchmarks/study_later.py {name}/{sensor} --seed {seed}"
        had = Config.model_validate(record["config"])  # keys that came later have the values of before
        if (had, record["command"]) != (wanted, command):
            wrong.append(path.name)
    assert wrong == []
