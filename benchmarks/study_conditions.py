"""The tables of docs/study.md that change something: unseen patterns, ablations, rates, worse sensors, later ones, time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from study_cells import HERE, ablated, about, names_of
from study_records import (
    KEYS,
    LEAST,
    METHODS,
    SETS,
    Runs,
    Study,
    difference,
    mean_rates,
    seeds_of,
    shown,
    signed,
    trained_weights,
)

from mamol.evaluate.interval import mean_interval, paired_interval
from mamol.evaluate.metrics import calibration_floor

LATER = HERE / "results" / "later"
"""Records of sensors that came later (study_later.py)."""
STARTS = ("mamol", "double-steps")
"""What had the sensor from the start: with the steps of the set, and with as many as a training and an extension have."""
TRUST = ("mamol", "more-vs-fewer", "distillation", "lora", "per-pattern", "full", "networks", "forest", "boosted")


def trust_table(study: Study) -> str:
    """What a model does with patterns that it never saw, and how far its confidence can be trusted."""
    heads = (
        "unseen minus seen, OA",
        "confidence rises, %",
        "more sensors turn right to wrong, %",
        "largest ECE, %",
        "its floor, %",
    )
    rows = [f"| set | method | seeds | {' | '.join(heads)} |", f"|---|---|---:|{'---:|' * len(heads)}"]
    for name in SETS:
        for method in TRUST:
            runs = list(study.get((name, method, "patterns"), {}).values())
            if runs:
                rises, flips = ([r[k] for r in runs] for k in ("confidence_rise", "counter_intuitive"))
                worst = [max(r["patterns"], key=lambda p: p["ece"]) for r in runs]
                floors = [floor for p in worst if (floor := _floor(p)) is not None]
                figures = " | ".join(shown(c) if c else "-" for c in (rises, flips, [p["ece"] for p in worst], floors))
                figures += f" {seeds_of(len(floors))}" if LEAST <= len(floors) < len(runs) else ""
                rows.append(f"| {name} | {method} | {len(runs)} | {_unseen(study, name, method)} | {figures} |")
    note = (
        "Unseen: patterns that training held out, a third of them a seed, against having seen them, paired by seed. Confidence "
        "rises: of all samples and pairs of patterns that differ by one sensor, those where taking it away makes it surer. "
        "ECE: under the worst pattern, after temperature scaling per pattern; its floor is what a perfectly calibrated model "
        "would show on so many samples by chance (records of before it was counted have none); neighbours in a scene are not "
        "independent, and the worst of several patterns is picked, so chance alone gives more than it. Trees are not scaled; "
        "`more-vs-fewer` and `distillation` are MaMOL with that loss."
    )
    return "\n".join([*rows, "", note])


def _floor(row: dict[str, Any]) -> float | None:
    """Return the ECE that chance alone would show under a pattern; None for a record that has neither it nor the bins."""
    given = row.get("ece_floor")
    return given if given is not None or "reliability" not in row else calibration_floor(row["reliability"])


def _unseen(study: Study, name: str, method: str) -> str:
    """Return the OA of patterns that were held out of training minus that of having seen them."""
    held, seen = (study.get((name, method, p), {}) for p in ("unseen", "patterns"))
    seeds = sorted(set(held) & set(seen))
    means = [[_mean_oa(held[s], set(held[s]["held_out"])), _mean_oa(seen[s], set(held[s]["held_out"]))] for s in seeds]
    if not seeds:
        return "-"
    found = signed(paired_interval([m[0] for m in means], [m[1] for m in means]))
    return found if len(seeds) < LEAST or len(seeds) == len(seen) else f"{found} {seeds_of(len(seeds))}"


def _mean_oa(result: dict[str, Any], chosen: set[str]) -> float:
    found = [p["oa"] for p in result["patterns"] if "+".join(p["present"]) in chosen]
    return sum(found) / len(found)


def ablations_table(study: Study) -> str:
    """What each ablation changes, set by set: the ablated method minus the method, paired by seed."""
    out = []
    for name in SETS:
        found = [a for a in names_of("ablations") if (name, a, "patterns") in study]
        rows = []
        for ablation in found:
            cells = [signed(difference(study, name, ablation, ablated(ablation), k)) for k in KEYS]
            weights = trained_weights(study, name, ablation)
            seeds = len(study[name, ablation, "patterns"])
            rows.append(f"| {ablation} | {about(ablation)} | {seeds} | {weights:,} | {' | '.join(cells)} |")
        if rows:
            head = "| ablation | what | seeds | trained weights | mean OA | mean AA | worst OA |"
            out += [f"### {name}", "", head, "|---|---|---:|---:|---:|---:|---:|", *rows, ""]
    note = (
        "Points: the ablation minus what it ablates (MaMOL where nothing else is said), paired by seed, with the 95 % interval. "
        "Those that take a part out have fewer "
        "weights, too; hold them against the column of weights. They are written for three sensors."
    )
    return "\n".join([*out, note]) if out else "No ablation has a record yet (`python benchmarks/study.py SET/ablations`)."


def rates_table(study: Study) -> str:
    """OA of every training rate (rows) under every test rate (columns), all modalities going missing alike."""
    out = []
    for name in SETS:
        found = mean_rates(study, name)
        if found:
            tested = [f"tested at {rate:g}" for rate, _ in next(iter(found.values()))]
            out += [
                f"### {name}",
                "",
                f"| method | trained at | seeds | {' | '.join(tested)} |",
                f"|---|---:|---:|{'---:|' * len(tested)}",
            ]
            for (method, rate), line in found.items():
                seeds = len(study[name, method, f"rate-{rate}"])
                out.append(f"| {method} | {rate} | {seeds} | {' | '.join(f'{oa:.1f}' for _, oa in line)} |")
            out.append("")
    note = "OA in percent, mean over the seeds. A rate is the share of the places that lack something, by a frozen table."
    return (
        "\n".join([*out, note])
        if out
        else "No run has a record yet (`python benchmarks/study.py SET/mamol --protocol rate-0.5`)."
    )


def faults_table(study: Study) -> str:
    """OA with a hole in one sensor, or with one sensor worse, mean over the sensors."""
    out = []
    for protocol, name in ((p, s) for p in ("pixel", "degraded") for s in SETS):
        methods = [m for m in METHODS if (name, m, protocol) in study]
        if methods:
            steps = {m: _by_step(study[name, m, protocol]) for m in methods}
            counts = " | ".join(f"{m} {seeds_of(len(study[name, m, protocol]))}" for m in methods)
            out += [f"### {name}: {protocol}", "", f"| what | {counts} |", f"|---|{'---:|' * len(methods)}"]
            out.append(f"| nothing wrong | {' | '.join(_undisturbed(study, name, m, protocol) for m in methods)} |")
            out += [f"| {what} | {' | '.join(steps[m][what] for m in methods)} |" for what in steps[methods[0]]] + [""]
    note = (
        "OA in percent with every other sensor there, mean over the sensors and the seeds; after the stroke: only the pixels in "
        "the hole. Noise and bias in standard deviations of the band; a shifted or noisy sensor says that it is there."
    )
    return (
        "\n".join([*out, note]) if out else "No run has a record yet (`python benchmarks/study.py SET/mamol --protocol pixel`)."
    )


def _undisturbed(study: Study, name: str, method: str, protocol: str) -> str:
    """Return the mean OA with every sensor there, of the seeds that were disturbed."""
    whole = study.get((name, method, "patterns"), {})
    seeds = study[name, method, protocol]
    return f"{sum(whole[s]['patterns'][0]['oa'] for s in seeds) / len(seeds):.1f}" if seeds.keys() <= whole.keys() else "-"


def _by_step(runs: Runs) -> dict[str, str]:
    """Return the mean OA, and that in the hole, of every kind and step."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in (r for result in runs.values() for r in result["rows"] if r["n"]):
        step = f"{row['step']:.0%}" if row["step"] < 1 and row["n_hidden"] else f"{row['step']:g}"
        rows.setdefault(f"{row['kind']} {step}", []).append(row)
    out = {}
    for what, found in rows.items():
        hidden = [r["oa_hidden"] for r in found if r["oa_hidden"] is not None]
        inside = f" / {sum(hidden) / len(hidden):.1f}" if hidden else ""
        out[what] = f"{sum(r['oa'] for r in found) / len(found):.1f}{inside}"
    return out


def time_table(study: Study) -> str:
    """Every paradigm's time over LoRA's in one run (study_speed.py)."""
    path = HERE / "speed" / "study" / "cpu.json"
    if not path.exists():
        return "The times have no record yet (`python benchmarks/study_speed.py`)."
    record = json.loads(path.read_text(encoding="utf-8"))
    weighed = path.with_name("memory.json")
    kept = json.loads(weighed.read_text(encoding="utf-8"))["kept"] if weighed.exists() else {}
    order = [m for m in METHODS if m in record["ratios"]] + [m for m in record["ratios"] if m not in METHODS]
    kinds = list(record["ratios"][order[0]])
    rows = [f"| over LoRA's | {' | '.join(f'time: {k}' for k in kinds)} | memory |", f"|---|{'---:|' * (len(kinds) + 1)}"]
    for method in order:
        cells = [f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in record["ratios"][method].values()]
        rows.append(f"| {method} | {' | '.join(cells)} | {f'{kept[method]:.2f}' if method in kept else '-'} |")
    note = (
        f"`{record['command']}`: the embedded scene, three sensors, batch 32, one CPU thread, {record['rounds']} rounds; medians "
        "of the ratios within a round, with 95 % bootstrap intervals. One pattern: not folded into an ordinary network. Memory: "
        "what a training step keeps for its backward pass, without the weights (`... --memory`). It does not show GPUs, other "
        "batch sizes or other backbones."
    )
    return "\n".join([*rows, "", note])


def read_later() -> dict[tuple[str, str], dict[int, list[dict[str, Any]]]]:
    """Read every record: (set, sensor) -> seed -> the rows of its patterns."""
    out: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for path in sorted(LATER.glob("*.json")):
        name, sensor, seed = path.stem.split("--")
        rows = json.loads(path.read_text(encoding="utf-8"))["result"]["patterns"]
        out.setdefault((name, sensor), {})[int(seed)] = rows
    return out


def later_table(study: Study) -> str:
    """What a later sensor gains on what was there, and what it lacks on having been there from the start."""
    heads = (
        "seeds", "without it: from the start", "with it: gained", "with it: from the start", "it alone: from the start",
        "with it: from the start, as many steps",
    )  # fmt: skip
    rows = [f"| set | sensor | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for (name, sensor), runs in read_later().items():
        start, long = ({s: _oa(r["patterns"]) for s, r in study.get((name, m, "patterns"), {}).items()} for m in STARTS)
        later = {s: _oa(rows_) for s, rows_ in runs.items()}
        gains = [gains_of(later[s], start[s], sensor) for s in sorted(later.keys() & start.keys())]
        cells = [signed(mean_interval(column)) for column in zip(*gains, strict=True)]
        if cells:
            longer = [gains_of(later[s], long[s], sensor)[2] for s in sorted(later.keys() & long.keys())]
            cells.append(signed(mean_interval(longer)) if longer else "-")
            rows.append(f"| {name} | {sensor} | {len(gains)} | {' | '.join(cells)} |")
    note = (
        "Points of OA, mean over patterns, paired by seed, with 95 % intervals. MaMOL is trained without the sensor, then "
        "extended by it (`mamol train --extend`), all of before frozen. Without it: the patterns that lack it, which an "
        "extension leaves as they were to the bit, minus those of MaMOL that had the sensor from the start. With it, gained: "
        "the patterns of some others and it, minus the same without it. From the start: minus MaMOL that had it from the start. "
        "Both trainings have the steps of the set each, so the last column is against MaMOL from the start with twice the steps "
        "(the ablation `double-steps`). Where a sensor has holes, patterns are tested on the places that have "
        "some of them. `python benchmarks/study_later.py SET/SENSOR --seed N`."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No record yet (`python benchmarks/study_later.py SET/SENSOR`)."


Row = dict[frozenset[str], float]
"""The OA of every pattern of a run."""


def gains_of(later: Row, start: Row, sensor: str) -> list[float]:
    """Return the four differences of the table for one seed."""

    def mean(row: Row, wanted: Sequence[frozenset[str]]) -> float:
        return sum(row[p] for p in wanted) / len(wanted)

    old, alone = [p for p in later if sensor not in p], frozenset({sensor})
    new = [p | alone for p in old]
    return [
        mean(later, old) - mean(start, old),
        mean(later, new) - mean(later, old),
        mean(later, new) - mean(start, new),
        later[alone] - start[alone],
    ]


def _oa(rows: Sequence[dict[str, Any]]) -> Row:
    return {frozenset(r["present"]): r["oa"] for r in rows}


CONDITION_TABLES: dict[str, Callable[[Study], str]] = {
    "study_trust": trust_table,
    "study_faults": faults_table,
    "study_time": time_table,
    "study_ablations": ablations_table,
    "study_rates": rates_table,
    "study_later": later_table,
}
