"""Scores as people read them: rows of text that the terminal's table and the Markdown file share.

One row per pattern (or rate), one column per method and measure; means, worst and what the table does not show below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROWS = {
    "patterns": ("patterns", "present"),
    "rate": ("rates", "missing"),
    "pixel": ("rows", "hole"),
    "degraded": ("rows", "degraded"),
}
"""Per protocol: where its rows lie in the scores, and the heading of their names."""
MEASURES = {"oa": "OA", "aa": "AA", "kappa": "kappa", "ece": "ECE"}


@dataclass(frozen=True)
class Text:
    """A table as text: `title`, `header`, `rows`, and `notes` to print below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def pattern_name(present: Sequence[str]) -> str:
    """Return how a pattern is written everywhere: "hsi+lidar"."""
    return "+".join(present)


def row_name(row: Mapping[str, Any]) -> str:
    """Return what a row of any protocol is called."""
    if "present" in row:
        return pattern_name(row["present"])
    return str(row["name"]) if "name" in row else f"{row['rate']:.0%} {row['kind']}"


def as_text(results: Mapping[str, Mapping[str, Any]], measures: Sequence[str] = ("oa", "aa")) -> Text:
    """Lay the scores of one or several methods side by side; all must be of one protocol and split.

    `results` maps a method's name to what `score` returned; the first one is ours.
    """
    first = next(iter(results.values()))
    key, heading = ROWS[first["protocol"]]
    header = [heading, "n"]
    header += [f"{name} {MEASURES[m]}" for name in results for m in measures]
    rows = []
    for i, row in enumerate(first[key]):
        name = row_name(row)
        cells = [_figure(r[key][i][m]) for r in results.values() for m in measures]
        rows.append([name, str(row["n"]), *cells])
    rows.append(["mean", "", *[_figure(r[f"mean_{m}"]) for r in results.values() for m in measures]])
    rows.append(
        [
            "worst",
            "",
            *[_figure(r[f"worst_{m}"]) if m in ("oa", "aa") else "" for r in results.values() for m in measures],
        ]
    )
    return Text(f"{first['dataset']}, {first['split']} split, seed {first['seed']}", header, rows, _notes(results))


def as_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the report as Markdown, per class too."""
    text = as_text(results, tuple(MEASURES))
    lines = [f"# {text.title}", "", *_markdown_table(text.header, text.rows), "", *[f"- {n}" for n in text.notes], ""]
    for name, result in results.items():
        if result["protocol"] == "patterns":
            classes = result["classes"]
            rows = [[c, *[_figure(p["per_class"][c]) for p in result["patterns"]]] for c in classes]
            header = ["class", *[pattern_name(p["present"]) for p in result["patterns"]]]
            lines += [f"## Accuracy per class: {name}", "", *_markdown_table(header, rows), ""]
    return "\n".join(lines)


def _notes(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first = next(iter(results.values()))
    overlap = first["overlap"]
    shared = f"{overlap['overlapping']:.0f} of their patches ({overlap['percent']:g} %) hold a training label."
    if first["split"] == "all":
        shared = "all of other data than trained on: whether any lies where the run was trained is not measured."
    notes = [
        f"Figures in percent, on the {overlap['test']:.0f} test labels; {shared}",
        "One seed: no interval. Means are over the rows, unweighted.",
    ]
    if first.get("parameters"):
        counts = ", ".join(f"{k} {v:,}" for k, v in first["parameters"].items())
        notes.append(f"Weights: {counts}.")
    for name, r in results.items():
        if r.get("counter_intuitive") is not None:
            notes.append(
                f"{name}: wrong with one sensor more though right without it {r['counter_intuitive']:.1f} %; "
                f"surer with one sensor less {r['confidence_rise']:.1f} %."
            )
    return notes


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'|'.join(['---'] + ['---:'] * (len(header) - 1))}|",
        *[f"| {' | '.join(r)} |" for r in rows],
    ]
