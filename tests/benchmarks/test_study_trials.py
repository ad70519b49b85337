"""A trial is a record of a validation score; the table holds it against the cell as it is, on the same seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import study_trials
from study_cells import Cell
from study_trials import trial_path, trials_table, write_trial

from mamol.errors import OutputExists
from study_made import made_study


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(study_trials, "TRIALS", tmp_path / "trials")
    return tmp_path / "trials"


def test_a_trial_says_how_to_make_it_again_and_is_never_replaced(folder: Path) -> None:
    cell, changed = Cell("mfeat", "lora", 1), ["train.lr=3e-4", "backbone.path=a/b"]
    path = write_trial(cell, changed, {"best_score": 50.0})
    assert path == folder / "mfeat--lora--patterns--1--backbone.path=a_b_train.lr=3e-4.json"
    assert path == trial_path(cell, changed[::-1])
    tree = json.loads(path.read_text())
    assert tree["command"] == (
        "python benchmarks/study.py mfeat/lora --seed 1 --validate --set train.lr=3e-4 --set backbone.path=a/b"
    )
    assert tree["overrides"] == ["backbone.path=a/b", "train.lr=3e-4"]
    with pytest.raises(OutputExists):
        write_trial(cell, changed, {"best_score": 60.0})


def test_the_table_pairs_a_trial_with_the_cell_as_it_is_by_seed() -> None:
    study = made_study()
    assert trials_table(study) == "No trial has a record yet."
    study["mfeat", "lora", "patterns"] = {s: {"training": {"best_score": 40.0 + s}} for s in (0, 1, 2)}
    for seed in (1, 2, 3):
        write_trial(Cell("mfeat", "lora", seed), ["train.lr=3e-4"], {"best_score": 50.0 + seed})
    assert "| mfeat | lora | `train.lr=3e-4` | 52.0 ± 2.5 | +10.0 (2 seeds) |" in trials_table(study)
    write_trial(Cell("mfeat", "lora", 1, "unseen"), ["train.lr=3e-4"], {"best_score": 0.0})  # of other patterns: not beside them
    write_trial(Cell("mfeat", "lora", 3), [], {"best_score": 50.0})
    lines = trials_table(study).splitlines()
    assert "| mfeat | lora | `as it is` | 50.0 (1 seed) | - |" in lines
    assert any("| +7.7 [-2.4, +17.7] |" in line for line in lines)
