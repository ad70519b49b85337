"""What training sees: only labels of the training part, windows that hold one, the same draw for the same step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from made import made_samples, made_scene, tiny_config
from mamol.data.dataset import Dataset
from mamol.data.normalize import Normalizer
from mamol.data.split import TEST, TRAIN, VAL, make_split
from mamol.data.windows import starts
from mamol.errors import DataError
from mamol.model.tokens import anywhere
from mamol.train.feed import Feed, join


def feed_of(dataset: Dataset, taught: tuple[str, ...] = (), **sections: dict[str, object]) -> Feed:
    config = tiny_config(**sections)
    split = make_split(dataset, "block", 0, 8)
    return Feed(dataset, split, Normalizer.fit(dataset, split, config.data), config, 0, taught)


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


class Largest(TorchFunctionMode):
    """Remembers how large a tensor was that was made."""

    numel = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.numel = max(self.numel, out.numel() if isinstance(out, torch.Tensor) else 0)
        return out


@pytest.mark.parametrize("hidden", [False, True])
def test_a_window_costs_no_more_in_a_large_tile(hidden: bool) -> None:
    feed = feed_of(made_scene(4, side=60))
    for corner in ((0, 0), (-3, 16), (55, 55), (-3, -3)):
        with Largest() as largest:
            draw = feed.cut((0, *corner), TRAIN, test_hidden=hidden)
        assert largest.numel <= 6 * 8 * 8  # bands and pixels of a window
        for y in range(8):
            for x in range(8):
                row, column = corner[0] + y, corner[1] + x
                inside = 0 <= row < 60 and 0 <= column < 60
                role = int(feed.roles[0][row, column]) if inside else None
                assert draw.labels[0, y, x] == (feed.labels[0][row, column] if role == TRAIN else -1)
                assert draw.available["hsi"][0, y, x] == (inside and not (hidden and role == TEST))


class Counted(np.ndarray):
    """Counts the elements that are computed with."""

    elements = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None) -> Any:
        Counted.elements += max(np.size(i) for i in inputs)
        return getattr(ufunc, method)(*(np.asarray(i) for i in inputs))


def test_windows_of_held_out_places_are_found_in_one_pass_over_them() -> None:
    feed = feed_of(made_scene(40))
    places = feed.held_out_places()
    corners = feed._corners(places.view(Counted))
    assert Counted.elements <= places.size
    grid = [(i, y, x) for i in range(40) for y in starts(20, 8, 8) for x in starts(20, 8, 8)]
    assert corners == [c for c in grid if any((c[0] == p[0]) and 0 <= p[1] - c[1] < 8 and 0 <= p[2] - c[2] < 8 for p in places)]
    assert len({i for i, *_ in corners}) < 40  # some tiles have none


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


@pytest.mark.parametrize(("dataset", "taught"), [(made_samples(), "weather"), (made_scene(), "lidar")], ids=["samples", "scene"])
def test_what_is_taught_is_in_every_draw_and_never_hidden(dataset: Dataset, taught: str) -> None:
    free, bound = feed_of(dataset), feed_of(dataset, (taught,))
    assert 0 < len(bound.train) < len(free.train)
    draw = bound.draw(0, 200)
    assert anywhere(draw.available[taught]).all()
    missing = bound.draw_missing(draw, 0)
    i = bound.order.index(taught)
    assert not missing[:, i].any()
    assert missing.any(0).sum() == 2


def test_what_is_taught_must_be_somewhere() -> None:
    dataset = made_samples()
    dataset.samples.available["weather"][:] = False
    with pytest.raises(DataError, match=r"no labelled training pixel or sample with weather under this split"):
        feed_of(dataset, ("weather",))


def test_class_weights_average_one_over_the_labels() -> None:
    feed = feed_of(made_samples())
    labels = feed.labels[0][feed.train[:, 1]].numpy()
    weight = feed.class_weight().numpy()
    np.testing.assert_allclose(weight[labels].mean(), 1.0, rtol=1e-5)
    flat = feed_of(made_samples(), train={"class_balance": 0.0}).class_weight()
    np.testing.assert_allclose(flat, 1.0, rtol=1e-6)


@pytest.mark.parametrize("setting", [{"distill": 1.0}, {"more_vs_fewer": 0.1}])
def test_a_full_pattern_that_is_held_out_is_not_shown_to_losses_that_run_it(setting: dict[str, object]) -> None:
    dataset = made_samples()
    samples = dataset.samples
    samples.available["weather"][::3] = False  # of these, what they have is not held out
    feed = feed_of(dataset, train={"held_out": ["optical+weather+photo"], **setting})
    draw = feed.draw(0, 32)
    missing = feed.draw_missing(draw, 0)
    there = torch.stack([anywhere(draw.available[m]) for m in feed.order], 1)
    shown = feed.fullest(draw, missing)
    seen = torch.stack([anywhere(shown.available[m]) for m in feed.order], 1)
    whole = there.all(1)
    assert whole.any()
    assert not whole.all()
    assert not seen.all(1).any()
    assert torch.equal(seen[~whole], there[~whole])
    assert torch.equal(seen[whole], (there & ~missing)[whole])
    assert feed_of(dataset).fullest(draw, missing) is draw
