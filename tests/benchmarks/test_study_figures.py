"""Pictures of the study: labels that do not overlap, what is far below, and what was not counted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import study_figures
from study_figures import FAR, spread
from study_records import Study

from study_made import result


def test_labels_at_one_height_are_moved_apart() -> None:
    heights = spread([-10.0, 0.0, 0.0, 0.1])
    gaps = [b - a for a, b in pairwise(heights)]
    assert min(gaps) == pytest.approx(2.5 * 0.91, rel=0.02)
    assert spread([0.0, 3.0]) == [0.0, 3.0]


def test_cost_has_both_panels_and_keeps_what_is_far_below_at_its_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"mamol": (300, 20, 0.0), "fill-zeros": (500, 10, -27.5), "forest-like": (400, 0, -3.0)}
    monkeypatch.setattr(study_figures, "_points", lambda study, name: points)
    monkeypatch.setattr(study_figures, "multiply_adds", lambda name, method: {"head": 12}[method])
    weights, adds = study_figures.cost({}, "made").axes
    at = {float(line.get_xdata()[0]): (float(line.get_ydata()[0]), line.get_marker()) for line in weights.lines}
    assert at == {300.0: (0.0, "o"), 500.0: (FAR, "v"), 400.0: (-3.0, "o")}
    assert {float(line.get_xdata()[0]) for line in adds.lines} == {20.0, 10.0, 12.0}  # not what was not counted
    assert {t.get_text() for t in adds.texts} == {"mamol", "-27.5  fill-zeros"}


def test_a_learning_line_is_over_the_seeds_and_steps_that_it_shares_with_mamol() -> None:
    def run(*scores: float) -> dict[str, Any]:
        return result(60.0, training={"rows": [{"step": 100 * (i + 1), "score": s} for i, s in enumerate(scores)]})

    study: Study = {
        ("mfeat", "mamol", "patterns"): {0: run(50, 60), 1: run(40, 50), 2: run(30, 40), 3: run(0, 0)},
        ("mfeat", "lora", "patterns"): {0: run(51, 61), 1: run(42), 2: run(33, 43)},
        ("mfeat", "full", "patterns"): {0: run(50, 60), 1: run(40, 50), 2: run(30, 34), 3: run(90, 90)},
        ("mfeat", "head", "patterns"): {0: run(10, 10), 1: run(10, 10)},
        ("mfeat", "forest", "patterns"): {0: result(60.0), 1: result(60.0), 2: result(60.0)},
    }
    found = study_figures._learning(study, "mfeat")
    assert found["lora"] == [(100, 2.0)]  # one of its runs stopped then
    assert found["full"] == [(100, 22.5), (200, 21.0)]
    assert found["mamol"] == [(100, 0.0), (200, 0.0)]
    assert found.keys() == {"mamol", "lora", "full"}
    labels = [line.get_label() for line in study_figures.learning(study, "mfeat").axes[0].lines]
    assert labels == ["mamol", "lora", "full"]
