"""What a map is to a scene, a table is to a sample set: one row a sample, in the set's order, as CSV or Parquet.

sample        the row of the set, from 0
group         the sample's group, as the set has it
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
from mamol.errors import AllModalitiesMissing, UsageError
from mamol.evaluate.report import pattern_name
from mamol.files import atomic
from mamol.modality import Batch, Predictor

FORMATS = (".csv", ".parquet")
AT_ONCE = 4096
"""Samples that are normalised together: memory follows it, not the set."""


def classify(
    predictor: Predictor, dataset: SampleSet, without: Collection[str], progress: Callable[[str, int, int, str], None]
) -> pd.DataFrame:
    """Return the table of a sample set with the probabilities of every class, without some of its modalities.

    Raises AllModalitiesMissing if no sample has any, ShapeMismatch for other bands.
    """
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
    likeliest = np.full(len(present), "", dtype=object)
    likeliest[seen] = np.array(predictor.classes, dtype=object)[probability[seen].argmax(axis=1)]
    return pd.DataFrame(
        {
            "sample": np.arange(len(present)),
            "group": dataset.groups,
            "class": likeliest,
            "confidence": probability.max(axis=1),
            "sensors": [pattern_name([m for m, there in zip(kept, row, strict=True) if there]) for row in present],
        }
        | {f"p_{name}": probability[:, k] for k, name in enumerate(predictor.classes)}
    )


def check_format(path: Path) -> None:
    """Raise UsageError for a file that is neither CSV nor Parquet."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} ends in '{path.suffix}'; a table is written as {' or '.join(FORMATS)}.")


def write_table(table: pd.DataFrame, path: Path, overwrite: bool) -> None:
    """Write a table as its file's ending says, whole or not at all; raises OutputExists and WriteFailed."""
    with atomic(path, overwrite) as partial:
        if path.suffix.lower() == ".csv":
            table.to_csv(partial, index=False, float_format="%.6g")
        else:
            table.to_parquet(partial, index=False)
