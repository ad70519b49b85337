"""What the data sets say together: mean ranks, and differences with an interval over sets.

    rank of a method on a set      1 the best, by its mean over the seeds that all ranked methods share
    Friedman's test                are all methods alike? ranks within sets
    critical difference            q(0.05, k, inf) / sqrt(2) * sqrt(k (k + 1) / (6 N)), Nemenyi's, of k methods on N sets

Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006, section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from study_records import COLUMN, KEYS, LEAST, PARADIGMS, Study, measure

from mamol.evaluate.interval import mean_interval

TOGETHER = ("worldcereal-canada-long", "worldcereal-galileo", "bigearthnet-s1s2", "mfeat", "idtrees", "fashion-products")
"""Every data set and backbone once, with as many steps as most methods have there."""
MOST = 10
"""Paradigms that a set needs to count: else few would have run on all."""


def ranks_table(study: Study) -> str:
    """Mean ranks over the sets on which most paradigms have run, and what MaMOL has over each, with an interval over sets."""
    sets, methods = complete(study)
    if "mamol" not in methods or len(sets) < 2:
        return "Too few sets have ten paradigms with three seeds."
    ranks = {key: mean_ranks(study, sets, methods, key) for key in KEYS}
    heads = [*(f"rank by {COLUMN[k]}" for k in KEYS), *(f"Δ {COLUMN[k]}" for k in KEYS)]
    rows = [f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for method in sorted(methods, key=lambda m: ranks["mean_oa"][m]):
        own = [f"{ranks[k][method]:.1f}" for k in KEYS]
        over = ["-" if method == "mamol" else over_sets(study, sets, method, k) for k in KEYS]
        rows.append(f"| {method} | {' | '.join([*own, *over])} |")
    found = {k: friedman(study, sets, methods, k) for k in KEYS}
    said = ", ".join(f"{COLUMN[k]} p = {p:.2f}" for k, p in found.items())
    note = (
        f"Of {', '.join(sets)}: those where ten paradigms have three seeds or more; the paradigms that have them on every one of "
        f"these. Ranks by the mean over the seeds that all share ({_seeds(study, sets, methods)}), 1 is the best of "
        f"{len(methods)}. Friedman's test that all are alike: {said}; two mean ranks differ by Nemenyi's test from "
        f"{critical_difference(len(methods), len(sets)):.1f} on (Demšar, 2006). Δ: MaMOL minus the method, points, over the "
        "seeds that these two share, mean over the sets with a 95 % interval over the sets, a set counting once. On `mfeat`, "
        "whose classes are equally frequent, OA is AA. So few sets say little of other data, and two backbones on one "
        f"data set are not two data sets. {_without_one(study, sets, methods)}"
    )
    return "\n".join([*rows, "", note])


def complete(study: Study) -> tuple[list[str], list[str]]:
    """Return the sets on which most paradigms have run, and the paradigms that have run on all of these."""
    ran = {s: [m for m in PARADIGMS if len(study.get((s, m, "patterns"), {})) >= LEAST] for s in TOGETHER}
    sets = [s for s, methods in ran.items() if len(methods) >= MOST]
    return sets, [m for m in PARADIGMS if sets and all(m in ran[s] for s in sets)]


def _shared(study: Study, name: str, methods: Sequence[str]) -> list[int]:
    return sorted(set.intersection(*(set(study[name, m, "patterns"]) for m in methods)))


def _seeds(study: Study, sets: Sequence[str], methods: Sequence[str]) -> str:
    """Say how many seeds all share on every set: "3", or "3 to 5"."""
    counts = sorted({len(_shared(study, s, methods)) for s in sets})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _means(study: Study, sets: Sequence[str], methods: Sequence[str], key: str) -> np.ndarray:
    """Return (sets, methods): the mean of a measure over the seeds that all of the methods share."""
    out = np.empty((len(sets), len(methods)))
    for i, name in enumerate(sets):
        runs, seeds = [study[name, m, "patterns"] for m in methods], _shared(study, name, methods)
        out[i] = [np.mean([measure(r[s], key) for s in seeds]) for r in runs]
    return out


def mean_ranks(study: Study, sets: Sequence[str], methods: Sequence[str], key: str) -> dict[str, float]:
    """Return every method's mean rank over the sets, 1 the best; equals share a rank."""
    ranks = stats.rankdata(-_means(study, sets, methods, key), axis=1).mean(axis=0)
    return dict(zip(methods, ranks.tolist(), strict=True))


def _without_one(study: Study, sets: Sequence[str], methods: Sequence[str]) -> str:
    """Say who is first in mean OA when any one of the sets is left out; "" where two are left."""
    if len(sets) < 3:
        return ""
    first: dict[str, list[str]] = {}
    for left_out in sets:
        ranks = mean_ranks(study, [s for s in sets if s != left_out], methods, "mean_oa")
        best = [m for m, rank in ranks.items() if rank == min(ranks.values())]
        first.setdefault(" and ".join(f"`{m}`" for m in best), []).append(left_out)
    said = "; ".join(f"{best} without {' or '.join(those)}" for best, those in first.items())
    return f"The best mean rank in mean OA when one set is left out: {said}."


def friedman(study: Study, sets: Sequence[str], methods: Sequence[str], key: str) -> float:
    """Return the p-value of Friedman's test; 1 where every method is like every other."""
    return float(stats.friedmanchisquare(*_means(study, sets, methods, key).T).pvalue)


def critical_difference(methods: int, sets: int) -> float:
    """Return the difference between two mean ranks from which on Nemenyi's test tells them apart at 5 %."""
    q = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * sets)))


def over_sets(study: Study, sets: Sequence[str], method: str, key: str) -> str:
    """Say what MaMOL has over a method, mean over the sets, with a 95 % interval over three sets or more."""
    means = _means(study, sets, ["mamol", method], key)
    found = mean_interval((means[:, 0] - means[:, 1]).tolist())
    return f"{found.mean:+.1f}" + (f" [{found.low:+.1f}, {found.high:+.1f}]" if found.n >= LEAST else "")
