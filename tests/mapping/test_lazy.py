"""A map computed by dask is the map that map_scene writes, whatever the chunks."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from conftest import Trained
from made import made_scene
from mamol.api import map_scene
from mamol.data.dataset import Scene, Tile
from mamol.data.raster import open_raster
from mamol.errors import AllModalitiesMissing, DataError, FileMissing, GridMismatch, ShapeMismatch, UnknownName, UsageError
from mamol.mapping.lazy import _chunks, _Known, map_dataset
from mamol.modality import Batch

xarray = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")
cloudpickle = pytest.importorskip("cloudpickle")
WKT = {e: rasterio.crs.CRS.from_epsg(e).to_wkt() for e in (32632, 32633)}


@dataclass(frozen=True)
class Identity:
    """Says with probability 0.7 that a pixel's class is its value, and remembers the sizes it was asked for."""

    modalities: tuple[str, ...] = ("a", "b")
    classes: tuple[str, ...] = ("bare soil", "grass", "wood/park")
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def predict(self, batch: Batch) -> np.ndarray:
        some = next(iter(batch.values.values()))
        self.asked.append(some.shape[2:])
        value = np.full(some.shape[:1] + some.shape[2:], np.nan)
        for m in batch.names():
            value = np.where(np.isnan(value) & batch.available[m], batch.values[m][:, 0], value)
        return np.stack([np.where(value == k, 0.7, 0.15) for k in range(3)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def ragged() -> Tile:
    """A tile of 52 x 44 pixels with holes in every sensor, one of them in all."""
    tile = made_scene(1, 52, seed=3).tiles[0]
    values = {m: v[..., :44].copy() for m, v in tile.values.items()}
    available = {m: a[:, :44].copy() for m, a in tile.available.items()}
    available["lidar"][:, :9] = False
    available["hsi"][20:31, 10:] = False
    for a in available.values():
        a[3:9, 30:41] = False
    return Tile("t", values, available, tile.labels[:, :44], "g")


def as_dataset(tile: Tile) -> Any:
    """Return a tile as rioxarray would give it: bands named apart, NaN where missing, CRS in spatial_ref."""
    height, width = tile.labels.shape
    y, x = 5e6 - 10 * (np.arange(height) + 0.5), 6e5 + 10 * (np.arange(width) + 0.5)
    variables = {
        m: ((f"{m}_band", "y", "x"), np.where(tile.available[m], v, np.nan).astype(np.float32)) for m, v in tile.values.items()
    }
    return xarray.Dataset(
        variables, {"y": y, "x": x, "spatial_ref": ((), 0, {"crs_wkt": WKT[32632], "GeoTransform": "600000 10 0"})}
    )


def small() -> Any:
    value = np.arange(12.0).reshape(3, 4) % 3
    return xarray.Dataset({"a": (("y", "x"), value), "b": (("y", "x"), value)})


@pytest.fixture(scope="module")
def expected(scene_run: Trained, ragged: Tile, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    scene = Scene("ragged", scene_run.dataset.modalities, scene_run.dataset.classes, (ragged,))
    paths = map_scene(scene_run.run, scene, tmp_path_factory.mktemp("map") / "map.tif")[0]
    out = []
    for path in (paths.classes, paths.confidence):
        with open_raster(path) as raster:
            out.append(raster.read(1))
    return out[0], out[1]


@pytest.mark.parametrize("chunk", [None, 3, 8, 13, 20, (16, 44), 64])
def test_is_the_map_of_map_scene(scene_run: Trained, ragged: Tile, expected: tuple[np.ndarray, np.ndarray], chunk: Any) -> None:
    ds = as_dataset(ragged)
    if chunk is not None:
        rows, columns = chunk if isinstance(chunk, tuple) else (chunk, chunk)
        ds = ds.chunk({"y": rows, "x": columns, "hsi_band": 2})
    mapped = map_dataset(ds, scene_run.run)
    assert mapped["class"].chunks is not None, "lazy"
    done = mapped.compute(scheduler="synchronous")
    np.testing.assert_array_equal(done["class"], expected[0])
    np.testing.assert_allclose(done["confidence"], expected[1], atol=1e-4, equal_nan=True)
    assert (done["class"].values == 0).any()
    assert done["class"].dtype == np.uint8
    assert done["confidence"].dtype == np.float32


def test_some_sensors_from_a_predictor_under_other_names(scene_run: Trained, ragged: Tile, tmp_path: Path) -> None:
    scene = Scene("s", scene_run.dataset.modalities[2:], scene_run.dataset.classes, (ragged,))
    dsm = Tile("t", {"lidar": ragged.values["lidar"]}, {"lidar": ragged.available["lidar"]}, ragged.labels, "g")
    paths = map_scene(scene_run.run, Scene("s", scene.modalities, scene.classes, (dsm,)), tmp_path / "map.tif")[0]
    ds = as_dataset(ragged).rename(lidar="dsm")
    ds["dsm"] = ds["dsm"].squeeze(drop=True)
    layer = map_dataset(ds.chunk({"y": 16}), scene_run.predictor, {"dsm": "lidar"}, layers="class")
    assert layer.name == "class"
    with open_raster(paths.classes) as raster:
        np.testing.assert_array_equal(layer.compute(), raster.read(1))


def test_coordinates_crs_and_attributes_are_kept(ragged: Tile) -> None:
    ds = as_dataset(ragged)[["hsi", "lidar"]].rename(hsi="a", lidar="b", spatial_ref="utm").isel(hsi_band=[0])
    ds = ds.assign_coords(time=np.datetime64("2024-06-01", "ns"))
    parts = {m: ds[m] for m in ("a", "b")}
    for a in parts.values():
        a.encoding["grid_mapping"] = "utm"
    mapped = map_dataset(parts, Identity(), halo_px=0)
    assert set(mapped.coords) == {"y", "x", "utm", "time"}
    np.testing.assert_array_equal(mapped["y"], ds.coords["y"])
    assert mapped["utm"].attrs["crs_wkt"] == WKT[32632]
    assert mapped["class"].encoding["grid_mapping"] == "utm"
    attributes = mapped["class"].attrs
    assert attributes["flag_meanings"] == "bare_soil grass wood_park"
    assert attributes["flag_values"].tolist() == [1, 2, 3]
    assert attributes["flag_values"].dtype == np.uint8
    assert attributes["_FillValue"] == 0
    as_variable = ds[["a"]].reset_coords("utm")
    as_variable["a"].attrs["grid_mapping"] = "utm"
    assert set(map_dataset(as_variable, Identity(), halo_px=0).coords) == {"y", "x", "utm", "time"}
    other_day = parts | {"b": parts["b"].assign_coords(time=np.datetime64("2024-06-02", "ns"))}
    assert set(map_dataset(other_day, Identity(), halo_px=0).coords) == {"y", "x", "utm"}


def test_what_is_missing() -> None:
    values = np.array([[0, 1, 2, -99], [2, -1, 0, 1]], dtype=np.int16)
    ds = xarray.Dataset({"a": (("x", "y"), values.T, {"_FillValue": -99, "nodata": None, "missing_value": [-1]})})
    assert map_dataset(ds, Identity(), halo_px=0)["class"].values.tolist() == [[1, 2, 3, 0], [3, 0, 1, 2]]
    lowest = np.float32(-3.4028235e38)
    ds = xarray.Dataset({"a": (("y", "x"), np.array([[1, lowest, np.inf]], np.float32), {"nodata": -3.4028235e38})})
    assert map_dataset(ds, Identity(), halo_px=0, layers="class").values.tolist() == [[2, 0, 0]]
    ds["a"].attrs["nodata"] = "none"
    with pytest.raises(DataError, match="no number"):
        map_dataset(ds, Identity(), halo_px=0)
    empty = map_dataset(xarray.full_like(small(), np.nan), Identity(), halo_px=2)
    assert not empty["class"].any()
    assert np.isnan(empty["confidence"]).all()


def test_only_what_is_asked_for_is_computed_and_no_more_than_a_chunk_at_a_time() -> None:
    model = Identity()
    zeros = dask.array.zeros((2, 4096, 4096), chunks=(1, 512, 512), dtype="int16")
    mapped = map_dataset({"a": xarray.DataArray(zeros, dims=("band", "y", "x"))}, model, halo_px=16)
    assert model.asked == []
    assert mapped["class"].data.npartitions == 64
    piece = mapped["class"][600:610, 1500:1560].compute(scheduler="synchronous")
    assert (piece.values == 1).all()
    assert model.asked == [(544, 544)] * 2
    mapped["class"][:10, :10].compute(scheduler="synchronous")
    assert model.asked[2:] == [(528, 528)]


def test_a_run_is_a_path_and_a_predictor_one_task_of_the_graph(scene_run: Trained, ragged: Tile) -> None:
    ds = as_dataset(ragged).chunk({"y": 8, "x": 8})

    def heavy(model: Any) -> list[int]:
        mapped = map_dataset(ds, model, layers="class")
        graph = dict(mapped.data.__dask_optimize__(mapped.data.dask, mapped.data.__dask_keys__()))
        assert len(graph) >= 25
        return [n for task in graph.values() if (n := len(cloudpickle.dumps(task))) > 50_000]

    assert len(cloudpickle.dumps(scene_run.predictor)) > 50_000
    assert heavy(scene_run.run) == []
    assert len(heavy(scene_run.predictor)) == 1


def test_layers_of_one_dataset_share_the_prediction() -> None:
    model = Identity()
    ds = xarray.concat([small()] * 4, dim="x").chunk({"x": 4})
    map_dataset(ds, model, halo_px=2).compute(scheduler="threads")
    assert len(model.asked) == 4


def test_chunks_begin_on_the_stride_and_hold_the_halo() -> None:
    def chunks(length: int, given: list[int], halo: int, stride: int) -> tuple[int, ...]:
        return _chunks(length, given, _Known(None, (), (), {}, halo, stride))

    assert chunks(52, [13, 13, 13, 13], 8, 4) == (12, 12, 16, 12)
    assert chunks(20, [3] * 6 + [2], 8, 4) == (8, 12)
    assert chunks(5, [5], 16, 8) == (5,)
    assert chunks(10, [5, 5], 16, 8) == (10,)
    assert chunks(7, [3, 4], 0, 1) == (3, 4)
    assert sum(chunks(1001, [100] * 10 + [1], 16, 8)) == 1001


def test_refused_datasets(scene_run: Trained, ragged: Tile) -> None:
    ds = as_dataset(ragged)

    def run(given: Any, **options: Any) -> None:
        map_dataset(given, scene_run.run, **options)

    with pytest.raises(UnknownName, match=r"unknown variable 'hsii'; known: hsi, lidar, sar\. Did you mean 'hsi'"):
        run(ds.rename(hsi="hsii"))
    with pytest.raises(AllModalitiesMissing, match="none in common"):
        run(ds[["hsi"]].rename(hsi="thermal"))
    with pytest.raises(AllModalitiesMissing, match="no variables"):
        run(xarray.Dataset())
    with pytest.raises(UnknownName, match="unknown variable 'dsm'"):
        run(ds, modalities={"dsm": "lidar"})
    with pytest.raises(UnknownName, match="unknown modality 'radar'"):
        run(ds, modalities={"sar": "radar"})
    with pytest.raises(UsageError, match="two variables"):
        run(ds, modalities={"sar": "lidar", "lidar": "lidar"})
    with pytest.raises(UnknownName, match="unknown layer"):
        run(ds, layers=("class", "classes"))
    with pytest.raises(ShapeMismatch, match="trained on 6"):
        run(ds.isel(hsi_band=slice(5)))
    with pytest.raises(ShapeMismatch, match=r"trained on 2\. If a Dataset padded .* a dict"):
        run(ds.pad(sar_band=(0, 4)))
    with pytest.raises(ShapeMismatch, match="isel"):
        run(ds.rename(hsi_band="time"))
    with pytest.raises(ShapeMismatch, match="rename"):
        run(ds.rename(x="longitude", y="latitude"))
    with pytest.raises(ShapeMismatch, match="dimensions"):
        run(ds.expand_dims("extra"))
    with pytest.raises(ShapeMismatch, match="dimensions"):
        run(ds.isel(y=slice(0)))
    with pytest.raises(DataError, match="must be numbers"):
        run(ds.astype(str))
    with pytest.raises(UsageError, match="DataArray"):
        run(ds["hsi"])
    with pytest.raises(UsageError, match="dict"):
        run({"hsi": ds["hsi"].values})


def test_refused_grids(scene_run: Trained, ragged: Tile) -> None:
    ds = as_dataset(ragged)
    here = {m: ds[m] for m in ("hsi", "lidar")}
    there = here["lidar"].assign_coords(spatial_ref=((), 0, {"crs_wkt": WKT[32633]}))
    with pytest.raises(GridMismatch, match="another CRS"):
        map_dataset(here | {"lidar": there}, scene_run.run)
    with pytest.raises(GridMismatch, match="other coordinates x"):
        map_dataset(here | {"lidar": here["lidar"].assign_coords(x=ds["x"] + 3)}, scene_run.run)
    with pytest.raises(GridMismatch, match="reproject_match"):
        map_dataset(here | {"lidar": here["lidar"].isel(x=slice(30))}, scene_run.run)
    map_dataset(here | {"lidar": here["lidar"].assign_coords(x=ds["x"] + 1e-5)}, scene_run.run)


def test_refused_models(
    scene_run: Trained, sample_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ragged: Tile
) -> None:
    ds = as_dataset(ragged)
    with pytest.raises(FileMissing, match="run folder"):
        map_dataset(ds, tmp_path / "none")
    with pytest.raises(UsageError, match="samples"):
        map_dataset(ds, sample_run.run)
    with pytest.raises(UsageError, match="give a run folder"):
        map_dataset(ds, 7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give halo_px"):
        map_dataset(small(), Identity())
    with pytest.raises(UsageError, match="0 or more"):
        map_dataset(small(), Identity(), halo_px=-1)
    with pytest.raises(UsageError, match="stride, 4"):
        map_dataset(ds, scene_run.predictor, halo_px=5)

    @dataclass(frozen=True)
    class Wrong(Identity):
        def predict(self, batch: Batch) -> np.ndarray:
            return super().predict(batch)[:, :2]

    with pytest.raises(ShapeMismatch, match=r"expected \(3, 3, 4\)"):
        map_dataset(small(), Wrong(), halo_px=0).compute(scheduler="synchronous")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dask" else found(name))
    with pytest.raises(FileMissing, match=r"pip install 'mamol\[xarray\]'"):
        map_dataset(ds, scene_run.run)
