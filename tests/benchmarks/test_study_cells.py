"""The study compares methods fairly: one budget of weights, settings that every method shares, records that are found."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import study_cells
from study_cells import Cell, ablated, cells, config_of, names_of, read_method, read_set, unseen_by

from mamol.config import ExpertConfig
from mamol.configs import load_config
from mamol.modality import patterns
from mamol.model.experts import ExpertBank

SENSORS = ("s1", "s2", "aux")


def scales(config: ExpertConfig) -> list[float]:
    return ExpertBank(4, 4, config.ranks(3), config).column_scale.tolist() if config.ranks(3) else []


@pytest.mark.parametrize(
    "method", [m for m in names_of("methods") if read_method(m).get("budget") and "experts" in read_method(m)]
)
def test_every_paradigm_has_the_rank_of_the_default_mixture(method: str) -> None:
    ours, theirs = (config_of(Cell("worldcereal-canada", m, 0), SENSORS).experts for m in ("mamol", method))
    total = sum(ours.ranks(3))
    assert total == 16 + 3 * 4 + 2 * 4
    if theirs.tied:  # one A and n B
        assert theirs.rows(3) + sum(theirs.ranks(3)) == pytest.approx(2 * total, abs=3)
    else:
        assert sum(theirs.ranks(3)) == pytest.approx(total, abs=3)
    assert set(scales(theirs)) == {4.0}


@pytest.mark.parametrize("set_name", names_of("sets"))
def test_methods_differ_in_nothing_but_their_own_file(set_name: str) -> None:
    ours = config_of(Cell(set_name, "mamol", 0), SENSORS).model_dump()
    for method in set(names_of("methods")) - set(read_set(set_name).get("without", [])):
        tree = read_method(method)
        if "baseline" in tree:
            continue
        theirs = config_of(Cell(set_name, method, 0), SENSORS).model_dump()
        named = {*tree, *read_set(set_name).get("own", {}).get(method, {}), *(["experts"] if "budget" in tree else [])}
        assert {section for section in ours if ours[section] != theirs[section]} <= named, method


@pytest.mark.parametrize(
    ("set_name", "file"), [("worldcereal-galileo", "worldcereal-canada/galileo"), ("fashion-products", "fashion-products/vit")]
)
@pytest.mark.parametrize("method", ["mamol", "lora", "full", "head"])
def test_earlier_records_had_the_settings_of_the_cell(set_name: str, file: str, method: str) -> None:
    cell = config_of(Cell(set_name, method, 0), SENSORS)
    before = load_config(study_cells.HERE / "experiments" / f"{file}-{method}.toml")
    assert cell.experts.ranks(3) == before.experts.ranks(3)
    assert scales(cell.experts) == pytest.approx(scales(before.experts))
    same = {"experts": cell.experts, "train": cell.train.model_copy(update={"eval_every": before.train.eval_every})}
    assert cell.model_copy(update=same) == before.model_copy(update={"experts": cell.experts})
    wanted = before.model_dump(mode="json")
    wanted["train"].pop("eval_every")  # how often it is looked at, not what is trained
    for seed in range(5):
        record = Cell(set_name, method, seed).record
        assert record.parent == study_cells.HERE / "results"
        had = json.loads(record.read_text(encoding="utf-8"))["config"]  # of an older scheme: it lacks what was not there yet
        both = [(s, k) for s, tree in had.items() for k in tree if k in wanted.get(s, {})]
        assert len(both) > 40
        assert [(s, k) for s, k in both if had[s][k] != wanted[s][k]] == []


def test_an_ablation_changes_the_method_that_it_is_of_and_nothing_else() -> None:
    for name in names_of("ablations"):
        ours, theirs = (config_of(Cell("worldcereal-canada", m, 0), SENSORS) for m in (ablated(name), name))
        tree = tomllib.loads((study_cells.STUDY / "ablations" / f"{name}.toml").read_text(encoding="utf-8"))
        left = [(s, k) for s, tree_ in ours.model_dump().items() for k, v in tree_.items() if theirs.model_dump()[s][k] != v]
        assert sorted(left) == sorted((s, k) for s in tree.keys() - {"of", "members"} for k in tree[s]), name
        assert left or tree["members"]["count"] > 1, name  # the same network, several times
    assert [ablated("lora-scale-1"), ablated("no-dynamic")] == ["lora", "mamol"]
    scaled = config_of(Cell("worldcereal-canada", "hydra-scale-1", 0), SENSORS).experts
    assert scaled.tied
    assert set(scales(scaled)) == {1.0}


def test_trees_of_sets_with_the_same_data_are_fitted_once() -> None:
    trees = Cell("worldcereal-canada-long", "forest", 3)
    assert trees.record == Cell("worldcereal-canada", "forest", 3).record
    assert trees.command == "python benchmarks/study.py worldcereal-canada/forest --seed 3"
    assert Cell("worldcereal-canada-long", "lora", 3).record != Cell("worldcereal-canada", "lora", 3).record
    for name in names_of("sets"):
        home = read_set(Cell(name, "forest", 0).home)
        assert (home["dataset"], home["split"]) == (read_set(name)["dataset"], read_set(name)["split"])


def test_a_cell_knows_its_record_and_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("mfeat", "lora", 3, "unseen")
    assert cell.record.name == "mfeat--lora--unseen--3.json"
    assert cell.command == "python benchmarks/study.py mfeat/lora --seed 3 --protocol unseen"
    assert Cell("idtrees", "lora", 0, "pixel").run == Cell("idtrees", "lora", 0).run != Cell("idtrees", "lora", 0, "unseen").run
    monkeypatch.setattr(study_cells, "HERE", tmp_path)
    earlier = tmp_path / "results" / "fashion-products-vit-full-block-2.json"
    full = Cell("fashion-products", "full", 2)
    assert full.record.name == "fashion-products--full--patterns--2.json"
    earlier.parent.mkdir()
    earlier.touch()
    assert full.record == earlier
    assert Cell("fashion-products", "full", 2, "unseen").record != earlier


def test_unseen_patterns_leave_every_sensor_to_training() -> None:
    held = [unseen_by(seed, SENSORS) for seed in range(3)]
    assert sorted(pattern for some in held for pattern in some) == sorted("+".join(p) for p in patterns(SENSORS)[1:])
    assert config_of(Cell("mfeat", "mamol", 1, "unseen"), SENSORS).train.held_out == tuple(held[1])


def test_cells_are_listed_seed_by_seed() -> None:
    found = cells(["mfeat/lora", "mfeat/ablations"], [0, 1], "patterns")
    assert found[0] == Cell("mfeat", "lora", 0)
    assert [c.seed for c in found] == sorted(c.seed for c in found)
    assert {c.method for c in found} == {"lora", *names_of("ablations")}
    assert Cell("worldcereal-galileo", "prompts", 0) not in cells(["worldcereal-galileo"], [0], "patterns")
    galileo = {c.method for c in cells(["worldcereal-galileo/ablations"], [0], "patterns")}
    assert {"unweighted", "distillation"} <= galileo
    assert not {"no-shared", "lora-scale-1"} & galileo
    assert {c.set_name for c in cells(["forest"], [0], "labels-0.1")} == set(names_of("sets")) - set(study_cells.SCENES)
    with pytest.raises(SystemExit, match="no such set or method: mfaet/lora; sets bigearthnet"):
        cells(["mfaet/lora"], [0], "patterns")
