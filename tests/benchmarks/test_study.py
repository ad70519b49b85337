"""A cell trains, is scored and leaves one record; a grid goes on after a cell that fails; a record can be checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import study
import study_cells
import study_trials
from study_cells import Cell

from made import made_samples, made_scene, tiny_config
from mamol.config import Config
from mamol.errors import ConfigError

Grid = Callable[..., str]


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Grid:
    """Run the study's command on a made scene with tiny settings, its files in a folder of their own."""

    def settings(cell: Cell, modalities: object, overrides: object = ()) -> Config:
        if cell.method == "dense":
            raise ConfigError("no such thing.")
        return tiny_config(experts={"n_dynamic": 0} if cell.method == "lora" else {}, train={"steps": 4, "eval_every": 2})

    monkeypatch.setattr(study, "config_of", settings)
    monkeypatch.setattr(study, "load_dataset", lambda name: made_scene())
    monkeypatch.setattr(study, "WORK", tmp_path / "work")
    monkeypatch.setattr(study_cells, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study_trials, "TRIALS", tmp_path / "results" / "trials")
    monkeypatch.setattr(study, "HERE", tmp_path / "here")
    (tmp_path / "results").mkdir()

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["study.py", *words, "--seed", "0"])
        study.main()
        return capsys.readouterr().out

    return run


def test_one_cell_one_record(grid: Grid, tmp_path: Path) -> None:
    assert "embedded--mamol--patterns--0: mean_oa" in grid("embedded/mamol")
    record = tmp_path / "results" / "embedded--mamol--patterns--0.json"
    neighbour = tmp_path / "work" / "again embedded--mamol--patterns--01"  # another process's, of a seed that begins alike
    neighbour.mkdir()
    tree, before = json.loads(record.read_text()), record.read_bytes()
    assert tree["command"] == "python benchmarks/study.py embedded/mamol --seed 0"
    assert tree["config"]["backbone"]["path"] == ""
    assert len(tree["result"]["patterns"]) == len(tree["result"]["activation"]["patterns"]) == 7
    assert "confusion" not in tree["result"]["patterns"][0]
    assert "has a record" in grid("embedded/mamol")
    again = grid("embedded/mamol", "--again")
    mean = f"{tree['result']['mean_oa']:.2f}"
    assert f"mean_oa {mean}, again {mean}" in again
    assert record.read_bytes() == before
    assert [f.name for f in (tmp_path / "work").iterdir() if "again" in f.name] == [neighbour.name]


def test_methods_share_a_backbone_and_protocols_a_network(grid: Grid, tmp_path: Path) -> None:
    grid("embedded/mamol", "embedded/lora")
    assert sorted(f.name for f in (tmp_path / "work" / "backbones").iterdir()) == ["embedded-0", "embedded-0.key"]
    run = tmp_path / "work" / "embedded--lora--patterns--0" / "mamol.json"
    trained = run.stat().st_mtime_ns
    grid("embedded/lora", "--protocol", "degraded")
    assert run.stat().st_mtime_ns == trained
    tree = json.loads((tmp_path / "results" / "embedded--lora--degraded--0.json").read_text())
    assert {row["kind"] for row in tree["result"]["rows"]} == {"noise", "bias", "shift"}


def test_methods_of_one_network_a_pattern_share_them(grid: Grid, tmp_path: Path) -> None:
    def trained() -> dict[str, int]:
        return {f.parent.name: f.stat().st_mtime_ns for f in (tmp_path / "work").glob("*--alone--*/mamol.json")}

    grid("embedded/networks")
    before = trained()
    assert len(before) == 7
    grid("embedded/ensemble", "embedded/fill-mean")
    assert trained() == before
    records = [json.loads(f.read_text())["result"] for f in sorted((tmp_path / "results").iterdir())]
    assert [r["networks"] for r in records] == [3, 1, 7]
    assert [len(r["training"]) for r in records] == [3, 1, 7]
    assert len({t["backbone_hash"] for r in records for t in r["training"].values()}) == 1


def test_an_average_is_of_networks_that_share_a_test_part_alone(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "load_dataset", lambda name: made_samples(400))
    grid("worldcereal-canada/mamol", "worldcereal-canada/members")
    alone, average = (
        json.loads((tmp_path / "results" / f"worldcereal-canada--{m}--patterns--0.json").read_text())["result"]
        for m in ("mamol", "members")
    )
    first, *others = average["training"].values()
    assert average["networks"] == 3
    assert average["parameters"] == {k: 3 * n for k, n in alone["parameters"].items()}
    assert average["split_hash"] == alone["split_hash"]
    assert {k: first[k] for k in ("best_score", "best_step")} == {k: alone["training"][k] for k in ("best_score", "best_step")}
    assert len({t["best_score"] for t in (first, *others)}) == 3  # each validates on a part of its own


def test_a_cell_that_fails_does_not_stop_the_grid(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"study\.py embedded/dense --seed 0: no such thing"):
        grid("embedded/dense", "embedded/lora")
    assert [f.name for f in (tmp_path / "results").iterdir()] == ["embedded--lora--patterns--0.json"]


def test_a_cell_is_run_by_one_process(grid: Grid, tmp_path: Path) -> None:
    with study.locked("embedded--lora--patterns--0", wait=False):
        assert grid("embedded/lora") == "embedded--lora--patterns--0 is being run by another process\n"
    assert list((tmp_path / "results").iterdir()) == []
    assert "mean_oa" in grid("embedded/lora")


def test_few_labels_are_tested_on_the_whole_test_part(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load_dataset", lambda name: made_samples(400))
    grid("worldcereal-canada/lora", "worldcereal-canada/forest")
    grid("worldcereal-canada/lora", "worldcereal-canada/forest", "--protocol", "labels-0.3")
    for method in ("lora", "forest"):
        few, whole = (
            json.loads((tmp_path / "results" / f"worldcereal-canada--{method}--{p}--0.json").read_text())["result"]
            for p in ("labels-0.3", "patterns")
        )
        assert 70 < sum(few["labels"].values()) < 110  # of 300 outside the test part
        assert "labels" not in whole
        tested = [[(p["present"], p["n"]) for p in r["patterns"]] for r in (few, whole)]
        assert tested[0] == tested[1]
    assert few["mean_oa"] < whole["mean_oa"]  # of the forest; the made network learns next to nothing in its four steps


def test_a_split_at_random_says_what_it_leaks(grid: Grid, tmp_path: Path) -> None:
    grid("embedded/lora", "embedded/forest", "--protocol", "random")
    for method in ("lora", "forest"):
        found = json.loads((tmp_path / "results" / f"embedded--{method}--random--0.json").read_text())
        assert found["command"] == f"python benchmarks/study.py embedded/{method} --seed 0 --protocol random"
        result = found["result"]
        assert (result["split"], result["protocol"]) == ("random", "patterns")
        assert result["overlap"]["percent"] > 50
        assert result["labels"]["train"] > result["labels"]["validation"] > 0


def test_validation_leaves_a_trial(grid: Grid, tmp_path: Path) -> None:
    assert "embedded/lora 0 : " in grid("embedded/lora", "--validate")
    (trial,) = (tmp_path / "results").rglob("*.json")
    before = trial.read_bytes()
    tree = json.loads(before)
    assert trial == tmp_path / "results" / "trials" / "embedded--lora--patterns--0--as_it_is.json"
    assert tree["command"] == "python benchmarks/study.py embedded/lora --seed 0 --validate"
    assert tree["training"]["rows"][-1]["step"] == 4
    assert "result" not in tree
    assert "as_it_is.json is there" in grid("embedded/lora", "--validate")
    assert "embedded/lora 0 : " in grid("embedded/lora", "--validate", "--again")
    assert trial.read_bytes() == before
    assert "experts.scale=8: " in grid("embedded/lora", "--validate", "--set", "experts.scale=8")
    assert len(list((tmp_path / "results").rglob("*.json"))) == 2
    assert sorted(f.name for f in (tmp_path / "work").iterdir()) == ["backbones", "locks"]
    with pytest.raises(SystemExit, match="'ensemble' is not one network with a validation score"):
        grid("embedded/ensemble", "--validate")
    for protocol in ("rate-0.5", "random"):
        with pytest.raises(SystemExit, match=rf"--validate trains on the set's own split, all labels .* knows no {protocol}\."):
            grid("embedded/lora", "--validate", "--protocol", protocol)
