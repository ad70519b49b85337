"""The embedded scene: the same again, in place, and each sensor tells what only it can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mamol.data.dataset import class_names
from mamol.data.reader import open_scene
from mamol.data.synthetic import FILES, INDEX, make_scene, make_truth, write_scene
from mamol.errors import OutputExists, UsageError


def test_the_same_seed_makes_the_same_land() -> None:
    a, b = make_scene(64, 3).tiles[0], make_scene(64, 3).tiles[0]
    for m in a.values:
        np.testing.assert_array_equal(a.values[m], b.values[m])
    assert (make_truth(64, 3) != make_truth(64, 4)).any()


def test_the_small_scene_stays_what_it_was() -> None:
    # From commit b0416ba, before scenes were made in blocks: runs and the README's picture rest on this scene.
    tile = make_scene(64, 0).tiles[0]
    assert np.bincount(make_truth(64, 0).ravel()).tolist() == [332, 413, 418, 605, 73, 453, 503, 585, 435, 279]
    assert (tile.labels >= 0).sum() == 529
    squares = {"hsi": 5483.112028841311, "sar": 1970707.0670746434, "lidar": 307830.9630165907}
    for m, there in (("hsi", 3681), ("sar", 3686), ("lidar", 3687)):
        assert tile.available[m].sum() == there
        assert (tile.values[m].astype(float) ** 2).sum() == pytest.approx(squares[m], rel=1e-7)


def test_written_and_read_again_is_the_same(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s", 64, 1)
    made, read = make_scene(64, 1), open_scene(path).load()
    assert read.classes == made.classes
    a, b = made.tiles[0], read.tiles[0]
    assert a.georeference.transform == b.georeference.transform
    np.testing.assert_array_equal(a.labels, b.labels)
    for m in a.values:
        np.testing.assert_array_equal(a.available[m], b.available[m])
        np.testing.assert_allclose(a.values[m], b.values[m], atol=1e-6)
    with pytest.raises(UsageError, match="writes the made scene to a folder; got Scene for the folder"):
        write_scene(make_scene(64), tmp_path / "other")  # type: ignore[arg-type]
    with pytest.raises(OutputExists):
        write_scene(tmp_path / "s", 64, 1)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(FILES)
    write_scene(tmp_path / "s", 64, 2, overwrite=True)
    assert (open_scene(path).load().tiles[0].labels != a.labels).any()


def apart(x: np.ndarray, truth: np.ndarray, a: str, b: str) -> float:
    """Return how far two classes' means lie apart, in their common deviation, in the best band."""
    one, two = x[:, truth == INDEX[a]], x[:, truth == INDEX[b]]
    return float(np.max(np.abs(one.mean(1) - two.mean(1)) / np.sqrt((one.var(1) + two.var(1)) / 2)))


def test_each_sensor_tells_what_only_it_can_tell() -> None:
    truth, scene = make_truth(256, 0), make_scene(256, 0)
    values = scene.tiles[0].values
    seen = np.logical_and.reduce(list(scene.tiles[0].available.values()))
    found = {m: v[:, seen] for m, v in values.items()}
    truth = truth[seen]
    assert apart(found["lidar"], truth, "road", "building") > 2 > apart(found["hsi"], truth, "road", "building")
    assert apart(found["sar"], truth, "grass", "wet meadow") > 1.5 > apart(found["hsi"], truth, "grass", "wet meadow")
    assert apart(found["hsi"], truth, "wheat", "maize") > 0.8 > apart(found["lidar"], truth, "wheat", "maize")


def test_holes_and_labels() -> None:
    tile = make_scene().tiles[0]
    for a in tile.available.values():
        assert 0.03 < 1 - a.mean() < 0.25
    labelled = tile.labels[tile.labels >= 0]
    assert 0.05 < labelled.size / tile.labels.size < 0.2
    assert set(np.unique(labelled)) == set(range(len(class_names(make_scene(64)))))
    with pytest.raises(UsageError, match="at least 64"):
        make_scene(10)
