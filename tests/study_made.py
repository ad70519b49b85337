"""A small study, as its records would give it."""

from __future__ import annotations

from typing import Any

from study_records import Study


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


def made_study() -> Study:
    """Return records of three methods whose seeds overlap in part."""
    return {
        ("mfeat", "mamol", "patterns"): {0: result(60.0), 1: result(80.0)},
        ("mfeat", "lora", "patterns"): {1: result(78.0)},
        ("mfeat", "full", "patterns"): {2: result(99.0)},
        ("mfeat", "mamol", "unseen"): {1: result(77.0, held_out=["s1", "s2"])},
    }
