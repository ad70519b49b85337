"""Pictures of the study: labels that do not overlap."""

from __future__ import annotations

from itertools import pairwise

import pytest
from study_figures import spread


def test_labels_at_one_height_are_moved_apart() -> None:
    heights = spread([-10.0, 0.0, 0.0, 0.1])
    gaps = [b - a for a, b in pairwise(heights)]
    assert min(gaps) == pytest.approx(2.5 * 0.91, rel=0.02)
    assert spread([0.0, 3.0]) == [0.0, 3.0]
