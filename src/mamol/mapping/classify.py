"""What a map is to a scene, a table is to a sample set: one row a sample, in the set's order, as CSV or Parquet.

sample        the row of the set, from 0
group         the sample's group, as text
class         the likeliest class; empty for a sample that no sensor saw
confidence    its probability, 0 to 1
sensors       those that the sample has, such as "s1+s2"
p_<class>     the probability of every class, if asked for
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd

from mamol.data.dataset import SampleSet, modality_names
from mamol.errors import AllModalitiesMissing, DataError, UsageError
from mamol.evaluate.report import pattern_name
from mamol.files import atomic, must_not_exist
from mamol.modality import Batch, Predictor

FORMATS = (".csv", ".parquet")
AT_ONCE = 4096
"""Samples that are normalised together; the set itself is in memory anyway."""


def classify(
    predictor: Predictor, dataset: SampleSet, without: Collection[str], progress: Callable[[str, int, int, str], None]
) -> pd.DataFrame:
    """Return the table of a sample set with the probabilities of every class, without some of its modalities.

    Raises DataError for a set of no samples, AllModalitiesMissing if no sample has any, ShapeMismatch for other bands.
    """
    if not len(dataset.labels):
        raise DataError(f"'{dataset.name}' holds no samples; there is nothing to classify.")
    kept = [m for m in predictor.modalities if m in modality_names(dataset) and m not in without]
    samples = Batch(*({m: arrays[m] for m in kept} for arrays in (dataset.samples.values, dataset.samples.available)))
    present = samples.pattern(kept) if kept else np.zeros((len(dataset.labels), 0), dtype=bool)
    seen = np.flatnonzero(present.any(axis=1))
    if not len(seen):
        raise AllModalitiesMissing(
            f"no sample of '{dataset.name}' has a sensor to go by: the run knows {', '.join(predictor.modalities)}, the set "
            f"has {', '.join(modality_names(dataset))}{f', and {len(without)} are left out' if without else ''}."
        )
    probability = np.full((len(present), len(predictor.classes)), np.nan, dtype=np.float32)
    for start in range(0, len(seen), AT_ONCE):
        rows = seen[start : start + AT_ONCE]
        probability[rows] = predictor.predict(samples.take(rows))
        progress("classify", min(start + AT_ONCE, len(seen)), len(seen), "")
    likeliest, sure = np.full(len(present), "", dtype=object), np.isfinite(probability).all(axis=1)
    likeliest[sure] = np.array(predictor.classes, dtype=object)[probability[sure].argmax(axis=1)]
    return pd.DataFrame(
        {
            "sample": np.arange(len(present)),
            "group": [str(group) for group in dataset.groups],
            "class": likeliest,
            "confidence": probability.max(axis=1),
            "sensors": [pattern_name([m for m, there in zip(kept, row, strict=True) if there]) for row in present],
        }
        | {f"p_{name}": probability[:, k] for k, name in enumerate(predictor.classes)}
    )


def check_table(path: Path, overwrite: bool) -> None:
    """Raise UsageError for a file that is neither CSV nor Parquet, or a sample set's own; OutputExists."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} ends in '{path.suffix}'; a table is written as {' or '.join(FORMATS)}.")
    if path.stem == "samples" and (path.parent / "samples.toml").exists():
        raise UsageError(f"{path} is where the samples of the set in {path.parent} belong; choose another name for the table.")
    must_not_exist(path, overwrite)


def write_table(table: pd.DataFrame, path: Path, overwrite: bool) -> None:
    """Write a table as its file's ending says, whole or not at all; raises OutputExists and WriteFailed."""
    with atomic(path, overwrite) as partial:
        if path.suffix.lower() == ".csv":
            table.to_csv(partial, index=False, float_format="%.6g")
        else:
            table.to_parquet(partial, index=False)
