"""How many labels and how much rank: rows are over the seeds that both methods have."""

from __future__ import annotations

from study_amounts import budgets_table, labels_table
from study_records import Study

from study_made import result


def lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in r.strip("|").split("|")] for r in table.splitlines() if r.startswith("| mfeat")]


def test_every_share_of_the_labels_has_its_rows() -> None:
    few = {"labels": {"train": 40, "validation": 11}}
    study: Study = {
        ("mfeat", "mamol", "labels-0.1"): {0: result(50.0, **few), 1: result(52.0, **few), 2: result(54.0, **few)},
        ("mfeat", "lora", "labels-0.1"): {0: result(49.0, **few), 1: result(50.5, **few), 2: result(53.5, **few)},
        ("mfeat", "mamol", "patterns"): {0: result(60.0)},
        ("mfeat", "lora", "patterns"): {0: result(62.0)},
        ("mfeat", "full", "patterns"): {0: result(70.0)},
        ("idtrees", "forest", "labels-0.1"): {0: result(70.0)},
    }
    assert "idtrees" not in labels_table(study)
    found = lines(labels_table(study))
    assert [r[1:4] for r in found] == [
        ["10% (40 + 11)", "mamol", "3"],
        ["10% (40 + 11)", "lora", "3"],
        ["all", "mamol", "1"],
        ["all", "lora", "1"],
    ]
    assert found[0][4:] == ["53.0 ± 5.0", "52.0 ± 5.0", "", "", ""]
    assert found[1][6] == "+1.0 [-0.2, +2.2]"
    assert found[3][6] == "-2.0 (1 seed)"
    assert labels_table({}).startswith("No run has a record yet")


def test_mamol_and_one_lora_at_every_rank() -> None:
    weights = {"parameters": {"experts": 1200, "head": 34, "frozen": 9}}
    study: Study = {
        ("mfeat", "mamol", "patterns"): {s: result(60.0 + s, **weights) for s in range(3)},
        ("mfeat", "lora", "patterns"): {s: result(59.0 + s) for s in range(2)},
        ("mfeat", "quarter-rank", "patterns"): {0: result(50.0, **weights)},
        ("mfeat", "lora-quarter-rank", "patterns"): {0: result(51.0)},
        ("mfeat", "half-rank", "patterns"): {0: result(50.0, **weights)},
        ("idtrees", "mamol", "patterns"): {0: result(60.0, **weights)},
        ("idtrees", "lora", "patterns"): {0: result(60.0, **weights)},
    }
    found = lines(budgets_table(study))
    assert [r[1:4] for r in found] == [["a quarter", "1", "1,234"], ["the default", "2", "1,234"]]
    assert [r[6] for r in found] == ["-1.0 (1 seed)", "+1.0 (2 seeds)"]
    assert "idtrees" not in budgets_table(study)
    assert budgets_table({}).startswith("No run has a record yet")
