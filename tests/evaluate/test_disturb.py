"""Holes and worse sensors: what is done, to which pixels, and that everybody gets the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.data.split import make_split
from mamol.errors import UsageError
from mamol.evaluate.disturb import Disturbance, disturbances
from mamol.evaluate.plots import PLOTS, draw_all
from mamol.evaluate.report import as_markdown
from mamol.evaluate.score import score
from mamol.files import must_not_exist
from mamol.modality import Batch


def batch(side: int = 40) -> Batch:
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(5, 2, (1, 3, side, side)).astype(np.float32), "b": np.zeros((1, 1, side, side), np.float32)}
    return Batch(values, {m: np.ones((1, side, side), bool) for m in "ab"})


@pytest.mark.parametrize("kind", ["cloud", "stripes", "swath edge"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_hole_covers_its_share_of_one_sensor_only(kind: str, share: float) -> None:
    whole, d = batch(), Disturbance(kind, "a", share)
    made = d.apply(whole, 0, 1)
    assert (~made.available["a"]).mean() == pytest.approx(share, abs=0.02)
    np.testing.assert_array_equal(~made.available["a"][0], d.hole((40, 40), 0, 1))
    assert made.available["b"].all()
    assert made.values["a"] is whole.values["a"]


def test_noise_and_bias_are_in_deviations_of_the_band() -> None:
    whole = batch(100)
    spread = whole.values["a"].std(axis=(0, 2, 3))
    noise = Disturbance("noise", "a", 0.5).apply(whole, 0, 1).values["a"] - whole.values["a"]
    np.testing.assert_allclose(noise.std(axis=(0, 2, 3)), 0.5 * spread, rtol=0.05)
    bias = Disturbance("bias", "a", 2.0).apply(whole, 0, 1).values["a"] - whole.values["a"]
    np.testing.assert_allclose(bias, np.broadcast_to(2 * spread[None, :, None, None], bias.shape), rtol=1e-3, atol=1e-3)


def test_a_shift_moves_the_sensor_and_leaves_a_border() -> None:
    whole = batch()
    made = Disturbance("shift", "a", 2.0).apply(whole, 0, 1)
    np.testing.assert_array_equal(made.values["a"][..., 2:, 2:], whole.values["a"][..., :-2, :-2])
    assert not made.available["a"][0, :2].any()
    assert not made.available["a"][0, :, :2].any()
    assert made.available["a"][0, 2:, 2:].all()
    assert whole.available["a"].all()


def test_the_same_seed_gives_the_same_hole_and_another_tile_another() -> None:
    d = Disturbance("cloud", "a", 0.3)
    np.testing.assert_array_equal(d.hole((30, 30), 0, 1), d.hole((30, 30), 0, 1))
    assert (d.hole((30, 30), 0, 1) != d.hole((30, 30), 1, 1)).any()


@pytest.mark.parametrize("protocol", ["pixel", "degraded"])
def test_scores_of_a_forest(protocol: str, tmp_path) -> None:
    scene = made_scene(6)
    split = make_split(scene, "block", 0, 8)
    trees = fit_trees(scene, split, ForestSettings("forest", trees=10, jobs=1))
    result = score(trees, scene, split, protocol)
    names = [d.name for d in disturbances(protocol, ("hsi", "sar", "lidar"))]
    assert [r["name"] for r in result["rows"]] == names
    by_name = {r["name"]: r for r in result["rows"]}
    if protocol == "pixel":
        row = by_name["cloud in hsi, 70%"]
        assert 0 < row["n_hidden"] < row["n"]
        assert row["oa_hidden"] < row["oa"] < by_name["cloud in hsi, 10%"]["oa"]
    else:
        assert by_name["noise in hsi, 2 sd"]["oa"] < by_name["noise in hsi, 0.25 sd"]["oa"]
        assert by_name["shift in hsi, 1 px"]["n_hidden"] == 0
    json.dumps(result, allow_nan=False)
    assert names[0] in as_markdown({"forest": result})
    drawn = draw_all({"forest": result}, None, tmp_path / "plots")
    assert len(drawn) == 3
    assert all(f.exists() for f in drawn)
    must_not_exist(tmp_path / "plots", overwrite=True, ours=PLOTS)  # so it may be drawn anew


def test_samples_have_no_pixels() -> None:
    dataset = made_samples(40)
    split = make_split(dataset, "block", 0, 8)
    trees = fit_trees(dataset, split, ForestSettings("forest", trees=2, jobs=1))
    with pytest.raises(UsageError, match="Use patterns or rate"):
        score(trees, dataset, split, "pixel")
