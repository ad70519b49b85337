"""Plots of scores, as PNG files: accuracy per pattern, rate curves, confusion, reliability, expert activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamol.evaluate.report import pattern_name
from mamol.files import atomic

METHOD_COLOURS = ("#2b6cb0", "#dd8452", "#55a868", "#8c8c8c")
PLOTS = ("accuracy.png", "confusion.png", "reliability.png", "rates.png", "pixel_*.png", "degraded_*.png", "experts.png")
"""The files that `draw_all` writes, of all protocols: a folder of nothing else may be drawn anew."""


def draw_all(results: Mapping[str, Mapping[str, Any]], activation: Mapping[str, Any] | None, folder: Path) -> list[Path]:
    """Draw every plot that the scores allow into `folder`, whole or not at all; return the files.

    `activation` {"experts": names, "patterns": {pattern: (L, E) gates}} adds the expert plot. Raises WriteFailed, and
    OutputExists for a folder that holds more than PLOTS.
    """
    first = next(iter(results.values()))
    figures: dict[str, Figure] = {}
    if first["protocol"] == "patterns":
        figures["accuracy"] = accuracy_per_pattern(results)
        figures["confusion"] = confusion_matrix(first)
        figures["reliability"] = reliability_diagram(first)
    elif first["protocol"] == "rate":
        figures["rates"] = curves(results, "rates", "kind", "rate", "missing rate")
    else:
        for modality in dict.fromkeys(r["modality"] for r in first["rows"]):
            own = {m: {"rows": [r for r in s["rows"] if r["modality"] == modality]} for m, s in results.items()}
            figures[f"{first['protocol']}_{modality}"] = curves(own, "rows", "kind", "step", "share, sd or px")
    if activation:
        figures["experts"] = expert_activation(activation)
    with atomic(folder, ours=PLOTS) as partial:
        partial.mkdir(parents=True)
        for name, figure in figures.items():
            figure.savefig(partial / f"{name}.png", dpi=130)
    return [folder / f"{name}.png" for name in figures]


def accuracy_per_pattern(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw OA of each method under each pattern as bars, AA as a mark."""
    first = next(iter(results.values()))
    names = [pattern_name(p["present"]) for p in first["patterns"]]
    figure = Figure(figsize=(1.6 + 0.9 * len(names), 4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(results)
    for i, (method, result) in enumerate(results.items()):
        at = np.arange(len(names)) + (i - (len(results) - 1) / 2) * width
        colour = METHOD_COLOURS[i % len(METHOD_COLOURS)]
        axis.bar(at, [p["oa"] or 0 for p in result["patterns"]], width * 0.95, color=colour, label=f"{method} OA")
        axis.plot(at, [p["aa"] or 0 for p in result["patterns"]], "_", color="black", markersize=11)
    axis.plot([], [], "_", color="black", label="AA")
    axis.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    axis.set_ylabel("accuracy, %")
    axis.set_ylim(0, 100)
    axis.legend(fontsize=8, ncols=2)
    return figure


def curves(results: Mapping[str, Mapping[str, Any]], key: str, panel: str, along: str, label: str) -> Figure:
    """Draw OA of the rows under `key` over row[along], one panel per row[panel], one line a method."""
    first = next(iter(results.values()))
    kinds = list(dict.fromkeys(r[panel] for r in first[key]))
    figure = Figure(figsize=(1 + 2.6 * len(kinds), 3.2), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds, strict=True):
        for i, (method, result) in enumerate(results.items()):
            rows = [r for r in result[key] if r[panel] == kind]
            colour = METHOD_COLOURS[i % len(METHOD_COLOURS)]
            axis.plot([r[along] for r in rows], [r["oa"] for r in rows], "o-", color=colour, label=method)
        axis.set_title("any" if kind == "both" else kind, fontsize=10)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("OA, %")
    axes[0].legend(fontsize=8)
    return figure


def confusion_matrix(result: Mapping[str, Any]) -> Figure:
    """Draw the confusion of the full pattern and of the worst one, each row in percent of its class."""
    rows = [p for p in result["patterns"] if p["n"]]
    shown = [rows[0], min(rows, key=lambda p: p["oa"])]
    size = 1.8 + 0.34 * len(result["classes"])
    figure = Figure(figsize=(2 * size + 1, size + 0.6), layout="constrained")
    for axis, row in zip(figure.subplots(1, 2, squeeze=False)[0], shown, strict=True):
        matrix = np.asarray(row["confusion"], dtype=float)
        share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        _heat(axis, share, result["classes"], result["classes"], 100)
        axis.set_title(f"{pattern_name(row['present'])}: OA {row['oa']:.1f} %", fontsize=10)
        axis.set_xlabel("predicted")
        axis.set_ylabel("truth")
    return figure


def reliability_diagram(result: Mapping[str, Any]) -> Figure:
    """Draw accuracy over confidence for every pattern; the diagonal is perfect calibration."""
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
    for row in result["patterns"]:
        bins = row["reliability"]
        if bins:
            label = f"{pattern_name(row['present'])} (ECE {row['ece']:.1f})"
            axis.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", markersize=3, label=label)
    axis.set_xlabel("confidence")
    axis.set_ylabel("accuracy")
    axis.legend(fontsize=7)
    return figure


def expert_activation(activation: Mapping[str, Any]) -> Figure:
    """Draw the mean gate of every expert (columns) in every layer (rows), one panel per pattern."""
    patterns = activation["patterns"]
    columns = min(4, len(patterns))
    rows = -(-len(patterns) // columns)
    figure = Figure(figsize=(1 + 2.7 * columns, 0.8 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, gates) in zip(axes, patterns.items(), strict=False):
        layers = [f"layer {i + 1}" for i in range(len(gates))]
        _heat(axis, np.asarray(gates), layers, activation["experts"], 1)
        axis.set_title(name, fontsize=9)
    for axis in axes[len(patterns) :]:
        axis.set_axis_off()
    return figure


def _heat(axis: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], top: float) -> None:
    axis.imshow(values, vmin=0, vmax=top, cmap="Blues", aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    for (i, j), value in np.ndenumerate(values):
        if value >= 0.005 * top:
            text = f"{value:.0f}" if top > 1 else f"{value:.2f}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if value > 0.6 * top else "black")
