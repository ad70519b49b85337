"""Windows of rasters: what counts as missing, masks of any grid, files that change, and files on a server."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
from rasterio.errors import RasterioIOError
from rasterio.transform import from_origin
from rasterio.warp import transform
from test_reader import CRS, NORTH, WEST, write

from locked_made import lock
from mamol.data import handles
from mamol.data.check import check
from mamol.data.reader import FileReader, open_scene
from mamol.errors import ConfigError, DataError, FileMissing, GridMismatch, UsageError
from mamol.modality import Batch


class RangeServer(ThreadingHTTPServer):
    """A server on the loopback that holds files in memory and answers requests for parts of them, as COGs are read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.codes: dict[str, int] = {}
        self.slow_s: dict[str, float] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: RangeServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.split("?")[0].strip("/")
        self.server.asked.append(name)
        time.sleep(self.server.slow_s.get(name, 0))
        content = self.server.files.get(name)
        code = self.server.codes.get(name, 200 if content is not None else 404)
        content = content if content is not None and code == 200 else b""
        part, total = self.headers.get("Range"), len(content)
        if part and code == 200:
            first, _, last = part.removeprefix("bytes=").partition("-")
            stop = min(int(last or total - 1), total - 1) + 1
            content, code = content[int(first) : stop], 206
        self.send_response(code)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        if code == 206:
            self.send_header("Content-Range", f"bytes {int(first)}-{stop - 1}/{total}")
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(content)
            except OSError:  # the client has had enough
                self.close_connection = True

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    for key in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(handles.SETTINGS, "GDAL_HTTP_TIMEOUT", "5")
    monkeypatch.setitem(handles.SETTINGS, "GDAL_HTTP_MAX_RETRY", "0")
    stub = RangeServer()
    yield stub
    stub.close()


def scene(folder: Path, *modalities: str) -> FileReader:
    """Open a scene of modalities, each written as "name key = value ..."; keys are parted by semicolons."""
    text = 'name = "t"\n'
    for modality in modalities:
        name, _, keys = modality.partition(" ")
        text += f"[modalities.{name}]\n" + keys.replace(";", "\n") + "\n"
    (folder / "scene.toml").write_text(text)
    return open_scene(folder)


def whole(reader: FileReader) -> Batch:
    height, width = reader.shape("t")
    return reader.read("t", slice(0, height), slice(0, width))


def ramp(bands: int, height: int, width: int, dtype: str = "int16") -> np.ndarray:
    return np.arange(bands * height * width).reshape(bands, height, width).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 3),
        ("int16", -5),
        ("uint16", 3),
        ("int32", -2147483648),
        ("float32", -3.4028234663852886e38),
        ("float64", -9999.5),
    ],
)
def test_nodata_scale_and_offset_in_every_type(tmp_path: Path, dtype: str, nodata: float) -> None:
    values = ramp(2, 4, 5, dtype)
    values[1, 2, 3] = nodata
    values[:, :1][values[:, :1] == nodata] = 7
    write(tmp_path / "a.tif", values, nodata=nodata)
    batch = whole(scene(tmp_path, "a path='a.tif';scale=0.5;offset=-1"))
    expected = values.astype("float64") * 0.5 - 1
    gone = (values == np.dtype(dtype).type(nodata)).any(axis=0)
    assert gone[2, 3]
    np.testing.assert_array_equal(batch.available["a"][0], ~gone)
    np.testing.assert_allclose(batch.values["a"][0], np.where(gone, 0, expected), rtol=1e-6)
    assert batch.values["a"].dtype == np.float32


def test_two_large_integers_that_are_one_in_float32_stay_two(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.array([[[2**31 - 1, 2**31 - 2]]], dtype="int32"), nodata=2**31 - 1)
    assert whole(scene(tmp_path, "a path='a.tif'")).available["a"][0].tolist() == [[False, True]]


def test_infinities_and_what_float32_cannot_hold_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.array([[[1.0, np.inf, 1e300, np.nan]]], dtype="float64"))
    assert whole(scene(tmp_path, "a path='a.tif'")).available["a"][0].tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("keys", ["", ";nodata=3"])
@pytest.mark.parametrize("pixel", [10.0, 5.0])
def test_a_files_own_mask_counts_also_beside_nodata(tmp_path: Path, pixel: float, keys: str) -> None:
    write(tmp_path / "grid.tif", ramp(1, 8, 8))
    k = int(10 / pixel)
    write(tmp_path / "a.tif", np.full((2, 8 * k, 8 * k), 9, "int16"), pixel=pixel)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "r+") as raster:
        mask = np.full((8 * k, 8 * k), 255, "uint8")
        mask[: 2 * k, : 3 * k] = 0
        raster.write_mask(mask)
    there = whole(scene(tmp_path, "g path='grid.tif'", f"a path='a.tif'{keys}")).available["a"][0]
    expected = np.ones((8, 8), dtype=bool)
    expected[:2, :3] = False
    np.testing.assert_array_equal(there, expected)


def test_bands_with_nodata_of_their_own(tmp_path: Path) -> None:
    for name, missing in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.tif", np.array([[[1, 2], [3, 4]]], dtype="int16"), nodata=missing)
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{i}"><NoDataValue>{i}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{n}.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        for i, n in enumerate("ab", 1)
    )
    place = f"<SRS>{CRS}</SRS><GeoTransform>{WEST}, 10, 0, {NORTH}, 0, -10</GeoTransform>"
    (tmp_path / "ab.vrt").write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{place}{bands}</VRTDataset>')
    assert whole(scene(tmp_path, "a path='ab.vrt'")).available["a"][0].tolist() == [[False, False], [True, True]]
    write(tmp_path / "grid.tif", ramp(1, 1, 1), pixel=20.0)
    batch = whole(scene(tmp_path, "g path='grid.tif'", "a path='ab.vrt'"))
    np.testing.assert_allclose(batch.values["a"][0, :, 0, 0], [3, 8 / 3], rtol=1e-6)  # without 1, and without 2


def test_nodata_of_one_band_is_missing_also_where_it_is_warped(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(1, 8, 8))
    coarse, fine = np.full((3, 4, 4), 7, "int16"), np.full((3, 16, 16), 7, "int16")
    coarse[1, 1, 1] = coarse[2, 3, 3] = -9999
    fine[1, 4:8, 4:8] = fine[2, 12:, 12:] = fine[0, 0, 0] = -9999  # of the last, three of four pixels remain
    for values, pixel in ((coarse, 20.0), (fine, 5.0)):
        write(tmp_path / "a.tif", values, pixel, nodata=-9999)
        for keys, holes in (("", [(2, 2), (6, 6)]), (";bands=[2]", [(2, 2)]), (";bands=[1]", [])):
            batch = whole(scene(tmp_path, "g path='grid.tif'", f"a path='a.tif'{keys}"))
            expected = np.ones((8, 8), dtype=bool)
            for row, column in holes:
                expected[row : row + 2, column : column + 2] = False
            np.testing.assert_array_equal(batch.available["a"][0], expected)
            assert set(np.unique(batch.values["a"][0][:, expected])) == {7}


def test_a_deviation_is_scaled_but_not_moved(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(1, 2, 2))
    fine = np.zeros((1, 4, 4), "float32")
    fine[0, ::2] = 2
    write(tmp_path / "a.tif", fine, pixel=5.0)
    batch = whole(scene(tmp_path, "g path='grid.tif'", "a path='a.tif';resampling='mean_std';scale=-3.0;offset=100.0"))
    np.testing.assert_allclose(batch.values["a"][0, :, 0, 0], [97, 3])


def test_complex_values_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.ones((1, 2, 2), "complex64"))
    with pytest.raises(DataError, match="amplitude"):
        whole(scene(tmp_path, "a path='a.tif'"))


def test_windows_are_pieces_of_the_whole_also_warped_and_masked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "grid.tif", rng.normal(size=(2, 60, 70)).astype("float32"))
    (lon,), (lat,) = transform(CRS, "EPSG:4326", [WEST - 20], [NORTH + 20])
    write(tmp_path / "w.tif", rng.integers(0, 99, (1, 90, 90)).astype("int16"), pixel=9e-5, corner=(lon, lat), crs="EPSG:4326")
    write(tmp_path / "c.tif", (rng.random((1, 300, 300)) > 0.97).astype("uint8"), 3e-5, corner=(lon, lat), crs="EPSG:4326")
    reader = scene(tmp_path, "g path='grid.tif';mask='c.tif'", "w path='w.tif'")
    full = whole(reader)
    assert 0.2 < full.available["g"].mean() < 0.95
    for rows, columns in ((slice(0, 20), slice(0, 20)), (slice(13, 49), slice(31, 70)), (slice(59, 60), slice(69, 70))):
        part = reader.read("t", rows, columns)
        for m in ("g", "w"):
            np.testing.assert_array_equal(part.available[m], full.available[m][:, rows, columns])
            np.testing.assert_array_equal(part.values[m], full.values[m][:, :, rows, columns])


@pytest.mark.parametrize("pixel", [10.0, 8.0, 3.3])
@pytest.mark.parametrize("crs", [CRS, "EPSG:32633"])
@pytest.mark.parametrize("keys", ["", ";resampling='cubic'", ";resampling='mean_std'"])
def test_windows_are_pieces_of_the_whole_in_the_neighbouring_zone_and_at_any_pixel(
    tmp_path: Path, pixel: float, crs: str, keys: str
) -> None:
    write(tmp_path / "grid.tif", ramp(1, 300, 300))
    (x,), (y,) = transform(CRS, crs, [WEST - 200], [NORTH + 203])
    values = np.random.default_rng(0).normal(size=(1, int(3500 / pixel), int(3500 / pixel))).astype("float32")
    write(tmp_path / "a.tif", values, pixel, corner=(x, y), crs=crs)
    reader = scene(tmp_path, "g path='grid.tif'", f"a path='a.tif'{keys}")
    full = whole(reader)
    assert full.available["a"].mean() > 0.9
    for rows, columns in ((slice(180, 300), slice(180, 300)), (slice(37, 101), slice(53, 90)), (slice(299, 300), slice(0, 1))):
        part = reader.read("t", rows, columns)
        np.testing.assert_array_equal(part.available["a"], full.available["a"][:, rows, columns])
        np.testing.assert_allclose(part.values["a"], full.values["a"][:, :, rows, columns], atol=1e-6)


def test_pixels_a_little_finer_are_smoothed_as_their_size_asks(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(1, 40, 40))
    stripes = np.zeros((1, 50, 50), "float32")
    stripes[0, :, 25] = 1
    write(tmp_path / "a.tif", stripes, 8.0)
    values = whole(scene(tmp_path, "g path='grid.tif'", "a path='a.tif'")).values["a"][0, 0]
    # The centre of the stripe lies at 204 m; the triangle of 10 m to either side reaches the centres at 195 and 205 m.
    near = np.array([0, 0, 0.1, 0.9, 0, 0])
    weights = [np.maximum(0, 1 - np.abs(c - (np.arange(50) * 8 + 4)) / 10).sum() for c in (195, 205)]
    np.testing.assert_allclose(values[20, 17:23], near / [1, 1, weights[0], weights[1], 1, 1], atol=1e-6)


def test_a_raster_of_the_whole_earth_covers_any_tile(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(1, 4, 4), corner=(300_000.0, NORTH))  # west of the zone's meridian
    write(tmp_path / "t.tif", np.full((1, 180, 360), 5, "int16"), pixel=1.0, corner=(-180.0, 90.0), crs="EPSG:4326")
    batch = whole(scene(tmp_path, "g path='grid.tif'", "t path='t.tif'"))
    assert batch.available["t"].all()
    assert (batch.values["t"] == 5).all()


def test_rows_that_run_to_the_north(tmp_path: Path) -> None:
    values = ramp(1, 4, 4)
    write(tmp_path / "grid.tif", values)
    upward = from_origin(WEST, NORTH - 40, 10.0, -10.0)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=1, height=4, width=4, dtype="int16", crs=CRS, transform=upward
    ) as raster:
        raster.write(values[:, ::-1])
    batch = whole(scene(tmp_path, "g path='grid.tif'", "a path='a.tif';resampling='nearest'"))
    np.testing.assert_array_equal(batch.values["a"], batch.values["g"])


def masked(
    folder: Path, mask: np.ndarray, keys: str = "", pixel: float = 10.0, nodata: float | None = None, **place: object
) -> list[list[int]]:
    """Return which pixels of a 6 x 6 grid of 10 m a mask raster hides."""
    write(folder / "grid.tif", np.ones((1, 6, 6), "float32"))
    write(folder / "mask.tif", mask, pixel, nodata, **place)
    return np.argwhere(~whole(scene(folder, f"g path='grid.tif';mask='mask.tif'{keys}")).available["g"][0]).tolist()


def test_a_finer_mask_hides_where_any_pixel_says_so(tmp_path: Path) -> None:
    mask = np.zeros((1, 24, 24), "uint8")
    mask[0, 7, 12] = 1  # one of the 4 x 4 pixels in row 1, column 3
    assert masked(tmp_path, mask, pixel=2.5) == [[1, 3]]


def test_a_coarser_mask_hides_by_nearest_and_not_beyond_its_border(tmp_path: Path) -> None:
    mask = np.array([[[0, 9], [9, 0]]], dtype="uint8")
    assert masked(tmp_path, mask, pixel=20.0) == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 0], [2, 1], [3, 0], [3, 1]]


def test_which_values_mean_missing(tmp_path: Path) -> None:
    mask = np.zeros((1, 6, 6), "uint8")
    mask[0, 0, :5] = [0, 3, 4, 8, 255]
    assert masked(tmp_path, mask, ";mask_values=[3, 8]") == [[0, 1], [0, 3]]
    assert masked(tmp_path, mask, nodata=255) == [[0, 1], [0, 2], [0, 3]]
    assert masked(tmp_path, mask, ";mask_values=[255]", nodata=255) == [[0, 4]]
    numbers = np.zeros((1, 6, 6), "float32")
    numbers[0, 2, 2:4] = np.nan, 0.25
    assert masked(tmp_path, numbers) == [[2, 3]]
    assert masked(tmp_path, numbers, ";mask_values=[nan]") == [[2, 2]]
    assert masked(tmp_path, numbers, ";mask_values=[0.25, nan]") == [[2, 2], [2, 3]]
    assert masked(tmp_path, mask, ";mask_values=[nan]") == []


@pytest.mark.parametrize(("metres", "columns", "hidden"), [(25.0, 3, {0}), (3.0, 30, {0, 1, 2})])
def test_a_mask_of_another_crs(tmp_path: Path, metres: float, columns: int, hidden: set[int]) -> None:
    # Here a degree of longitude is 0.71 of one of latitude: the mask ends 13 m (coarse) or 23 m (fine) east of the border.
    (lon,), (lat,) = transform(CRS, "EPSG:4326", [WEST - 40], [NORTH + 40])
    side = int(300 / metres)
    mask = np.zeros((1, side, side), "uint8")
    mask[0, :, :columns] = 1
    found = masked(tmp_path, mask, pixel=metres / 111_000, corner=(lon, lat), crs="EPSG:4326")
    assert found == [[r, c] for r in range(6) for c in sorted(hidden)]


def test_masks_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(GridMismatch, match=r"mask\.tif.*do not overlap"):
        masked(tmp_path, np.ones((1, 3, 3), "uint8"), corner=(WEST + 1e5, NORTH))
    with pytest.raises(ConfigError, match="mask_values = needs mask"):
        scene(tmp_path, "g path='grid.tif';mask_values=[1]")
    reader = scene(tmp_path, "g path='grid.tif';mask='clouds.tif'")
    assert whole(reader).available["g"].all()
    assert any("clouds.tif" in r for r in check(tmp_path / "scene.toml").remarks)


def test_a_mask_without_georeference(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "g.mat", {"g": np.ones((3, 4))})
    fine = np.zeros((6, 8))
    fine[5, 0] = 2
    scipy.io.savemat(tmp_path / "m.mat", {"m": fine})
    reader = scene(tmp_path, "g path='g.mat';mask='m.mat'")
    assert np.argwhere(~whole(reader).available["g"][0]).tolist() == [[2, 0]]
    assert reader.read("t", slice(2, 3), slice(0, 2)).available["g"][0].tolist() == [[False, True]]


def test_a_file_written_anew_is_read_anew_and_a_vanished_one_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(1, 4, 4))
    write(tmp_path / "a.tif", np.full((1, 4, 4), 1, "int16"))
    reader = scene(tmp_path, "g path='grid.tif'", "a path='a.tif'")
    assert (whole(reader).values["a"] == 1).all()
    write(tmp_path / "new.tif", np.full((1, 4, 4), 2, "int16"))
    os.replace(tmp_path / "new.tif", tmp_path / "a.tif")
    assert (whole(reader).values["a"] == 2).all()
    (tmp_path / "a.tif").unlink()
    with pytest.raises(FileMissing, match=r"a\.tif.*rows 1:3, columns 0:2 of tile 't'"):
        reader.read("t", slice(1, 3), slice(0, 2))
    (tmp_path / "grid.tif").unlink()
    with pytest.raises(FileMissing, match=r"grid\.tif.*rows 1:3"):
        reader.read("t", slice(1, 3), slice(0, 2))
    assert not whole(scene_without_grid(tmp_path)).available["a"].any()  # opened anew, it is an absent sensor


def scene_without_grid(folder: Path) -> FileReader:
    write(folder / "b.tif", ramp(1, 4, 4))
    return scene(folder, "b path='b.tif'", "a path='a.tif'")


def test_a_truncated_file_names_itself_and_the_window(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp(3, 64, 64))
    reader = scene(tmp_path, "a path='a.tif'")
    whole(reader)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.tif.*rows 40:64, columns 0:8"):
        reader.read("t", slice(40, 64), slice(0, 8))


def test_a_mat_file_that_is_empty_or_damaged_names_itself(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"d": np.random.default_rng(0).normal(size=(40, 40, 3))}, do_compression=True)
    good = (tmp_path / "a.mat").read_bytes()
    damaged = [b"", b"x" * 500, good[:140], good[: len(good) // 2], good[:128] + b"\0" * 60 + good[188:]]
    damaged += [good[:i] + b"\xff" * 40 + good[i + 40 :] for i in (120, 130, 140, 200, len(good) - 60)]
    for content in damaged:
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.mat"):
            whole(scene(tmp_path, "a path='a.mat'"))
        assert any("a.mat" in f for f in check(tmp_path).faults)


def variables(path: Path, *names: str) -> None:
    """Write a NetCDF file whose variables are 4 x 4 pixels of 7."""
    with scipy.io.netcdf_file(path, "w") as file:
        for axis in "yx":
            file.createDimension(axis, 4)
        for name in names:
            file.createVariable(name, "f4", ("y", "x"))[:] = np.full((4, 4), 7, "float32")


def test_a_container_of_several_rasters_names_them(tmp_path: Path) -> None:
    variables(tmp_path / "a.nc", "b", "c")
    for keys in ("", ";mask='a.nc'"):
        write(tmp_path / "a.tif", ramp(1, 4, 4))
        place = "a.tif" if keys else "a.nc"
        with pytest.raises(DataError, match=r"a\.nc holds 2 rasters.*a\.nc:b.*a\.nc:c.*gdal_translate -of VRT"):
            whole(scene(tmp_path, f"a path='{place}'{keys}"))
        assert len([f for f in check(tmp_path).faults if "a.nc:b" in f]) == 1


def test_a_vrt_of_a_part_is_read_and_changes_with_its_file(tmp_path: Path) -> None:
    variables(tmp_path / "a.nc", "b", "c")
    rasterio.shutil.copy(f"NETCDF:{tmp_path / 'a.nc'}:b", tmp_path / "b.vrt", driver="VRT")
    reader = scene(tmp_path, "a path='b.vrt'")
    assert (whole(reader).values["a"] == 7).all()
    assert tmp_path / "a.nc" in reader.files()
    before = reader.identity("t")
    os.utime(tmp_path / "a.nc", ns=(1, 1))
    assert reader.identity("t") != before


def test_files_that_may_not_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    scipy.io.savemat(tmp_path / "a.mat", {"d": np.ones((4, 4))})
    for locked in (tmp_path / "a.mat", tmp_path):
        reader = scene(tmp_path, "a path='a.mat'")
        with monkeypatch.context() as patch:
            lock(patch, locked)
            with pytest.raises(DataError, match=r"a\.mat cannot be .*check the permissions"):
                whole(reader)
            with pytest.raises(DataError, match=r"a\.mat cannot be .*check the permissions"):
                assert reader.provenance
    said = handles.refusal(str(tmp_path / "a.tif"), RasterioIOError(f"{tmp_path}/a.tif: Permission denied"))
    assert str(said).endswith("check the permissions.")


def test_a_window_that_leaves_the_tile_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    with pytest.raises(UsageError, match=r"rows 0:5, columns 0:4 .*leave its 4 x 4 pixels"):
        scene(tmp_path, "a path='a.tif'").read("t", slice(0, 5), slice(0, 4))


def test_more_files_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "HANDLES", 2)
    names = [f"m{i}" for i in range(5)]
    for i, name in enumerate(names):
        write(tmp_path / f"{name}.tif", np.full((1, 4, 4), i, "int16"), pixel=10.0 if i < 3 else 5.0)
    reader = scene(tmp_path, *[f"{n} path='{n}.tif'" for n in names])
    for _ in range(2):
        assert [float(v[0, 0, 0, 0]) for v in whole(reader).values.values()] == [0, 1, 2, 3, 4]
    assert len(handles._handles()) == 2


def _mean(reader: FileReader) -> tuple[float, float]:
    values = reader.read("t", slice(8, 40), slice(8, 40)).values
    return float(values["g"].mean()), float(values["a"].mean())


FORKED = """
import multiprocessing, sys
from mamol.data.reader import open_scene

def mean(reader):
    values = reader.read("t", slice(8, 40), slice(8, 40)).values
    return float(values["g"].mean()), float(values["a"].mean())

reader = open_scene(sys.argv[1])
expected = mean(reader)
with multiprocessing.get_context("fork").Pool(2) as processes:
    assert set(processes.map(mean, [reader] * 8)) == {expected}
assert mean(reader) == expected
print(*expected)
"""
"""Forks of a process that has read. In one of its own: a fork of pytest's, which other tests left threads in, may hang."""


def test_threads_forks_and_pickles_read_the_same(tmp_path: Path) -> None:
    write(tmp_path / "grid.tif", ramp(2, 64, 64, "int32"))
    write(tmp_path / "a.tif", ramp(1, 32, 32), pixel=20.0)
    reader = scene(tmp_path, "g path='grid.tif'", "a path='a.tif'")
    expected = _mean(reader)
    assert _mean(pickle.loads(pickle.dumps(reader))) == expected
    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(_mean, [reader] * 60)) == {expected}
    forked = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (forked.stdout.split(), forked.stderr) == ([str(mean) for mean in expected], "")


def test_archives_and_absolute_paths(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "deep/a.tif")
    places = ["a.tif", str(tmp_path / "a.tif"), f"file://{tmp_path}/a.tif", "zip://a.zip!deep/a.tif", "/vsizip/a.zip/deep/a.tif"]
    places += [f"zip://{tmp_path}/a.zip!/deep/a.tif", f"/vsizip/{tmp_path}/a.zip/deep/a.tif"]
    for place in places:
        np.testing.assert_array_equal(whole(scene(tmp_path, f"a path='{place}'")).values["a"][0], ramp(1, 4, 4), place)
    absent = scene(tmp_path, "a path='a.tif'", "b path='zip://a.zip!deep/b.tif'", "c path='zip://c.zip!c.tif'")
    assert not any(whole(absent).available[m].any() for m in "bc")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.zip"):
        whole(scene(tmp_path, "a path='a.tif'", "b path='zip://a.zip!deep/a.tif'"))


def test_files_on_a_server(tmp_path: Path, server: RangeServer) -> None:
    write(tmp_path / "a.tif", ramp(2, 64, 64))
    server.files["x/a.tif"] = (tmp_path / "a.tif").read_bytes()
    url = f"{server.url}/x/a.tif"
    for place in (url, f"/vsicurl/{url}", f"{url}?sig=a%2Fb"):
        reader = scene(tmp_path, "l path='a.tif'", f"a path='{place}'", f"gone path='{server.url}/gone.tif'")
        batch = whole(reader)
        np.testing.assert_array_equal(batch.values["a"], batch.values["l"])
        assert not batch.available["gone"].any()
        assert set(reader.provenance["sha256"]) == {"a.tif", Path(place).name}
    asked = len(server.asked)
    for _ in range(5):
        reader.read("t", slice(0, 8), slice(0, 8))
    assert len(server.asked) <= asked + 1  # neither absence nor the file's head is asked for again
    assert check(tmp_path / "scene.toml").faults == []


def test_labels_on_a_server(tmp_path: Path, server: RangeServer) -> None:
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    write(tmp_path / "l.tif", np.array([[[1, 2], [2, 1]]], "uint8").repeat(2, 1).repeat(2, 2))
    server.files["l.tif"] = (tmp_path / "l.tif").read_bytes()
    (tmp_path / "scene.toml").write_text(f'name="t"\n[modalities.a]\npath="a.tif"\n[labels]\npath="{server.url}/l.tif"\n')
    assert open_scene(tmp_path).load().tiles[0].labels[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("code", [403, 500, 503])
def test_a_server_that_fails_is_an_error_not_an_absent_sensor(tmp_path: Path, server: RangeServer, code: int) -> None:
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    server.codes["b.tif"] = code
    for _ in range(2):  # also when asked again
        with pytest.raises(DataError, match=rf"b\.tif.*{code}"):
            whole(scene(tmp_path, "a path='a.tif'", f"b path='{server.url}/b.tif'"))
    assert any(str(code) in f for f in check(tmp_path / "scene.toml").faults)


def test_time_outs_and_refused_connections_are_errors_also_when_asked_again(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(handles.SETTINGS, "GDAL_HTTP_TIMEOUT", "0.3")
    write(tmp_path / "a.tif", ramp(1, 4, 4))
    server.files["slow.tif"] = (tmp_path / "a.tif").read_bytes()
    server.slow_s["slow.tif"] = 1
    for place in (f"{server.url}/slow.tif", "http://127.0.0.1:1/b.tif"):
        reader = scene(tmp_path, "a path='a.tif'", f"b path='{place}'")
        for _ in range(2):
            with pytest.raises(DataError, match="try again"):
                whole(reader)
    server.slow_s.clear()
    monkeypatch.setitem(handles.SETTINGS, "GDAL_HTTP_TIMEOUT", "5")
    assert whole(scene(tmp_path, "a path='a.tif'", f"b path='{server.url}/slow.tif'")).available["b"].all()


def test_a_file_that_vanishes_from_the_server_between_opening_and_reading(tmp_path: Path, server: RangeServer) -> None:
    write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 9999, (8, 128, 128)).astype("int16"))
    server.files["b.tif"] = (tmp_path / "a.tif").read_bytes()
    reader = scene(tmp_path, "a path='a.tif'", f"b path='{server.url}/b.tif'")
    reader.read("t", slice(0, 4), slice(0, 4))
    server.files.clear()
    with pytest.raises((FileMissing, DataError), match=r"b\.tif.*rows 100:128, columns 0:128"):
        reader.read("t", slice(100, 128), slice(0, 128))


def test_wildcards_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "scene.toml").write_text('name="t"\ntiles="*"\n[modalities.a]\npath="https://host/{tile}.tif"\n')
    with pytest.raises(ConfigError, match="list the tiles"):
        open_scene(tmp_path)
