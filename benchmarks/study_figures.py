"""The study's pictures, drawn from its records: docs/figures/study-*.png.

    heat map     OA per pattern (columns) and method (rows), one picture a set
    weights      mean OA over the weights that train, one picture a set
    experts      MaMOL's mean gates by pattern and layer, where the records have them

A picture carries a hash of the figures that it was drawn from, so that table.py can tell a stale one without drawing it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from study_tables import OTHERS, PARADIGMS, SETS, Study, by_pattern, trained_weights

from mamol.evaluate.plots import expert_activation

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "figures"
LEAST = 3
"""Methods that a set needs to be drawn."""


def pictures(study: Study) -> dict[str, tuple[str, str]]:
    """Return what there is to draw: file name -> (kind, set)."""
    shown = [s for s in SETS if len(_methods(study, s)) >= LEAST]
    kinds = [(k, s) for s in shown for k in DRAW if k != "experts" or _gates(study, s)]
    return {f"study-{kind}-{s}.png": (kind, s) for kind, s in kinds}


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
            DRAW[kind](study, name).savefig(FOLDER / file, dpi=110, metadata={"records": fingerprint(study, kind, name)})


def fingerprint(study: Study, kind: str, name: str) -> str:
    """Return a hash of the figures behind a picture."""
    methods = _methods(study, name)
    labels, rows = by_pattern(study, name, methods)
    shown = {"patterns": [labels, rows], "weights": [_points(study, name)], "experts": [_gates(study, name)]}[kind]
    return hashlib.sha256(json.dumps([kind, methods, shown]).encode()).hexdigest()[:16]


def _methods(study: Study, name: str) -> list[str]:
    return [m for m in (*PARADIGMS, *OTHERS) if (name, m, "patterns") in study]


def _points(study: Study, name: str) -> dict[str, tuple[int, float]]:
    """Return weights that train and mean OA of every network."""
    out = {}
    for method in _methods(study, name):
        runs = list(study[name, method, "patterns"].values())
        if runs[0].get("parameters"):
            mean = sum(r["mean_oa"] for r in runs) / len(runs)
            out[method] = (trained_weights(runs[0]), round(mean, 2))
    return out


def _gates(study: Study, name: str) -> dict[str, Any]:
    """Return MaMOL's mean gates over the seeds, as `expert_activation` gives them; {} without a record of them."""
    runs = [r["activation"] for r in study.get((name, "mamol", "patterns"), {}).values() if r.get("activation")]
    if not runs:
        return {}
    means = {p: np.mean([r["patterns"][p] for r in runs], axis=0).round(4).tolist() for p in runs[0]["patterns"]}
    return {"experts": runs[0]["experts"], "patterns": means}


def experts(study: Study, name: str) -> Figure:
    """Draw which experts are on under every pattern."""
    return expert_activation(_gates(study, name))


def heat_map(study: Study, name: str) -> Figure:
    """Draw OA per pattern and method; a row's colours are relative to the column's range."""
    methods = _methods(study, name)
    labels, rows = by_pattern(study, name, methods)
    values = np.array(rows)
    low, high = values.min(0), values.max(0)
    figure = Figure(figsize=(2.4 + 0.75 * len(labels), 1.2 + 0.26 * len(methods)), layout="constrained")
    axis = figure.subplots()
    axis.imshow((values - low) / np.maximum(high - low, 1e-9), cmap="YlGnBu", vmin=0, vmax=1.3, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(methods)), methods, fontsize=8)
    axis.set_title(f"{name}: OA by pattern, %", fontsize=9)
    return figure


def weights(study: Study, name: str) -> Figure:
    """Draw mean OA over the weights that train."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for method, (count, oa) in _points(study, name).items():
        axis.plot(count, oa, "o", color="#c53030" if method == "mamol" else "#2b6cb0", markersize=5)
        axis.annotate(method, (count, oa), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axis.set_xscale("log")
    axis.set_xlabel("weights that train")
    axis.set_ylabel("mean OA over patterns, %")
    axis.set_title(name, fontsize=9)
    axis.grid(alpha=0.3)
    return figure


DRAW = {"patterns": heat_map, "weights": weights, "experts": experts}
