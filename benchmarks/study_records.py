"""What the study's records say: read them, and compare methods on the seeds that they share; tables and pictures ask here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

from study_cells import HERE, PROTOCOLS, RESULTS, Cell, names_of

from mamol.data.split import TEST_FOLDS, VAL_FOLDS
from mamol.evaluate.interval import Interval, group_interval, mean_interval, paired_interval
from mamol.evaluate.report import pattern_name

SETS = (
    "worldcereal-canada", "worldcereal-canada-long", "worldcereal-galileo", "worldcereal-galileo-long", "mfeat", "idtrees",
    "bigearthnet-s1s2", "fashion-products", "embedded",
)  # fmt: skip
REAL = SETS[:-1]
"""The made scene checks methods; it is no evidence, so it is not counted with the others."""
PARADIGMS = (
    "mamol", "mamol-paper", "paper-places", "lora", "lora+modality", "per-pattern", "dense", "top-k", "switch", "expert-choice",
    "soft-moe", "shared+routed", "modality-hard", "laplace", "flex", "masked-gate", "hydra", "adaptive",
)  # fmt: skip
OTHERS = (
    "head", "prompts", "full", "networks", "ensemble", "fill-zeros", "fill-mean", "fill-regression", "forest", "boosted",
    "boosted-balanced", "forest-complete", "forest-per-pattern",
)  # fmt: skip
METHODS = (*PARADIGMS, *OTHERS)
FRONT = {
    "mamol": "MaMOL", "lora": "LoRA, equal weights", "full": "whole network",
    "forest": "random forest", "boosted": "boosted trees",
}  # fmt: skip
"""One model for all patterns, five ways: what the README shows, and what they are called there."""
COLUMN = {"mean_oa": "mean OA", "mean_aa": "mean AA", "worst_oa": "worst OA"}
KEYS = tuple(COLUMN)
SEEDS = 10
"""Seeds that a headline has; a grid has five."""
TEST_PER_TRAIN = (1 / TEST_FOLDS) / ((1 - 1 / TEST_FOLDS) * (1 - 1 / VAL_FOLDS))
"""Of a block split: samples tested on per sample trained on, what a correction for seeds that resample one data set asks."""
LEAST = 3
"""Seeds that an interval needs, and a method that is named as the best of the others."""
Runs = dict[int, dict[str, Any]]
Study = dict[tuple[str, str, str], Runs]


def read_study() -> Study:
    """Read every record: (set, method, protocol) -> seed -> its result."""
    there = {*RESULTS.glob("*.json"), *(HERE / "results").glob("*.json")}
    out: Study = {}
    for name, method, protocol in product(SETS, (*METHODS, *names_of("ablations")), PROTOCOLS):
        for seed in range(SEEDS):
            path = Cell(name, method, seed, protocol).record
            if path in there:
                out.setdefault((name, method, protocol), {})[seed] = _result(path)
    return out


@cache
def _result(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]
    return found


def difference(
    study: Study, name: str, ours: str, theirs: str, key: str, test_per_train: float = 0.0, protocol: str = "patterns"
) -> Interval | None:
    """Return the paired difference of two methods over the seeds that both have; None without any.

    "mamol@worldcereal-galileo" is a method on another set than `name`, of the same data.
    """
    at = [m.partition("@") for m in (ours, theirs)]
    a, b = (study.get((elsewhere or name, m, protocol), {}) for m, _, elsewhere in at)
    seeds = sorted(set(a) & set(b))
    return paired_interval(*([measure(runs[s], key) for s in seeds] for runs in (a, b)), test_per_train) if seeds else None


def measure(result: dict[str, Any], key: str) -> float:
    """Return a figure of a result; "training.best_score" is the best_score under training."""
    for word in key.split("."):
        result = result[word]
    return cast(float, result)


def over_ground(study: Study, name: str, ours: str, theirs: str) -> tuple[Interval, tuple[float, float], int] | None:
    """Return the paired difference of OA pooled over patterns: over seeds, and over groups, with the number of groups.

    Over the seeds whose records of both count per group; None without any.
    """
    a, b = (study.get((name, m, "patterns"), {}) for m in (ours, theirs))
    pairs = [(a[s]["groups"], b[s]["groups"]) for s in sorted(set(a) & set(b)) if "groups" in a[s] and "groups" in b[s]]
    if not pairs:
        return None
    runs = [x | {"gain": [p - q for p, q in zip(x["right"], y["right"], strict=True)]} for x, y in pairs]
    by_seed = mean_interval([100 * sum(r["gain"]) / sum(r["n"]) for r in runs])
    return by_seed, group_interval(runs), len({g for r in runs for g in r["id"]})


def signed(found: Interval | None) -> str:
    """Show a difference with its interval; of one or two seeds there is none to show."""
    if found is None:
        return "-"
    interval = f"[{found.low:+.1f}, {found.high:+.1f}]" if found.n >= LEAST else seeds_of(found.n)
    return f"{found.mean:+.1f} {interval}"


def shown(values: Sequence[float]) -> str:
    """Show a mean over seeds with half of its interval; of one or two seeds there is none to show."""
    found = mean_interval(values)
    return str(found) if found.n >= LEAST else f"{found.mean:.1f} {seeds_of(found.n)}"


def seeds_of(seeds: int) -> str:
    """Say how many seeds stand behind a figure that has no interval."""
    return "(1 seed)" if seeds == 1 else f"({seeds} seeds)"


def trained_weights(study: Study, name: str, method: str) -> int:
    """Count the weights that train; 0 for trees."""
    counts = next(iter(study[name, method, "patterns"].values())).get("parameters", {})
    own = sum(v for k, v in counts.items() if k != "frozen")
    if method != "full" or counts.get("backbone"):
        return own
    # Records of before the backbone's weights were counted: what a head alone leaves frozen, a whole network trains.
    head = study.get((name, "head", "patterns"), {})
    return own + (next(iter(head.values()))["parameters"]["frozen"] if head else 0)


def multiply_adds(name: str, method: str) -> int:
    """Return the multiply-adds that study_speed.py counted; 0 for what is not one network."""
    return int(_counted().get(name, {}).get(method, 0))


@cache
def _counted() -> dict[str, dict[str, int]]:
    path = HERE / "speed" / "study" / "multiply-adds.json"
    found: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))["multiply_adds"] if path.exists() else {}
    return found


def by_pattern(study: Study, name: str, methods: list[str]) -> tuple[list[str], list[list[float]]]:
    """Return the columns' labels, and MaMOL's mean OA followed by every other method's minus MaMOL's on the same seeds.

    A column is a pattern; of sets with more than seven, all patterns of as many modalities.
    """
    ours = study[name, "mamol", "patterns"]
    some = next(iter(ours.values()))["patterns"]
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(some):
        label = pattern_name(row["present"]) if len(some) <= 7 else f"{len(row['present'])} of {len(some[0]['present'])}"
        groups.setdefault(label, []).append(i)

    def means(runs: Runs, seeds: list[int]) -> list[float]:
        return [sum(runs[s]["patterns"][i]["oa"] for s in seeds for i in g) / (len(seeds) * len(g)) for g in groups.values()]

    rows = [[round(v, 2) for v in means(ours, sorted(ours))]]
    for method in methods[1:]:
        theirs = study[name, method, "patterns"]
        seeds = sorted(set(ours) & set(theirs))
        rows.append([round(a - b, 2) for a, b in zip(means(theirs, seeds), means(ours, seeds), strict=True)])
    return list(groups), rows


def mean_rates(study: Study, name: str) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return (method, rate of training) -> (rate of the test, mean OA over seeds), all modalities going missing alike."""
    out: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for method, protocol in sorted((m, p) for s, m, p in study if s == name and p.startswith("rate-")):
        at: dict[float, list[float]] = {}
        for row in (r for result in study[name, method, protocol].values() for r in result["rates"] if r["kind"] == "both"):
            at.setdefault(row["rate"], []).append(row["oa"])
        out[method, protocol.removeprefix("rate-")] = [(rate, round(sum(v) / len(v), 2)) for rate, v in at.items()]
    return out
