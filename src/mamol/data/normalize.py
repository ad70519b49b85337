"""Normalisation from training pixels only: (optionally unit spectra) -> standardise -> (optionally principal components).

    x <- x / |x|                                  spectra only, data.unit_spectrum: takes out illumination
    x <- (x - mean) / std                         per band, over available training pixels
    x <- V (x), each component by its own spread  spectra with more than data.compress bands
    x <- Phi^-1(rank of x), per band              all other bands, data.quantiles: heights, most of them next to nothing, or
                                                  backscatter spread over the whole range, as trees see them anyway

Statistics come from the area of role TRAIN, labelled or not; labels are never used. Components whose spread is less
than a hundredth of the first one's are scaled by that floor, so that noise is not blown up. A band that never changes in
training, such as a kind that is absent there, has no deviation of its own: it is divided by 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from mamol.config import DataConfig
from mamol.data.dataset import Dataset, Scene
from mamol.data.split import TRAIN, Split
from mamol.errors import DataError, ShapeMismatch, unknown
from mamol.modality import Batch

MOST_ROWS, FEWEST_ROWS = 60_000, 5_000
"""Rows that a data set is thinned to, and rows of training below which none are left out."""
FLOOR = 1e-6
"""Components of standardised bands whose spread is less have none."""
LITTLE, FAR, FAR_ONE, ENOUGH = 0.05, 5.0, 50.0, 100
"""Values are of another magnitude where their deviation and mean are less than such a share of those in training, or their mean
lies so many deviations away; judged on at least so many values. One band alone, such as heights, may well be next to nothing or
far up on other ground, so it must lie further away, and little is no sign.
"""
COMPONENT_FLOOR = 0.01


@dataclass(frozen=True)
class BandStatistics:
    """One modality's chain: `mean`, `std` (C,); `components` (c, C) and `spread` (c,), or None for all bands as they are."""

    unit_spectrum: bool
    mean: np.ndarray
    std: np.ndarray
    components: np.ndarray | None = None
    spread: np.ndarray | None = None
    knots: np.ndarray | None = None
    """(C, Q): standardised values at Q even steps of rank, by which a band becomes normally distributed; None: it stays."""


@dataclass(frozen=True)
class Normalizer:
    """The chain of every modality."""

    statistics: Mapping[str, BandStatistics]

    @classmethod
    def fit(cls, dataset: Dataset, split: Split, config: DataConfig) -> Normalizer:
        """Measure on available values of role TRAIN; raises DataError if a modality has none there.

        A modality that is absent from the whole data set passes through unchanged, and so does text.
        """
        out = {}
        for m in dataset.modalities:
            if m.kind == "text":  # bytes are not amounts
                out[m.name] = _unchanged(m.bands)
                continue
            rows, anywhere = training_rows(dataset, split, m.name)
            if not len(rows):
                if anywhere:
                    raise DataError(
                        f"modality '{m.name}' is not available at any training pixel of '{dataset.name}'; "
                        "its statistics cannot be measured. Choose another split or seed."
                    )
                out[m.name] = _unchanged(m.bands)
                continue
            out[m.name] = _measure(rows, config)
        return cls(out)

    def bands(self, modality: str) -> int:
        """Return the number of channels after normalisation."""
        s = self._of(modality)
        return len(s.mean) if s.components is None else len(s.components)

    def apply(self, values: np.ndarray, modality: str) -> np.ndarray:
        """Normalise (B, C, ...) to float32 (B, c, ...). Values that are not available must be finite (any)."""
        s = self._of(modality)
        if values.shape[1] != len(s.mean):
            raise ShapeMismatch(f"modality '{modality}' has {values.shape[1]} bands; the statistics are of {len(s.mean)}.")
        rows = np.moveaxis(values, 1, -1).astype(np.float32)
        if s.unit_spectrum:
            rows = _unit(rows)
        rows -= s.mean  # in place: of a map's block with hundreds of bands, each copy counts
        rows /= s.std
        if s.knots is not None:
            rows = _by_rank(rows, s.knots)
        if s.components is not None and s.spread is not None:
            rows = rows @ s.components.T / s.spread
        return np.moveaxis(rows, -1, 1)

    def unlike(self, batch: Batch) -> dict[str, str]:
        """Say of which modalities a batch has values of another magnitude than training had: perhaps another unit.

        Judged in the middle band (median), so that one strange band does not count. Unit spectra have no magnitude.
        """
        out = {}
        for m in (m for m in batch.names() if m in self.statistics):
            s, rows = self._of(m), np.moveaxis(batch.values[m], 1, -1)[batch.available[m]].astype(np.float64)
            as_it_is = not s.mean.any() and (s.std == 1).all()
            if len(rows) < ENOUGH or rows.shape[1] != len(s.mean) or as_it_is or s.unit_spectrum:
                continue  # nothing to judge by; another number of bands is an error elsewhere
            mean, deviation, one = rows.mean(0), rows.std(0), len(s.mean) == 1
            away = np.median(np.abs(mean - s.mean) / s.std)
            little = (deviation < LITTLE * s.std) & (np.abs(mean) < LITTLE * (np.abs(s.mean) + s.std))
            little = little[s.std != 1]  # a band that never changed (`_deviation`) is as little as it was
            if away > (FAR_ONE if one else FAR) or (not one and little.size and np.median(little) == 1):
                was, now = ((float(np.median(a)), float(np.median(b))) for a, b in ((s.mean, s.std), (mean, deviation)))
                out[m] = (
                    f"'{m}' has values of another magnitude than in training: mean {now[0]:.3g}, deviation {now[1]:.3g}; there "
                    f"{was[0]:.3g} and {was[1]:.3g}. Is it another unit (scene.toml takes scale, offset), or another product?"
                )
        return out

    def to_json(self) -> dict[str, Any]:
        """Return plain lists that JSON can hold; exact to float32."""
        return {
            m: {
                "unit_spectrum": s.unit_spectrum,
                "mean": s.mean.tolist(),
                "std": s.std.tolist(),
                "components": None if s.components is None else s.components.tolist(),
                "spread": None if s.spread is None else s.spread.tolist(),
                "knots": None if s.knots is None else s.knots.tolist(),
            }
            for m, s in self.statistics.items()
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Normalizer:
        """Build from `to_json`; raises KeyError, TypeError or ValueError if the tree is not one."""

        def array(x: Any) -> np.ndarray | None:
            return None if x is None else np.asarray(x, dtype=np.float32)

        out = {}
        for m, s in tree.items():
            mean, std = np.asarray(s["mean"], dtype=np.float32), np.asarray(s["std"], dtype=np.float32)
            if mean.ndim != 1 or mean.shape != std.shape or not np.all(std > 0):
                raise ValueError(f"statistics of '{m}' are not one mean and one positive deviation per band")
            components, spread = array(s["components"]), array(s["spread"])
            if components is not None and (spread is None or components.shape != (len(spread), len(mean))):
                raise ValueError(f"components of '{m}' are {components.shape}, of {len(mean)} bands")
            knots = array(s.get("knots"))
            if knots is not None and (knots.ndim != 2 or len(knots) != len(mean)):
                raise ValueError(f"knots of '{m}' are {knots.shape}, of {len(mean)} bands")
            out[m] = BandStatistics(bool(s["unit_spectrum"]), mean, std, components, spread, knots)
        return cls(out)

    def _of(self, modality: str) -> BandStatistics:
        if modality not in self.statistics:
            raise unknown("modality", modality, self.statistics)
        return self.statistics[modality]


def _unchanged(bands: int) -> BandStatistics:
    return BandStatistics(False, np.zeros(bands, np.float32), np.ones(bands, np.float32))


def training_rows(dataset: Dataset, split: Split, modality: str) -> tuple[np.ndarray, bool]:
    """Return available values of role TRAIN as rows (n, C), and whether the modality is available anywhere.

    A large data set is thinned evenly, a modality that is seen at few places of it less.
    """
    pieces = [(t.values[modality], t.available[modality]) for t in dataset.tiles] if isinstance(dataset, Scene) else []
    if not isinstance(dataset, Scene):
        pieces = [(np.moveaxis(dataset.samples.values[modality], 0, 1), dataset.samples.available[modality])]
    wanted = [
        available & (role == TRAIN).reshape(role.shape + (1,) * (available.ndim - role.ndim))
        for (_, available), role in zip(pieces, split.roles, strict=True)
    ]
    share = min(sum(w.size for w in wanted) // MOST_ROWS, sum(int(w.sum()) for w in wanted) // FEWEST_ROWS)
    rows = [values[:, w].T[:: max(1, share)] for (values, _), w in zip(pieces, wanted, strict=True)]
    return np.concatenate(rows).astype(np.float64), any(bool(available.any()) for _, available in pieces)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6) * np.sqrt(rows.shape[-1])


def _measure(rows: np.ndarray, config: DataConfig) -> BandStatistics:
    spectrum = bool(config.compress) and rows.shape[1] > config.compress
    unit = config.unit_spectrum and spectrum
    if unit:
        rows = _unit(rows)
    mean = rows.mean(0)
    std = _deviation(rows.std(0), mean)
    components = spread = None
    if spectrum:
        standard = (rows - mean) / std
        values, vectors = np.linalg.eigh(np.cov(standard.T))
        order = np.argsort(values)[::-1][: config.compress]
        components = vectors[:, order].T
        components = components * np.sign(components.sum(1, keepdims=True) + 1e-12)  # one sign, whatever the library
        root = np.sqrt(np.maximum(values[order], 0))
        spread = np.maximum(root, COMPONENT_FLOOR * root[0]) if root[0] > FLOOR else np.ones_like(root)
    knots = None
    if config.quantiles and not spectrum:
        knots = np.quantile((rows - mean) / std, np.linspace(0, 1, config.quantiles), axis=0).T.astype(np.float32)
    f = np.float32
    return BandStatistics(
        unit,
        mean.astype(f),
        std.astype(f),
        None if components is None else components.astype(f),
        None if spread is None else spread.astype(f),
        knots,
    )


def _deviation(std: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what each band is divided by: its own deviation, or 1 where that is no more than float32 rounds its values by."""
    rounding = np.maximum(np.finfo(np.float32).eps * np.abs(mean), np.finfo(np.float32).tiny)
    return np.where(std > rounding, std, np.maximum(rounding, 1))  # rounding of huge values is more than 1


def _by_rank(rows: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Map each band by its quantiles to a normal distribution; between them linearly, beyond them to the ends."""
    ranks = (np.arange(knots.shape[1]) + 0.5) / knots.shape[1]
    scores = ndtri(ranks)
    out = np.empty_like(rows)
    for c, band in enumerate(knots):
        values, index = np.unique(band, return_inverse=True)  # a value that is met often is several quantiles: their middle
        middle = np.bincount(index, scores) / np.bincount(index)
        out[..., c] = np.interp(rows[..., c], values, middle)
    return out
