"""From several seeds to one figure: mean, spread, a 95 % interval, and paired differences (PROTOCOL.md section 5).

mean +- t(0.975, n - 1) * s / sqrt(n)            over seeds; with few seeds the interval is wide, and says so
paired: the same on d_i = a_i - b_i              two methods on the same (fold, seed)
block bootstrap: resample groups, not pixels     one seed's figure, where neighbours are not independent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mamol.errors import UsageError
from mamol.seed import generator


@dataclass(frozen=True)
class Interval:
    """A mean with its standard deviation, 95 % interval and number of values; NaN bounds for a single value."""

    mean: float
    std: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:.1f} (1 seed)"
        return f"{self.mean:.1f} ± {(self.high - self.low) / 2:.1f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; raises UsageError without values."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        raise UsageError("an interval needs at least one value; got none.")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), float("nan"), 1)
    std = float(x.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * std / len(x) ** 0.5
    return Interval(float(x.mean()), std, float(x.mean()) - half, float(x.mean()) + half, len(x))


def paired_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the interval of the differences ours - theirs, seed by seed; raises UsageError if the lengths differ."""
    if len(ours) != len(theirs):
        raise UsageError(f"paired figures need the same seeds; got {len(ours)} and {len(theirs)} values.")
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])


def block_bootstrap(
    groups: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int, draws: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of `statistic(rows)` when whole groups are drawn again with replacement.

    `groups` (n,): the block or group of each row; `statistic` takes row numbers and returns a figure.
    """
    names, index = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(len(names))]
    rng = generator(seed, "bootstrap")
    found = [statistic(np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))])) for _ in range(draws)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
