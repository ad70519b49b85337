"""Networks side by side: who answers, and how the answers become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.baselines.combined import Average, Ensemble, PerPattern, hidden
from mamol.errors import AllModalitiesMissing, UnknownName, UsageError
from mamol.modality import Batch, Predictor


@dataclass(frozen=True)
class Says:
    """Gives the first class a fixed probability, NaN at pixels where it sees nothing; remembers nothing."""

    first: float
    modalities: tuple[str, ...] = ("a", "b")
    classes: tuple[str, ...] = ("x", "y")

    def predict(self, batch: Batch) -> np.ndarray:
        seen = np.any([batch.available[m] for m in batch.names()], axis=0)
        one = np.where(seen, self.first, np.nan).astype(np.float32)
        return np.stack([one, 1 - one], axis=1)


def vectors(pattern: list[list[bool]]) -> Batch:
    there = np.array(pattern)
    return Batch({m: np.zeros((len(there), 1), np.float32) for m in "ab"}, {m: there[:, i] for i, m in enumerate("ab")})


PATTERNS = PerPattern({("a", "b"): Says(0.1), ("a",): Says(0.2), ("b",): Says(0.3)}, ("a", "b"), ("x", "y"))
TOGETHER = Ensemble({"a": Says(0.2), "b": Says(0.6)}, ("x", "y"))
THRICE = Average([Says(0.2), Says(0.6), Says(0.7)])


def test_each_sample_goes_to_the_network_of_its_pattern() -> None:
    got = PATTERNS.predict(vectors([[True, False], [True, True], [False, True], [True, False]]))
    np.testing.assert_allclose(got[:, 0], [0.2, 0.1, 0.3, 0.2], rtol=1e-6)


def test_the_ensemble_is_the_mean_of_those_that_are_there() -> None:
    got = TOGETHER.predict(vectors([[True, False], [True, True], [False, True]]))
    np.testing.assert_allclose(got[:, 0], [0.2, 0.4, 0.6], rtol=1e-6)


def test_the_ensemble_goes_pixel_by_pixel() -> None:
    there = {"a": np.array([[[True, True, False, False]]]), "b": np.array([[[True, False, True, False]]])}
    batch = Batch({m: np.zeros((1, 1, 1, 4), np.float32) for m in "ab"}, there)
    np.testing.assert_allclose(TOGETHER.predict(batch)[0, 0, 0], [0.4, 0.2, 0.6, np.nan], rtol=1e-6)


def test_an_average_asks_every_network_about_everything_that_is_there() -> None:
    np.testing.assert_allclose(THRICE.predict(vectors([[True, False], [True, True]]))[:, 0], [0.5, 0.5], rtol=1e-6)
    there = {"a": np.array([[[True, False, False]]]), "b": np.array([[[False, False, True]]])}
    batch = Batch({m: np.zeros((1, 1, 1, 3), np.float32) for m in "ab"}, there)
    np.testing.assert_allclose(THRICE.predict(batch)[0, 0, 0], [0.5, np.nan, 0.5], rtol=1e-6)
    assert THRICE.predict(batch).dtype == np.float32


def test_an_average_is_of_like_networks() -> None:
    with pytest.raises(UsageError, match="got none"):
        Average([])
    with pytest.raises(UsageError, match=r"one has b, a and x, y, the first has a, b and x, y"):
        Average([Says(0.2), Says(0.2, modalities=("b", "a"))])
    with pytest.raises(UsageError, match="one has a, b and x, z"):
        Average([Says(0.2), Says(0.2, classes=("x", "z"))])


@pytest.mark.parametrize("predictor", [PATTERNS, TOGETHER])
def test_they_stand_where_a_predictor_stands(predictor: Predictor) -> None:
    assert isinstance(predictor, Predictor)
    with pytest.raises(AllModalitiesMissing, match="sample 1"):
        predictor.predict(vectors([[True, True], [False, False]]))
    with pytest.raises(UnknownName, match="'c'"):
        predictor.predict(Batch({"c": np.zeros((1, 1), np.float32)}, {"c": np.ones(1, bool)}))


def test_a_pattern_without_a_network_is_said() -> None:
    few = PerPattern({("a",): Says(0.2)}, ("a", "b"), ("x", "y"))
    with pytest.raises(UsageError, match=r"pattern a\+b; there are a"):
        few.predict(vectors([[True, True]]))


def test_hidden_modalities_were_never_observed() -> None:
    scene = hidden(made_scene(2), ["hsi"])
    assert not any(t.available[m].any() for t in scene.tiles for m in ("sar", "lidar"))
    assert all(t.available["hsi"].any() for t in scene.tiles)
    samples = hidden(made_samples(8), ["photo", "weather"])
    assert not samples.samples.available["optical"].any()
    assert made_samples(8).samples.available["optical"].any()
