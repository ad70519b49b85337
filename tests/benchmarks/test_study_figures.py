"""Pictures of the study: labels that do not overlap, what is far below, and what was not counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
import study_figures
from study_figures import FAR, spread


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
