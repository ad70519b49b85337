"""Figures in the prose of docs/study.md and decision 005, from the study's records.

A figure stands between `<!-- value SET METHOD KEY -->` and `<!-- end -->`; KEY is mean_oa, mean_aa, worst_oa,
training.best_score (on the validation part), ... With two methods joined by two hyphens ("mamol--lora") it is their paired
difference, of which the second may be on another set ("mamol--mamol@worldcereal-galileo"); with ":resampled" after KEY its
interval is corrected for seeds that resample one data set. Elsewhere these two (table.STRICT) may hold no number with a
decimal point, but for tables, code and links.
"""

from __future__ import annotations

import re

from study_records import TEST_PER_TRAIN, Study, difference, measure, shown, signed

VALUE = re.compile(r"<!-- value (\S+) (\S+) (\S+) -->(.*?)<!-- end -->", re.DOTALL)
SPARED = (
    r"<!-- table .*?<!-- end table -->", VALUE.pattern, r"```.*?```", r"`[^`]*`", r"\]\([^)]*\)", r"\b\d{4}\.\d{5}\b",
)  # fmt: skip
"""Where they may hold numbers with a decimal point: from records, in code, in links, names of papers."""


def value(study: Study, name: str, method: str, key: str) -> str:
    """Return a figure for prose: a method's, or the difference of "a--b"; raises SystemExit if there is no record."""
    ours, _, theirs = method.partition("--")
    measured, _, corrected = key.partition(":")
    runs = study.get((name, ours, "patterns"), {})
    found = difference(study, name, ours, theirs, measured, TEST_PER_TRAIN if corrected else 0.0) if theirs else None
    if not runs or (theirs and found is None) or corrected not in ("", "resampled"):
        raise SystemExit(f"a document names {name} {method} {key}; there is no record of it.")
    return signed(found) if theirs else shown([measure(r, measured) for r in runs.values()])


def with_values(text: str, study: Study) -> str:
    """Return a document with its figures in prose made anew."""
    return VALUE.sub(lambda m: f"<!-- value {m[1]} {m[2]} {m[3]} -->{value(study, m[1], m[2], m[3])}<!-- end -->", text)


def loose_numbers(text: str) -> list[str]:
    """List the numbers with a decimal point that come from no record: outside of tables, values, code and links."""
    for pattern in SPARED:
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return re.findall(r"\d+\.\d+", text)
