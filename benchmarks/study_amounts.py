"""The tables of docs/study.md that ask how much: how many labels, and how much rank, before a mixture pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from study_labels import SHARES
from study_records import KEYS, METHODS, SETS, Runs, Study, difference, shown, signed, trained_weights

BUDGETS = {
    "a quarter": ("quarter-rank", "lora-quarter-rank"),
    "half": ("half-rank", "lora-half-rank"),
    "the default": ("mamol", "lora"),
    "twice": ("double-rank", "lora-double-rank"),
}
"""Rank -> MaMOL and one LoRA with it."""


def labels_table(study: Study) -> str:
    """Accuracy by the share of the labels that train and validate, and MaMOL minus every other on the seeds of both."""
    heads = "| set | labels | method | seeds | mean OA | mean AA | Δ mean OA | Δ mean AA | Δ worst OA |"
    rows = [heads, f"|---|---:|---|---:|{'---:|' * 5}"]
    for name in SETS:
        protocols = [*(f"labels-{s:g}" for s in SHARES), "patterns"]
        few = {m for m in METHODS for p in protocols[:-1] if (name, m, p) in study}
        shown_of = few if "mamol" in few else set()  # trees alone are those of another set with the same data
        for protocol, method in ((p, m) for p in protocols for m in METHODS if m in shown_of and (name, m, p) in study):
            runs = study[name, method, protocol]
            means = [shown([r[k] for r in runs.values()]) for k in KEYS[:2]]
            gaps = [signed(difference(study, name, "mamol", method, k, protocol=protocol)) for k in KEYS]
            over = ["", "", ""] if method == "mamol" else gaps
            share = "all" if protocol == "patterns" else f"{float(protocol.removeprefix('labels-')):.0%}"
            count = f"{share}{_count(runs)}"
            rows.append(f"| {name} | {count} | {method} | {len(runs)} | {' | '.join([*means, *over])} |")
    note = (
        "OA and AA in percent, mean over patterns; Δ: MaMOL minus the method, points, paired by seed, with 95 % intervals. In "
        "brackets: labels that train and that validate, mean over the seeds. Labels are left out at random, class by class, of "
        "training and of validation alike; the test part, and what is pretrained on without labels, stay whole. With all of "
        "them the validation part is another one. `python benchmarks/study.py SET/METHOD --seed N --protocol labels-0.1`."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No run has a record yet (`... --protocol labels-0.1`)."


def _count(runs: Runs) -> str:
    """Return the mean number of labels that train and that validate; "" for records that do not say it."""
    counts: list[dict[str, Any]] = [r["labels"] for r in runs.values() if "labels" in r]
    if not counts:
        return ""
    train, validation = (round(sum(c[k] for c in counts) / len(counts)) for k in ("train", "validation"))
    return f" ({train} + {validation})"


def budgets_table(study: Study) -> str:
    """MaMOL and one LoRA of equal weights, from a quarter of the default's rank to twice of it."""
    heads = ("set", "rank", "seeds", "trained weights", "MaMOL, mean OA", "LoRA, mean OA", "Δ mean OA", "Δ mean AA", "Δ worst OA")
    rows = [f"| {' | '.join(heads)} |", f"|---|---|---:|{'---:|' * 6}"]
    for name, (rank, pair) in ((s, b) for s in SETS for b in BUDGETS.items()):
        ours, theirs = (study.get((name, m, "patterns"), {}) for m in pair)
        seeds = sorted(ours.keys() & theirs.keys())
        if seeds and any((name, m, "patterns") in study for m in BUDGETS["a quarter"]):
            means = [shown([r[s]["mean_oa"] for s in seeds]) for r in (ours, theirs)]
            over = [signed(difference(study, name, *pair, k)) for k in KEYS]
            weights = f"{trained_weights(study, name, pair[0]):,}"
            rows.append(f"| {name} | {rank} | {len(seeds)} | {weights} | {' | '.join([*means, *over])} |")
    note = "OA in percent; Δ: MaMOL minus one LoRA of as many weights, points, on the seeds of both, with 95 % intervals."
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No run has a record yet (the ablations `...-rank`)."


AMOUNT_TABLES: dict[str, Callable[[Study], str]] = {"study_labels": labels_table, "study_budgets": budgets_table}
