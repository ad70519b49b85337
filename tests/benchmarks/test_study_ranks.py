"""Mean ranks over data sets, against examples worked out by hand."""

from __future__ import annotations

from math import exp

import pytest
import study_ranks
from study_ranks import critical_difference, friedman, mean_ranks, over_sets, ranks_table
from study_records import Study

SCORES = {
    "worldcereal-canada-long": {"mamol": 60.0, "lora": 59.0, "dense": 58.0},
    "mfeat": {"mamol": 98.0, "lora": 98.5, "dense": 97.0},
    "idtrees": {"mamol": 50.0, "lora": 50.0, "dense": 48.0},
}


def study_of(scores: dict[str, dict[str, float]]) -> Study:
    return {
        (name, method, "patterns"): {seed: dict.fromkeys(("mean_oa", "mean_aa", "worst_oa"), value + seed) for seed in range(3)}
        for name, methods in scores.items()
        for method, value in methods.items()
    }


def test_ranks_are_averaged_over_sets_and_equals_share_one() -> None:
    ranks = mean_ranks(study_of(SCORES), list(SCORES), ["mamol", "lora", "dense"], "mean_oa")
    assert ranks == pytest.approx({"mamol": (1 + 2 + 1.5) / 3, "lora": (2 + 1 + 1.5) / 3, "dense": 3.0})


def test_a_mean_is_over_the_seeds_that_all_share() -> None:
    study = study_of(SCORES)
    study["mfeat", "dense", "patterns"][3] = dict.fromkeys(("mean_oa", "mean_aa", "worst_oa"), 500.0)
    assert mean_ranks(study, list(SCORES), ["mamol", "lora", "dense"], "mean_oa")["dense"] == 3.0


def test_friedman_and_nemenyi() -> None:
    alike = {name: {"mamol": 3.0, "lora": 2.0, "dense": 1.0} for name in ("a", "b", "c", "d")}
    # The same order on four sets: chi square 12 * 4 / (3 * 4) * (1 + 4 + 9 - 12) = 8 with two degrees of freedom.
    assert friedman(study_of(alike), list(alike), ["mamol", "lora", "dense"], "mean_oa") == pytest.approx(exp(-4))
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)  # Demšar's own example


def test_a_set_counts_once_however_many_seeds_it_has() -> None:
    study = study_of(SCORES)
    study["mfeat", "mamol", "patterns"] = {s: {"mean_oa": 98.0 + s} for s in range(10)}
    # +1, -0.5 and 0: mean 1/6, deviation 0.764, times 4.303 / sqrt(3).
    assert over_sets(study, list(SCORES), "lora", "mean_oa") == "+0.2 [-1.7, +2.1]"
    assert over_sets(study, ["mfeat"], "lora", "mean_oa") == "-0.5"


def test_who_is_first_without_one_of_the_sets_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_ranks, "MOST", 3)
    # Ranks of mamol 1, 2, 1.5 and of lora 2, 1, 1.5: level without idtrees.
    said = ranks_table(study_of(SCORES)).split("when one set is left out: ")[1]
    assert said == "`lora` without worldcereal-canada-long; `mamol` without mfeat; `mamol` and `lora` without idtrees."


def test_only_what_has_run_on_all_sets_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_ranks, "MOST", 3)
    study = study_of(SCORES)
    del study["idtrees", "dense", "patterns"][0]
    table = ranks_table(study)  # idtrees has two methods left with three seeds
    assert [row.split(" | ")[0] for row in table.splitlines()[2:5]] == ["| mamol", "| lora", "| dense"]
    assert "Of worldcereal-canada-long, mfeat:" in table
    assert ranks_table({}).startswith("Too few sets")
