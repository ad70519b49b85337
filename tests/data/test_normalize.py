"""Normalisation sees training pixels only, and comes back from JSON to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kurtosis, norm
from texts_made import LENGTH, made_texts

from made import made_samples, made_scene
from mamol.config import DataConfig
from mamol.data import normalize
from mamol.data.dataset import SampleSet, Scene
from mamol.data.from_arrays import samples_from_arrays
from mamol.data.normalize import BandStatistics, Normalizer
from mamol.data.split import TRAIN, make_split
from mamol.errors import ShapeMismatch, UnknownName
from mamol.modality import Batch


@pytest.mark.parametrize("compress", [0, 3])
def test_training_values_become_standard(compress: int) -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    normalizer = Normalizer.fit(scene, split, DataConfig(compress=compress))
    rows = [
        normalizer.apply(t.values["hsi"][None], "hsi")[0][:, r == TRAIN] for t, r in zip(scene.tiles, split.roles, strict=True)
    ]
    values = np.concatenate(rows, axis=1)
    assert len(values) == (compress or 6) == normalizer.bands("hsi")
    np.testing.assert_allclose(values.mean(1), 0, atol=0.02)
    np.testing.assert_allclose(values.std(1), 1, atol=0.02)


def test_skewed_values_become_normally_distributed_in_their_order() -> None:
    rng = np.random.default_rng(0)
    heights = np.where(np.arange(400)[:, None] < 160, 0.0, np.exp(rng.normal(0, 2, (400, 1)))).astype(np.float32)
    data = samples_from_arrays("m", {"lidar": heights, "long": rng.normal(size=(400, 5))}, np.zeros(400, int), ["a"])
    split = make_split(data, "random", 0, 1)
    split.roles[0][:] = TRAIN
    normalizer = Normalizer.fit(data, split, DataConfig(quantiles=100, compress=4))
    found = normalizer.apply(heights, "lidar")[:, 0]
    order = np.argsort(heights[:, 0], kind="stable")
    assert (np.diff(found[order]) >= -1e-6).all()
    assert abs(kurtosis(found[heights[:, 0] > 0])) < 1.2 < kurtosis(heights[:, 0])
    low = heights[:, 0] == 0
    # Four tenths are 0: the middle of the ranks 0 to 0.4 in a normal distribution.
    assert found[low] == pytest.approx(np.mean(norm.ppf((np.arange(40) + 0.5) / 100)), abs=0.05)
    assert normalizer.apply(np.array([[-9.0], [1e9]], np.float32), "lidar").ravel() == pytest.approx(
        [found[low][0], norm.ppf(0.995)], abs=1e-3
    )
    assert normalizer.statistics["long"].knots is None  # compressed
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())))
    np.testing.assert_array_equal(again.apply(heights, "lidar"), normalizer.apply(heights, "lidar"))
    older = {m: {k: v for k, v in s.items() if k != "knots"} for m, s in normalizer.to_json().items()}
    assert Normalizer.from_json(older).statistics["lidar"].knots is None
    with pytest.raises(ValueError, match=r"data\.quantiles = 1 would make all values the same"):
        DataConfig(quantiles=1)
    with pytest.raises(ValueError, match="knots of 'lidar'"):
        Normalizer.from_json({"lidar": normalizer.to_json()["lidar"] | {"knots": [[1.0]] * 2}})


@pytest.mark.parametrize("dataset", [made_scene(), made_samples()], ids=["scene", "samples"])
def test_what_is_outside_training_does_not_matter(dataset: Scene | SampleSet) -> None:
    split = make_split(dataset, "block", 0, 8)
    before = Normalizer.fit(dataset, split, DataConfig()).to_json()
    if isinstance(dataset, Scene):
        for t, r in zip(dataset.tiles, split.roles, strict=True):
            for m, v in t.values.items():
                v[:, (r != TRAIN) | ~t.available[m]] = 1e6
    else:
        for v in dataset.samples.values.values():
            v[split.roles[0] != TRAIN] = 1e6
    assert Normalizer.fit(dataset, split, DataConfig()).to_json() == before


def test_rows_are_thinned_only_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "MOST_ROWS", 100)
    monkeypatch.setattr(normalize, "FEWEST_ROWS", 30)
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    share = sum(t.labels.size for t in scene.tiles) // 100
    assert share > 9
    for t, r in zip(scene.tiles, split.roles, strict=True):
        there = np.argwhere(t.available["lidar"] & (r == TRAIN))[:9]
        t.available["lidar"][:] = False
        t.available["lidar"][tuple(there.T)] = True
    seen = [t.values["lidar"][:, t.available["lidar"]].T for t in scene.tiles]
    np.testing.assert_array_equal(normalize.training_rows(scene, split, "lidar")[0], np.concatenate(seen))
    many = [
        t.values["hsi"][:, t.available["hsi"] & (r == TRAIN)].T[::share] for t, r in zip(scene.tiles, split.roles, strict=True)
    ]
    np.testing.assert_array_equal(normalize.training_rows(scene, split, "hsi")[0], np.concatenate(many))


def test_json_and_refusals() -> None:
    scene = made_scene()
    normalizer = Normalizer.fit(scene, make_split(scene, "block", 0, 8), DataConfig(compress=2, unit_spectrum=True))
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())))
    x = scene.tiles[0].values["hsi"][None]
    np.testing.assert_array_equal(normalizer.apply(x, "hsi"), again.apply(x, "hsi"))
    np.testing.assert_allclose(normalizer.apply(3 * x, "hsi"), normalizer.apply(x, "hsi"), atol=1e-3)
    with pytest.raises(ShapeMismatch, match="4 bands; the statistics are of 6"):
        normalizer.apply(x[:, :4], "hsi")
    with pytest.raises(UnknownName, match="Did you mean 'lidar'"):
        normalizer.bands("lider")
    for wrong in ({"m": {"mean": [0.0], "std": [0.0]}}, {"m": {"mean": [0.0]}}, {"m": 3}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Normalizer.from_json(wrong)


def test_a_modality_that_is_nowhere_passes_through() -> None:
    scene = made_scene()
    for t in scene.tiles:
        t.available["sar"][:] = False
    normalizer = Normalizer.fit(scene, make_split(scene, "block", 0, 8), DataConfig())
    x = np.ones((1, 2, 3, 3), dtype=np.float32)
    np.testing.assert_array_equal(normalizer.apply(x, "sar"), x)


def test_bytes_of_a_text_pass_through_and_are_not_compressed() -> None:
    dataset = made_texts()
    config = DataConfig(compress=3, unit_spectrum=True)
    normalizer = Normalizer.fit(dataset, make_split(dataset, "block", 0, 8), config)
    assert normalizer.bands("title") == LENGTH > 3
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())))
    title = dataset.samples.values["title"]
    np.testing.assert_array_equal(again.apply(title, "title"), title)
    assert abs(normalizer.apply(dataset.samples.values["noise"], "noise").mean()) < 0.2


def test_values_of_another_magnitude_are_told_of_and_other_ground_is_not() -> None:
    scene = made_scene()
    normalizer = Normalizer.fit(scene, make_split(scene, "block", 0, 8), DataConfig())
    batch = scene.tiles[0].batch()

    def told(**changes: Callable[[np.ndarray], np.ndarray]) -> list[str]:
        values = {m: changes.get(m, lambda v: v)(v) for m, v in batch.values.items()}
        return list(normalizer.unlike(Batch(values, batch.available)))

    assert told() == []
    assert told(sar=lambda v: v + 4, hsi=lambda v: 0.4 * v, lidar=np.zeros_like) == []  # brighter, flatter, or water
    assert told(lidar=lambda v: v + 20) == []  # up the hill
    assert told(hsi=lambda v: 1e-4 * v) == ["hsi"]
    assert told(lidar=lambda v: 100 * v) == ["lidar"]  # centimetres
    dead = batch.values["hsi"].copy()
    dead[:, :2] = 1e6
    assert told(hsi=lambda v: dead) == []


def test_decibels_and_linear_power_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    mean, std = np.array([-12.6, -20.3], np.float32), np.array([5.1, 5.9], np.float32)
    normalizer = Normalizer({"s1": BandStatistics(False, mean, std)})
    decibels = (mean + std * rng.normal(size=(500, 2))).astype(np.float32)
    there = {"s1": np.ones(500, bool)}
    assert normalizer.unlike(Batch({"s1": decibels}, there)) == {}
    assert "mean 0.0" in normalizer.unlike(Batch({"s1": 10 ** (decibels / 10)}, there))["s1"]


def fitted(values: np.ndarray, **config: int) -> Normalizer:
    """Measure on all samples (n, C) of a modality `x`."""
    data = samples_from_arrays("m", {"x": values}, np.zeros(len(values), int), ["a"])
    split = make_split(data, "random", 0, 1)
    split.roles[0][:] = TRAIN
    return Normalizer.fit(data, split, DataConfig(**config))


@pytest.mark.parametrize("config", [{}, {"compress": 3}, {"quantiles": 9}])
@pytest.mark.parametrize("size", [1.0, 1e-8, 1e-15, 1e12])
def test_values_of_any_unit_become_standard(config: dict[str, int], size: float) -> None:
    values = np.random.default_rng(0).normal(3, 1, (400, 5)).astype(np.float32)
    expected, scaled = fitted(values, **config).apply(values, "x"), (values * size).astype(np.float32)
    np.testing.assert_allclose(fitted(scaled, **config).apply(scaled, "x"), expected, atol=1e-3)


@pytest.mark.parametrize("always", [0.0, 1.0, 0.3, -9999.0, 1e-12, 1e12, 1e-44])
def test_a_band_that_never_changes_in_training_is_not_blown_up(always: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    values[:, 3] = always
    values[::2, 3] = np.nextafter(values[::2, 3], np.float32(2e12))  # as far as scale and offset round
    for config in ({}, {"compress": 2}):
        normalizer = fitted(values, **config)
        assert np.abs(normalizer.apply(values, "x")).max() < 6
        assert Normalizer.from_json(normalizer.to_json()).statistics["x"].std[3] >= 1
    later = values[:1].copy()
    later[0, 3] += 1
    assert abs(fitted(values).apply(later, "x")[0, 3]) < 1.1


def test_a_deviation_that_is_small_beside_its_mean_is_measured() -> None:
    values = np.random.default_rng(0).normal(2.45e6, 3, (500, 2)).astype(np.float32)  # days
    np.testing.assert_allclose(fitted(values).apply(values, "x").std(0), 1, atol=0.02)


def test_statistics_of_older_runs_keep_their_meaning() -> None:
    older = {"x": {"unit_spectrum": False, "mean": [0.0, 1e-8], "std": [1e-6, 1e-6], "components": None, "spread": None}}
    normalizer = Normalizer.from_json(json.loads(json.dumps(older)))
    np.testing.assert_allclose(normalizer.apply(np.array([[1.0, 2e-8]], np.float32), "x"), [[1e6, 0.01]], rtol=1e-5)


def test_kinds_that_training_never_has_are_no_sign_of_another_magnitude() -> None:
    rng = np.random.default_rng(0)
    kinds = np.eye(9, dtype=np.float32)
    normalizer, there = fitted(kinds[rng.integers(0, 3, 300)]), {"x": np.ones(200, bool)}
    assert normalizer.unlike(Batch({"x": kinds[rng.integers(0, 3, 200)]}, there)) == {}
    assert normalizer.unlike(Batch({"x": kinds[rng.integers(0, 9, 200)]}, there)) == {}
    assert list(normalizer.unlike(Batch({"x": 1e-4 * kinds[rng.integers(0, 3, 200)]}, there))) == ["x"]
