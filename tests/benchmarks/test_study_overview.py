"""The study on one picture: who is on it, and what a mark says."""

from __future__ import annotations

import pytest
from study_overview import EDGE, found, overview
from study_records import Study


def made(**values: tuple[float, ...]) -> dict[tuple[str, str, str], dict[int, dict[str, float]]]:
    """Return runs of methods on `mfeat` and `idtrees`, a value a seed."""
    return {
        (name, method, "patterns"): {s: {"mean_oa": v, "mean_aa": v - 10} for s, v in enumerate(own)}
        for name in ("mfeat", "idtrees")
        for method, own in values.items()
    }


def test_a_method_needs_three_shared_seeds_on_two_sets() -> None:
    study: Study = made(mamol=(60, 61, 62), lora=(58, 59, 60.1), full=(58, 59), head=(10, 11, 12))
    del study["mfeat", "head", "patterns"]
    assert found(study).keys() == {"lora"}
    assert found(study)["lora"].keys() == {"mfeat", "idtrees"}
    assert found(study)["lora"]["mfeat"]["mean_aa"].mean == pytest.approx(1.9667, abs=1e-3)


def test_a_mark_is_filled_where_zero_is_left_out_and_stands_at_the_edge_if_it_is_beyond() -> None:
    study: Study = made(mamol=(60, 61, 62), lora=(58, 59, 60.1), dense=(62, 60, 63), head=(10, 11, 12.5))
    marks = [line for line in overview(study).axes[0].lines if line.get_marker() in ("D", "v")]
    assert [line.get_fillstyle() for line in marks] == ["full"] * 2 + ["none"] * 2 + ["full"] * 2
    assert [float(line.get_xdata()[0]) for line in marks] == pytest.approx([1.967] * 2 + [-0.667] * 2 + [EDGE] * 2, abs=1e-2)
    assert [t.get_text() for t in overview(study).axes[0].get_yticklabels()] == ["lora", "dense", "head"]
