"""Write every table of README and docs from the records, or check that they are current.

    python benchmarks/table.py            write
    python benchmarks/table.py --check    exit 1 if a table differs from its records

A table stands between `<!-- table NAME -->` and `<!-- end table -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mamol.evaluate.interval import mean_interval, paired_interval
from mamol.evaluate.record import read_record
from mamol.evaluate.report import pattern_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FILES = ("README.md", "docs/results.md")
SETS = ("worldcereal-canada", "bigearthnet-s1s2", "idtrees")
METHODS = {"mamol": "MaMOL", "forest": "random forest", "boosted": "boosted trees"}
BLOCK = re.compile(r"(<!-- table (\w+) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)
Records = dict[tuple[str, str], dict[int, dict[str, Any]]]


def read_all(split: str = "block") -> Records:
    """Read the records of one split: (data set, method) -> seed -> record."""
    out: Records = {}
    for path in sorted((HERE / "results").glob(f"*-{split}-*.json")):
        record = read_record(path)
        result = record["result"]
        out.setdefault((result["dataset"], record["method"]), {})[result["seed"]] = record
    return out


def _cell(runs: dict[int, dict[str, Any]], key: str) -> str:
    return str(mean_interval([r["result"][key] for r in runs.values()])) if runs else "-"


def main_table(records: Records) -> str:
    """Mean over patterns of OA and AA, worst pattern, per data set and method."""
    rows = ["| data set | method | seeds | mean OA | mean AA | worst OA |", "|---|---|---:|---:|---:|---:|"]
    for name in SETS:
        for method, title in METHODS.items():
            runs = records.get((name, method), {})
            if runs:
                cells = [_cell(runs, k) for k in ("mean_oa", "mean_aa", "worst_oa")]
                rows.append(f"| {name} | {title} | {len(runs)} | {' | '.join(cells)} |")
    note = (
        "Percent, mean ± half of the 95 % interval over the seeds (fold, initial weights, missing tables), block split, "
        "one model per method for all patterns. It does not show other data, other splits, or methods that are not listed; "
        "with three seeds the intervals are wide."
    )
    return "\n".join([*rows, "", note])


def paired_table(records: Records) -> str:
    """MaMOL minus each baseline on the same seeds."""
    rows = ["| data set | against | seeds | mean OA | mean AA |", "|---|---|---:|---:|---:|"]
    for name in SETS:
        ours = records.get((name, "mamol"), {})
        for method, title in list(METHODS.items())[1:]:
            theirs = records.get((name, method), {})
            seeds = sorted(set(ours) & set(theirs))
            if seeds:
                cells = []
                for key in ("mean_oa", "mean_aa"):
                    found = paired_interval([ours[s]["result"][key] for s in seeds], [theirs[s]["result"][key] for s in seeds])
                    cells.append(f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")
                rows.append(f"| {name} | {title} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", "Differences MaMOL minus baseline in points, paired by seed, with the 95 % interval."])


def pattern_table(records: Records) -> str:
    """OA / AA per pattern, mean over the seeds."""
    out: list[str] = []
    for name in SETS:
        methods = {m: records[name, m] for m in METHODS if (name, m) in records}
        if not methods:
            continue
        some = next(iter(next(iter(methods.values())).values()))
        out += [f"### {name}", "", f"| present | {' | '.join(METHODS[m] for m in methods)} |", f"|---|{'---:|' * len(methods)}"]
        for i, row in enumerate(some["result"]["patterns"]):
            cells = []
            for runs in methods.values():
                oa, aa = (sum(r["result"]["patterns"][i][k] for r in runs.values()) / len(runs) for k in ("oa", "aa"))
                cells.append(f"{oa:.1f} / {aa:.1f}")
            out.append(f"| {pattern_name(row['present'])} | {' | '.join(cells)} |")
        out.append("")
    return "\n".join([*out, "OA / AA in percent, mean over the seeds of the table above; no interval per pattern."])


def cost_table(records: Records) -> str:
    """Weights and time of each MaMOL run."""
    rows = ["| data set | experts | router | tokenizers | head | frozen | training, s |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name in SETS:
        runs = records.get((name, "mamol"), {})
        if runs:
            counts = next(iter(runs.values()))["result"]["parameters"]
            seconds = mean_interval([r["seconds"] for r in runs.values()]).mean
            cells = [f"{counts[k]:,}" for k in ("experts", "router", "tokenizers", "head", "frozen")]
            rows.append(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(
        [
            *rows,
            "",
            "Weights as numbers; the time is a whole training run with pretraining, on one thread of the machine in the record.",
        ]
    )


TABLES: dict[str, Callable[[Records], str]] = {
    "main": main_table,
    "paired": paired_table,
    "patterns": pattern_table,
    "cost": cost_table,
}


def rewritten(text: str, records: Records) -> str:
    """Return a document with its tables made anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{TABLES[m[2]](records)}\n{m[4]}", text)


def main() -> None:
    """Write or check."""
    records, stale = read_all(), []
    for name in FILES:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = rewritten(old, records)
        if new != old:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(f"tables differ from the records in {', '.join(stale)}; run `make tables`.")


if __name__ == "__main__":
    main()
