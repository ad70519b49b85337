"""Which records of one set and seed were trained beside the same frozen backbone, to the bit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from study_records import METHODS, SEEDS, SETS, Study


def backbones_table(study: Study) -> str:
    """Records by their backbone's hash, of each set and seed that has several or some that kept none."""
    rows = ["| set | seed | networks' records | by backbone | no hash kept |", "|---|---:|---:|---:|---:|"]
    for name in SETS:
        for seed in range(SEEDS):
            found = Counter(h for m in METHODS if (h := _hash(study.get((name, m, "patterns"), {}).get(seed, {}))) is not None)
            unknown = found.pop("", 0)
            if unknown or len(found) > 1:
                counts = " + ".join(str(n) for _, n in found.most_common()) or "-"
                rows.append(f"| {name} | {seed} | {unknown + found.total()} | {counts} | {unknown} |")
    note = (
        "A sum of so many records for each backbone that differs from the others by its hash. A backbone is pretrained by one "
        "recipe from the set's data and the seed; another kind of processor, or another order of the sums, gives other bits. "
        "What is not listed shares one backbone. It does not show how much such bits matter."
    )
    return "\n".join([*rows, "", note])


def _hash(result: dict[str, Any]) -> str | None:
    """Return the hash of what a result's networks were trained beside, "" if none was kept; None where nothing was trained."""
    training = result.get("training")
    if not training:
        return None
    if "best_step" in training:
        return str(training.get("backbone_hash", ""))
    hashes = {str(network.get("backbone_hash", "")) for network in training.values()}
    return "/".join(sorted(hashes))


BACKBONE_TABLES = {"study_backbones": backbones_table}
