"""What docs/study.md says, from the study's records: tables, single figures in prose, and pictures.

Tables stand between `<!-- table NAME -->` and `<!-- end table -->` as everywhere (table.py). A figure in prose stands between
`<!-- value SET METHOD KEY -->` and `<!-- end -->`; KEY is mean_oa, mean_aa, worst_oa, ... or, with two methods joined by two
hyphens ("mamol--lora"), their paired difference. Outside of these docs/study.md may hold no number with a decimal point.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mamol.evaluate.interval import Interval, mean_interval, paired_interval
from mamol.evaluate.report import pattern_name

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "study"
SETS = ("worldcereal-canada", "worldcereal-galileo", "mfeat", "idtrees", "bigearthnet-s1s2", "fashion-products", "embedded")
PARADIGMS = (
    "mamol", "mamol-paper", "lora", "lora+modality", "per-pattern", "dense", "top-k", "switch", "expert-choice", "soft-moe",
    "shared+routed", "modality-hard", "laplace", "flex", "masked-gate", "hydra", "adaptive",
)  # fmt: skip
OTHERS = ("head", "prompts", "full", "networks", "ensemble", "fill-zeros", "fill-mean", "fill-regression", "forest", "boosted")
KEYS = ("mean_oa", "mean_aa", "worst_oa")
VALUE = re.compile(r"<!-- value (\S+) (\S+) (\S+) -->(.*?)<!-- end -->", re.DOTALL)
SPARED = (
    r"<!-- table .*?<!-- end table -->", VALUE.pattern, r"```.*?```", r"`[^`]*`", r"\]\([^)]*\)", r"\b\d{4}\.\d{5}\b",
)  # fmt: skip
"""Where docs/study.md may hold numbers with a decimal point: from records, in code, in links, names of papers."""
Runs = dict[int, dict[str, Any]]
Study = dict[tuple[str, str, str], Runs]


def read_study() -> Study:
    """Read every record: (set, method, protocol) -> seed -> its result."""
    out: Study = {}
    for path in sorted(RESULTS.glob("*.json")):
        name, method, protocol, seed = path.stem.split("--")
        record = json.loads(path.read_text(encoding="utf-8"))
        out.setdefault((name, method, protocol), {})[int(seed)] = record["result"]
    return out


def difference(study: Study, name: str, ours: str, theirs: str, key: str) -> Interval | None:
    """Return the paired difference of two methods over the seeds that both have; None without any."""
    a, b = (study.get((name, m, "patterns"), {}) for m in (ours, theirs))
    seeds = sorted(set(a) & set(b))
    return paired_interval([a[s][key] for s in seeds], [b[s][key] for s in seeds]) if seeds else None


def signed(found: Interval | None) -> str:
    """Show a difference with its interval."""
    if found is None:
        return "-"
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]" if found.n > 1 else f"{found.mean:+.1f} (1 seed)"


def trained_weights(result: dict[str, Any]) -> int:
    """Count the weights that train."""
    return sum(v for k, v in result.get("parameters", {}).items() if k != "frozen")


def main_table(study: Study) -> str:
    """One table a set: every method's weights, accuracy, and what MaMOL has over it."""
    out = []
    for name in SETS:
        rows = [_row(study, name, m) for m in (*PARADIGMS, *OTHERS) if (name, m, "patterns") in study]
        if rows:
            head = "| method | seeds | trained weights | multiply-adds | mean OA | mean AA | worst OA | MaMOL minus it, mean OA |"
            out += [f"### {name}", "", head, "|---|---:|---:|---:|---:|---:|---:|---:|", *rows, ""]
    note = (
        "Percent over all patterns of the test part, mean ± half of the 95 % interval over the seeds; differences are paired by "
        "seed. Multiply-adds: one sample, or one pixel of a scene, with every sensor there. It does not show other backbones, "
        "tuned learning rates, or longer training."
    )
    return "\n".join([*out, note]) if out else "No cell has a record yet (`make study`)."


def _row(study: Study, name: str, method: str) -> str:
    runs = study[name, method, "patterns"]
    some = next(iter(runs.values()))
    weights = trained_weights(some)
    cells = [str(mean_interval([r[k] for r in runs.values()])) for k in KEYS]
    against = "" if method == "mamol" else signed(difference(study, name, "mamol", method, "mean_oa"))
    adds = f"{some['multiply_adds']:,}" if some.get("multiply_adds") else "-"
    return f"| {method} | {len(runs)} | {weights:,} | {adds} | {' | '.join(cells)} | {against} |"


def bars_table(study: Study) -> str:
    """MaMOL against what it is held to, set by set."""
    rivals = {
        "LoRA, equal weights": "lora",
        "whole network": "full",
        "forest": "forest",
        "boosted trees": "boosted",
        "a network per pattern": "networks",
    }
    rows = [f"| set | {' | '.join(rivals)} | best other paradigm | unseen patterns | confidence rises, % | largest ECE, % |"]
    rows.append("|---|" + "---:|" * (len(rivals) + 4))
    for name in SETS:
        ours = study.get((name, "mamol", "patterns"), {})
        if ours:
            cells = [signed(difference(study, name, "mamol", m, "mean_oa")) for m in rivals.values()]
            rises = str(mean_interval([r["confidence_rise"] for r in ours.values()]))
            ece = str(mean_interval([max(p["ece"] for p in r["patterns"]) for r in ours.values()]))
            rows.append(
                f"| {name} | {' | '.join(cells)} | {_best_other(study, name)} | {_unseen(study, name)} | {rises} | {ece} |"
            )
    return "\n".join([*rows, "", "MaMOL minus each in mean OA over patterns, points, paired by seed, with the 95 % interval."])


def _best_other(study: Study, name: str) -> str:
    """Name the best paradigm that is not ours, and what MaMOL has over it."""
    means = {
        m: mean_interval([r["mean_oa"] for r in study[name, m, "patterns"].values()]).mean
        for m in PARADIGMS
        if m != "mamol" and (name, m, "patterns") in study
    }
    if not means:
        return "-"
    best = max(means, key=lambda m: means[m])
    return f"{best}: {signed(difference(study, name, 'mamol', best, 'mean_oa'))}"


def _unseen(study: Study, name: str) -> str:
    """Return the OA of patterns that were held out of training minus that of having seen them."""
    held, seen = (study.get((name, "mamol", p), {}) for p in ("unseen", "patterns"))
    pairs = [(_held_out(held[s]), seen[s], held[s]) for s in sorted(set(held) & set(seen))]
    if not pairs:
        return "-"
    means = [[_mean_oa(r, out) for r in (without, having)] for out, having, without in pairs]
    return signed(paired_interval([m[0] for m in means], [m[1] for m in means]))


def _held_out(result: dict[str, Any]) -> set[str]:
    return set(result["held_out"])


def _mean_oa(result: dict[str, Any], chosen: set[str]) -> float:
    found = [p["oa"] for p in result["patterns"] if "+".join(p["present"]) in chosen]
    return sum(found) / len(found)


def patterns_table(study: Study) -> str:
    """OA per pattern of the paradigms, for sets of up to three modalities; larger ones by the number of modalities."""
    out = []
    for name in SETS:
        methods = [m for m in (*PARADIGMS, *OTHERS) if (name, m, "patterns") in study]
        if methods:
            labels, means = by_pattern(study, name, methods)
            cells = [f"| {m} | {' | '.join(f'{v:.1f}' for v in row)} |" for m, row in zip(methods, means, strict=True)]
            out += [f"### {name}", "", f"| method | {' | '.join(labels)} |", f"|---|{'---:|' * len(labels)}", *cells, ""]
    note = (
        "OA in percent, mean over the seeds of the table above; of sets with more than seven patterns the mean over the patterns "
        "of as many modalities."
    )
    return "\n".join([*out, note])


def by_pattern(study: Study, name: str, methods: list[str]) -> tuple[list[str], list[list[float]]]:
    """Return the columns' labels and one row of mean OA a method."""
    some = next(iter(study[name, methods[0], "patterns"].values()))["patterns"]
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(some):
        label = pattern_name(row["present"]) if len(some) <= 7 else f"{len(row['present'])} of {len(some[0]['present'])}"
        groups.setdefault(label, []).append(i)
    rows = []
    for method in methods:
        runs = study[name, method, "patterns"].values()
        means = (sum(r["patterns"][i]["oa"] for r in runs for i in g) / (len(runs) * len(g)) for g in groups.values())
        rows.append([round(m, 2) for m in means])
    return list(groups), rows


def ablations_table(study: Study) -> str:
    """What each ablation changes, set by set: the ablated mixture minus MaMOL, paired by seed."""
    out = []
    for name in SETS:
        found = sorted(f.stem for f in (HERE / "study" / "ablations").glob("*.toml") if (name, f.stem, "patterns") in study)
        rows = []
        for ablation in found:
            cells = [signed(difference(study, name, ablation, "mamol", k)) for k in KEYS]
            weights = trained_weights(next(iter(study[name, ablation, "patterns"].values())))
            rows.append(f"| {ablation} | {len(study[name, ablation, 'patterns'])} | {weights:,} | {' | '.join(cells)} |")
        if rows:
            head = "| ablation | seeds | trained weights | mean OA | mean AA | worst OA |"
            out += [f"### {name}", "", head, "|---|---:|---:|---:|---:|---:|", *rows, ""]
    note = "Points: the ablation minus MaMOL, paired by seed, with the 95 % interval. Below zero: the part that was changed pays."
    return "\n".join([*out, note]) if out else "No ablation has a record yet (`python benchmarks/study.py SET/ablations`)."


def rates_table(study: Study) -> str:
    """OA of every training rate (rows) under every test rate (columns), all modalities going missing alike."""
    out = []
    for name in SETS:
        found = {(m, p): runs for (s, m, p), runs in study.items() if s == name and p.startswith("rate-")}
        rows = []
        for (method, protocol), runs in sorted(found.items()):
            at: dict[float, list[float]] = {}
            for row in (r for result in runs.values() for r in result["rates"] if r["kind"] == "both"):
                at.setdefault(row["rate"], []).append(row["oa"])
            cells = [f"{sum(v) / len(v):.1f}" for v in at.values()]
            rows.append(f"| {method} | {protocol.removeprefix('rate-')} | {len(runs)} | {' | '.join(cells)} |")
        if rows:
            head = f"| method | trained at | seeds | {' | '.join(f'tested at {r:g}' for r in at)} |"
            out += [f"### {name}", "", head, f"|---|---:|---:|{'---:|' * len(at)}", *rows, ""]
    note = "OA in percent, mean over the seeds. A rate is the share of the places that lack something, by a frozen table."
    return (
        "\n".join([*out, note])
        if out
        else "No run has a record yet (`python benchmarks/study.py SET/mamol --protocol rate-0.5`)."
    )


STUDY_TABLES: dict[str, Callable[[Study], str]] = {
    "study_main": main_table,
    "study_bars": bars_table,
    "study_patterns": patterns_table,
    "study_ablations": ablations_table,
    "study_rates": rates_table,
}


def value(study: Study, name: str, method: str, key: str) -> str:
    """Return a figure for prose: a method's, or the difference of "a--b"; raises SystemExit if there is no record."""
    ours, _, theirs = method.partition("--")
    runs = study.get((name, ours, "patterns"), {})
    if not runs or (theirs and difference(study, name, ours, theirs, key) is None):
        raise SystemExit(f"docs/study.md names {name} {method} {key}; there is no record of it.")
    return signed(difference(study, name, ours, theirs, key)) if theirs else str(mean_interval([r[key] for r in runs.values()]))


def with_values(text: str, study: Study) -> str:
    """Return a document with its figures in prose made anew."""
    return VALUE.sub(lambda m: f"<!-- value {m[1]} {m[2]} {m[3]} -->{value(study, m[1], m[2], m[3])}<!-- end -->", text)


def loose_numbers(text: str) -> list[str]:
    """List the numbers with a decimal point that come from no record: outside of tables, values, code and links."""
    for pattern in SPARED:
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return re.findall(r"\d+\.\d+", text)
