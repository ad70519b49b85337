"""Intervals against scipy, and the bootstrap over groups."""

import numpy as np
import pytest
from scipy import stats

from mamol.errors import UsageError
from mamol.evaluate.interval import block_bootstrap, mean_interval, paired_interval


def test_students_interval() -> None:
    values = [70.1, 71.3, 69.2, 72.0]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert str(found) == f"{np.mean(values):.1f} ± {(high - low) / 2:.1f}"
    assert str(mean_interval([3.0])) == "3.0 (1 seed)"
    with pytest.raises(UsageError, match="at least one"):
        mean_interval([])


def test_pairs() -> None:
    assert paired_interval([3, 5, 8], [2, 4, 6]).mean == pytest.approx(4 / 3)
    with pytest.raises(UsageError, match="same seeds"):
        paired_interval([1], [1, 2])


def test_groups_are_drawn_whole() -> None:
    groups = np.repeat(np.arange(20), 50)
    right = np.repeat(np.random.default_rng(0).random(20) < 0.6, 50)
    low, high = block_bootstrap(groups, lambda rows: float(right[rows].mean()), 0)
    # With whole groups the spread is that of 20 coins, not of 1000.
    assert high - low > 0.25
    assert low < right.mean() < high
    assert block_bootstrap(groups, lambda rows: float(right[rows].mean()), 0) == (low, high)
