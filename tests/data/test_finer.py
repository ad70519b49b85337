"""Blocks of finer pixels become one, by every resampling that the pixels of a block suffice for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from test_raster import scene, whole
from test_reader import write

from mamol.data.check import check
from mamol.data.finer import STATISTICS, reduce_blocks
from mamol.data.spec import Source
from mamol.errors import ConfigError

NAN = np.nan


@pytest.mark.parametrize(
    ("resampling", "expected"),
    [
        (None, [3, 5]),
        ("average", [3, 5]),
        ("nearest", [2, NAN]),
        ("mode", [2, 4]),  # of 4 and 6 the smaller
        ("min", [2, 4]),
        ("max", [6, 6]),
        ("med", [2, 5]),
    ],
)
def test_every_statistic_of_a_block(resampling: str | None, expected: list[float]) -> None:
    cube = np.array([[[6.0, 2, 4, 6], [2, 2, NAN, NAN]]])
    np.testing.assert_array_equal(reduce_blocks(cube, 2, Source("a.mat", resampling=resampling)), [[expected]])


def test_mean_and_deviation_are_bands_of_their_own_and_an_empty_block_is_nan() -> None:
    cube = np.array([[[0.0, 0, NAN, NAN], [2, 2, NAN, NAN]]])
    np.testing.assert_array_equal(reduce_blocks(cube, 2, Source("a", resampling="mean_std")), [[[1, NAN]], [[1, NAN]]])
    for name in set(STATISTICS) - {"mean_std"}:
        assert np.isnan(reduce_blocks(cube, 2, Source("a", resampling=name))[0, 0, 1])


def test_the_most_frequent_value_of_larger_blocks_and_several_bands() -> None:
    rng = np.random.default_rng(0)
    cube = rng.integers(0, 4, (2, 20, 30)).astype(float)
    cube[rng.random(cube.shape) < 0.2] = NAN
    found = reduce_blocks(cube, 5, Source("a", resampling="mode"))
    for band, row, column in np.ndindex(2, 4, 6):
        block = cube[band, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
        assert found[band, row, column] == np.bincount(block[~np.isnan(block)].astype(int)).argmax()


@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_what_needs_a_crs_is_refused_without_one(tmp_path: Path, resampling: str) -> None:
    scipy.io.savemat(tmp_path / "g.mat", {"g": np.ones((3, 4))})
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(48.0).reshape(6, 8)})
    reader = scene(tmp_path, "g path='g.mat'", f"a path='a.mat';resampling='{resampling}'")
    with pytest.raises(ConfigError, match=rf"'{resampling}' .*a\.mat .*2 x 2 pixels.*mode"):
        whole(reader)
    assert any("a.mat" in f for f in check(tmp_path).faults)
    same = scene(tmp_path, "g path='g.mat'", f"a path='g.mat';resampling='{resampling}'")
    assert (whole(same).values["a"] == 1).all()  # nothing to resample


def test_the_mode_of_a_mat_file(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "g.mat", {"g": np.ones((1, 2))})
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.array([[1.0, 9, 2, 2], [1, 1, 7, 2]])})
    batch = whole(scene(tmp_path, "g path='g.mat'", "a path='a.mat';resampling='mode'"))
    assert batch.values["a"][0, 0].tolist() == [[1, 2]]


@pytest.mark.parametrize("declared", [True, False])
def test_nodata_with_decimals_is_left_out_of_blocks(tmp_path: Path, declared: bool) -> None:
    fine = np.full((1, 4, 8), 5, "float32")
    fine[0, :2, :2] = fine[0, 0, 2] = -99.9  # as float32: -99.90000153
    scipy.io.savemat(tmp_path / "g.mat", {"g": np.ones((2, 4))})
    scipy.io.savemat(tmp_path / "a.mat", {"a": fine[0]})
    write(tmp_path / "a.tif", fine, crs=None, nodata=-99.9 if declared else None)
    for name in ("a.mat", "a.tif"):
        keys = "" if declared and name == "a.tif" else ";nodata=-99.9"
        batch = whole(scene(tmp_path, "g path='g.mat'", f"a path='{name}'{keys}"))
        assert batch.available["a"][0].tolist() == [[False, True, True, True], [True] * 4]
        assert batch.values["a"][0, 0].tolist() == [[0, 5, 5, 5], [5] * 4]


def test_what_no_sensor_measures_is_left_out_of_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fine = np.full((1, 4, 8), 5, "float32")
    fine[0, :2, :2] = fine[0, 0, 2] = fine[0, 3, 7] = 1e20
    fine[0, 0, 4], fine[0, 0, 6] = np.inf, np.nan
    scipy.io.savemat(tmp_path / "g.mat", {"g": np.ones((2, 4))})
    scipy.io.savemat(tmp_path / "a.mat", {"a": fine[0]})
    write(tmp_path / "a.tif", fine, crs=None)
    for name in ("a.mat", "a.tif"):
        batch = whole(scene(tmp_path, "g path='g.mat'", f"a path='{name}'"))
        assert batch.available["a"][0].tolist() == [[False, True, True, True], [True] * 4]
        assert batch.values["a"][0, 0].tolist() == [[0, 5, 5, 5], [5] * 4]
    assert [name in said for name, said in zip(("a.mat", "a.tif"), caplog.messages, strict=True)] == [True, True]
