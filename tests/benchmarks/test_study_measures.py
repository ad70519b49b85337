"""Other measures, single classes and a split at random: what a row is over, and what is not shown."""

from __future__ import annotations

from typing import Any

from study_measures import classes_table, measures_table, random_table
from study_records import Study

from study_made import result


def lines(table: str, first: str) -> list[list[str]]:
    return [[cell.strip() for cell in r.strip("|").split("|")] for r in table.splitlines() if r.startswith(f"| {first}")]


def measured(kappa: float, nll: float) -> dict[str, Any]:
    return result(50.0, mean_kappa=kappa, mean_f1=kappa - 1, mean_nll=nll)


def test_measures_are_paired_by_seed_and_nll_has_two_decimals() -> None:
    study: Study = {
        ("mfeat", "mamol", "patterns"): {s: measured(40.0 + s, 1.0) for s in range(3)},
        ("mfeat", "lora", "patterns"): {s: measured(39.0 + s, 1.02 + s / 100) for s in range(3)},
        ("mfeat", "forest", "patterns"): {0: measured(30.0, 1.5)},
        ("mfeat", "head", "patterns"): {0: measured(20.0, 2.0)},
    }
    ours, lora, forest = lines(measures_table(study), "mfeat")
    assert ours[1:] == ["mamol", "3", "41.0 ± 2.5", "40.0 ± 2.5", "1.00", "", "", ""]
    assert lora[5:] == ["1.03", "+1.0 [+1.0, +1.0]", "+1.0 [+1.0, +1.0]", "-0.03 [-0.05, -0.01]"]
    assert forest[5:] == ["1.50", "+10.0 (1 seed)", "+10.0 (1 seed)", "-0.50 (1 seed)"]
    assert measures_table({}).startswith("No cell has a record yet")


def of_classes(wood: float, water: float | None) -> dict[str, Any]:
    whole = result(50.0, classes=["wood", "water"])
    for row in whole["patterns"]:
        row["per_class"] = {"wood": wood, "water": water}
    return whole


def test_classes_are_over_the_seeds_that_all_have_and_a_class_may_be_absent() -> None:
    study: Study = {
        ("idtrees", "mamol", "patterns"): {0: of_classes(10.0, None), 1: of_classes(30.0, 50.0), 2: of_classes(99.0, 99.0)},
        ("idtrees", "lora", "patterns"): {0: of_classes(20.0, None), 1: of_classes(20.0, 60.0)},
        ("mfeat", "mamol", "patterns"): {0: of_classes(1.0, 1.0)},
    }
    table = classes_table(study)
    assert "### idtrees (2 seeds)" in table
    assert "mfeat" not in table
    assert lines(table, "wood") == [["wood", "20.0", "20.0"]]
    assert lines(table, "water") == [["water", "50.0", "60.0"]]
    assert lines(classes_table({("idtrees", "mamol", "patterns"): {0: of_classes(10.0, None)}}), "water") == [["water", "-"]]
    assert classes_table({}).startswith("No cell has a record yet")


def drawn(oa: float, leak: float) -> dict[str, Any]:
    return result(oa, labels={"train": 80, "validation": 20}, overlap={"percent": leak})


def test_a_split_at_random_stands_beside_the_block_split() -> None:
    study: Study = {
        ("mfeat", "mamol", "patterns"): {s: result(60.0 + s) for s in range(3)},
        ("mfeat", "forest", "patterns"): {s: result(58.0 + s) for s in range(3)},
        ("mfeat", "forest", "random"): {s: drawn(85.0, 99.0) for s in range(2)},
        ("mfeat", "mamol", "random"): {0: drawn(80.0, 98.0)},
        ("worldcereal-canada-long", "forest", "patterns"): {0: result(58.0)},
        ("worldcereal-canada-long", "forest", "random"): {0: drawn(85.0, 99.0)},
        ("idtrees", "forest", "patterns"): {0: result(58.0)},
        ("idtrees", "forest", "random"): {0: drawn(85.0, 99.0)},
    }
    assert "worldcereal-canada-long" not in random_table(study)  # its trees are those of worldcereal-canada
    assert lines(random_table(study), "idtrees")[0][9:] == ["-", "-"]
    assert random_table({}).startswith("No run has a record yet")
    ours, forest = lines(random_table(study), "mfeat")
    assert ours[1:] == [
        "mamol", "1", "80 + 20", "98", "61.0 (1 seed)", "81.0 (1 seed)", "60.0 (1 seed)", "80.0 (1 seed)", "", "",
    ]  # fmt: skip
    assert forest[2:5] == ["2", "80 + 20", "99"]
    assert forest[9:] == ["+2.0 (1 seed)", "-5.0 (1 seed)"]
