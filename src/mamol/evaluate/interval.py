"""From several seeds to one figure: mean, spread, a 95 % interval, and paired differences (PROTOCOL.md section 5).

mean +- t(0.975, n - 1) * s * sqrt(1/n)          over seeds; with few seeds the interval is wide, and says so
paired: the same on d_i = a_i - b_i              two methods on the same (fold, seed)
sqrt(1/n + test/train) in place of sqrt(1/n)     seeds that split the same samples anew say less than n independent ones would
                                                 [Nadeau & Bengio, Inference for the generalization error, 2003, section 3]
group bootstrap: draw groups again, not pixels   a paired difference on other ground: neighbours are not independent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def mean_interval(values: Sequence[float], test_per_train: float = 0.0) -> Interval:
    """Return the mean over seeds with Student's 95 % interval; raises UsageError without values.

    `test_per_train`, the samples tested on per sample trained on, widens it for seeds that resample one data set.
    """
    x = np.asarray(values, dtype=float)
    if not len(x):
        raise UsageError("an interval needs at least one value; got none.")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), float("nan"), 1)
    std = float(x.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * std * (1 / len(x) + test_per_train) ** 0.5
    return Interval(float(x.mean()), std, float(x.mean()) - half, float(x.mean()) + half, len(x))


def paired_interval(ours: Sequence[float], theirs: Sequence[float], test_per_train: float = 0.0) -> Interval:
    """Return the interval of the differences ours - theirs, seed by seed; raises UsageError if the lengths differ.

    `test_per_train` as in `mean_interval`.
    """
    if len(ours) != len(theirs):
        raise UsageError(f"paired figures need the same seeds; got {len(ours)} and {len(theirs)} values.")
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)], test_per_train)


def group_interval(runs: Sequence[Mapping[str, Sequence[int]]], seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of the mean over runs of 100 * sum(gain) / sum(n), when whole groups are drawn again.

    A run has, for each group of its test part, its `id`, the `n` places scored and the `gain`: how many more were right than
    with what it is held against. A group that several runs tested is drawn for all of them together. Raises UsageError
    without two groups.
    """
    names = sorted({g for run in runs for g in run["id"]})
    if len(names) < 2:
        raise UsageError(f"a bootstrap over groups needs two groups or more; got {len(names)}.")
    gain, n = np.zeros((2, len(runs), len(names)))
    for i, run in enumerate(runs):
        at = np.searchsorted(names, run["id"])
        gain[i, at], n[i, at] = run["gain"], run["n"]
    weights = generator(seed, "bootstrap").multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    tested = weights @ n.T
    with np.errstate(invalid="ignore"):  # a draw without any group of a run's test part says nothing of that run
        means = np.nanmean(np.where(tested > 0, 100 * (weights @ gain.T) / tested, np.nan), axis=1)
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)
