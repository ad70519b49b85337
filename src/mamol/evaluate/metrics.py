"""Measures of PROTOCOL.md section 5, from probabilities and labels. Shares are in percent.

OA    share right                          AA     mean recall over the classes that occur
kappa (OA - chance) / (1 - chance)         F1     mean over the classes that occur, predicted or true
ECE   sum_b n_b / n |acc_b - conf_b|, 15 equal bins of confidence [1706.04599, eq. 3]
floor the ECE that chance alone would show, were every confidence right
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

ECE_BINS = 15


@dataclass(frozen=True)
class Scored:
    """Labels (n,) and probabilities (n, K) of what was scored under one pattern."""

    labels: np.ndarray
    probability: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class, (n,)."""
        return self.probability.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the most probable class, (n,)."""
        return self.probability.max(axis=1)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pairs, int (K, K): rows are the truth, columns the prediction."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def overall_accuracy(matrix: np.ndarray) -> float:
    """Return OA of a confusion matrix (K, K), percent; NaN without samples."""
    total = matrix.sum()
    return float(100 * np.trace(matrix) / total) if total else float("nan")


def recall(matrix: np.ndarray) -> np.ndarray:
    """Return the recall of each class (K,), percent; NaN for a class that does not occur."""
    count = matrix.sum(axis=1)
    return 100 * np.divide(np.diag(matrix), count, out=np.full(len(matrix), np.nan), where=count > 0)


def average_accuracy(matrix: np.ndarray) -> float:
    """Return AA, percent: the mean recall over the classes that occur; NaN without samples."""
    found = recall(matrix)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def kappa(matrix: np.ndarray) -> float:
    """Return Cohen's kappa times 100; 0 when chance explains everything, NaN without samples."""
    total = matrix.sum()
    if not total:
        return float("nan")
    observed = np.trace(matrix) / total
    chance = float((matrix.sum(0) * matrix.sum(1)).sum()) / float(total) ** 2
    return float(100 * (observed - chance) / (1 - chance)) if chance < 1 else 0.0


def macro_f1(matrix: np.ndarray) -> float:
    """Return the mean F1 over classes that occur in truth or prediction, percent."""
    both = matrix.sum(0) + matrix.sum(1)
    occurs = both > 0
    return float(100 * np.mean(2 * np.diag(matrix)[occurs] / both[occurs])) if occurs.any() else float("nan")


def reliability(scored: Scored) -> list[dict[str, float]]:
    """Return the bins of the reliability diagram that hold samples: mean confidence, accuracy (0-1) and count."""
    bins = np.minimum((scored.confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    right = scored.predicted == scored.labels
    return [
        {
            "confidence": float(scored.confidence[in_bin].mean()),
            "accuracy": float(right[in_bin].mean()),
            "n": int(in_bin.sum()),
        }
        for in_bin in (bins == b for b in range(ECE_BINS))
        if in_bin.any()
    ]


def calibration_error(scored: Scored) -> float:
    """Return the expected calibration error, percent; NaN without samples."""
    n = len(scored.labels)
    if not n:
        return float("nan")
    return float(100 * sum(b["n"] / n * abs(b["accuracy"] - b["confidence"]) for b in reliability(scored)))


def calibration_floor(bins: Sequence[Mapping[str, float]]) -> float:
    """Return the ECE to expect of a perfectly calibrated predictor with these `reliability` bins, percent; NaN without any.

    An ECE of few samples is far from zero by chance alone: a bin of n samples at confidence c misses it by the mean
    deviation of a binomial, 2 m (1 - c) P(X = m) with m = floor(n c) + 1 (De Moivre), on average. Neighbouring pixels are
    not independent, so the floor of a scene is higher than this.
    """
    total = sum(b["n"] for b in bins)
    if not total:
        return float("nan")
    n, c = (np.array([b[key] for b in bins], dtype=float) for key in ("n", "confidence"))
    m = np.floor(n * c) + 1
    return float(100 * (2 * m * (1 - c) * binom.pmf(m, n, np.minimum(c, 1.0))).sum() / total)


def negative_log_likelihood(scored: Scored) -> float:
    """Return the mean of -log p(truth), nats; a probability of zero counts as 1e-7."""
    if not len(scored.labels):
        return float("nan")
    return float(-np.log(np.maximum(scored.probability[np.arange(len(scored.labels)), scored.labels], 1e-7)).mean())


def all_measures(scored: Scored, classes: tuple[str, ...]) -> dict[str, object]:
    """Return every measure of one pattern, rounded to four digits, with the confusion matrix as lists."""
    matrix, bins = confusion(scored.labels, scored.predicted, len(classes)), reliability(scored)
    per_class = {name: None if np.isnan(r) else round(float(r), 4) for name, r in zip(classes, recall(matrix), strict=True)}
    return {
        "n": len(scored.labels),
        "oa": _round(overall_accuracy(matrix)),
        "aa": _round(average_accuracy(matrix)),
        "kappa": _round(kappa(matrix)),
        "f1": _round(macro_f1(matrix)),
        "ece": _round(calibration_error(scored)),
        "ece_floor": _round(calibration_floor(bins)),
        "nll": _round(negative_log_likelihood(scored)),
        "per_class": per_class,
        "confusion": matrix.tolist(),
        "reliability": bins,
    }


def counter_intuitive(few: Scored, more: Scored) -> float:
    """Return the share of samples right with fewer modalities and wrong with more, percent; rows must match."""
    return float(100 * np.mean((few.predicted == few.labels) & (more.predicted != more.labels)))


def confidence_rise(few: Scored, more: Scored) -> float:
    """Return the share of samples whose confidence rises when modalities are removed, percent; rows must match.

    Less is better only up to a point: sensors that contradict each other ought to make a model less sure. Bayes' rule itself,
    of two weak sensors that tell two classes apart equally well, rises in arctan(2) / pi = 35 % of the samples.
    """
    return float(100 * np.mean(few.confidence > more.confidence))


def _round(value: float) -> float | None:
    """Round to four digits; None for NaN, which JSON does not know."""
    return None if np.isnan(value) else round(value, 4)
