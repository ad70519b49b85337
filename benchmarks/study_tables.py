"""The tables that compare methods, in docs/study.md and the README, from the study's records; table.py puts all in place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from study_amounts import AMOUNT_TABLES
from study_backbones import BACKBONE_TABLES
from study_cells import Cell, config_of, read_set
from study_conditions import CONDITION_TABLES
from study_measures import MEASURE_TABLES
from study_ranks import ranks_table
from study_records import (
    COLUMN,
    FRONT,
    KEYS,
    LEAST,
    METHODS,
    PARADIGMS,
    REAL,
    SETS,
    TEST_PER_TRAIN,
    Study,
    difference,
    multiply_adds,
    over_ground,
    shown,
    signed,
    trained_weights,
)
from study_trials import trials_table

from mamol.data.split import TEST_FOLDS
from mamol.evaluate.interval import Interval


def main_table(study: Study) -> str:
    """One table a set: every method's weights, accuracy, and what MaMOL has over it on the same seeds."""
    out = []
    heads = (
        "seeds",
        "trained weights",
        "multiply-adds",
        *COLUMN.values(),
        *(f"Δ {k}" for k in COLUMN.values()),
        "Δ validation",
    )
    for name in SETS:
        rows = [_row(study, name, m) for m in METHODS if (name, m, "patterns") in study]
        if rows:
            out += [f"### {name}", "", f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}", *rows, ""]
    note = (
        "Percent over all patterns of the test part, mean ± half of the 95 % interval over the seeds. Δ: MaMOL minus the method, "
        "paired over the seeds that both have; compare methods by it, rows of unlike seeds had unlike folds. Validation: the "
        "score that chooses the weights of a run, mean over patterns of (OA + AA) / 2 on the validation part. Multiply-adds: "
        "one sample, or one pixel of a scene, with every sensor there in a batch of mixed patterns. One row again: "
        "`python benchmarks/study.py SET/METHOD --seed N --again`. It does not show other data, or training longer than it says."
    )
    return "\n".join([*out, note]) if out else "No cell has a record yet (`make study`)."


def _row(study: Study, name: str, method: str) -> str:
    runs = study[name, method, "patterns"]
    cells = [shown([r[k] for r in runs.values()]) for k in KEYS]
    over = [None if method == "mamol" else difference(study, name, "mamol", method, k) for k in KEYS]
    cells += ["" if method == "mamol" else signed(d) for d in (*over, validation_over(study, name, method))]
    paired = "" if over[0] is None or over[0].n == len(runs) else f" (Δ: {over[0].n})"
    adds = multiply_adds(name, method)
    counts = f"{trained_weights(study, name, method):,} | {f'{adds:,}' if adds else '-'}"
    return f"| {method} | {len(runs)}{paired} | {counts} | {' | '.join(cells)} |"


def validation_over(study: Study, name: str, method: str) -> Interval | None:
    """Return what MaMOL has over a method on the validation part; None of what has no score there for every pattern."""
    some = next(iter(study[name, method, "patterns"].values()))
    scored = "best_score" in some.get("training", {})
    return difference(study, name, "mamol", method, "training.best_score") if scored else None


def front_table(study: Study) -> str:
    """For the README: one model for all patterns, five ways, on real data with land cover or crops."""
    rows = ["| data set | one model for all patterns | seeds | mean OA | mean AA | worst OA |", "|---|---|---:|---:|---:|---:|"]
    shown_as = {
        "worldcereal-canada-long": "crops in Canada (worldcereal-canada)",
        "bigearthnet-s1s2": "land cover (bigearthnet-s1s2)",
        "idtrees": "tree species (idtrees)",
    }
    for name, called in shown_as.items():
        found = {m: study[name, m, "patterns"] for m in FRONT if (name, m, "patterns") in study}
        seeds = sorted(set.intersection(*(set(runs) for runs in found.values()))) if found else []
        for method, runs in found.items() if seeds else ():
            cells = " | ".join(shown([runs[s][k] for s in seeds]) for k in KEYS)
            rows.append(f"| {called} | {FRONT[method]} | {len(seeds)} | {cells} |")
    note = (
        "Percent over every combination of sensors, mean ± half of the 95 % interval over the seeds that all have (fold, initial "
        "weights), block split; worst: a run's weakest combination; networks trained 2,400 steps on crops, 400 elsewhere; trees "
        "untuned. Folds differ more than methods do: [the study](docs/study.md) has the paired differences. By those no accuracy "
        "tells MaMOL from one LoRA of as many weights once it is allowed for that seeds share data, and trees trained on every "
        "combination are closer in OA than in AA on crops and tree species. It does not show other data, other splits, or longer "
        "training."
    )
    return "\n".join([*rows, "", note])


def verdict_table(study: Study) -> str:
    """On how many sets MaMOL is ahead of and behind every method, in mean OA and AA, by the interval of the difference."""
    heads = [f"{key}: {side}" for key in ("OA", "AA") for side in ("ahead", "not told apart", "behind")]
    rows = [f"| method | sets | {' | '.join(heads)} |", f"|---|---:|{'---:|' * len(heads)}"]
    totals = {"paradigms": np.zeros((2, 3), dtype=int), "other methods": np.zeros((2, 3), dtype=int)}
    for method in METHODS[1:]:
        total = totals["paradigms" if method in PARADIGMS else "other methods"]
        cells: list[str] = []
        sets = 0
        for key in ("mean_oa", "mean_aa"):
            counts = np.array([_sides(study, method, key, corrected) for corrected in (False, True)])
            sets = int(counts[0].sum())
            total += counts
            cells += [f"{n} ({c})" if n or c else "0" for n, c in counts.T]
        if sets:
            rows.append(f"| {method} | {sets} | {' | '.join(cells)} |")
    note = (
        "How often the 95 % interval of MaMOL minus the method leaves zero out, of the sets with three shared seeds or more; in "
        "brackets, with the interval corrected for seeds that resample one data set, and without `mfeat`, whose one fixed test "
        f"part cannot be corrected so. {' '.join(_total(n, t) for n, t in totals.items() if t.any())} That chance holds for "
        "independent intervals that are as wide as they should be; these share MaMOL's runs, and the plain ones are too narrow. "
        "Not told apart is no tie: with three seeds the interval is several points wide. The four of `worldcereal` are one data "
        "set with two backbones and two lengths of training each, and the trees of all four are the same. On Galileo and "
        "`fashion-products` MaMOL's small experts have a larger scale than other methods' (Set-up)."
    )
    return "\n".join([*rows, "", note])


def _total(name: str, total: np.ndarray) -> str:
    """Say how many of all intervals leave zero out, and how many would by chance."""
    (ahead, open_, behind), (ahead_c, _, behind_c) = total.tolist()
    tests = ahead + open_ + behind
    return (
        f"Over the {name}, {ahead} of {tests} intervals say ahead and {behind} behind, corrected {ahead_c} and {behind_c}; were "
        f"all alike, about {round(tests / 20)} of the plain ones would leave zero out by chance."
    )


def _sides(study: Study, method: str, key: str, corrected: bool) -> tuple[int, int, int]:
    """Count the sets on which MaMOL is ahead, not told apart and behind."""
    counted = [s for s in REAL if not corrected or read_set(s)["split"] == "block"]
    found = [difference(study, s, "mamol", method, key, TEST_PER_TRAIN if corrected else 0.0) for s in counted]
    over = [d for d in found if d is not None and d.n >= LEAST]
    ahead, behind = sum(d.low > 0 for d in over), sum(d.high < 0 for d in over)
    return ahead, len(over) - ahead - behind, behind


def steps_table(study: Study) -> str:
    """Had the networks finished learning? How many of a set's runs score best at their last scorings."""
    rows = ["| set | steps | scored every | runs | best at the last scoring | at it or the one before |", f"|---|{'---:|' * 5}"]
    for name in SETS:
        runs = [r.get("training", {}) for m in METHODS for r in study.get((name, m, "patterns"), {}).values()]
        found = [(t["best_step"], [row["step"] for row in t["rows"]]) for t in runs if t.get("rows")]
        if found:
            train = config_of(Cell(name, "mamol", 0), ("a", "b")).train
            last, near = (sum(best in steps[-n:] for best, steps in found) for n in (1, 2))
            ends = f"{last} | {near}" if any(len(steps) > 1 for _, steps in found) else "- | -"
            rows.append(f"| {name} | {train.steps:,} | {train.eval_every} | {len(found)} | {ends} |")
    note = (
        "Runs of one network for all patterns, of all methods and seeds. Where most are best at the end, more steps would have "
        "helped; where few are, a run had passed its best by the score on validation, which does not say that a longer one, "
        "whose learning rate falls later, would be no better. `-`: scored once, at the end."
    )
    return "\n".join([*rows, "", note])


ABOUT = {
    "worldcereal-canada": "crops; a year of Sentinel-1 and Sentinel-2, weather with terrain",
    "mfeat": "handwritten numerals; pixel means, Fourier, profile, Zernike, Karhunen-Loève, morphological features",
    "idtrees": "tree species by pixel; hyperspectral, heights, photograph",
    "bigearthnet-s1s2": "land cover by pixel; Sentinel-1, Sentinel-2",
    "fashion-products": "kind of article; photograph, title without the kind's name, attributes",
    "embedded": "a made scene",
}


def data_table(study: Study) -> str:
    """What the data sets are: modalities, classes, patterns, and the labels that a seed tests on."""
    rows = ["| data set | what | modalities | classes | patterns | labels tested on, by seed |", "|---|---|---|---:|---:|---:|"]
    seen: set[str] = set()
    for name in (s for s in SETS if (s, "mamol", "patterns") in study):
        runs, called = study[name, "mamol", "patterns"], str(read_set(name)["dataset"])
        some, tested = next(iter(runs.values())), sorted(r["patterns"][0]["n"] for r in runs.values())
        if called not in seen:
            seen.add(called)
            count = f"{tested[0]:,}" if tested[0] == tested[-1] else f"{tested[0]:,} to {tested[-1]:,}"
            modalities = ", ".join(some["patterns"][0]["present"])
            rows.append(
                f"| {called} | {ABOUT[called]} | {modalities} | {len(some['classes'])} | {len(some['patterns'])} | {count} |"
            )
    return "\n".join(rows)


RIVALS = {
    "LoRA, equal weights": "lora",
    "whole network": "full",
    "forest": "forest",
    "boosted trees": "boosted",
    "a network per pattern": "networks",
}


def bars_table(study: Study) -> str:
    """MaMOL against what it is held to, set by set."""
    rows = [f"| set | measure | {' | '.join(RIVALS)} | best other paradigm |", f"|---|---|{'---:|' * (len(RIVALS) + 1)}"]
    for name in SETS:
        for key in ("mean_oa", "worst_oa") if (name, "mamol", "patterns") in study else ():
            cells = [signed(difference(study, name, "mamol", m, key)) for m in RIVALS.values()]
            rows.append(f"| {name} | {COLUMN[key]} | {' | '.join(cells)} | {_best_other(study, name, key)} |")
    note = (
        "MaMOL minus each, points, paired by seed, with the 95 % interval. The best other paradigm is the one that MaMOL has the "
        "least over, of those with three shared seeds or more: the best of many is partly the luckiest."
    )
    return "\n".join([*rows, "", note])


def _best_other(study: Study, name: str, key: str) -> str:
    """Name the other paradigm that MaMOL has the least over, and what it has; on shared seeds, of which there are enough."""
    found = [(m, difference(study, name, "mamol", m, key)) for m in PARADIGMS if m != "mamol"]
    enough = [(m, over) for m, over in found if over is not None and over.n >= LEAST]
    if not enough:
        return "-"
    best, over = min(enough, key=lambda pair: pair[1].mean)
    return f"{best}{'' if len(enough) > 1 else ', the only one'}: {signed(over)}"


GROUND = ("lora", "full", "forest", "boosted", "networks")


def ground_table(study: Study) -> str:
    """MaMOL minus others in mean OA: over seeds as elsewhere, and over groups of the test ground drawn again."""
    rows = ["| set | method | seeds | Δ OA | over seeds | groups | over groups |", "|---|---|---:|---:|---:|---:|---:|"]
    for name, method in ((s, m) for s in SETS for m in GROUND):
        found = over_ground(study, name, "mamol", method)
        if found:
            by_seed, (low, high), groups = found
            seeds = f"[{by_seed.low:+.1f}, {by_seed.high:+.1f}]" if by_seed.n >= LEAST else "-"
            rows.append(
                f"| {name} | {method} | {by_seed.n} | {by_seed.mean:+.1f} | {seeds} | {groups} | [{low:+.1f}, {high:+.1f}] |"
            )
    note = (
        "Points, with 95 % intervals. Over groups: the networks stay as they were trained, and the groups (map cells, plots, "
        "patches) of their test parts are drawn again, 2,000 times; what would other ground of the same kind have said? Of the "
        "seeds whose records count per group. It does not show what other initial weights would do; over seeds does."
    )
    return "\n".join([*rows, "", note]) if len(rows) > 2 else "No record counts per group yet."


def resampled_table(study: Study) -> str:
    """Of more seeds than one partition has folds: the differences with the plain interval, and corrected for resampling."""
    rows = ["| set | MaMOL minus | seeds | measure | Δ | plain | corrected |", "|---|---|---:|---|---:|---:|---:|"]
    for name, method, key in product([s for s in SETS if read_set(s)["split"] == "block"], METHODS[1:], KEYS):
        plain, corrected = (difference(study, name, "mamol", method, key, c) for c in (0.0, TEST_PER_TRAIN))
        if plain is not None and corrected is not None and plain.n > TEST_FOLDS:
            shown_as = " | ".join(f"[{d.low:+.1f}, {d.high:+.1f}]" for d in (plain, corrected))
            rows.append(f"| {name} | {method} | {plain.n} | {COLUMN[key]} | {plain.mean:+.1f} | {shown_as} |")
    note = (
        "Points. From the fifth seed on a seed draws another partition of the same samples; its test part shares up to 84 % "
        "with that of an earlier seed, so ten seeds are not ten independent looks. Corrected: Student's interval with 1/n + "
        f"{TEST_PER_TRAIN:.2f} in place of 1/n, samples tested on per sample trained on (Nadeau and Bengio, 2003)."
    )
    return "\n".join([*rows, "", note])


STUDY_TABLES: dict[str, Callable[[Study], str]] = (
    {
        "study_main": main_table,
        "study_front": front_table,
        "study_verdict": verdict_table,
        "study_bars": bars_table,
        "study_steps": steps_table,
        "study_data": data_table,
        "study_ranks": ranks_table,
        "study_ground": ground_table,
        "study_resampled": resampled_table,
        "study_trials": trials_table,
    }
    | CONDITION_TABLES
    | AMOUNT_TABLES
    | BACKBONE_TABLES
    | MEASURE_TABLES
)
