"""Warping: views stay open, and what is missing in a file takes nothing of its neighbours with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from test_raster import ramp, scene, whole
from test_reader import CRS, NORTH, WEST, write

from mamol.data import warp


def test_warped_views_of_a_grid_stay_open_however_many_a_read_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "grid.tif", ramp(1, 40, 40))
    write(tmp_path / "a.tif", np.full((3, 20, 20), 7, "int16"), pixel=20.0)
    with rasterio.open(tmp_path / "a.tif") as file:
        place = ", ".join(map(str, file.transform.to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{b}"><NoDataValue>{-b}</NoDataValue><SimpleSource><SourceFilename '
        f'relativeToVRT="1">a.tif</SourceFilename><SourceBand>{b}</SourceBand></SimpleSource></VRTRasterBand>'
        for b in (1, 2, 3)
    )
    head = f'<VRTDataset rasterXSize="20" rasterYSize="20"><SRS>{CRS}</SRS><GeoTransform>{place}</GeoTransform>'
    (tmp_path / "a.vrt").write_text(f"{head}{bands}</VRTDataset>")
    opened: list[object] = []
    monkeypatch.setattr(warp, "WarpedVRT", lambda *a, **k: opened.append(k["src_nodata"]) or WarpedVRT(*a, **k))
    reader = scene(tmp_path, "g path='grid.tif'", "a path='a.vrt';resampling='bilinear'")
    for row in range(0, 40, 8):
        reader.read("t", slice(row, row + 8), slice(0, 40))
    assert sorted(opened) == [-3, -3, -2, -2, -1, -1]  # bilinear, and nearest for the holes


def on_grid(folder: Path, values: np.ndarray, keys: str = "", pixel: float = 5.0, **place: object) -> tuple[np.ndarray, ...]:
    """Return values and availability of a raster on a grid of 20 x 20 pixels of 10 m."""
    write(folder / "grid.tif", ramp(1, 20, 20))
    write(folder / "a.tif", values, pixel, **place)
    batch = whole(scene(folder, "g path='grid.tif'", f"a path='a.tif'{keys}"))
    return batch.values["a"][0], batch.available["a"][0]


@pytest.mark.parametrize("nodata", [None, -9999.0, np.nan])
@pytest.mark.parametrize("method", ["average", "mean_std", "bilinear", "cubic", "nearest", "min", "med"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_is_left_out_whatever_is_declared(tmp_path: Path, nodata: float | None, method: str, dtype: str) -> None:
    values = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(dtype)
    values[0, 3, 3] = values[1, 10:12, 20:22] = np.nan
    declared = np.where(np.isnan(values), -5e6, values).astype(dtype)
    if nodata == -9999:
        values[0, 30, 30] = nodata
        declared[0, 30, 30] = -5e6
    expected = on_grid(tmp_path, declared, f";resampling='{method}'", nodata=-5e6)
    assert 0 < expected[1].sum() < 400
    found = on_grid(tmp_path, values, f";resampling='{method}'", nodata=nodata)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_a_sensor_with_a_few_nan_is_not_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 30, (1, 200, 200)).astype("float32")
    values[rng.random(values.shape) < 0.05] = np.nan
    found, there = on_grid(tmp_path, values, pixel=1.0)
    assert there.all()
    np.testing.assert_allclose(found[0], np.nanmean(values.reshape(20, 10, 20, 10), axis=(1, 3)), rtol=1e-5)


@pytest.mark.parametrize("keys", ["", ";resampling='cubic'", ";resampling='mean_std'"])
@pytest.mark.parametrize(("pixel", "crs"), [(3.3, CRS), (20.0, CRS), (8.0, "EPSG:32633"), (9e-5, "EPSG:4326")])
@pytest.mark.parametrize("most", [2**25, 20_000])
def test_windows_with_holes_are_pieces_of_the_whole(
    tmp_path: Path, pixel: float, crs: str, keys: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "grid.tif", ramp(1, 60, 60))
    (x,), (y,) = transform(CRS, crs, [WEST - 100], [NORTH + 103])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 250, 250)).astype("float32")
    values[rng.random(values.shape) < 0.01] = np.nan
    write(tmp_path / "a.tif", values, pixel, corner=(x, y), crs=crs)
    reader = scene(tmp_path, "g path='grid.tif'", f"a path='a.tif'{keys}")
    full = whole(reader)
    assert full.available["a"].mean() > 0.5
    monkeypatch.setattr(warp, "MOST", most)
    for rows, columns in ((slice(0, 60), slice(0, 60)), (slice(7, 41), slice(3, 20)), (slice(59, 60), slice(0, 1))):
        part = reader.read("t", rows, columns)
        np.testing.assert_array_equal(part.available["a"], full.available["a"][:, rows, columns])
        np.testing.assert_allclose(part.values["a"], full.values["a"][:, :, rows, columns], atol=1e-5)


def test_holes_beside_the_antimeridian(tmp_path: Path) -> None:
    utm = "EPSG:32601"
    (x,), (y,) = transform("EPSG:4326", utm, [180.0], [60.0])
    write(tmp_path / "grid.tif", ramp(1, 20, 20), corner=(x - 100, y), crs=utm)
    values = np.full((1, 400, 3600), 7, "float32")
    values[0, :, 0] = np.nan
    write(tmp_path / "a.tif", values, pixel=0.1, corner=(-180.0, 80.0), crs="EPSG:4326")
    batch = whole(scene(tmp_path, "g path='grid.tif'", "a path='a.tif';resampling='nearest'"))
    assert batch.available["a"][0, :, :8].all()
    assert not batch.available["a"][0, :, 12:].any()


LARGE = [1e20, -3.4e38, np.inf]


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("nodata", [None, -9999.0, np.nan])
@pytest.mark.parametrize(("pixel", "side"), [(5.0, 40), (20.0, 10)])
@pytest.mark.parametrize("method", ["average", "mean_std", "bilinear", "min"])
def test_what_no_sensor_measures_is_left_out_before_it_is_warped(
    tmp_path: Path, large: float, nodata: float | None, pixel: float, side: int, method: str
) -> None:
    values = np.random.default_rng(0).normal(size=(1, side, side)).astype("float32")
    values[0, 3, 3] = values[0, 6:8, 4:6] = np.nan
    expected = on_grid(tmp_path, values, f";resampling='{method}'", pixel, nodata=np.nan)
    assert 0 < expected[1].sum() < 400
    found = on_grid(
        tmp_path, np.where(np.isnan(values), np.float32(large), values), f";resampling='{method}'", pixel, nodata=nodata
    )
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_a_nodata_that_is_large_may_have_other_digits_than_the_pixels(tmp_path: Path) -> None:
    values = np.full((1, 40, 40), 5, "float32")
    values[0, 3, 3] = -3.4028234663852886e38
    found, there = on_grid(tmp_path, values, ";nodata=-3.402823e38")
    assert there.all()
    assert (found == 5).all()


def test_large_values_that_are_warped_are_told_of_unless_they_are_declared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.full((1, 40, 40), 5, "float32")
    values[0, 3, 3], values[0, 9, 9] = 1e20, np.nan
    on_grid(tmp_path, values, nodata=1e20)
    assert not caplog.messages
    on_grid(tmp_path, values)
    assert len(caplog.messages) == 1
    assert "modality 'a'" in caplog.messages[0]


@pytest.mark.parametrize("keys", ["", ";nodata=0"])
@pytest.mark.parametrize(("pixel", "side"), [(10.0, 20), (5.0, 40), (2.5, 80)])
@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 1), ("uint8", 2), ("float32", 2)])
def test_a_files_own_mask_and_its_nodata_count_both(
    tmp_path: Path, keys: str, pixel: float, side: int, dtype: str, bands: int
) -> None:
    write(tmp_path / "grid.tif", ramp(1, 20, 20))
    k = side // 20
    values, mask = np.full((bands, side, side), 5, dtype), np.full((side, side), 255, "uint8")
    values[-1, -2 * k :, -3 * k :] = 0
    mask[: 2 * k, : 3 * k] = 0
    values[:, 0, 0] = 200  # hidden
    if dtype == "float32" and k > 1:
        values[0, 5 * k, 5 * k] = np.nan
    write(tmp_path / "a.tif", values, pixel, nodata=None if keys else 0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.write_mask(mask)
    reader = scene(tmp_path, "g path='grid.tif'", f"a path='a.tif'{keys}")
    expected = np.ones((20, 20), dtype=bool)
    expected[:2, :3] = expected[-2:, -3:] = False
    batch = whole(reader)
    np.testing.assert_array_equal(batch.available["a"][0], expected)
    assert (batch.values["a"][0][:, expected] == 5).all()
    part = reader.read("t", slice(0, 7), slice(0, 9))
    np.testing.assert_array_equal(part.available["a"][0], expected[:7, :9])


@pytest.mark.parametrize("bands", [[1], [1, 2, 3]])
def test_an_alpha_band_counts_beside_nodata_of_the_scene(tmp_path: Path, bands: list[int]) -> None:
    values = np.full((4, 40, 40), 9, "uint8")
    values[3] = 255
    values[3, :4, :6] = 0
    values[0, -4:, -4:] = 0
    profile = {"driver": "GTiff", "count": 4, "height": 40, "width": 40, "dtype": "uint8", "crs": CRS, "photometric": "RGB"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=from_origin(WEST, NORTH, 5, 5), alpha="yes", **profile) as file:
        file.write(values)
    write(tmp_path / "grid.tif", ramp(1, 20, 20))
    there = whole(scene(tmp_path, "g path='grid.tif'", f"a path='a.tif';bands={bands};nodata=0")).available["a"][0]
    expected = np.ones((20, 20), dtype=bool)
    expected[:2, :3] = expected[-2:, -2:] = False
    np.testing.assert_array_equal(there, expected)
