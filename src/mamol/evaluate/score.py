"""Score any Predictor on the test part of a split, under every pattern or at missing rates.

`patterns`: the whole test part under each of the 2^M - 1 patterns; the summary is the unweighted mean and the worst.
`rate`: a share eta of the samples (or pixels) is incomplete, as a frozen table says. `pixel` and `degraded`: one sensor of a
scene has holes, or is worse (disturb.py). Source: PROTOCOL.md section 3.

Ours, the forests and a stranger's model go through the same lines. A pixel or sample that has none of a pattern's
modalities is not scored, and counted in `n_without`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mamol.data.availability import draw_rate_table, table_hash
from mamol.data.dataset import UNLABELLED, Dataset, Scene, class_names, modality_names
from mamol.data.split import TEST, Split, group_ids
from mamol.errors import DataError, UsageError, unknown
from mamol.evaluate.disturb import disturbances
from mamol.evaluate.metrics import Scored, all_measures, confidence_rise, counter_intuitive
from mamol.modality import Batch, Predictor, patterns

RATES = (0.0, 0.3, 0.5, 0.7, 0.9)
Progress = Callable[[str, int, int, str], None]


def _silent(what: str, done: int, total: int, note: str) -> None:
    """Show nothing."""


Scorer = Callable[[Predictor, Dataset, "TestPart", Split, Progress], dict[str, Any]]


@dataclass(frozen=True)
class TestPart:
    """What is tested: batches (one per tile, or one of all samples) with the places scored in each, their labels and groups."""

    batches: list[Batch]
    where: list[np.ndarray]
    labels: np.ndarray
    groups: np.ndarray

    def pairs(self) -> list[tuple[Batch, np.ndarray]]:
        """Return every batch with the places that are scored in it."""
        return list(zip(self.batches, self.where, strict=True))

    def probabilities(self, predictor: Predictor, present: Sequence[str]) -> np.ndarray:
        """Return (n, K) under one pattern; NaN rows where the place has none of its modalities."""
        out = []
        for batch, where in self.pairs():
            hidden = batch.only(present)
            out.append(self._piece(predictor, hidden, where))
        return np.concatenate(out)

    def _piece(self, predictor: Predictor, hidden: Batch, where: np.ndarray) -> np.ndarray:
        result = np.full((len(where), len(predictor.classes)), np.nan, dtype=np.float32)
        if where.shape[1] == 2:  # a tile: rows and columns
            if any(a.any() for a in hidden.available.values()):
                result = predictor.predict(hidden)[0][:, where[:, 0], where[:, 1]].T
            return result
        some = hidden.pattern(hidden.names()).any(axis=1)
        if some.any():
            result[some] = predictor.predict(hidden.take(np.flatnonzero(some)))
        return result


def test_part(dataset: Dataset, split: Split) -> TestPart:
    """Collect the labelled test places; raises DataError if there are none."""
    ids = group_ids(dataset, int(split.overlap["patch_px"]))
    if isinstance(dataset, Scene):
        masks = [(r == TEST) & (t.labels != UNLABELLED) for t, r in zip(dataset.tiles, split.roles, strict=True)]
        chosen = [(t, mask, g) for t, mask, g in zip(dataset.tiles, masks, ids, strict=True) if mask.any()]
        part = TestPart(
            [t.batch() for t, _, _ in chosen],
            [np.argwhere(mask) for _, mask, _ in chosen],
            np.concatenate([t.labels[mask] for t, mask, _ in chosen]) if chosen else np.zeros(0, dtype=np.int16),
            np.concatenate([g[mask] for _, mask, g in chosen]) if chosen else np.zeros(0, dtype=np.int64),
        )
    else:
        rows = np.flatnonzero((split.roles[0] == TEST) & (dataset.labels != UNLABELLED))
        part = TestPart([dataset.samples.take(rows)], [rows[:, None]], dataset.labels[rows], ids[0][rows])
    if not len(part.labels):
        if split.kind == "all":
            raise DataError(f"'{dataset.name}' has no label to score on; map it (mamol map), or classify it (mamol classify).")
        raise DataError(f"the split of '{dataset.name}' leaves no labelled test pixel or sample; choose another seed.")
    return part


def score(
    predictor: Predictor, dataset: Dataset, split: Split, protocol: str = "patterns", progress: Progress = _silent
) -> dict[str, Any]:
    """Score a predictor on the test part; return a tree of plain values, figures in percent.

    Raises UnknownName for a protocol, UsageError if the predictor's classes are not the data set's.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if tuple(predictor.classes) != class_names(dataset):
        raise UsageError(
            f"the model knows the classes {', '.join(predictor.classes)}; '{dataset.name}' has "
            f"{', '.join(class_names(dataset))}. Evaluate on data with the same classes in the same order."
        )
    part = test_part(dataset, split)
    head = {
        "dataset": dataset.name,
        "split": split.kind,
        "seed": split.seed,
        "split_hash": split.hash(),
        "overlap": split.overlap,
        "classes": list(predictor.classes),
        "protocol": protocol,
    }
    return head | PROTOCOLS[protocol](predictor, dataset, part, split, progress)


def _score_patterns(predictor: Predictor, dataset: Dataset, part: TestPart, split: Split, progress: Progress) -> dict[str, Any]:
    every = patterns(modality_names(dataset))
    scored, rows = {}, []
    for done, present in enumerate(every, 1):
        probability = part.probabilities(predictor, present)
        scored[present] = probability
        seen = np.isfinite(probability).all(axis=1)
        measures = all_measures(Scored(part.labels[seen], probability[seen]), tuple(predictor.classes))
        rows.append({"present": list(present), "n_without": int((~seen).sum())} | measures)
        progress("evaluate", done, len(every), "+".join(present))
    return {"patterns": rows} | _summary(rows) | _nested(scored, part.labels) | {"groups": _by_group(scored, part)}


def _by_group(scored: dict[tuple[str, ...], np.ndarray], part: TestPart) -> dict[str, list[int]]:
    """Count, for every group of the test part, what was scored and what was right, over all patterns together."""
    names, index = np.unique(part.groups, return_inverse=True)
    n, right = np.zeros(len(names), dtype=int), np.zeros(len(names), dtype=int)
    for probability in scored.values():
        seen = np.isfinite(probability).all(axis=1)
        n += np.bincount(index[seen], minlength=len(names))
        right += np.bincount(index[seen & (probability.argmax(axis=1) == part.labels)], minlength=len(names))
    return {"id": names.tolist(), "n": n.tolist(), "right": right.tolist()}


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the unweighted means and the worst over the rows that scored anything."""
    rows = [r for r in rows if r["n"]]
    if not rows:
        raise DataError("no labelled place has any of the sensors, so there is nothing to score; look at the availability.")
    means = {f"mean_{key}": _mean([r[key] for r in rows]) for key in ("oa", "aa", "kappa", "f1", "ece", "nll")}
    return means | {f"worst_{key}": min(r[key] for r in rows) for key in ("oa", "aa")}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _nested(scored: dict[tuple[str, ...], np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Average the two rates over all pairs of patterns that differ by one modality."""
    flips, rises = [], []
    for few, more in combinations(sorted(scored, key=len), 2):
        if len(more) == len(few) + 1 and set(few) < set(more):
            seen = np.isfinite(scored[few]).all(1) & np.isfinite(scored[more]).all(1)
            pair = Scored(labels[seen], scored[few][seen]), Scored(labels[seen], scored[more][seen])
            if seen.any():
                flips.append(counter_intuitive(*pair))
                rises.append(confidence_rise(*pair))
    return {
        "counter_intuitive": _mean(flips) if flips else None,
        "confidence_rise": _mean(rises) if rises else None,
    }


def _score_rate(predictor: Predictor, dataset: Dataset, part: TestPart, split: Split, progress: Progress) -> dict[str, Any]:
    """Score each (rate, kind): every test place takes the pattern that the frozen table gives it."""
    names = modality_names(dataset)
    every = {p: part.probabilities(predictor, p) for p in patterns(names)}
    kinds, rates = ([*names, "both"], RATES) if len(names) > 1 else (["both"], RATES[:1])  # one sensor alone cannot go missing
    rows = []
    for rate in rates:
        for kind in kinds:
            table = draw_rate_table(len(part.labels), names, rate, kind, split.seed)
            probability = np.full_like(next(iter(every.values())), np.nan)
            for present, found in every.items():
                mine = (table == np.array([m in present for m in names])).all(axis=1)
                probability[mine] = found[mine]
            seen = np.isfinite(probability).all(axis=1)
            measures = all_measures(Scored(part.labels[seen], probability[seen]), tuple(predictor.classes))
            about = {"rate": rate, "kind": kind, "table_hash": table_hash(table), "n_without": int((~seen).sum())}
            rows.append(about | measures)
        progress("evaluate", rates.index(rate) + 1, len(rates), f"rate {rate}")
    return {"rates": rows} | _summary(rows)


def _disturbed(protocol: str) -> Scorer:
    """Return the scorer of `pixel` or `degraded`."""

    def scorer(predictor: Predictor, dataset: Dataset, part: TestPart, split: Split, progress: Progress) -> dict[str, Any]:
        if not isinstance(dataset, Scene):
            raise UsageError(f"the protocol '{protocol}' disturbs pixels; '{dataset.name}' has samples. Use patterns or rate.")
        names, rows = modality_names(dataset), []
        every = list(disturbances(protocol, names))
        for done, d in enumerate(every, 1):
            changed = replace(part, batches=[d.apply(b, i, split.seed) for i, b in enumerate(part.batches)])
            probability = changed.probabilities(predictor, names)
            seen = np.isfinite(probability).all(axis=1)
            measures = all_measures(Scored(part.labels[seen], probability[seen]), tuple(predictor.classes))
            inside = np.concatenate(
                [d.hole(b.available[d.modality].shape[1:], i, split.seed)[tuple(w.T)] for i, (b, w) in enumerate(part.pairs())]
            )
            right = probability.argmax(axis=1) == part.labels
            within = {"n_hidden": int((inside & seen).sum()), "oa_hidden": _share(right[inside & seen])}
            about = {"name": d.name, "kind": d.kind, "modality": d.modality, "step": d.step, "n_without": int((~seen).sum())}
            rows.append(about | within | measures)
            progress("evaluate", done, len(every), d.name)
        return {"rows": rows} | _summary(rows)

    return scorer


def _share(right: np.ndarray) -> float | None:
    return round(100 * float(right.mean()), 4) if len(right) else None


PROTOCOLS: dict[str, Scorer] = {
    "patterns": _score_patterns,
    "rate": _score_rate,
    "pixel": _disturbed("pixel"),
    "degraded": _disturbed("degraded"),
}
