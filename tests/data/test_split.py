"""Splits: nothing leaks under `block`, the leak is reported under `random`, the published one is kept."""

from __future__ import annotations

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.data.dataset import Scene, Tile
from mamol.data.split import TEST, TRAIN, UNUSED, VAL, group_ids, labelled_counts, make_split
from mamol.data.synthetic import make_scene
from mamol.errors import DataError, UnknownName


@pytest.fixture(scope="module")
def one_tile() -> Scene:
    return make_scene(160)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_of_one_tile_keep_their_distance(one_tile: Scene, seed: int) -> None:
    patch = 8
    split = make_split(one_tile, "block", seed, patch)
    assert split.overlap["overlapping"] == 0
    roles = split.roles[0]
    test, train = np.argwhere(roles == TEST), np.argwhere(np.isin(roles, (TRAIN, VAL)))
    step = max(1, len(test) // 300)
    nearest = min(np.abs(train - t).max(1).min() for t in test[::step])
    assert nearest >= patch
    counts = dict(labelled_counts(one_tile, split))
    assert all(c.sum() > 0 for c in counts.values())


@pytest.mark.parametrize("seed", range(6))
def test_groups_stay_whole(seed: int) -> None:
    for dataset in (made_scene(12), made_samples()):
        split = make_split(dataset, "block", seed, 8)
        if isinstance(dataset, Scene):
            where = {t.group: set(np.unique(r)) for t, r in zip(dataset.tiles, split.roles, strict=True)}
        else:
            where = {g: set(split.roles[0][dataset.groups == g]) for g in np.unique(dataset.groups)}
        assert all(len(roles) == 1 for roles in where.values())
        assert {TRAIN, VAL, TEST} <= set().union(*where.values())


def test_groups_are_numbered_as_the_split_keeps_them(one_tile: Scene) -> None:
    samples = made_samples()
    (ids,) = group_ids(samples, 8)
    assert len(np.unique(ids)) == len(np.unique(samples.groups)) == len(set(zip(ids, samples.groups, strict=True)))
    assert [set(np.unique(g)) for g in group_ids(made_scene(5), 8)] == [{i} for i in range(5)]
    for dataset in (one_tile, made_scene(2, side=80)):  # too few groups: squares, no number twice
        pieces = group_ids(dataset, 8)
        assert len(np.unique(np.concatenate([np.unique(p) for p in pieces]))) == sum(len(np.unique(p)) for p in pieces)
        roles = make_split(dataset, "block", 0, 8).roles
        for ids, role in zip(pieces, roles, strict=True):
            assert all(set(np.unique(role[ids == g])) - {UNUSED} <= {TEST} for g in np.unique(ids[role == TEST]))


def test_seeds_take_the_folds_in_turn() -> None:
    dataset = made_samples()
    tested = np.stack([make_split(dataset, "block", seed).roles[0] == TEST for seed in range(4)])
    assert (tested.sum(0) == 1).all(), "four seeds: every sample is tested once"
    assert make_split(dataset, "block", 0).hash() == make_split(dataset, "block", 0).hash()
    assert make_split(dataset, "block", 4).hash() != make_split(dataset, "block", 0).hash()


def test_random_leaks_and_says_so(one_tile: Scene) -> None:
    split = make_split(one_tile, "random", 0, 8)
    assert split.overlap["percent"] > 50
    counts = dict(labelled_counts(one_tile, split))
    assert (counts["train"] + counts["val"]).max() == 100


def test_official_is_kept_and_validation_comes_out_of_train() -> None:
    scene = made_scene(4)
    tiles = []
    for t in scene.tiles:
        official = np.zeros(t.labels.shape, dtype=np.int8)
        official[:, :12], official[:, 12:] = TRAIN, TEST
        tiles.append(Tile(t.name, t.values, t.available, t.labels, t.group, official=official))
    split = make_split(Scene("o", scene.modalities, scene.classes, tuple(tiles)), "official", 0, 4)
    for role in split.roles:
        assert (role[:, 12:] == TEST).all()
        assert np.isin(role[:, :12], (TRAIN, VAL)).all()
    assert any((r == VAL).any() for r in split.roles)
    with pytest.raises(DataError, match="no official split"):
        make_split(scene, "official")


def test_what_cannot_be_split() -> None:
    scene = made_scene(4)
    with pytest.raises(UnknownName, match="Did you mean 'block'"):
        make_split(scene, "blok")
    for t in scene.tiles:
        t.labels[:] = -1
    with pytest.raises(DataError, match="no labelled"):
        make_split(scene)


def test_roles_cover_unlabelled_ground(one_tile: Scene) -> None:
    roles = make_split(one_tile, "block", 0, 8).roles[0]
    assert (roles[one_tile.tiles[0].labels < 0] != UNUSED).any()
