"""Tree baselines learn, under every regime; the contract tests do the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.baselines.forest import ForestSettings, TableLayout, batch_features, fit_trees
from mamol.data.dataset import Dataset, SampleSet, classes_from
from mamol.data.split import TRAIN, UNUSED, make_split
from mamol.data.texts import encode_texts
from mamol.errors import DataError, UnknownName
from mamol.evaluate.score import score
from mamol.modality import Batch, Modality


@pytest.mark.parametrize("dataset", [made_scene(), made_samples()], ids=["scene", "samples"])
@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_better_than_chance_with_every_sensor_and_one_regime_for_all_patterns(dataset: Dataset, kind: str) -> None:
    split = make_split(dataset, "block", 0, 8)
    result = score(fit_trees(dataset, split, ForestSettings(kind, trees=40, jobs=1)), dataset, split)
    assert result["patterns"][0]["oa"] > 60
    complete = score(fit_trees(dataset, split, ForestSettings(kind, "complete", trees=40, jobs=1)), dataset, split)
    assert result["mean_oa"] > complete["mean_oa"] - 3


@pytest.mark.parametrize("kind", ["forest", "boosted"])
@pytest.mark.parametrize("regime", ["every", "complete", "per-pattern"])
def test_what_training_never_saw_is_ignored(kind: str, regime: str) -> None:
    """One month is always cloudy, one sensor has no file; both may turn up later and then tell nothing."""
    dataset = made_samples()
    available = {m: a.copy() for m, a in dataset.samples.available.items()}
    available["optical"][:, 2] = False
    available["weather"][:] = False
    batch = Batch(dataset.samples.values, available)
    split = make_split(dataset, "block", 0, 8)
    trees = fit_trees(replace(dataset, samples=batch), split, ForestSettings(kind, regime, trees=10, jobs=1))
    found = trees.predict(batch)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
    later = available | {"optical": np.ones_like(available["optical"])}
    if regime != "per-pattern":  # which has no model for a sensor that it never saw
        later["weather"] = np.ones_like(available["weather"])
    assert np.isfinite(trees.predict(Batch(batch.values, later))).all()


@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_a_pattern_that_one_class_has_is_that_class(kind: str) -> None:
    dataset = made_samples(60)
    available = dataset.samples.available | {"weather": dataset.labels == 1}
    batch = Batch(dataset.samples.values, available)
    split = make_split(dataset, "block", 0, 8)
    trees = fit_trees(replace(dataset, samples=batch), split, ForestSettings(kind, "per-pattern", trees=3, jobs=1))
    found = trees.predict(batch.take(dataset.labels == 1))
    np.testing.assert_array_equal(found, np.broadcast_to([0.0, 1.0, 0.0], found.shape))


def test_unknown_choices() -> None:
    dataset = made_scene(4)
    split = make_split(dataset, "block", 0, 8)
    with pytest.raises(UnknownName, match="Did you mean 'forest'"):
        fit_trees(dataset, split, ForestSettings("forrest"))
    with pytest.raises(UnknownName, match="regime"):
        fit_trees(dataset, split, ForestSettings(regime="all"))


def made_texts_and_images(n: int = 120) -> SampleSet:
    """Make samples of a title whose word tells class 0, and two images of different sizes, one of which tells class 2."""
    rng = np.random.default_rng(0)
    labels = (np.arange(n) % 3).astype(np.int16)
    texts = [f"{rng.integers(99)} {'röd' if k == 0 else 'blå'} {'xyz'[rng.integers(3)]}{rng.integers(9)}" for k in labels]
    small = rng.normal(0, 1, (n, 1, 4, 4)) + 2.0 * (labels == 2)[:, None, None, None]
    values = {"title": encode_texts(texts, 24), "small": small, "large": rng.normal(0, 1, (n, 2, 6, 6))}
    values = {m: v.astype(np.float32) for m, v in values.items()}
    available = {m: np.ones((n, *v.shape[2:]), dtype=bool) for m, v in values.items()}
    available["title"] = np.arange(n) % 7 != 0
    values["title"][~available["title"]] = np.nan  # no one may look there
    modalities = (Modality("title", 24, "text"), Modality("small", 1), Modality("large", 2))
    groups = np.array([f"g{i % 12}" for i in range(n)])
    return SampleSet("made", modalities, classes_from(["a", "b", "c"]), Batch(values, available), labels, groups)


@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_texts_count_as_words_and_images_of_samples_have_one_label(kind: str) -> None:
    dataset = made_texts_and_images()
    split = make_split(dataset, "block", 0, 8)
    trees = fit_trees(dataset, split, ForestSettings(kind, trees=60, jobs=1))
    assert trees.predict(dataset.samples).shape == (120, 3)
    result = {tuple(r["present"]): r["oa"] for r in score(trees, dataset, split)["patterns"]}
    assert result["title", "small"] > 80  # one of them alone: two of three at most
    assert result["title",] > 55  # tells 0 from the rest: two of three right on average
    # All modalities are grids here, of different sizes: still one row per sample.
    images = SampleSet(
        "images",
        dataset.modalities[1:],
        dataset.classes,
        Batch(*({m: part[m] for m in ("small", "large")} for part in (dataset.samples.values, dataset.samples.available))),
        dataset.labels,
        dataset.groups,
    )
    trees = fit_trees(images, split, ForestSettings(kind, trees=60, jobs=1))
    assert trees.predict(images.samples).shape == (120, 3)


def test_word_order_and_padding_change_nothing_but_words_do() -> None:
    layout = TableLayout(("title",), ("title",), per_pixel=False)

    def counts(*texts: str) -> np.ndarray:
        values = {"title": encode_texts(texts, 40)}
        return batch_features(Batch(values, {"title": np.array([bool(t) for t in texts])}), layout)[0]["title"]

    found = counts("red shirt men", "men Red shirt", "red red shirt men", "blue shirt men", "")
    assert found.shape == (5, 256)
    assert found[:4].sum(axis=1).tolist() == [3, 3, 4, 3]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[3]).any()
    assert np.isnan(found[4]).all()


def test_class_weights_move_trees_to_the_rare_class() -> None:
    dataset = made_samples(200)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(200) < 0.2, 1, 0).astype(np.int16)  # nothing in the data tells the classes apart
    rare = replace(dataset, labels=labels)
    split = make_split(rare, "random", 0)

    def said(balance: float) -> float:
        settings = ForestSettings("boosted", trees=10, class_balance=balance, jobs=1)
        return float(fit_trees(rare, split, settings).predict(rare.samples)[:, 1].mean())

    assert said(0.0) + 0.05 < said(1.0) < 0.9


def test_boosted_trees_do_not_run_away_with_a_class_of_five() -> None:
    dataset = made_samples(200)
    rare = replace(dataset, labels=np.where(np.arange(200) < 5, 2, np.minimum(dataset.labels, 1)).astype(np.int16))
    split = make_split(rare, "random", 0)
    said = fit_trees(rare, split, ForestSettings(kind="boosted", trees=200)).predict(rare.samples)
    # Without regularisation a leaf of one class grows with every round: one in e^19.
    assert -np.log(said.min()) < 15


@pytest.mark.parametrize("height", [0.0, 3000.0])
def test_the_spread_of_heights_does_not_depend_on_the_sea(height: float) -> None:
    """Of float32 squares of 3,000 m, no spread below a metre is left."""
    rough = np.random.default_rng(0).normal(0, 0.2, (1, 1, 16, 16))
    batch = Batch({"dem": (height + rough).astype(np.float32)}, {"dem": np.ones((1, 16, 16), bool)})
    features, _, _ = batch_features(batch, TableLayout(("dem",), (), True))
    middle = features["dem"].reshape(16, 16, 3)[3:-3, 3:-3]
    at = np.lib.stride_tricks.sliding_window_view(batch.values["dem"][0, 0].astype(float), (7, 7))
    np.testing.assert_allclose(middle[..., 2], at.std(axis=(2, 3)), rtol=1e-3)
    np.testing.assert_allclose(middle[..., 1], at.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


def test_without_a_training_label_there_is_nothing_to_fit() -> None:
    for dataset in (made_scene(4), made_samples()):
        split = make_split(dataset, "block", 0, 8)
        for role in split.roles:
            role[role == TRAIN] = UNUSED
        with pytest.raises(DataError, match="leaves no labelled training pixel or sample; trees have nothing to fit"):
            fit_trees(dataset, split, ForestSettings(trees=2))


@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_any_seed_will_do(kind: str) -> None:
    dataset = made_samples()
    fit_trees(dataset, make_split(dataset, "block", 0, 8), ForestSettings(kind, trees=2, jobs=1, seed=1_700_000_000_000))
