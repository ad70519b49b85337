"""Splits: nothing leaks under `block`, the leak is reported under `random`, the published one is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.data.dataset import Georeference, Scene, Tile
from mamol.data.split import TEST, TRAIN, UNUSED, VAL, Split, group_ids, labelled_counts, make_split
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


def on_the_ground(scene: Scene, places: list[tuple[str, float, float]]) -> Scene:
    """Put tiles on 10 m grids: (CRS, easting, northing of the upper left corner)."""
    tiles = [
        replace(t, georeference=Georeference(crs, (10.0, 0.0, x, 0.0, -10.0, y)))
        for t, (crs, x, y) in zip(scene.tiles, places, strict=True)
    ]
    return replace(scene, tiles=tuple(tiles))


def test_two_dates_of_one_ground_stay_on_one_side() -> None:
    """Three groups of two tiles each are too few to be folds; their squares go together, as the groups would."""
    scene = made_scene(6, 96)
    paired = replace(scene, tiles=tuple(replace(t, group=f"ground{i // 2}") for i, t in enumerate(scene.tiles)))
    split = make_split(paired, "block", 0, 8)
    ids = group_ids(paired, 8)
    for first, second in ((0, 1), (2, 3), (4, 5)):
        np.testing.assert_array_equal(split.roles[first], split.roles[second])
        np.testing.assert_array_equal(ids[first], ids[second])
    assert not np.isin(ids[0], ids[2]).any()


@pytest.mark.parametrize("tiles", [3, 8], ids=["squares", "whole tiles"])
def test_tiles_that_share_ground_do_not_leak(tiles: int) -> None:
    scene = made_scene(tiles, 64)
    apart = on_the_ground(scene, [("EPSG:32632", 500_000 + 640 * i, 5_000_000) for i in range(tiles)])  # side by side
    close = on_the_ground(scene, [("EPSG:32632", 500_000 + 440 * i, 5_000_000) for i in range(tiles)])  # 20 pixels shared
    before, after = (make_split(s, "block", 0, 8) for s in (apart, close))
    assert before.hash() == make_split(scene, "block", 0, 8).hash()
    leaks = 0
    for i in range(tiles - 1):
        for role, other in ((TEST, TRAIN), (TRAIN, TEST), (TEST, VAL), (VAL, TEST)):

            def both(split: Split, left: int = i, one: int = role, two: int = other) -> int:
                return int(((split.roles[left][:, 44:] == one) & (split.roles[left + 1][:, :20] == two)).sum())

            leaks += both(before)
            assert both(after) == 0
    assert leaks > 0
    for kept, had in zip(after.roles, before.roles, strict=True):
        np.testing.assert_array_equal(kept == TEST, had == TEST)
    assert make_split(close, "random", 0, 8).overlap["overlapping"] > make_split(apart, "random", 0, 8).overlap["overlapping"]


def test_dates_of_one_place_in_groups_of_their_own_leave_nothing_to_train_on() -> None:
    dates = on_the_ground(made_scene(5, 40), [("EPSG:32632", 500_000, 5_000_000)] * 5)
    with pytest.raises(DataError, match=r"share ground with the test area \('t0' and 't1', .*, \.\.\.\)\. Give the tiles of one"):
        make_split(dates, "block", 0, 8)


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


def test_too_few_labels_for_blocks_are_refused_in_words() -> None:
    few = made_samples(4)
    few = replace(few, labels=np.array([0, 0, 1, 2], dtype=np.int16))
    with pytest.raises(DataError, match="a class needs as many labels; the largest here has 2"):
        make_split(few, "block", 0, 8)


@pytest.mark.parametrize("seed", range(6))
def test_few_labels_are_split_where_they_can_be(seed: int) -> None:
    few = made_samples(12)
    few = replace(few, labels=np.array([0, 1] * 6, dtype=np.int16))
    assert (make_split(few, "block", seed, 8).roles[0] == TEST).any()
