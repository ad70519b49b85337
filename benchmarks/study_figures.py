"""The study's pictures, drawn from its records: docs/figures/study-*.png.

    overview     MaMOL minus every other method, a mark a data set: the study on one picture (study_overview.py)
    heat map     OA per pattern (columns) and method (rows) against MaMOL on the same seeds, one picture a set
    cost         mean OA against MaMOL over the weights that train and over multiply-adds, one picture a set
    rates        OA over the test rate, a line for every rate of training, where the records have them
    learning     the score on validation over the steps, every method minus MaMOL's
    experts      MaMOL's mean gates by pattern and layer, where the records have them

A picture carries a hash of the figures that it was drawn from, so that table.py can tell a stale one without drawing it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from PIL import Image
from study_overview import found, overview
from study_records import METHODS, SETS, Study, by_pattern, difference, mean_rates, multiply_adds, trained_weights

from mamol.evaluate.plots import expert_activation

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "figures"
CAPTIONS = {
    "overview": "MaMOL minus every other method, a mark a data set",
    "patterns": "OA by pattern, MaMOL and the others minus it",
    "cost": "Mean OA against MaMOL over trained weights and multiply-adds",
    "experts": "Mean gates by pattern and layer",
    "rates": "OA over the missing rate",
    "learning": "Score on validation over the training steps, minus MaMOL's",
}
OVERVIEW, ALL = "overview", "all sets"
LEAST = 3
"""Methods that a set needs to be drawn."""
FAR = -12.0
"""What is further below MaMOL stands at this height with an arrow down, beside its value."""


def pictures(study: Study) -> dict[str, tuple[str, str]]:
    """Return what there is to draw: file name -> (kind, set)."""
    shown = [s for s in SETS if len(_methods(study, s)) >= LEAST]
    needs = {"experts": _gates, "rates": mean_rates, "learning": _learning}
    kinds = [(k, s) for s in shown for k in DRAW if k not in needs or needs[k](study, s)]
    together = {f"study-{OVERVIEW}.png": (OVERVIEW, ALL)} if found(study) else {}
    return together | {f"study-{kind}-{s}.png": (kind, s) for kind, s in kinds}


def links(study: Study, kind: str) -> str:
    """Return the lines of a document that show all pictures of a kind."""
    shown = [f"![{CAPTIONS[kind]}, {name}](figures/{file})" for file, (k, name) in pictures(study).items() if k == kind]
    return "\n\n".join(shown) if shown else "There is nothing to draw yet."


def stale_pictures(study: Study) -> list[str]:
    """List the pictures that are missing or were drawn from other figures."""
    out = []
    for file, (kind, name) in pictures(study).items():
        path = FOLDER / file
        if not path.exists() or Image.open(path).info.get("records") != fingerprint(study, kind, name):
            out.append(f"docs/figures/{file}")
    return out


def draw_pictures(study: Study) -> None:
    """Draw what is stale."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = stale_pictures(study)
    for file, (kind, name) in pictures(study).items():
        if f"docs/figures/{file}" in stale:
            figure = overview(study) if kind == OVERVIEW else DRAW[kind](study, name)
            figure.savefig(FOLDER / file, dpi=110, metadata={"records": fingerprint(study, kind, name)})


def fingerprint(study: Study, kind: str, name: str) -> str:
    """Return a hash of the figures behind a picture."""
    if kind == OVERVIEW:
        rows = [(m, s, k, over) for m, sets in found(study).items() for s, own in sets.items() for k, over in own.items()]
        ends = [(m, s, k, *(round(v, 2) for v in (over.mean, over.low, over.high))) for m, s, k, over in rows]
        return _hash([kind, ends])
    methods = _methods(study, name)
    labels, rows = by_pattern(study, name, methods)
    shown = {
        "patterns": lambda: [labels, rows],
        "cost": lambda: [_points(study, name)],
        "experts": lambda: [_gates(study, name)],
        "rates": lambda: [sorted(mean_rates(study, name).items())],
        "learning": lambda: [_learning(study, name)],
    }[kind]()
    return _hash([kind, methods, shown])


def _hash(shown: Any) -> str:
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def _methods(study: Study, name: str) -> list[str]:
    """List the methods that share a seed with MaMOL, MaMOL first; none where it has no record."""
    return [m for m in METHODS if difference(study, name, m, "mamol", "mean_oa")]


def _points(study: Study, name: str) -> dict[str, tuple[int, int, float]]:
    """Return weights that train, multiply-adds, and mean OA minus MaMOL's on the same seeds, of every network."""
    out = {}
    for method in _methods(study, name):
        some = next(iter(study[name, method, "patterns"].values()))
        over = difference(study, name, method, "mamol", "mean_oa")
        if over and some.get("parameters"):
            out[method] = (trained_weights(study, name, method), multiply_adds(name, method), round(over.mean, 2))
    return out


def _gates(study: Study, name: str) -> dict[str, Any]:
    """Return MaMOL's mean gates over the seeds, as `expert_activation` gives them; {} without a record of them."""
    runs = [r["activation"] for r in study.get((name, "mamol", "patterns"), {}).values() if r.get("activation")]
    if not runs:
        return {}
    means = {p: np.mean([r["patterns"][p] for r in runs], axis=0).round(4).tolist() for p in runs[0]["patterns"]}
    return {"experts": runs[0]["experts"], "patterns": means}


def _learning(study: Study, name: str) -> dict[str, list[tuple[int, float]]]:
    """Return (step, score on validation minus MaMOL's) of every network, mean over the seeds that it shares with MaMOL.

    A line ends where the first of its runs, or of MaMOL's, stopped; {} where fewer than three have such rows.
    """
    scores = {
        method: {
            seed: {int(row["step"]): row["score"] for row in rows}
            for seed, result in study[name, method, "patterns"].items()
            if (rows := result.get("training", {}).get("rows"))
        }
        for method in _methods(study, name)
    }
    out = {}
    for method, runs in scores.items():
        pairs = [(own, scores["mamol"][seed]) for seed, own in runs.items() if seed in scores["mamol"]]
        if len(pairs) >= LEAST and any(len(own) > 1 for own, _ in pairs):  # of one scoring there is no line
            steps = sorted(set.intersection(*(own.keys() & ours.keys() for own, ours in pairs)))
            out[method] = [(step, round(float(np.mean([own[step] - ours[step] for own, ours in pairs])), 2)) for step in steps]
    return out if len(out) >= LEAST else {}


def experts(study: Study, name: str) -> Figure:
    """Draw which experts are on under every pattern."""
    return expert_activation(_gates(study, name))


def heat_map(study: Study, name: str) -> Figure:
    """Draw MaMOL's OA per pattern, and what every other method has over or under it on the same seeds."""
    methods = _methods(study, name)
    labels, rows = by_pattern(study, name, methods)
    values = np.array(rows)
    figure = Figure(figsize=(2.4 + 0.75 * len(labels), 1.2 + 0.26 * len(methods)), layout="constrained")
    axis = figure.subplots()
    shades = np.vstack([np.zeros_like(values[:1]), values[1:]])
    axis.imshow(shades, cmap="RdBu", vmin=-12, vmax=12, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if i and abs(value) > 8 else "black"
        axis.text(j, i, f"{value:+.1f}" if i else f"{value:.1f}", ha="center", va="center", fontsize=7, color=ink)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(methods)), methods, fontsize=8)
    axis.set_title(f"{name}: OA of MaMOL, %, and the others minus it", fontsize=9)
    return figure


def cost(study: Study, name: str) -> Figure:
    """Draw mean OA over the weights that train, and over the multiply-adds of what was counted; a ring is MaMOL folded."""
    points = _points(study, name)
    titles = ["weights that train", "multiply-adds, a batch of mixed patterns"]
    figure = Figure(figsize=(5.8 * len(titles), max(3.2, 1.6 + 0.19 * len(points))), layout="constrained")
    for i, (axis, title) in enumerate(zip(figure.subplots(1, len(titles)), titles, strict=True)):
        order = sorted((m for m in points if points[m][i]), key=lambda m: points[m][2])
        shown = {m: max(points[m][2], FAR) for m in order}
        heights = spread(list(shown.values()))
        for method, height in zip(order, heights, strict=True):
            ink, at = "#c53030" if method == "mamol" else "#2b6cb0", (points[method][i], shown[method])
            axis.plot(*at, "o" if shown[method] == points[method][2] else "v", color=ink, markersize=5)
            line = {"arrowstyle": "-", "color": "#cbd5e0", "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 1}
            label = method if method == "mamol" else f"{points[method][2]:+.1f}  {method}"
            beside = ("axes fraction", "data")
            axis.annotate(
                label, at, (1.05, height), textcoords=beside, fontsize=7, va="center", color=ink, arrowprops=line, zorder=0
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=_ticks([points[m][i] for m in order])))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_ylim(heights[0] - 0.5, heights[-1] + 0.5)
        axis.set_xlabel(title)
        axis.set_ylabel("mean OA minus MaMOL's")
        axis.grid(alpha=0.3)
    axis.plot(multiply_adds(name, "head"), 0.0, "o", color="#c53030", markersize=8, fillstyle="none")
    figure.suptitle(name, fontsize=9)
    return figure


def _ticks(values: Sequence[int]) -> tuple[float, ...]:
    """Return where a decade has ticks: the fewer, the more decades there are, so that their labels do not overlap."""
    return (1, 2, 3, 5) if max(values) < 10 * min(values) else (1, 3)


def spread(values: Sequence[float]) -> list[float]:
    """Move sorted heights apart, about their common middle, until labels at them do not overlap."""
    gap = max((values[-1] - values[0]) / len(values), 0.2) * 0.9
    out = [values[0]]
    for value in values[1:]:
        out.append(max(value, out[-1] + gap))
    over = out[-1] - values[-1]
    return [v - over / 2 for v in out]


def rates(study: Study, name: str) -> Figure:
    """Draw OA over the share of the test that lacks something, one panel a method, one line a rate of training."""
    found = mean_rates(study, name)
    methods = list(dict.fromkeys(method for method, _ in found))
    figure = Figure(figsize=(4 * len(methods), 3.4), layout="constrained")
    axes = dict(zip(methods, figure.subplots(1, len(methods), squeeze=False, sharey=True)[0], strict=True))
    for (method, trained), line in found.items():
        axes[method].plot(
            *zip(*line, strict=True), "o-", color=str(0.7 * (1 - float(trained))), markersize=3, label=f"trained at {trained}"
        )
    for method, axis in axes.items():
        axis.set_xlabel("missing rate of the test")
        axis.set_title(f"{name}: {method}", fontsize=9)
        axis.grid(alpha=0.3)
    axes[methods[0]].set_ylabel("OA, %")
    axes[methods[0]].legend(fontsize=7)
    return figure


NAMED = {"mamol": "#c53030", "lora": "#2b6cb0", "per-pattern": "#2f855a", "full": "#b7791f", "head": "#6b46c1"}
"""Lines that have a colour and a name; the others, which are many and close, are grey."""


def learning(study: Study, name: str) -> Figure:
    """Draw how far behind or ahead of MaMOL every network is while they learn, on the validation part."""
    found = _learning(study, name)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    others = [m for m in found if m not in NAMED]
    for method in [*others, *(m for m in NAMED if m in found)]:
        steps, scores = zip(*found[method], strict=True)
        label = method if method in NAMED else {others[0]: f"{len(others)} more"}.get(method)
        width = 1.8 if method in NAMED else 0.7
        axis.plot(steps, scores, "-", color=NAMED.get(method, "#a0aec0"), linewidth=width, label=label)
    axis.set_ylim(max(axis.get_ylim()[0], FAR), None)
    axis.set_xlabel("step")
    axis.set_ylabel("(OA + AA) / 2 minus MaMOL's")
    axis.set_title(f"{name}: score on validation, mean over patterns and seeds", fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure


DRAW = {"patterns": heat_map, "cost": cost, "experts": experts, "rates": rates, "learning": learning}
