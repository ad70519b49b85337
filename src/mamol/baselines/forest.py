"""Random forest and gradient-boosted trees, as Predictors: the baselines that any network has to beat.

Regime "every" (default): each training sample is repeated under all patterns it can have, with the availability as
features; one model then serves every combination. "complete": trained once, on all observed modalities.
"per-pattern": one model for each pattern. Source: PROTOCOL.md section 4.

Features of a pixel: its values, and mean and standard deviation over the available pixels of the 7 x 7 around it
(spectra with more than 30 bands: the unit spectrum, and the neighbourhood of eight of its bands). Of a sample: all
values; of a text, how often its words fall into each of 256 hashed bins, which needs no vocabulary and so learns nothing
from the test. A missing value is 0 for the forest (the mask tells it) and NaN for the boosted trees, which know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import ndimage
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils.class_weight import compute_sample_weight

from mamol.data.dataset import UNLABELLED, Dataset, Scene, class_names, modality_names
from mamol.data.split import TRAIN, Split, labelled_counts
from mamol.data.texts import decode_texts
from mamol.errors import AllModalitiesMissing, DataError, UsageError, unknown
from mamol.modality import Batch, patterns
from mamol.seed import generator

NEIGHBOURHOOD = 7
SPECTRUM = 30
WORD_BINS = 256
MOST_PER_TILE = 400
MOST_SEEDS = 2**32
"""scikit-learn counts its seeds up to here."""
L2 = 1.0
"""Without any, leaves that hold a class of five samples grow without bound, and the boosted trees with them."""
REGIMES = ("every", "complete", "per-pattern")
Estimator: TypeAlias = RandomForestClassifier | HistGradientBoostingClassifier | DummyClassifier


@dataclass(frozen=True)
class ForestSettings:
    """How a tree baseline is built; `trees` is also the number of boosting rounds, at most 200 of those.

    A training place weighs frequency^-class_balance of its class, as in a network's loss (`train.class_balance`); the pure
    leaves of a forest hardly feel it.
    """

    kind: str = "forest"
    regime: str = "every"
    trees: int = 300
    class_balance: float = 0.0
    seed: int = 0
    jobs: int = 2


@dataclass(frozen=True)
class TableLayout:
    """What rows and features are made of: the modalities in order, which are texts, one row per pixel or per sample."""

    order: tuple[str, ...]
    texts: tuple[str, ...]
    per_pixel: bool


@dataclass
class TreePredictor:
    """Fitted trees behind the Predictor interface; `models` has one entry per pattern, or one under ()."""

    models: dict[tuple[str, ...], Estimator]
    layout: TableLayout
    classes: tuple[str, ...]
    settings: ForestSettings

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities it was trained on, in order."""
        return self.layout.order

    def predict(self, batch: Batch) -> np.ndarray:
        """Return probabilities (B, K), or (B, K, H, W) for grids; NaN where a pixel has nothing.

        Raises AllModalitiesMissing, and UnknownName for a modality it was not trained on.
        """
        for m in batch.names():
            if m not in self.modalities:
                raise unknown("modality", m, self.modalities)
        order = [m for m in self.modalities if m in batch.names()]
        if len(order) < len(self.modalities):
            raise UsageError(
                f"the trees need all of {', '.join(self.modalities)} in the batch, absent ones marked as not available; "
                f"got {', '.join(batch.names())}."
            )
        whole = batch.pattern(order)
        if not whole.any(axis=1).all():
            raise AllModalitiesMissing(f"sample {int(np.argmin(whole.any(axis=1)))} of the batch has no modality present.")
        features, present, shape = batch_features(batch, self.layout)
        out = np.full((len(present), len(self.classes)), np.nan, dtype=np.float32)
        for row in np.unique(present, axis=0):
            if row.any():
                mine = (present == row).all(axis=1)
                out[mine] = self._run(features, mine, row)
        return out.reshape(*shape, -1) if len(shape) == 1 else np.moveaxis(out.reshape(*shape, -1), -1, 1)

    def _run(self, features: dict[str, np.ndarray], mine: np.ndarray, row: np.ndarray) -> np.ndarray:
        names = tuple(m for m, there in zip(self.modalities, row, strict=True) if there)
        model = self.models.get(names, self.models.get(()))
        if model is None:
            raise UsageError(f"no model was trained for the pattern {'+'.join(names)}; use regime 'every'.")
        table = _table({m: f[mine] for m, f in features.items()}, row, self.modalities, self.settings.kind)
        full = np.zeros((len(table), len(self.classes)), dtype=np.float32)
        full[:, model.classes_.astype(int)] = model.predict_proba(table)
        return full


def fit_trees(dataset: Dataset, split: Split, settings: ForestSettings | None = None) -> TreePredictor:
    """Fit on the labelled places of role TRAIN (validation is not used), at most MOST_PER_TILE a tile.

    Raises UnknownName for an unknown kind or regime, DataError without a label to fit on.
    """
    settings = settings or ForestSettings()
    if settings.kind not in ESTIMATORS:
        raise unknown("tree baseline", settings.kind, ESTIMATORS)
    if settings.regime not in REGIMES:
        raise unknown("regime", settings.regime, REGIMES)
    names = modality_names(dataset)
    texts = tuple(m.name for m in dataset.modalities if m.kind == "text")
    layout = TableLayout(names, texts, isinstance(dataset, Scene))
    features, present, labels = _training_table(dataset, split, layout, settings.seed)
    wanted = [names] if settings.regime == "complete" else patterns(names)
    parts: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
    for pattern in wanted:
        row = np.array([m in pattern for m in names])
        can = present[:, row].all(axis=1) if settings.regime != "complete" else present.any(axis=1)
        if settings.regime == "complete":  # whatever of it was observed
            tables = [_table({m: f[can] for m, f in features.items()}, present[can], names, settings.kind)]
        else:
            tables = [_table({m: f[can] for m, f in features.items()}, row, names, settings.kind)]
        parts[pattern] = np.concatenate(tables), labels[can]
    if settings.regime != "per-pattern":
        parts = {(): (np.concatenate([x for x, _ in parts.values()]), np.concatenate([y for _, y in parts.values()]))}
    models = {p: _fit(settings, x, y) for p, (x, y) in parts.items() if len(y)}
    return TreePredictor(models, layout, class_names(dataset), settings)


def _fit(settings: ForestSettings, table: np.ndarray, labels: np.ndarray) -> Estimator:
    """Fit one model; a column that was never observed becomes constant, for scikit-learn's boosted trees find no bins in it.

    No tree splits on a constant, so whatever the column holds later changes nothing. Labels of one class have nothing to split
    either, which the boosted trees cannot predict from: that class is said of everything.
    """
    table = np.where(np.isnan(table).all(axis=0), np.float32(0), table)
    weight = compute_sample_weight("balanced", labels) ** settings.class_balance
    own = weight / weight.mean() if settings.class_balance else None
    model = ESTIMATORS[settings.kind](settings) if len(np.unique(labels)) > 1 else DummyClassifier()
    return model.fit(table, labels, sample_weight=own)


def batch_features(batch: Batch, layout: TableLayout) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[int, ...]]:
    """Return features per modality (n, f), availability (n, M) and the shape that the n rows came from.

    For the pixels of a scene n = B * H * W and the shape is (B, H, W); for samples n = B, whatever a sample is made of,
    and what is not available (a sample, steps of a series, pixels of a grid) is NaN.
    """
    order = layout.order
    if layout.per_pixel:
        shape = (len(batch), *batch.values[order[0]].shape[2:])
        features = {
            m: np.concatenate([_pixel_features(v, a) for v, a in zip(batch.values[m], batch.available[m], strict=True)])
            for m in order
        }
        return features, np.stack([batch.available[m].ravel() for m in order], axis=1), shape
    features = {}
    for m in order:
        if m in layout.texts:
            features[m] = _word_counts(batch.values[m], batch.available[m])
            continue
        seen = np.expand_dims(batch.available[m], 1)
        features[m] = np.where(seen, batch.values[m], np.nan).reshape(len(batch), -1).astype(np.float32)
    return features, batch.pattern(order), (len(batch),)


def _word_counts(values: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Return how many words of each text fall into each bin, float32 (n, WORD_BINS); NaN for a text that is not available."""
    counts = np.full((len(values), WORD_BINS), np.nan, dtype=np.float32)
    if available.any():
        # Bins add up (no alternating sign) and keep their scale (no norm): they are counts.
        hashing = HashingVectorizer(n_features=WORD_BINS, alternate_sign=False, norm=None)
        counts[available] = hashing.transform(decode_texts(values[available])).toarray()
    return counts


def _pixel_features(values: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Return (H * W, f) of one tile's modality (C, H, W)."""
    clean = np.where(available, values, 0).astype(np.float32)
    own = clean
    if len(clean) > SPECTRUM:
        own = clean / np.maximum(np.linalg.norm(clean, axis=0, keepdims=True), 1e-6)
        clean = clean[np.linspace(0, len(clean) - 1, 8).astype(int)]
    size = (0, NEIGHBOURHOOD, NEIGHBOURHOOD)
    weight = np.maximum(ndimage.uniform_filter(available.astype(np.float32), NEIGHBOURHOOD), 1e-6)
    wide = clean.astype(np.float64)  # of a height above the sea, the square of the mean would swallow the spread
    mean = ndimage.uniform_filter(wide, size) / weight
    square = ndimage.uniform_filter(wide**2, size) / weight
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return np.concatenate([own, mean, spread], dtype=np.float32).reshape(-1, available.size).T


def _table(features: dict[str, np.ndarray], row: np.ndarray, order: tuple[str, ...], kind: str) -> np.ndarray:
    """Lay features side by side, the missing filled, the availability last; `row` is (M,) or one per place (n, M)."""
    n = len(next(iter(features.values())))
    rows = np.broadcast_to(row, (n, len(order)))
    fill = np.nan if kind == "boosted" else 0.0
    parts = [np.where(rows[:, i : i + 1], features[m], fill) for i, m in enumerate(order)]
    table = np.concatenate([*parts, rows], axis=1).astype(np.float32)
    return table if kind == "boosted" else np.nan_to_num(table, nan=0.0)


def _training_table(
    dataset: Dataset, split: Split, layout: TableLayout, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features per modality (n, f), availability (n, M) and labels (n,) of the training places; DataError without any."""
    if not dict(labelled_counts(dataset, split))["train"].any():
        raise DataError(f"the split of '{dataset.name}' leaves no labelled training pixel or sample; trees have nothing to fit.")
    if not isinstance(dataset, Scene):
        rows = np.flatnonzero((split.roles[0] == TRAIN) & (dataset.labels != UNLABELLED))
        features, present, _ = batch_features(dataset.samples.take(rows), layout)
        return features, present, dataset.labels[rows]
    # One large tile may give as many rows as many small ones together.
    most = max(MOST_PER_TILE, 40_000 // len(dataset.tiles))
    found: list[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]] = []
    for i, (tile, role) in enumerate(zip(dataset.tiles, split.roles, strict=True)):
        places = np.flatnonzero(((role == TRAIN) & (tile.labels != UNLABELLED)).ravel())
        if len(places):
            chosen = np.sort(generator(seed, "forest", i).permutation(places)[:most])
            features, present, _ = batch_features(tile.batch(), layout)
            found.append(({m: f[chosen] for m, f in features.items()}, present[chosen], tile.labels.ravel()[chosen]))
    joined = {m: np.concatenate([f[m] for f, _, _ in found]) for m in layout.order}
    return joined, np.concatenate([p for _, p, _ in found]), np.concatenate([y for _, _, y in found])


def _forest(s: ForestSettings) -> Estimator:
    return RandomForestClassifier(s.trees, max_features="sqrt", n_jobs=s.jobs, random_state=s.seed % MOST_SEEDS)


def _boosted(s: ForestSettings) -> Estimator:
    return HistGradientBoostingClassifier(
        max_iter=min(s.trees, 200), l2_regularization=L2, early_stopping=False, random_state=s.seed % MOST_SEEDS
    )


ESTIMATORS: dict[str, Callable[[ForestSettings], Any]] = {"forest": _forest, "boosted": _boosted}
