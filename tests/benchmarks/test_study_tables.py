"""Tables of the study say what its records say."""

from __future__ import annotations

from typing import Any

import study_conditions
import study_tables
from study_records import Study

from study_made import made_study, result


def test_unseen_patterns_are_held_against_having_seen_them() -> None:
    study = made_study()
    line = next(r for r in study_conditions.trust_table(study).splitlines() if r.startswith("| mfeat | mamol"))
    assert "-3.0 (1 seed)" in line


def test_the_verdict_needs_three_seeds_and_an_interval_beyond_zero() -> None:
    seen = {"mamol": (60, 61, 62), "lora": (58, 59.1, 60), "full": (61.5, 61, 62), "head": (10, 10)}
    study: Study = {
        ("mfeat", m, "patterns"): {s: {"mean_oa": v, "mean_aa": 9 - v} for s, v in enumerate(values)}
        for m, values in seen.items()
    }
    rows = [r for r in study_tables.verdict_table(study).splitlines() if r.startswith("| ")]
    assert rows[1:] == ["| lora | 1 | 1 (0) | 0 | 0 | 0 | 0 | 1 (0) |", "| full | 1 | 0 | 1 (0) | 0 | 0 | 1 (0) | 0 |"]


def test_the_verdict_corrects_for_seeds_that_resample_one_data_set() -> None:
    ours, lora, head = (51.0, 51.0, 52.0, 50.0, 51.0), (50.0,) * 5, (10.0,) * 5
    values = {"mamol": ours, "lora": lora, "head": head}
    study: Study = {
        ("idtrees", m, "patterns"): {s: {"mean_oa": v, "mean_aa": 40.0} for s, v in enumerate(some)} for m, some in values.items()
    }
    table = study_tables.verdict_table(study)  # [+0.1, +1.9], corrected [-0.5, +2.5]
    assert "| lora | 1 | 1 (0) | 0 (1) | 0 | 0 | 1 (1) | 0 |" in table
    assert "| head | 1 | 1 (1) | 0 | 0 | 0 | 1 (1) | 0 |" in table
    assert "Over the paradigms, 1 of 2 intervals say ahead and 0 behind, corrected 0 and 0" in table
    assert "Over the other methods, 1 of 2 intervals say ahead and 0 behind, corrected 1 and 0" in table


def test_the_made_scene_is_not_counted_as_evidence() -> None:
    runs = {m: {s: {"mean_oa": v, "mean_aa": v} for s in range(3)} for m, v in (("mamol", 60.0), ("lora", 50.0))}
    study: Study = {("embedded", m, "patterns"): found for m, found in runs.items()}
    assert "| lora |" not in study_tables.verdict_table(study)
    assert "| lora | 1 | 1 (0) |" in study_tables.verdict_table(study | {("mfeat", m, "patterns"): r for m, r in runs.items()})


def trained(oa: float, score: float, best: int, *steps: int) -> dict[str, Any]:
    return result(oa, training={"best_score": score, "best_step": best, "rows": [{"step": s} for s in steps]})


def test_the_validation_score_stands_beside_the_test() -> None:
    study: Study = {
        ("mfeat", "mamol", "patterns"): {s: trained(60.0, 50.0, 200, 100, 200) for s in range(2)},
        ("mfeat", "lora", "patterns"): {s: trained(61.0, 47.5, 200, 100, 200) for s in range(2)},
        ("mfeat", "forest", "patterns"): {0: result(61.0)},
    }
    for runs in study.values():
        runs[0]["parameters"] = {"experts": 9}
    last = {r.split(" | ")[0]: r.split(" | ")[-1] for r in study_tables.main_table(study).splitlines() if r.startswith("| ")}
    assert (last["| lora"], last["| forest"], last["| mamol"]) == ("+2.5 (2 seeds) |", "- |", " |")


def test_how_many_runs_had_finished_learning() -> None:
    study: Study = {
        ("mfeat", "mamol", "patterns"): {0: trained(60.0, 1.0, 300, 100, 200, 300), 1: trained(60.0, 1.0, 200, 100, 200, 300)},
        ("mfeat", "lora", "patterns"): {0: trained(60.0, 1.0, 100, 100, 200, 300)},
        ("mfeat", "forest", "patterns"): {0: result(60.0)},
    }
    (row,) = [r for r in study_tables.steps_table(study).splitlines() if r.startswith("| mfeat")]
    assert row == "| mfeat | 600 | 100 | 3 | 1 | 2 |"


def test_a_data_set_is_told_once() -> None:
    def runs(*counts: int) -> dict[int, dict[str, Any]]:
        rows = [{"present": ["s1", "s2"]}, {"present": ["s1"]}, {"present": ["s2"]}]
        return {i: {"classes": ["a", "b"], "patterns": [{**rows[0], "n": n}, *rows[1:]]} for i, n in enumerate(counts)}

    study: Study = {
        ("worldcereal-canada", "mamol", "patterns"): runs(800, 1200, 900),
        ("worldcereal-galileo", "mamol", "patterns"): runs(1),
        ("mfeat", "mamol", "patterns"): runs(7, 7),
    }
    assert study_tables.data_table(study).splitlines()[2:] == [
        f"| worldcereal-canada | {study_tables.ABOUT['worldcereal-canada']} | s1, s2 | 2 | 3 | 800 to 1,200 |",
        f"| mfeat | {study_tables.ABOUT['mfeat']} | s1, s2 | 2 | 3 | 7 |",
    ]


def test_the_front_table_is_over_the_seeds_that_all_have() -> None:
    runs = {s: {"mean_oa": 50.0 + s, "mean_aa": 40.0, "worst_oa": 30.0} for s in range(4)}
    study: Study = {("idtrees", "mamol", "patterns"): runs, ("idtrees", "lora", "patterns"): {s: runs[s] for s in (1, 3)}}
    rows = [r for r in study_tables.front_table(study).splitlines() if r.startswith("| tree species (idtrees)")]
    assert [r.split(" | ")[1:4] for r in rows] == [[w, "2", "52.0 (2 seeds)"] for w in ("MaMOL", "LoRA, equal weights")]


def test_over_ground_only_seeds_that_count_per_group() -> None:
    counts = {"id": [0, 1, 2], "n": [10, 10, 20]}
    study: Study = {
        ("mfeat", "mamol", "patterns"): {s: result(80.0, groups=counts | {"right": [9, 8, 16]}) for s in (0, 1)},
        ("mfeat", "lora", "patterns"): {0: result(78.0), 1: result(78.0, groups=counts | {"right": [7, 8, 16]})},
    }
    (row,) = [r for r in study_tables.ground_table(study).splitlines() if r.startswith("| mfeat")]
    # Two more right of 40; a draw may miss the group that won, or hold nothing else.
    assert row.startswith("| mfeat | lora | 1 | +5.0 | - | 3 | [+0.0, +")
    assert "No record" in study_tables.ground_table({})


def test_the_correction_is_shown_from_the_fifth_seed_on() -> None:
    def runs(*values: float) -> dict[int, dict[str, float]]:
        return {s: {"mean_oa": v, "mean_aa": 40.0, "worst_oa": 30.0} for s, v in enumerate(values)}

    ours, lora, full = (51.0, 51.0, 52.0, 50.0, 51.0), (50.0,) * 5, (50.0,) * 4
    study: Study = {("idtrees", m, "patterns"): runs(*v) for m, v in (("mamol", ours), ("lora", lora), ("full", full))}
    rows = [r for r in study_tables.resampled_table(study).splitlines() if r.startswith("| idtrees")]
    # 2.776 * sqrt(1/2) * sqrt(1/5) = 0.88, and with 1/5 + 5/12 1.54.
    assert rows[0] == "| idtrees | lora | 5 | mean OA | +1.0 | [+0.1, +1.9] | [-0.5, +2.5] |"
    assert {r.split(" | ")[1] for r in rows} == {"lora"}


def test_holes_are_held_against_nothing_wrong_on_the_same_seeds() -> None:
    rows = [{"kind": "noise", "step": 1, "n": 5, "n_hidden": 0, "oa": 50.0, "oa_hidden": None}]
    study: Study = made_study() | {
        ("mfeat", "mamol", "degraded"): {1: {"rows": rows}},
        ("mfeat", "lora", "degraded"): {7: {"rows": rows}},
    }
    lines = study_conditions.faults_table(study).splitlines()
    assert lines[2:6] == [
        "| what | mamol (1 seed) | lora (1 seed) |",
        "|---|---:|---:|",
        "| nothing wrong | 80.0 | - |",
        "| noise 1 | 50.0 | 50.0 |",
    ]
