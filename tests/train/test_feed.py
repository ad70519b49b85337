"""What training sees: only labels of the training part, windows that hold one, the same draw for the same step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from made import made_samples, made_scene, tiny_config
from mamol.data.dataset import Dataset
from mamol.data.normalize import Normalizer
from mamol.data.split import TEST, TRAIN, VAL, make_split
from mamol.train.feed import Feed, join


def feed_of(dataset: Dataset, **sections: dict[str, object]) -> Feed:
    config = tiny_config(**sections)
    split = make_split(dataset, "block", 0, 8)
    return Feed(dataset, split, Normalizer.fit(dataset, split, config.data), config, 0)


@pytest.mark.parametrize("dataset", [made_scene(), made_samples()], ids=["scene", "samples"])
def test_the_same_step_draws_the_same(dataset: Dataset) -> None:
    a, b = feed_of(dataset), feed_of(dataset)
    for step in (0, 5):
        x, y = a.draw(step, 8), b.draw(step, 8)
        assert torch.equal(x.labels, y.labels)
        assert all(torch.equal(x.values[m], y.values[m]) for m in a.order)
    assert not torch.equal(a.draw(0, 8).values[a.order[0]], a.draw(1, 8).values[a.order[0]])


def test_windows_hold_training_labels_and_no_others() -> None:
    scene = made_scene()
    for tile, role in zip(scene.tiles, make_split(scene, "block", 0, 8).roles, strict=True):
        if (role == TEST).any():
            tile.labels[tile.labels >= 0] = 2  # a label that would be seen
    feed = feed_of(scene)
    drawn = feed.draw(0, 200)
    assert ((drawn.labels >= 0).flatten(1).sum(1) > 0).all()
    held = feed.held_out()
    assert (held.labels >= 0).any()
    count = sum(int(((r == VAL) & (t.labels >= 0)).sum()) for t, r in zip(scene.tiles, feed.split.roles, strict=True))
    assert int((held.labels >= 0).sum()) >= count


def test_turning_keeps_pixels_together() -> None:
    scene = made_scene(4)
    for tile in scene.tiles:  # a value that is its own label
        tile.values["lidar"][0] = tile.labels
        tile.available["lidar"][:] = True
    feed = feed_of(scene, train={"band_noise": 0.0})
    drawn = feed.draw(3, 64)
    seen = drawn.labels >= 0
    lidar = drawn.values["lidar"][:, 0]
    for k in range(3):
        assert lidar[seen & (drawn.labels == k)].std() < 1e-5


def test_a_window_over_the_border_is_padded_as_missing() -> None:
    feed = feed_of(made_scene(4))
    draw = feed.cut((0, -3, 16), TRAIN)
    assert draw.values["hsi"].shape == (1, 6, 8, 8)
    assert not draw.available["hsi"][0, :3].any()
    assert not draw.available["hsi"][0, :, 4:].any()
    assert draw.available["hsi"][0, 3:, :4].all()
    assert (draw.labels[0, :3] == -1).all()


def test_hiding_and_joining() -> None:
    feed = feed_of(made_samples())
    draw = feed.draw(0, 6)
    missing = torch.zeros(6, 3, dtype=torch.bool)
    missing[1, 0] = True
    hidden = draw.without(missing, feed.order)
    assert not hidden.available["optical"][1].any()
    assert torch.equal(hidden.available["optical"][0], draw.available["optical"][0])
    both = join([draw, hidden])
    assert len(both) == 12


def test_class_weights_average_one_over_the_labels() -> None:
    feed = feed_of(made_samples())
    labels = feed.labels[0][feed.train[:, 1]].numpy()
    weight = feed.class_weight().numpy()
    np.testing.assert_allclose(weight[labels].mean(), 1.0, rtol=1e-5)
    flat = feed_of(made_samples(), train={"class_balance": 0.0}).class_weight()
    np.testing.assert_allclose(flat, 1.0, rtol=1e-6)
