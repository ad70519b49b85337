"""Fills against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.baselines.fill import Filled, fit_filler
from mamol.data.dataset import Dataset, SampleSet, Scene, classes_from
from mamol.data.split import TRAIN, make_split
from mamol.errors import UnknownName, UsageError
from mamol.modality import Batch, Modality


def linear(n: int = 60) -> SampleSet:
    """b = 3 a_1 - a_2 + 1, to the bit."""
    a = np.random.default_rng(0).normal(0, 1, (n, 2)).astype(np.float32)
    b = (3 * a[:, :1] - a[:, 1:] + 1).astype(np.float32)
    there = {m: np.ones(n, bool) for m in "ab"}
    labels = (a[:, 0] > 0).astype(np.int16)
    modalities = (Modality("a", 2, "vector"), Modality("b", 1, "vector"))
    return SampleSet(
        "linear", modalities, classes_from(["x", "y"]), Batch({"a": a, "b": b}, there), labels, np.arange(n).astype(str)
    )


def test_regression_finds_the_line() -> None:
    data = linear()
    filler = fit_filler(data, make_split(data, "block", 0, 1), "regression")
    filled = filler.fill(data.samples.only(["a"]))
    np.testing.assert_allclose(filled.values["b"], data.samples.values["b"], atol=0.4)  # ridge shrinks a little
    assert np.corrcoef(filled.values["b"][:, 0], data.samples.values["b"][:, 0])[0, 1] > 0.999
    assert filled.available["b"].all()
    np.testing.assert_array_equal(filled.values["a"], data.samples.values["a"])


def test_mean_and_zeros_are_constants_of_the_training_part() -> None:
    data = linear()
    split = make_split(data, "block", 0, 1)
    train = data.samples.values["b"][split.roles[0] == TRAIN]
    mean = fit_filler(data, split, "mean").fill(data.samples.only(["a"])).values["b"]
    np.testing.assert_allclose(mean, np.full_like(mean, train.mean()), rtol=1e-5)
    assert not fit_filler(data, split, "zeros").fill(data.samples.only(["a"])).values["b"].any()


@pytest.mark.parametrize("kind", ["zeros", "mean", "regression"])
@pytest.mark.parametrize("data", [made_scene(3), made_samples(40)], ids=["scene", "samples"])
def test_whatever_is_there_stays_and_all_else_is_filled(data: object, kind: str) -> None:
    filler = fit_filler(data, make_split(data, "block", 0, 4), kind)
    whole = data.tiles[0].batch() if hasattr(data, "tiles") else data.samples
    batch = whole.only(whole.names()[:1])
    filled = filler.fill(batch)
    first = whole.names()[0]
    seen = batch.available[first]
    kept, before = (np.moveaxis(b.values[first], 1, -1)[seen] for b in (filled, batch))
    np.testing.assert_array_equal(kept, before)
    for m in whole.names():
        assert np.isfinite(filled.values[m]).all()
        assert filled.values[m].shape == whole.values[m].shape
        assert filled.available[m].any()


def test_the_predictor_sees_the_filled_batch() -> None:
    data = linear()
    seen: list[Batch] = []

    class Looks:
        modalities, classes = ("a", "b"), ("x", "y")

        def predict(self, batch: Batch) -> np.ndarray:
            seen.append(batch)
            return np.full((len(batch), 2), 0.5, np.float32)

    predictor = Filled(Looks(), fit_filler(data, make_split(data, "block", 0, 1), "mean"))
    assert predictor.predict(data.samples.only(["b"])).shape == (60, 2)
    assert predictor.modalities == ("a", "b")
    assert predictor.classes == ("x", "y")
    assert seen[0].available["a"].all()


def test_text_and_unknown_kinds_are_refused() -> None:
    data = linear()
    split = make_split(data, "block", 0, 1)
    with pytest.raises(UnknownName, match="median"):
        fit_filler(data, split, "median")
    words = replace(data, modalities=(data.modalities[0], Modality("b", 1, "text")))
    with pytest.raises(UsageError, match="text cannot be filled"):
        fit_filler(words, split, "mean")


@pytest.mark.parametrize("kind", ["zeros", "mean", "regression"])
@pytest.mark.parametrize("data", [made_scene(3), made_samples(40)], ids=["scene", "samples"])
def test_a_batch_may_lack_what_is_filled(data: Dataset, kind: str) -> None:
    filler = fit_filler(data, make_split(data, "block", 0, 4), kind)
    whole = data.tiles[0].batch() if isinstance(data, Scene) else data.samples
    first = whole.names()[0]
    lacks = Batch({first: whole.values[first]}, {first: whole.available[first]})
    ours, theirs = filler.fill(lacks), filler.fill(whole.only([first]))
    for m in whole.names():
        np.testing.assert_array_equal(ours.values[m], theirs.values[m])
        np.testing.assert_array_equal(ours.available[m], theirs.available[m])
