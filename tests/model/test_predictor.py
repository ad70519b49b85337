"""Rasters of any size, blended windows, temperatures per pattern."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import Trained
from mamol.errors import ShapeMismatch
from mamol.modality import Batch
from mamol.model.predictor import MamolPredictor


def cut(batch: Batch, height: int, width: int) -> Batch:
    return Batch(
        {m: v[..., :height, :width] for m, v in batch.values.items()},
        {m: a[:, :height, :width] for m, a in batch.available.items()},
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (7, 8), (8, 8), (9, 17), (20, 3)])
def test_every_size_is_covered(scene_run: Trained, size: tuple[int, int]) -> None:
    out = scene_run.predictor.predict(cut(scene_run.dataset.tiles[1].batch(), *size))
    assert out.shape == (1, 3, *size)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(1), 1, atol=1e-4)


def test_a_higher_temperature_flattens(scene_run: Trained) -> None:
    p = scene_run.predictor
    batch = scene_run.dataset.tiles[0].batch().only(["hsi"])
    sharp = MamolPredictor(p.model, p.normalizer, p.classes, {"hsi": 0.5}).predict(batch)
    flat = MamolPredictor(p.model, p.normalizer, p.classes, {"hsi": 4.0}).predict(batch)
    assert flat.max(1).mean() < sharp.max(1).mean()
    np.testing.assert_array_equal(flat.argmax(1)[0, :8, :8].shape, (8, 8))


def test_other_bands_are_refused(scene_run: Trained) -> None:
    batch = scene_run.dataset.tiles[0].batch()
    fewer = Batch(batch.values | {"hsi": batch.values["hsi"][:, :4]}, batch.available)
    with pytest.raises(ShapeMismatch, match="'hsi' has 4 bands; the model was trained on 6"):
        scene_run.predictor.predict(fewer)


def test_a_batch_may_lack_modalities(scene_run: Trained, sample_run: Trained) -> None:
    batch = scene_run.dataset.tiles[0].batch()
    alone = Batch({"hsi": batch.values["hsi"]}, {"hsi": batch.available["hsi"]})
    np.testing.assert_array_equal(scene_run.predictor.predict(alone), scene_run.predictor.predict(batch.only(["hsi"])))
    samples = sample_run.dataset.samples
    only = Batch({"photo": samples.values["photo"]}, {"photo": samples.available["photo"]})
    np.testing.assert_allclose(
        sample_run.predictor.predict(only), sample_run.predictor.predict(samples.only(["photo"])), atol=1e-6
    )


def test_activations_name_the_experts(scene_run: Trained, sample_run: Trained) -> None:
    for trained in (scene_run, sample_run):
        dataset = trained.dataset
        batch = dataset.tiles[0].batch() if trained is scene_run else dataset.samples.take(slice(0, 9))
        gates = trained.predictor.activations(batch.only(batch.names()[:1]))
        names = trained.predictor.expert_names()
        assert gates.shape == (2, len(names))
        assert gates[:, names.index("shared")].tolist() == [1, 1]
        assert gates[:, names.index(f"specific {batch.names()[1]}")].tolist() == [0, 0]


def test_values_that_are_not_finite_are_missing(scene_run: Trained, sample_run: Trained) -> None:
    batch = cut(scene_run.dataset.tiles[1].batch(), 12, 12)
    gone = Batch(batch.values, {m: a.copy() for m, a in batch.available.items()})
    gone.available["lidar"][0, 3:5, 3:5] = False
    broken = Batch({m: v.copy() for m, v in batch.values.items()}, batch.available)
    broken.values["lidar"][0, 0, 3:5, 3:5] = np.inf
    out = scene_run.predictor.predict(broken)
    np.testing.assert_array_equal(out, scene_run.predictor.predict(gone))
    samples = sample_run.dataset.samples.take(slice(0, 4))
    values = {m: v.copy() for m, v in samples.values.items()}
    values["weather"][2] = np.nan
    assert np.isfinite(sample_run.predictor.predict(Batch(values, samples.available))).all()


def test_no_samples_get_no_answers(scene_run: Trained, sample_run: Trained) -> None:
    assert sample_run.predictor.predict(sample_run.dataset.samples.take(slice(0, 0))).shape == (0, 3)
    assert scene_run.predictor.predict(scene_run.dataset.tiles[0].batch().take(slice(0, 0))).shape == (0, 3, 20, 20)
