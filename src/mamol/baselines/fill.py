"""Fill in what is missing, then classify as if all had been observed: a network trained on complete data only.

    zeros        0 in the sensor's own unit
    mean         the band's mean over the training part
    regression   ridge regression from the sensors that are there, one per combination, at the same pixel or sample

Source: PROTOCOL.md section 4. What a fill costs in accuracy is what a model that knows of missing sensors must save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mamol.data.dataset import Dataset, Scene, modality_names
from mamol.data.split import TRAIN, Split
from mamol.errors import UsageError, unknown
from mamol.modality import Batch, Predictor, patterns
from mamol.seed import generator

KINDS = ("zeros", "mean", "regression")
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Filler:
    """What stands for a missing modality. Rows are the pixels of a scene, (C), or whole samples with all they hold.

    `shapes`: of one sample's values, or of one tile's, of which the bands count.
    """

    kind: str
    per_pixel: bool
    means: Mapping[str, np.ndarray]
    models: Mapping[tuple[tuple[str, ...], str], Pipeline]
    shapes: Mapping[str, tuple[int, ...]]

    def fill(self, batch: Batch) -> Batch:
        """Return the batch with every modality observed wherever any is; one that the batch lacks is missing everywhere."""
        batch, order = self._complete(batch), tuple(self.means)
        rows = {m: _rows(batch.values[m], batch.available[m], self.per_pixel) for m in order}
        there: np.ndarray = np.stack([np.isfinite(r).any(axis=1) for r in rows.values()], axis=1)
        filled = {m: np.where(np.isfinite(r), r, self._constant(m)) for m, r in rows.items()}
        for row in np.unique(there, axis=0):
            pattern = tuple(m for m, t in zip(order, row, strict=True) if t)
            mine = (there == row).all(axis=1)
            for m in order:
                if m not in pattern and (pattern, m) in self.models:
                    given = np.concatenate([filled[p][mine] for p in pattern], axis=1)
                    filled[m][mine] = self.models[pattern, m].predict(given).reshape(int(mine.sum()), -1)
        some = np.asarray(there.any(axis=1))
        values = {m: _back(filled[m].astype(np.float32), batch.values[m], self.per_pixel) for m in order}
        available = {m: _spread(some, batch.available[m]) for m in order}
        return Batch(values, available)

    def _complete(self, batch: Batch) -> Batch:
        values, available = dict(batch.values), dict(batch.available)
        for m, shape in self.shapes.items():
            if m not in values:
                ground = next(iter(batch.values.values())).shape[2:] if self.per_pixel else shape[1:]
                values[m] = np.zeros((len(batch), shape[0], *ground), dtype=np.float32)
                available[m] = np.zeros((len(batch), *ground), dtype=bool)
        return Batch(values, available)

    def _constant(self, name: str) -> np.ndarray:
        return np.zeros_like(self.means[name]) if self.kind == "zeros" else self.means[name]


@dataclass(frozen=True)
class Filled:
    """A predictor behind a filler; stands where a Predictor stands."""

    predictor: Predictor
    filler: Filler

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return self.predictor.modalities

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.predictor.classes

    def predict(self, batch: Batch) -> np.ndarray:
        """Return the predictor's probabilities on the filled batch; raises as it does."""
        present = batch.pattern(batch.names())
        return self.predictor.predict(self.filler.fill(batch) if present.any(axis=1).all() else batch)


def fit_filler(dataset: Dataset, split: Split, kind: str, seed: int = 0) -> Filler:
    """Fit on the training part. Raises UnknownName for a kind, UsageError for data with text, which has no mean."""
    if kind not in KINDS:
        raise unknown("fill", kind, KINDS)
    texts = [m.name for m in dataset.modalities if m.kind == "text"]
    if texts:
        raise UsageError(f"{', '.join(texts)}: text cannot be filled with numbers; leave fills out for this data set.")
    order, rows = modality_names(dataset), _training_rows(dataset, split, seed)
    means = {m: np.nan_to_num(_mean(r)) for m, r in rows.items()}
    models: dict[tuple[tuple[str, ...], str], Pipeline] = {}
    if kind == "regression":
        seen = {m: np.isfinite(r).any(axis=1) for m, r in rows.items()}
        filled = {m: np.where(np.isfinite(r), r, means[m]) for m, r in rows.items()}
        for pattern in patterns(order):
            for m in (m for m in order if m not in pattern):
                use = np.all([seen[k] for k in (*pattern, m)], axis=0)
                if use.any():
                    given = np.concatenate([filled[p][use] for p in pattern], axis=1)
                    models[pattern, m] = make_pipeline(StandardScaler(), Ridge(1.0)).fit(given, filled[m][use])
    some = dataset.tiles[0].values if isinstance(dataset, Scene) else dataset.samples.take(slice(0, 1)).values
    shapes = {m: v.shape if isinstance(dataset, Scene) else v.shape[1:] for m, v in some.items()}
    return Filler(kind, isinstance(dataset, Scene), means, models, shapes)


def _training_rows(dataset: Dataset, split: Split, seed: int) -> dict[str, np.ndarray]:
    """Return the values of training places, NaN where not observed, at most MOST_ROWS of them."""
    if isinstance(dataset, Scene):
        batches = [(t.batch(), np.flatnonzero((r == TRAIN).ravel())) for t, r in zip(dataset.tiles, split.roles, strict=True)]
    else:
        batches = [(dataset.samples, np.flatnonzero(split.roles[0] == TRAIN))]
    order = modality_names(dataset)
    found = {
        m: np.concatenate([_rows(b.values[m], b.available[m], isinstance(dataset, Scene))[i] for b, i in batches]) for m in order
    }
    count = len(next(iter(found.values())))
    keep = np.sort(generator(seed, "fill").permutation(count)[:MOST_ROWS])
    return {m: r[keep] for m, r in found.items()}


def _rows(values: np.ndarray, available: np.ndarray, per_pixel: bool) -> np.ndarray:
    """Return one row a pixel of (B, C, H, W), or one row a sample; NaN where not available."""
    seen = np.where(np.expand_dims(available, 1), values, np.nan)
    return np.moveaxis(seen, 1, -1).reshape(-1, values.shape[1]) if per_pixel else seen.reshape(len(values), -1)


def _back(rows: np.ndarray, like: np.ndarray, per_pixel: bool) -> np.ndarray:
    """Undo `_rows`."""
    if not per_pixel:
        return rows.reshape(like.shape)
    batch, bands, height, width = like.shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(batch, height, width, bands), -1, 1))


def _spread(some: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Lay what is known per row out in the shape of an availability."""
    if len(some) == like.size:
        return some.reshape(like.shape)
    return np.broadcast_to(some.reshape(-1, *[1] * (like.ndim - 1)), like.shape).copy()


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean of every column over what is finite; 0 where nothing is."""
    seen = np.isfinite(rows)
    return np.where(seen, rows, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
