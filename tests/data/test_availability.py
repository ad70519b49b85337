"""Frozen tables and holes: exact shares, the same again, refused when changed."""

from pathlib import Path

import numpy as np
import pytest

from made import made_samples, made_scene
from mamol.data.availability import (
    cloud_mask,
    draw_rate_table,
    hide_at_rate,
    load_table,
    save_table,
    stripe_mask,
    swath_mask,
    table_hash,
)
from mamol.data.split import TRAIN, make_split
from mamol.errors import DataError, UnknownName, UsageError

NAMES = ("hsi", "sar", "lidar")


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["hsi", "both"])
def test_shares_are_exact(rate: float, kind: str) -> None:
    table = draw_rate_table(1000, NAMES, rate, kind, 0)
    incomplete = ~table.all(1)
    assert incomplete.sum() == round(1000 * rate)
    assert table.any(1).all()
    if kind == "hsi":
        assert not table[incomplete, 0].any()
        assert table[:, 1:].all()
    elif rate:
        counts = np.bincount(table[incomplete] @ [1, 2, 4], minlength=8)[1:7]
        assert counts.max() - counts.min() <= 1


def test_tables_are_frozen(tmp_path: Path) -> None:
    table = draw_rate_table(50, NAMES, 0.5, "both", 3)
    np.testing.assert_array_equal(table, draw_rate_table(50, NAMES, 0.5, "both", 3))
    assert table_hash(table) != table_hash(draw_rate_table(50, NAMES, 0.5, "both", 4))
    path = tmp_path / "t.npy"
    save_table(path, table)
    np.testing.assert_array_equal(load_table(path, table_hash(table)), table)
    with pytest.raises(DataError, match="changed"):
        load_table(path, "0" * 64)
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not a missing table"):
        load_table(path)


def test_refusals() -> None:
    with pytest.raises(UsageError, match=r"0\.\.1"):
        draw_rate_table(5, NAMES, 1.5, "both", 0)
    with pytest.raises(UnknownName, match="Did you mean 'lidar'"):
        draw_rate_table(5, NAMES, 0.5, "lidr", 0)
    with pytest.raises(UsageError, match="one modality"):
        draw_rate_table(5, ("hsi",), 0.5, "both", 0)


def test_holes_cover_what_they_say() -> None:
    assert cloud_mask((80, 60), 0.2, 0).mean() == pytest.approx(0.2, abs=1e-3)
    assert swath_mask((80, 60), 0.3).mean() == pytest.approx(0.3, abs=0.01)
    assert stripe_mask((80, 60), 10, 3).mean() == pytest.approx(0.3)
    assert not swath_mask((8, 8), 0.0).any()
    for wrong in (lambda: cloud_mask((8, 8), 2, 0), lambda: swath_mask((8, 8), -1), lambda: stripe_mask((8, 8), 3, 4)):
        with pytest.raises(UsageError):
            wrong()


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9])
def test_training_samples_are_incomplete_for_good_and_no_others(rate: float) -> None:
    data = made_samples(200)
    split = make_split(data, "block", 0, 1)
    hidden, table = hide_at_rate(data, split, rate, 3)
    train = split.roles[0] == TRAIN
    assert (~table.all(1)).mean() == pytest.approx(rate, abs=0.02)
    before, after = data.samples.pattern(data.samples.names()), hidden.samples.pattern(data.samples.names())
    np.testing.assert_array_equal(after[~train], before[~train])
    np.testing.assert_array_equal(after[train], before[train] & table)
    again, same = hide_at_rate(data, split, rate, 3)
    np.testing.assert_array_equal(table, same)
    np.testing.assert_array_equal(again.samples.available["photo"], hidden.samples.available["photo"])


def test_of_a_scene_whole_tiles_are_incomplete() -> None:
    scene = made_scene(12)
    split = make_split(scene, "block", 0, 8)
    hidden, table = hide_at_rate(scene, split, 0.5, 0)
    rows = [i for i, r in enumerate(split.roles) if (r == TRAIN).any()]
    for i, (tile, old) in enumerate(zip(hidden.tiles, scene.tiles, strict=True)):
        kept = table[rows.index(i)] if i in rows else np.ones(3, bool)
        for m, k in zip(("hsi", "sar", "lidar"), kept, strict=True):
            np.testing.assert_array_equal(tile.available[m], old.available[m] & k)
