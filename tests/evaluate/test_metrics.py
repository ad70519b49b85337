"""Measures against scikit-learn and against figures made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.stats import norm
from sklearn import metrics as reference

from mamol.evaluate import metrics
from mamol.evaluate.metrics import Scored

PAIRS = nps.arrays(np.int64, (30, 2), elements=st.integers(0, 3))


@given(PAIRS)
def test_as_scikit_learn(pairs: np.ndarray) -> None:
    truth, predicted = pairs.T
    matrix = metrics.confusion(truth, predicted, 4)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(truth, predicted, labels=range(4)))
    assert metrics.overall_accuracy(matrix) == pytest.approx(100 * reference.accuracy_score(truth, predicted))
    recall = [np.mean(predicted[truth == k] == k) for k in np.unique(truth)]
    assert metrics.average_accuracy(matrix) == pytest.approx(100 * np.mean(recall))
    expected = reference.f1_score(truth, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(matrix) == pytest.approx(100 * expected)
    if len(set(truth)) > 1 or len(set(predicted)) > 1:
        assert metrics.kappa(matrix) == pytest.approx(100 * reference.cohen_kappa_score(truth, predicted), abs=1e-6)


def test_calibration_by_hand() -> None:
    # Two bins: 0.9 (one of two right) and 0.6 (right): |0.5 - 0.9| * 2/3 + |1 - 0.6| * 1/3 = 0.4
    scored = Scored(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]]))
    assert metrics.calibration_error(scored) == pytest.approx(40.0)
    assert metrics.negative_log_likelihood(scored) == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean())
    assert [b["n"] for b in metrics.reliability(scored)] == [1, 2]


def test_the_least_calibration_error_to_expect() -> None:
    # One sample at 0.5 misses by 0.5 whatever it is; two at 0.75 have 0, 1 or 2 right: 1/16 * 0.75 + 6/16 * 0.25 + 9/16 * 0.25.
    assert metrics.calibration_floor([{"n": 1, "confidence": 0.5}]) == pytest.approx(50)
    assert metrics.calibration_floor([{"n": 2, "confidence": 0.75}]) == pytest.approx(100 * (0.75 + 15 * 0.25) / 16)
    assert metrics.calibration_floor([{"n": 7, "confidence": 1.0}]) == 0
    assert np.isnan(metrics.calibration_floor([]))


def test_the_floor_is_what_a_calibrated_predictor_shows() -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), size=300)
    draws = [Scored((rng.random((300, 1)) > probability.cumsum(1)).sum(1), probability) for _ in range(200)]
    floor = metrics.calibration_floor(metrics.reliability(draws[0]))
    assert np.mean([metrics.calibration_error(d) for d in draws]) == pytest.approx(floor, rel=0.05)


def test_pairs_of_patterns() -> None:
    labels = np.array([0, 1, 1])
    few = Scored(labels, np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    more = Scored(labels, np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7]]))
    assert metrics.counter_intuitive(few, more) == pytest.approx(100 / 3)
    assert metrics.confidence_rise(few, more) == pytest.approx(100 / 3)


def test_nothing_to_score() -> None:
    measures = metrics.all_measures(Scored(np.zeros(0, int), np.zeros((0, 2))), ("a", "b"))
    assert measures["n"] == 0
    assert measures["oa"] is None
    assert measures["per_class"] == {"a": None, "b": None}


@pytest.mark.parametrize(("accuracy", "surer"), [(0.5001, np.arctan(2) / np.pi), (0.65, 0.334), (0.9, 0.196)])
def test_an_ideal_classifier_is_often_surer_with_less(accuracy: float, surer: float) -> None:
    """Two classes, two sensors x ~ N(+-d, 1), Bayes' rule: the figures that docs/study.md holds the bar of 5 % against."""
    rng, d = np.random.default_rng(0), norm.ppf(accuracy) / 2**0.5
    x, labels = d + rng.standard_normal((200_000, 2)), np.ones(200_000, dtype=int)

    def bayes(evidence: np.ndarray) -> Scored:
        p = 1 / (1 + np.exp(-2 * d * evidence))
        return Scored(labels, np.stack([1 - p, p], axis=1))

    few, more = bayes(x[:, 0]), bayes(x.sum(axis=1))
    assert metrics.overall_accuracy(metrics.confusion(labels, more.predicted, 2)) == pytest.approx(100 * accuracy, abs=0.5)
    assert metrics.confidence_rise(few, more) == pytest.approx(100 * surer, abs=0.5)
