"""Records of one seed are told apart by the backbone that they were trained beside."""

from __future__ import annotations

from typing import Any

from study_backbones import backbones_table
from study_records import Study


def trained(*hashes: str) -> dict[str, Any]:
    runs = [{"best_step": 1} | ({"backbone_hash": h} if h else {}) for h in hashes]
    return {"training": runs[0] if len(runs) == 1 else {str(i): run for i, run in enumerate(runs)}}


def test_a_seed_with_several_backbones_or_unknown_ones_is_listed() -> None:
    study: Study = {
        ("mfeat", "mamol", "patterns"): {0: trained("a"), 1: trained("b"), 2: trained("c"), 3: trained("d")},
        ("mfeat", "lora", "patterns"): {0: trained("a"), 1: trained("x"), 2: trained(""), 3: trained("d")},
        ("mfeat", "networks", "patterns"): {0: trained("a", "a"), 1: trained("b", "b"), 3: trained("d", "y")},
        ("mfeat", "forest", "patterns"): {0: {"training": {}}, 1: {}},
        ("mfeat", "no-pretraining", "patterns"): {0: trained("z")},
    }
    found = [[c.strip() for c in r.strip("|").split("|")] for r in backbones_table(study).splitlines() if r.startswith("| mfeat")]
    assert found == [
        ["mfeat", "1", "3", "2 + 1", "0"],
        ["mfeat", "2", "2", "1", "1"],
        ["mfeat", "3", "3", "2 + 1", "0"],
    ]
