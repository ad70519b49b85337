"""Validation measures what a pattern is about: places that have some of it, and for its temperature all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from made import made_samples, made_scene, tiny_config
from mamol.config import TrainConfig
from mamol.data.dataset import Dataset
from mamol.data.split import make_split
from mamol.modality import patterns
from mamol.model.tokens import anywhere
from mamol.train.feed import Draw
from mamol.train.prepare import prepare
from mamol.train.validate import Validation

SETS = [(made_scene(), "dense"), (made_scene(), "centre"), (made_samples(), "dense")]


def test_patterns_that_are_held_out_are_not_looked_at() -> None:
    whole = Validation(None, ("a", "b"), TrainConfig())
    assert ("a",) in whole.patterns
    assert Validation(None, ("a", "b"), TrainConfig(held_out=("a",))).patterns == [("a", "b"), ("b",)]


def test_a_network_that_never_lost_a_sensor_is_scored_by_what_samples_have() -> None:
    assert Validation(None, ("a", "b"), TrainConfig(patterns="none")).patterns == [("a", "b")]


def test_of_many_patterns_evenly_spaced_ones_are_scored() -> None:
    assert Validation(None, tuple("abcd"), TrainConfig()).patterns == patterns("abcd")
    every = patterns("abcdef")
    chosen = [every.index(p) for p in Validation(None, tuple("abcdef"), TrainConfig()).patterns]
    assert (len(chosen), chosen[0]) == (15, 0)
    assert set(np.diff(chosen)) == {4, 5}


def places(held: Draw, task: str) -> tuple[torch.Tensor, torch.Tensor]:
    """List the labels (n,) and which modalities each place has, (n, M), without any code of the package's own."""
    masks = list(held.available.values())
    if held.labels.dim() == 1:
        there, labels = torch.stack([anywhere(a) for a in masks], -1), held.labels
    else:
        there, labels = torch.stack(masks, -1), held.labels
        if task == "centre":
            there, labels = there[:, 4, 4], labels[:, 4, 4]
    return labels[labels >= 0], there[labels >= 0]


@pytest.mark.parametrize(("dataset", "task"), SETS, ids=["scene", "centre", "samples"])
def test_only_places_that_have_some_of_a_pattern_are_scored_under_it(dataset: Dataset, task: str) -> None:
    p = prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(model={"task": task}), 0)
    held = p.feed.held_out()
    validation = Validation(held, p.feed.order, p.config.train)
    labels, there = places(held, task)
    for present in patterns(p.feed.order):
        seen = there[:, [p.feed.order.index(m) for m in present]]
        logits, found = validation.logits(p.model, present)
        assert len(logits) == len(found)
        assert torch.equal(found, labels[seen.any(1)])
        assert torch.equal(validation.logits(p.model, present, whole=True)[1], labels[seen.all(1)])
    assert not there.all(), "some place has a gap, or this says nothing"


def test_a_temperature_is_fitted_where_the_whole_pattern_is() -> None:
    """A pattern that no place has as a whole has no temperature of its own."""
    scene = made_scene()
    for tile in scene.tiles:
        tile.available["sar"][:, ::2] = False
        tile.available["lidar"][:] = ~tile.available["sar"]
    p = prepare(scene, make_split(scene, "block", 0, 8), tiny_config(), 0)
    found = Validation(p.feed.held_out(), p.feed.order, p.config.train).temperatures(p.model)
    assert set(found) == {"hsi", "sar", "lidar", "hsi+sar", "hsi+lidar"}
    assert np.isfinite(list(found.values())).all()
