"""The study on one picture: MaMOL minus every other method, a mark a data set, in mean OA and in mean AA."""

from __future__ import annotations

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from study_ranks import TOGETHER
from study_records import COLUMN, KEYS, LEAST, METHODS, PARADIGMS, Study, difference

from mamol.evaluate.interval import Interval

SHOWN = KEYS[:2]
EDGE = 8.0
"""Points to each side of zero that are drawn; what is further away stands at the edge, with an arrow."""
MARKS = {
    "worldcereal-canada-long": ("o", "#2b6cb0"),
    "worldcereal-galileo": ("s", "#63b3ed"),
    "bigearthnet-s1s2": ("^", "#2f855a"),
    "mfeat": ("D", "#6b46c1"),
    "idtrees": ("v", "#b7791f"),
    "fashion-products": ("P", "#c53030"),
}


def found(study: Study) -> dict[str, dict[str, dict[str, Interval]]]:
    """Return method -> set -> measure -> MaMOL minus the method, for methods with three shared seeds on two sets or more."""
    out: dict[str, dict[str, dict[str, Interval]]] = {}
    for method, name, key in product(METHODS[1:], TOGETHER, SHOWN):
        over = difference(study, name, "mamol", method, key)
        if over is not None and over.n >= LEAST:
            out.setdefault(method, {}).setdefault(name, {})[key] = over
    return {method: sets for method, sets in out.items() if len(sets) > 1}


def overview(study: Study) -> Figure:
    """Draw the differences: filled where the 95 % interval leaves zero out, hollow where it does not."""
    rows = found(study)
    figure = Figure(figsize=(10.5, 1.4 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(SHOWN), sharey=True)
    for axis, key in zip(axes, SHOWN, strict=True):
        for y, sets in enumerate(rows.values()):
            lanes = np.linspace(-0.32, 0.32, len(TOGETHER))
            for name, over in sets.items():
                _mark(axis, over[key], y + lanes[TOGETHER.index(name)], *MARKS[name])
        axis.axvline(0, color="black", linewidth=0.8)
        for y in range(len(rows) - 1):
            border = list(rows)[y] in PARADIGMS and list(rows)[y + 1] not in PARADIGMS
            axis.axhline(y + 0.5, color="black" if border else "#e2e8f0", linewidth=0.8 if border else 0.6)
        axis.set_xlim(-EDGE - 0.4, EDGE + 0.4)
        axis.set_xlabel(f"{COLUMN[key]}: MaMOL minus the method, points")
        axis.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    legend = [
        Line2D([], [], marker=mark, color=ink, linestyle="", markersize=5, label=name) for name, (mark, ink) in MARKS.items()
    ]
    figure.legend(handles=legend, loc="outside upper center", ncols=len(MARKS), fontsize=8, frameon=False)
    return figure


def _mark(axis: Axes, over: Interval, y: float, mark: str, ink: str) -> None:
    """Draw one difference and its interval, cut at the edge."""
    apart = over.low > 0 or over.high < 0
    at = float(np.clip(over.mean, -EDGE, EDGE))
    axis.plot(np.clip([over.low, over.high], -EDGE, EDGE), [y, y], "-", color=ink, linewidth=0.8, alpha=0.55)
    axis.plot(at, y, mark, color=ink, markersize=4.5, fillstyle="full" if apart else "none", markeredgewidth=0.9)
    if at != over.mean:
        axis.plot(at + 0.25 * np.sign(at), y, ">" if at > 0 else "<", color=ink, markersize=2.5)
