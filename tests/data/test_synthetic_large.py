"""The embedded scene beyond 256 pixels: made and written block by block, without a seam, with any number of bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from mamol.data import synthetic, synthetic_land, synthetic_sensors
from mamol.data.dataset import Scene
from mamol.data.reader import open_scene
from mamol.data.spectra import SPECTRA, WAVELENGTHS_NM, spectra, wavelengths_nm
from mamol.data.synthetic import INDEX, make_scene, make_truth, write_scene
from mamol.data.synthetic_land import BLOCK, make_land, noise
from mamol.data.synthetic_sensors import find_holes, observe
from mamol.errors import UsageError

SIZE = 2 * BLOCK


class Silent:
    """A generator without chance: noise 0, speckle 1."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return zeros."""
        return np.zeros(shape)

    def normal(self, mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mean."""
        return np.full(shape, mean)

    def gamma(self, looks: float, scale: float, shape: tuple[int, ...]) -> np.ndarray:
        """Return ones."""
        return np.ones(shape)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(SIZE, 1, 8)


def test_the_height_of_strips_changes_no_bit() -> None:
    land = make_land(64, 0)
    whole = observe(land, 0, 9, 64)
    for rows in (1, 7, 30):
        for m, value in observe(land, 0, 9, rows).items():
            np.testing.assert_array_equal(value, whole[m])


@pytest.mark.parametrize("block", [3, 16, 63])
def test_without_noise_the_height_of_blocks_changes_no_bit(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    land = make_land(64, 0)
    monkeypatch.setattr(synthetic_sensors, "generator", lambda *_: Silent())
    whole = observe(land, 0, 8)
    monkeypatch.setattr(synthetic_land, "BLOCK", block)
    parts = [observe(land, k, 8, 5) for k in range(len(land.blocks))]
    for m, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([p[m] for p in parts], 1), value)


def test_no_seam_where_blocks_meet(scene: Scene) -> None:
    # Rows differ from the next by as much at the border as elsewhere, in the mean over all bands.
    for value in scene.tiles[0].values.values():
        steps = np.abs(np.diff(value, axis=1)).mean((0, 2))
        spread = steps[BLOCK - 101 : BLOCK + 99].std()
        assert abs(steps[BLOCK - 1] - steps[BLOCK - 101 : BLOCK + 99].mean()) < 4 * spread
    # A block's draws are its own: what is left of the LiDAR on flat water does not repeat 256 rows below.
    water, lidar = make_truth(SIZE, 1) == INDEX["water"], scene.tiles[0].values["lidar"][0]
    both = water[:BLOCK] & water[BLOCK:]
    assert abs(np.corrcoef(lidar[:BLOCK][both], lidar[BLOCK:][both])[0, 1]) < 0.3


def test_smooth_noise_is_the_same_in_pixels_and_in_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    near = noise(128, 0, "wood", 5)
    monkeypatch.setattr(synthetic_land, "SMALL", 64)
    np.testing.assert_allclose(noise(128, 0, "wood", 5), near, atol=5e-3)


def test_classes_and_holes_are_as_common_as_in_the_small_scene() -> None:
    small, large = (np.bincount(make_truth(n, 0).ravel(), minlength=10) / n**2 for n in (256, 768))
    np.testing.assert_allclose(large, small, rtol=0.5, atol=0.01)
    for hole in find_holes(SIZE, 0).values():
        assert 0.08 < hole.mean() < 0.15
    assert find_holes(SIZE, 0, 0.3)["hsi"].mean() > 0.3
    assert not find_holes(SIZE, 0, 0.0)["hsi"].any()
    assert find_holes(SIZE, 0, 1.0)["hsi"].all()
    for size in (64, SIZE):
        with pytest.raises(UsageError, match=r"0\.\.1; got 2"):
            find_holes(size, 0, 2)


def test_144_bands_are_written_tiled_and_read_again_with_holes(tmp_path: Path) -> None:
    reader = open_scene(write_scene(tmp_path / "s", SIZE, 1, bands=144))
    assert [m.bands for m in reader.modalities] == [144, 2, 1]
    with rasterio.open(tmp_path / "s" / "hsi.tif") as raster:
        assert raster.block_shapes[0] == (256, 256)
    holes = find_holes(SIZE, 1)
    rows, columns = slice(BLOCK - 20, BLOCK + 30), slice(0, SIZE)
    window = reader.read("embedded", rows, columns)
    for m, hole in holes.items():
        np.testing.assert_array_equal(window.available[m][0], ~hole[rows])
        assert hole.any()
    for m, seen in observe(make_land(SIZE, 1), 1, 144).items():
        expected = np.where(holes[m][BLOCK : BLOCK + 30], 0, seen[:, :30])
        np.testing.assert_array_equal(window.values[m][0][:, 20:], expected)


def test_a_large_cube_is_packed_and_otherwise_what_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr(synthetic, "PACKED", SIZE)
    path = write_scene(tmp_path / "s", SIZE, 1, bands=8)
    with rasterio.open(path.parent / "hsi.tif") as raster:
        assert raster.dtypes[0] == "int16"
        assert raster.nodata == -32768
        assert raster.read(1, window=Window(0, 0, 9, 9)).max() > 100
    read, made = open_scene(path).load().tiles[0], scene.tiles[0]
    np.testing.assert_array_equal(read.labels, made.labels)
    for m, step in (("hsi", 0.5e-4), ("sar", 0), ("lidar", 0)):
        np.testing.assert_array_equal(read.available[m], made.available[m])
        np.testing.assert_allclose(read.values[m], made.values[m], atol=step + 1e-7)


def test_spectra_of_any_number_of_bands() -> None:
    assert spectra(48) is SPECTRA
    assert wavelengths_nm(48) is WAVELENGTHS_NM
    for bands in (8, 144, 400):
        at = wavelengths_nm(bands)
        assert (at[0], at[-1], len(at)) == (420, 2450, bands)
        for name, value in spectra(bands).items():
            assert value.min() >= SPECTRA[name].min() - 1e-12
            assert value.max() <= SPECTRA[name].max() + 1e-12
    # 400 bands lie so densely that the 48 are found among them again.
    for name, value in spectra(400).items():
        np.testing.assert_allclose(np.interp(WAVELENGTHS_NM, wavelengths_nm(400), value), SPECTRA[name], atol=1.5e-3)
    for bands in (7, 401):
        with pytest.raises(UsageError, match=f"8 to 400 hyperspectral bands; got {bands}"):
            make_scene(64, 0, bands)
