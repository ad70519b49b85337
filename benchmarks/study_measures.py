"""The tables of docs/study.md that look at results in another way: other measures, single classes, a split at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from study_cells import Cell
from study_records import FRONT, KEYS, LEAST, METHODS, SETS, Study, difference, seeds_of, shown, signed

from mamol.evaluate.interval import mean_interval

MEASURES = {"mean_kappa": "kappa", "mean_f1": "macro F1", "mean_nll": "NLL"}
HEADLINES = ("worldcereal-canada-long", "bigearthnet-s1s2", "idtrees")
"""The sets of the README's table, whose classes are shown one by one."""


def measures_table(study: Study) -> str:
    """Kappa, macro F1 and NLL of one model for all patterns, and what MaMOL has over the others."""
    heads = [*MEASURES.values(), *(f"Δ {m}" for m in MEASURES.values())]
    rows = [f"| set | method | seeds | {' | '.join(heads)} |", f"|---|---|---:|{'---:|' * len(heads)}"]
    for name, method in ((s, m) for s in SETS for m in FRONT if (s, m, "patterns") in study):
        runs = study[name, method, "patterns"]
        means = [shown([r[k] for r in runs.values()]) for k in MEASURES if k != "mean_nll"]
        means.append(f"{mean_interval([r['mean_nll'] for r in runs.values()]).mean:.2f}")
        over = ["" if method == "mamol" else _over(study, name, method, k) for k in MEASURES]
        rows.append(f"| {name} | {method} | {len(runs)} | {' | '.join([*means, *over])} |")
    note = (
        "Mean over patterns: kappa and F1 times 100, ± half of the 95 % interval over the seeds; NLL in nats, where less is "
        "better. Δ: MaMOL minus the method, paired by seed. Before NLL networks are scaled by a temperature per pattern, trees "
        "are not."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No cell has a record yet (`make study`)."


def _over(study: Study, name: str, method: str, key: str) -> str:
    """Show MaMOL minus a method; of NLL, which moves by hundredths, with two decimals."""
    found = difference(study, name, "mamol", method, key)
    if found is None or key != "mean_nll":
        return signed(found)
    return f"{found.mean:+.2f} " + (f"[{found.low:+.2f}, {found.high:+.2f}]" if found.n >= LEAST else seeds_of(found.n))


def classes_table(study: Study) -> str:
    """Every class's accuracy, mean over patterns and over the seeds that all methods have."""
    out = []
    for name in HEADLINES:
        found = {m: study[name, m, "patterns"] for m in FRONT if (name, m, "patterns") in study}
        seeds = sorted(set.intersection(*(set(runs) for runs in found.values()))) if found else []
        if seeds:
            heads = " | ".join(FRONT[m] for m in found)
            out += [f"### {name} {seeds_of(len(seeds))}", "", f"| class | {heads} |", f"|---|{'---:|' * len(found)}"]
            for label in next(iter(found.values()))[seeds[0]]["classes"]:
                cells = [_accuracy([runs[s] for s in seeds], label) for runs in found.values()]
                out.append(f"| {label} | {' | '.join(cells)} |")
            out.append("")
    note = "Percent of a class's labels that are right, mean over patterns and seeds."
    return "\n".join([*out, note]) if out else "No cell has a record yet (`make study`)."


def _accuracy(results: list[dict[str, Any]], label: str) -> str:
    """Return a class's mean accuracy over runs and patterns; "-" if no test part had it."""
    found = [v for r in results for p in r["patterns"] if (v := p["per_class"][label]) is not None]
    return f"{sum(found) / len(found):.1f}" if found else "-"


def random_table(study: Study) -> str:
    """What a split at random says beside the block split, on the same seeds, and how much of its test part it has seen."""
    heads = ("labels", "leak, %", "OA, block", "OA, random", "AA, block", "AA, random", "Δ OA, block", "Δ OA, random")
    rows = [f"| set | method | seeds | {' | '.join(heads)} |", f"|---|---|---:|{'---:|' * len(heads)}"]
    for name, method in ((s, m) for s in SETS for m in METHODS if (s, m, "random") in study):
        drawn, blocks = study[name, method, "random"], study.get((name, method, "patterns"), {})
        seeds = sorted(drawn.keys() & blocks.keys())
        if seeds and Cell(name, method, 0).home == name:  # trees are those of other sets with the same data, too
            counts = [round(mean_interval([drawn[s]["labels"][k] for s in seeds]).mean) for k in ("train", "validation")]
            leak = mean_interval([drawn[s]["overlap"]["percent"] for s in seeds]).mean
            cells = [shown([runs[s][k] for s in seeds]) for k in KEYS[:2] for runs in (blocks, drawn)]
            all_have = set(seeds) & study.get((name, "mamol", "random"), {}).keys()
            part = {k: {s: r for s, r in runs.items() if s in all_have} for k, runs in study.items() if k[0] == name}
            over = [signed(difference(part, name, "mamol", method, "mean_oa", protocol=p)) for p in ("patterns", "random")]
            cells += ["", ""] if method == "mamol" else over
            about = f"{counts[0]:,} + {counts[1]:,} | {leak:.0f}"
            rows.append(f"| {name} | {method} | {len(seeds)} | {about} | {' | '.join(cells)} |")
    note = (
        "OA and AA in percent, mean over patterns; Δ: MaMOL minus the method, points. At random: up to 100 labels a class, as "
        "the paper's scripts draw them, a fifth of them to validate, all others to test (labels: those that train and those "
        "that validate). Leak: test labels whose patch holds a training label, or whose group does; 0 of the block split, "
        "which trains on more labels. `python benchmarks/study.py SET/METHOD --seed N --protocol random`."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No run has a record yet (`... --protocol random`)."


MEASURE_TABLES: dict[str, Callable[[Study], str]] = {
    "study_measures": measures_table,
    "study_classes": classes_table,
    "study_random": random_table,
}
