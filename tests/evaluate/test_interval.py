"""Intervals against scipy, and the bootstrap over groups."""

import numpy as np
import pytest
from scipy import stats

from mamol.errors import UsageError
from mamol.evaluate.interval import group_interval, mean_interval, paired_interval


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


def test_seeds_that_resample_one_data_set_say_less() -> None:
    ours, theirs = [3.0, 5.0, 8.0, 4.0], [2.0, 4.0, 6.0, 5.0]  # differences 1, 1, 2, -1: s^2 = 19 / 12
    plain, wider = paired_interval(ours, theirs), paired_interval(ours, theirs, test_per_train=0.5)
    half = stats.t.ppf(0.975, 3) * np.sqrt(19 / 12 * (1 / 4 + 1 / 2))
    assert (wider.low, wider.high) == pytest.approx((0.75 - half, 0.75 + half))
    assert (wider.high - wider.low) / (plain.high - plain.low) == pytest.approx(3**0.5)


def test_groups_are_drawn_whole() -> None:
    won = (np.random.default_rng(0).random(20) < 0.6).astype(int)
    run = {"id": list(range(20)), "n": [50] * 20, "gain": (50 * won).tolist()}
    low, high = group_interval([run])
    # With whole groups the spread is that of 20 coins, not of 1000.
    spread = 100 * 2 * 1.96 * np.sqrt(won.mean() * (1 - won.mean()) / 20)
    assert high - low == pytest.approx(spread, rel=0.1)
    assert low < 100 * won.mean() < high
    assert group_interval([run]) == (low, high)


def test_a_group_that_two_runs_tested_is_one_group() -> None:
    rng = np.random.default_rng(0)
    one = {"id": list(range(30)), "n": [10] * 30, "gain": rng.integers(-5, 6, 30).tolist()}
    elsewhere = one | {"id": list(range(100, 130))}
    low, high = group_interval([one])
    again, other = group_interval([one, one]), group_interval([one, elsewhere])
    assert again == pytest.approx((low, high))
    # On ground of its own the second run is worth as much as the first: the interval shrinks by the root of two.
    assert other[1] - other[0] == pytest.approx((high - low) / np.sqrt(2), rel=0.15)


def test_a_run_of_few_groups_and_none_at_all() -> None:
    few = {"id": [7], "n": [10], "gain": [1]}
    more = {"id": [1, 2, 3], "n": [10, 10, 10], "gain": [1, 1, 1]}
    assert group_interval([few, more]) == pytest.approx((10.0, 10.0))
    with pytest.raises(UsageError, match="two groups or more; got 1"):
        group_interval([few])
