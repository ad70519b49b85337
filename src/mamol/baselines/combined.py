"""Several networks instead of one: a network per combination of sensors, an ensemble of single-sensor networks, an average.

    per pattern    every combination has a network that was trained on it alone (the upper reference of two-stage adaptation)
    ensemble       every sensor has its own network; the mean of the probabilities of those that are there
    average        networks for everything, trained apart; the mean of their probabilities [deep ensembles, 1612.01474]

Source: PROTOCOL.md section 4. Each stands where a Predictor stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mamol.data.dataset import Dataset, Scene
from mamol.errors import AllModalitiesMissing, UsageError, unknown
from mamol.modality import Batch, Predictor


def hidden(dataset: Dataset, present: Iterable[str]) -> Dataset:
    """Return a data set in which only some modalities were ever observed; nothing is copied but the availability."""
    kept = tuple(present)
    if isinstance(dataset, Scene):
        tiles = tuple(
            replace(t, available={m: a if m in kept else np.zeros_like(a) for m, a in t.available.items()}) for t in dataset.tiles
        )
        return replace(dataset, tiles=tiles)
    return replace(dataset, samples=dataset.samples.only(kept))


@dataclass(frozen=True)
class PerPattern:
    """One predictor per pattern. A sample or raster goes to that of the modalities that it has anywhere."""

    models: Mapping[tuple[str, ...], Predictor]
    modalities: tuple[str, ...]
    classes: tuple[str, ...]

    def predict(self, batch: Batch) -> np.ndarray:
        """Return probabilities as a Predictor does; raises UsageError for a pattern that has no network."""
        return _in_groups(self, batch, self._one)

    def _one(self, batch: Batch, pattern: tuple[str, ...]) -> np.ndarray:
        if pattern not in self.models:
            known = "; ".join("+".join(p) for p in self.models)
            raise UsageError(f"no network was trained for the pattern {'+'.join(pattern)}; there are {known}.")
        return self.models[pattern].predict(batch.only(pattern))


@dataclass(frozen=True)
class Ensemble:
    """One predictor per modality; the mean of what those that are there say, pixel by pixel."""

    models: Mapping[str, Predictor]
    classes: tuple[str, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.models)

    def predict(self, batch: Batch) -> np.ndarray:
        """Return probabilities as a Predictor does."""
        return _in_groups(self, batch, self._one)

    def _one(self, batch: Batch, pattern: tuple[str, ...]) -> np.ndarray:
        return _mean([self.models[m].predict(batch.only((m,))) for m in pattern])


@dataclass(frozen=True)
class Average:
    """Predictors of the same modalities and classes, each for every pattern; the mean of what they say, pixel by pixel.

    Raises UsageError for none at all, or for predictors of unlike modalities or classes.
    """

    models: Sequence[Predictor]

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("an average needs a predictor at least; got none.")
        for one in self.models:
            if (tuple(one.modalities), tuple(one.classes)) != (self.modalities, self.classes):
                raise UsageError(
                    f"predictors that are averaged must have the same modalities and classes, in one order; one has "
                    f"{', '.join(one.modalities)} and {', '.join(one.classes)}, the first has {', '.join(self.modalities)} and "
                    f"{', '.join(self.classes)}."
                )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.models[0].modalities)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.models[0].classes)

    def predict(self, batch: Batch) -> np.ndarray:
        """Return probabilities as a Predictor does."""
        return _mean([m.predict(batch) for m in self.models])


def _mean(answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of those that say something, NaN where none does."""
    said = np.stack(answers)
    seen = np.isfinite(said)
    total = np.where(seen, said, 0.0).sum(0)
    count = seen.sum(0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)


def _in_groups(predictor: PerPattern | Ensemble, batch: Batch, one: Callable[[Batch, tuple[str, ...]], np.ndarray]) -> np.ndarray:
    """Run `one` on the samples of each pattern and put the answers together."""
    for m in batch.names():
        if m not in predictor.modalities:
            raise unknown("modality", m, predictor.modalities)
    order = tuple(m for m in predictor.modalities if m in batch.names())
    present = batch.pattern(order)
    if not present.any(axis=1).all():
        raise AllModalitiesMissing(f"sample {int(np.argmin(present.any(axis=1)))} of the batch has no modality present.")
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for row in np.unique(present, axis=0):
        index = np.flatnonzero((present == row).all(axis=1))
        parts.append((index, one(batch.take(index), tuple(m for m, there in zip(order, row, strict=True) if there))))
    out = np.empty((len(batch), *parts[0][1].shape[1:]), dtype=np.float32)
    for index, found in parts:
        out[index] = found
    return out
