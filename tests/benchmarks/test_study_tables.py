"""Tables of the study compare methods over the same seeds only, and a figure without a record is refused."""

from __future__ import annotations

from typing import Any

import pytest
import study_tables
from study_cells import names_of
from study_tables import Study, by_pattern, difference, loose_numbers, mean_rates, with_values


def result(oa: float, **more: Any) -> dict[str, Any]:
    rows = [{"present": p.split("+"), "oa": oa + i, "aa": oa, "ece": 1.0} for i, p in enumerate(("s1+s2", "s1", "s2"))]
    return {
        "patterns": rows,
        "mean_oa": oa + 1,
        "mean_aa": oa,
        "worst_oa": oa,
        "confidence_rise": 1.0,
        "counter_intuitive": 1.0,
    } | more


@pytest.fixture
def study() -> Study:
    return {
        ("mfeat", "mamol", "patterns"): {0: result(60.0), 1: result(80.0)},
        ("mfeat", "lora", "patterns"): {1: result(78.0)},
        ("mfeat", "full", "patterns"): {2: result(99.0)},
        ("mfeat", "mamol", "unseen"): {1: result(77.0, held_out=["s1", "s2"])},
    }


def test_every_set_and_method_has_its_place() -> None:
    assert sorted(study_tables.SETS) == names_of("sets")
    assert sorted(study_tables.METHODS) == sorted(names_of("methods"))


def test_differences_are_over_shared_seeds(study: Study) -> None:
    found = difference(study, "mfeat", "mamol", "lora", "mean_oa")
    assert found is not None
    assert (found.mean, found.n) == (2.0, 1)
    assert difference(study, "mfeat", "mamol", "full", "mean_oa") is None


def test_heat_maps_are_over_shared_seeds(study: Study) -> None:
    labels, rows = by_pattern(study, "mfeat", ["mamol", "lora"])
    assert labels == ["s1+s2", "s1", "s2"]
    assert rows == [[70.0, 71.0, 72.0], [-2.0, -2.0, -2.0]]


def test_unseen_patterns_are_held_against_having_seen_them(study: Study) -> None:
    line = next(r for r in study_tables.trust_table(study).splitlines() if r.startswith("| mfeat | mamol"))
    assert "-3.0 (1 seed)" in line


def test_figures_in_prose_come_from_records(study: Study) -> None:
    text = "ahead by <!-- value mfeat mamol--lora worst_oa -->?<!-- end --> points"
    assert with_values(text, study) == "ahead by <!-- value mfeat mamol--lora worst_oa -->+2.0 (1 seed)<!-- end --> points"
    with pytest.raises(SystemExit, match="names mfeat mamol--full worst_oa; there is no record"):
        with_values(text.replace("lora", "full"), study)
    assert loose_numbers(f"{text}, `1.5` of 2405.00361, and 7.3 more") == ["7.3"]


def test_rates_average_the_seeds_of_one_rate_of_training() -> None:
    def run(oa: float) -> dict[str, Any]:
        kinds = [{"kind": kind, "rate": rate, "oa": oa - rate} for kind in ("s1", "both") for rate in (0.0, 0.5)]
        return {"rates": [*kinds[:2], *({**k, "oa": k["oa"] + 10} for k in kinds[2:])]}

    found = mean_rates({("mfeat", "lora", "rate-0.3"): {0: run(60.0), 1: run(62.0)}}, "mfeat")
    assert found == {("lora", "0.3"): [(0.0, 71.0), (0.5, 70.5)]}
