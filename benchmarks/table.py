"""Write every table and picture of README and docs from the records, or check that they are current.

    python benchmarks/table.py            write
    python benchmarks/table.py --check    exit 1 if a table differs from its records

A table stands between `<!-- table NAME -->` and `<!-- end table -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study_figures import draw_pictures, links, stale_pictures
from study_prose import loose_numbers, with_values
from study_records import Study, read_study
from study_tables import STUDY_TABLES

from mamol.evaluate.interval import mean_interval, paired_interval
from mamol.evaluate.record import read_record
from mamol.evaluate.report import pattern_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STRICT = ("docs/study.md", "docs/study-tables.md", "docs/decisions/005-study.md")
"""Documents in whose prose no number with a decimal point may stand that comes from no record."""
FILES = ("README.md", "docs/results.md", "docs/speed.md", "docs/maps.md", *STRICT)
SETS = ("worldcereal-canada", "bigearthnet-s1s2", "idtrees")
METHODS = {"mamol": "MaMOL", "forest": "random forest", "boosted": "boosted trees"}
WAYS = {"mamol": "MaMOL", "lora": "LoRA, equal weights", "full": "whole network", "head": "head only"}
PRETRAINED = {"worldcereal-canada": "galileo", "fashion-products": "vit"}
BACKBONES = {"vit-s14": "ViT-S/14", "vit-b": "ViT-B/14", "galileo-nano": "Galileo nano", "scene": "scene"}
KEYS = ("mean_oa", "mean_aa", "worst_oa")
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


def _rows(records: Records, name: str, methods: dict[str, str]) -> list[str]:
    """One row a method: seeds, mean OA, mean AA, worst OA."""
    found = ((title, records.get((name, method), {})) for method, title in methods.items())
    return [f"| {name} | {t} | {len(r)} | {' | '.join(_cell(r, k) for k in KEYS)} |" for t, r in found if r]


def _paired(records: Records, name: str, methods: dict[str, str]) -> list[str]:
    """One row a method: the first method minus it on the same seeds."""
    first, *others = methods
    ours, rows = records.get((name, first), {}), []
    for method in others:
        theirs = records.get((name, method), {})
        seeds = sorted(set(ours) & set(theirs))
        if len(seeds) > 1:
            found = [paired_interval(*([r[s]["result"][k] for s in seeds] for r in (ours, theirs))) for k in KEYS]
            cells = [f"{f.mean:+.1f} [{f.low:+.1f}, {f.high:+.1f}]" for f in found]
            rows.append(f"| {name} | {methods[method]} | {len(seeds)} | {' | '.join(cells)} |")
    return rows


MAIN_HEAD = ["| data set | method | seeds | mean OA | mean AA | worst OA |", "|---|---|---:|---:|---:|---:|"]
PAIRED_HEAD = ["| data set | against | seeds | mean OA | mean AA | worst OA |", "|---|---|---:|---:|---:|---:|"]
PAIRED_NOTE = "Differences MaMOL minus the other in points, paired by seed, with the 95 % interval."


def main_table(records: Records) -> str:
    """Mean over patterns of OA and AA, worst pattern, per data set and method."""
    rows = [row for name in SETS for row in _rows(records, name, METHODS)]
    note = (
        "Percent, mean ± half of the 95 % interval over the seeds (fold, initial weights, missing tables), block split, "
        "one model per method for all patterns. It does not show other data, other splits, or methods that are not listed; "
        "with three seeds the intervals are wide."
    )
    return "\n".join([*MAIN_HEAD, *rows, "", note])


def paired_table(records: Records) -> str:
    """MaMOL minus each baseline on the same seeds."""
    return "\n".join([*PAIRED_HEAD, *(row for name in SETS for row in _paired(records, name, METHODS)), "", PAIRED_NOTE])


def _ways(short: str) -> dict[str, str]:
    return {f"{short}-{method}": title for method, title in WAYS.items()}


def pretrained_table(records: Records) -> str:
    """The four ways to use a frozen pretrained model, and MaMOL minus each."""
    rows, pairs = list(MAIN_HEAD), list(PAIRED_HEAD)
    for name, short in PRETRAINED.items():
        rows += _rows(records, name, _ways(short))
        pairs += _paired(records, name, _ways(short))
    note = (
        "Percent, mean ± half of the 95 % interval over the seeds, block split, one model per row for all patterns. It does "
        "not show other backbones, tuned learning rates, or what one network per pattern would reach."
    )
    return "\n".join([*rows, "", note, "", *pairs, "", PAIRED_NOTE])


def pretrained_patterns_table(records: Records) -> str:
    """OA / AA per pattern of the four ways."""
    return _patterns(records, {name: _ways(short) for name, short in PRETRAINED.items()})


def pretrained_cost_table(records: Records) -> str:
    """Trained and frozen weights and the time of the four ways."""
    rows = ["| data set | method | trained | frozen | training, s |", "|---|---|---:|---:|---:|"]
    for name, short in PRETRAINED.items():
        for method, title in _ways(short).items():
            runs = records.get((name, method), {})
            if runs:
                counts = next(iter(runs.values()))["result"]["parameters"]
                seconds = mean_interval([r["seconds"] for r in runs.values()]).mean
                rows.append(
                    f"| {name} | {title} | {_trained(records, name, method, counts):,} | {counts['frozen']:,} | {seconds:.0f} |"
                )
    return "\n".join(
        [
            *rows,
            "",
            "The time is a whole training run on one thread of the machine in the record, other runs beside it: no comparison.",
        ]
    )


def _trained(records: Records, name: str, method: str, counts: dict[str, int]) -> int:
    """Count what trains; of a whole network that is also what the other ways freeze."""
    own = sum(v for k, v in counts.items() if k != "frozen")
    if not method.endswith("-full") or counts.get("backbone"):
        return own
    other = records.get((name, method.replace("-full", "-head")), {})
    return own + (next(iter(other.values()))["result"]["parameters"]["frozen"] if other else 0)


def speed_table(records: Records) -> str:
    """Every ratio of the speed benchmark, one column a backbone and device."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((HERE / "speed").glob("*.json"))]
    found.sort(key=lambda r: (list(BACKBONES).index(r["backbone"]), r["device"]))
    heads = [f"{BACKBONES[r['backbone']]}, batch {r['batch']}, {r['device']}" for r in found]
    rows = [f"| ratio | {' | '.join(heads)} |", f"|---|{'---:|' * len(found)}"]
    for title in found[0]["ratios"]:
        cells = []
        for r in found:
            ratio = r["ratios"][title]
            interval = f" [{ratio['low']:.2f}, {ratio['high']:.2f}]" if "low" in ratio else ""
            cells.append(f"{ratio['median']:.2f}{interval}")
        rows.append(f"| {title} | {' | '.join(cells)} |")
    rows.append("| frozen model, ms | " + " | ".join(f"{r['milliseconds']['frozen']:.0f}" for r in found) + " |")
    rows.append(f"| rounds | {' | '.join(str(r['rounds']) for r in found)} |")
    note = (
        "Median over the rounds of one run, each variant once a round, with the 95 % bootstrap interval of the median; below 1 "
        "is less than the reference. It does not show other machines, batch sizes or numbers of experts."
    )
    return "\n".join([*rows, "", note])


def pattern_table(records: Records) -> str:
    """OA / AA per pattern, mean over the seeds."""
    return _patterns(records, dict.fromkeys(SETS, METHODS))


def _patterns(records: Records, wanted: dict[str, dict[str, str]]) -> str:
    out: list[str] = []
    for name, titles in wanted.items():
        methods = {m: records[name, m] for m in titles if (name, m) in records}
        if not methods:
            continue
        some = next(iter(next(iter(methods.values())).values()))
        out += [f"### {name}", "", f"| present | {' | '.join(titles[m] for m in methods)} |", f"|---|{'---:|' * len(methods)}"]
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


def maps_table(records: Records) -> str:
    """Every figure of the mapping benchmark."""
    path = HERE / "speed" / "maps" / "cpu.json"
    if not path.exists():
        return "The benchmark has no record yet (`make bench-map`)."
    r = json.loads(path.read_text(encoding="utf-8"))
    rows = ["| ratio | median | least | largest |", "|---|---:|---:|---:|"]
    workers = json.loads((path.parent / "workers.json").read_text(encoding="utf-8"))
    ratios = r["ratios"] | {"one worker / two, seconds": workers["one worker / two, seconds"]}
    rows += [f"| {t} | {v['median']:.2f} | {v['low']:.2f} | {v['high']:.2f} |" for t, v in ratios.items()]
    memory = json.loads((path.parent / "memory.json").read_text(encoding="utf-8"))
    rows += [f"| peak memory, eight times taller / once | {memory['ratio']:.2f} | | |", ""]
    rows += ["| | pixels a second |", "|---|---:|", *(f"| {k} | {v:,.0f} |" for k, v in r["px_per_second"].items()), ""]
    rows += ["| on the held-out blocks of the training scene | OA | AA | labels |", "|---|---:|---:|---:|"]
    rows += [f"| {k} | {v['oa']:.1f} | {v['aa']:.1f} | {v['labels']} |" for k, v in r["accuracy"].items()]
    f = r["floor"]
    share = f["multiply_adds_per_px"] * r["px_per_second"]["computing"] / f["matrix_multiply_adds_per_second"]
    rows += [
        "",
        f"Floor: {f['multiply_adds_per_px']:,} multiply-adds a pixel, and one thread reaches "
        f"{f['matrix_multiply_adds_per_second'] / 1e9:.0f} billion a second in the backbone's widest product: computing runs at "
        f"{100 * share:.0f} % of that. Read: {f['bytes_read_per_px']} bytes a pixel. One thread, {r['rounds']} rounds; it does "
        "not show other machines, other windows or other sensors.",
    ]
    return "\n".join(rows)


def holes_table(records: Records) -> str:
    """Accuracy of a large map by distance to a cloud's rim."""
    path = HERE / "speed" / "maps" / "holes.json"
    if not path.exists():
        return "The comparison has no record yet (`python benchmarks/holes.py`)."
    r = json.loads(path.read_text(encoding="utf-8"))
    rows = ["| hyperspectral | px from the cloud's rim | pixels | OA | neighbours of one class, % |", "|---|---|---:|---:|---:|"]
    for row in r["rows"]:
        low, high = row["distance_px"]
        span = f"{low} to {high}" if high else f"over {low}"
        there = "there" if row["where"] == "outside" else "hidden"
        rows.append(f"| {there} | {span} | {row['pixels']:,} | {row['oa']:.1f} | {row['same_as_neighbours']:.1f} |")
    size, peak = r["scene"]["size_px"], r["peak_bytes"]
    worker = f", {peak['largest_worker'] / 1e9:.1f} GB in the larger worker" if "largest_worker" in peak else ""
    rows += [
        "",
        f"{size[0]:,} x {size[1]:,} px, {' + '.join(map(str, r['scene']['bands']))} bands, pixels that the other sensors see; "
        f"{r['workers']} worker(s) of one thread each, stride {r['stride_px'] or 'half a window'}: {r['seconds']:.0f} s, "
        f"{r['px_per_second']:,.0f} px a second; peak memory {peak['parent'] / 1e9:.1f} GB in the command{worker}. The scene is "
        "made, so it shows how holes are filled, not how well real land is classified.",
    ]
    return "\n".join(rows)


TABLES: dict[str, Callable[[Records], str]] = {
    "main": main_table,
    "paired": paired_table,
    "patterns": pattern_table,
    "cost": cost_table,
    "pretrained": pretrained_table,
    "pretrained_patterns": pretrained_patterns_table,
    "pretrained_cost": pretrained_cost_table,
    "speed": speed_table,
    "maps": maps_table,
    "holes": holes_table,
}


def rewritten(text: str, records: Records, study: Study) -> str:
    """Return a document with its tables, and its figures in prose, made anew."""

    def table(m: re.Match[str]) -> str:
        if m[2].startswith("pictures_"):
            made = links(study, m[2].removeprefix("pictures_"))
        else:
            made = STUDY_TABLES[m[2]](study) if m[2] in STUDY_TABLES else TABLES[m[2]](records)
        return f"{m[1]}{made}\n{m[4]}"

    return with_values(BLOCK.sub(table, text), study)


def main() -> None:
    """Write or check."""
    records, study, stale = read_all(), read_study(), []
    for name in FILES:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = rewritten(old, records, study)
        if new != old:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    for name in STRICT:
        loose = loose_numbers((ROOT / name).read_text(encoding="utf-8"))
        if loose:
            sys.exit(f"{name} has numbers that come from no record: {', '.join(loose)}")
    stale += stale_pictures(study)
    if "--check" not in sys.argv:
        draw_pictures(study)
    if "--check" in sys.argv and stale:
        sys.exit(f"these differ from the records: {', '.join(stale)}; run `make tables`.")


if __name__ == "__main__":
    main()
