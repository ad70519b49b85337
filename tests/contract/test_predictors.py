"""What every Predictor must do, ours and the forests alike (modality.Predictor)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from conftest import make_run
from made import made_samples, made_scene
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.data.dataset import Dataset, Scene
from mamol.data.split import make_split
from mamol.errors import AllModalitiesMissing, UnknownName
from mamol.modality import Batch, Predictor, patterns

PAPER = {"task": "centre", "fusion": "late"}
FFN = {"targets": ["ffn"], "projection": True, "init_b": "normal", "specific_gate": "embedding"}


def mamol(dataset: Dataset, **sections: dict[str, object]) -> Predictor:
    return make_run(dataset, Path(mkdtemp()) / "run", **sections).predictor


def trees(dataset: Dataset, kind: str, regime: str) -> Predictor:
    return fit_trees(dataset, make_split(dataset, "block", 0, 8), ForestSettings(kind, regime, trees=8, jobs=1))


MAKERS: dict[str, Callable[[Dataset], Predictor]] = {
    "mamol": mamol,
    "mamol placeholder": lambda d: mamol(d, tokens={"placeholder": "learned"}),
    "mamol own scope": lambda d: mamol(d, experts={"scope": "own"}, router={"input": "pattern+content"}),
    "mamol late": lambda d: mamol(d, model={"fusion": "late"}),
    "forest": lambda d: trees(d, "forest", "every"),
    "forest per pattern": lambda d: trees(d, "forest", "per-pattern"),
    "forest complete": lambda d: trees(d, "forest", "complete"),
    "boosted": lambda d: trees(d, "boosted", "every"),
}
SCENE_ONLY: dict[str, Callable[[Dataset], Predictor]] = {
    "mamol paper": lambda d: mamol(
        d, model=PAPER, experts=FFN, router={"input": "pattern+content"}, tokens={"placeholder": "ones"}
    ),
}
CASES = [(name, kind) for name in MAKERS for kind in ("scene", "samples")] + [(name, "scene") for name in SCENE_ONLY]


@lru_cache
def case(name: str, kind: str) -> tuple[Predictor, Batch]:
    dataset = made_scene(side=20) if kind == "scene" else made_samples()
    predictor = (MAKERS | SCENE_ONLY)[name](dataset)
    batch = dataset.tiles[0].batch() if isinstance(dataset, Scene) else dataset.samples.take(slice(0, 20))
    return predictor, batch


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]} on {c[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[Predictor, Batch]:
    return case(*request.param)


def same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6, equal_nan=True)


def test_is_a_predictor_with_probabilities(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    assert isinstance(predictor, Predictor)
    probability = predictor.predict(batch)
    assert probability.shape[:2] == (len(batch), len(predictor.classes))
    total = probability.sum(axis=1)
    np.testing.assert_allclose(total[np.isfinite(total)], 1.0, atol=1e-4)
    assert np.isfinite(total).any()


@pytest.mark.parametrize("junk", [np.nan, 1e6, -3.0])
def test_values_of_an_absent_modality_change_nothing(pair: tuple[Predictor, Batch], junk: float) -> None:
    predictor, batch = pair
    for present in patterns(predictor.modalities):
        hidden = batch.only(present)
        if not hidden.pattern(hidden.names()).any(axis=1).all():
            continue
        spoiled = {m: np.where(np.expand_dims(hidden.available[m], 1), v, np.float32(junk)) for m, v in hidden.values.items()}
        same(predictor.predict(hidden), predictor.predict(Batch(spoiled, hidden.available)))


def test_order_of_modalities_changes_nothing(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    order = list(reversed(batch.names()))
    turned = Batch({m: batch.values[m] for m in order}, {m: batch.available[m] for m in order})
    same(predictor.predict(batch), predictor.predict(turned))


def test_all_absent_raises(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    with pytest.raises(AllModalitiesMissing, match="sample 0"):
        predictor.predict(batch.only([]))


def test_unknown_modality_raises_with_the_nearest(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    first = batch.names()[0]
    more = Batch(batch.values | {first + "x": batch.values[first]}, batch.available | {first + "x": batch.available[first]})
    with pytest.raises(UnknownName, match=f"Did you mean '{first}'"):
        predictor.predict(more)


def test_input_is_not_touched_and_the_answer_is_the_same_again(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    before = {m: v.copy() for m, v in batch.values.items()}
    masks = {m: a.copy() for m, a in batch.available.items()}
    first = predictor.predict(batch)
    np.testing.assert_array_equal(first, predictor.predict(batch))
    for m in batch.names():
        np.testing.assert_array_equal(before[m], batch.values[m])
        np.testing.assert_array_equal(masks[m], batch.available[m])


def test_a_hole_without_any_modality_has_no_probability(pair: tuple[Predictor, Batch]) -> None:
    predictor, batch = pair
    if predictor.predict(batch).ndim == 2:
        pytest.skip("a sample is whole or absent")
    available = {m: a.copy() for m, a in batch.available.items()}
    for a in available.values():
        a[0, 3:6, 3:6] = False
    out = predictor.predict(Batch(batch.values, available))
    assert np.isnan(out[0, :, 3:6, 3:6]).all()
    assert np.isfinite(out[0, :, 10, 10]).all()
