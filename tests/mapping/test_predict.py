"""Mapping with a model that is its own answer: every pixel of every size gets what was there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Trained
from made import made_scene
from mamol.api import MapOptions, map_scene
from mamol.data.dataset import Scene, Tile, classes_from
from mamol.data.raster import open_raster
from mamol.data.reader import MemoryReader
from mamol.errors import AllModalitiesMissing, OutputExists, UnknownName, UsageError, WriteFailed
from mamol.mapping.predict import MapRequest, map_tile, pattern_bits
from mamol.modality import Batch, Modality

CLASSES = classes_from(["a", "b", "c"])
MODALITIES = (Modality("x", 1), Modality("y", 1))


@dataclass(frozen=True)
class Identity:
    """Says with probability 0.7 that a pixel's class is its value."""

    modalities: tuple[str, ...] = ("x", "y")
    classes: tuple[str, ...] = ("a", "b", "c")

    def predict(self, batch: Batch) -> np.ndarray:
        value = np.where(batch.available["x"], batch.values["x"][:, 0], batch.values["y"][:, 0])
        return np.stack([np.where(value == k, 0.7, 0.15) for k in range(3)], axis=1).astype(np.float32)


def scene(height: int, width: int, seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (height, width))
    available = {m: rng.random((height, width)) > 0.3 for m in ("x", "y")}
    values = {m: np.where(available[m], truth, 9)[None].astype(np.float32) for m in ("x", "y")}
    return Scene("s", MODALITIES, CLASSES, (Tile("t", values, available, truth.astype(np.int16), "g"),))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(4, 4), (4, 8), (8, 8), (0, 5), (0, 64)]))
def test_every_pixel_of_every_size(tmp_path: Path, height: int, width: int, block: tuple[int, int]) -> None:
    made = scene(height, width)
    tile = made.tiles[0]
    if not any(a.any() for a in tile.available.values()):
        return
    request = MapRequest("t", CLASSES, rim_px=block[0], block_px=block[1], overwrite=True)
    paths = map_tile(Identity(), MemoryReader(made), request, tmp_path / "map.tif")
    seen = tile.available["x"] | tile.available["y"]
    with open_raster(paths.classes) as raster:
        np.testing.assert_array_equal(raster.read(1), np.where(seen, tile.labels + 1, 0))
    with open_raster(paths.confidence) as raster:
        np.testing.assert_allclose(raster.read(1), np.where(seen, 0.7, np.nan), rtol=1e-6)
    with open_raster(paths.pattern) as raster:
        np.testing.assert_array_equal(raster.read(1), tile.available["x"] + 2 * tile.available["y"])


def test_without_a_sensor_its_pixels_are_lost_only_where_it_was_alone(tmp_path: Path) -> None:
    made = scene(20, 20)
    paths = map_tile(Identity(), MemoryReader(made), MapRequest("t", CLASSES, without=["x"]), tmp_path / "map.tif")
    with open_raster(paths.classes) as raster:
        np.testing.assert_array_equal(raster.read(1) > 0, made.tiles[0].available["y"])


def test_the_map_does_not_depend_on_the_block(scene_run: Trained, tmp_path: Path) -> None:
    made = made_scene(1, 40)
    out = []
    for block in (8, 16, 64):
        request = MapRequest("t0", made.classes, rim_px=8, block_px=block)
        paths = map_tile(scene_run.predictor, MemoryReader(made), request, tmp_path / f"{block}.tif")
        with open_raster(paths.confidence) as raster:
            out.append(raster.read(1))
    np.testing.assert_allclose(out[0], out[2], atol=1e-5)
    np.testing.assert_allclose(out[1], out[2], atol=1e-5)


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    reader = MemoryReader(scene(10, 10))

    def run(**changes: object) -> None:
        request = MapRequest(**({"tile": "t", "classes": CLASSES} | changes))  # type: ignore[arg-type]
        map_tile(Identity(), reader, request, tmp_path / "map.tif")

    with pytest.raises(UnknownName, match="Did you mean 'x'"):
        run(without=["xx"])
    with pytest.raises(AllModalitiesMissing, match="names all of"):
        run(without=["x", "y"])
    with pytest.raises(UnknownName, match="unknown tile"):
        run(tile="u")
    with pytest.raises(UsageError, match="multiple"):
        run(block_px=100, rim_px=16)
    with pytest.raises(UsageError, match=r"\.tif"):
        map_tile(Identity(), reader, MapRequest("t", CLASSES), tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []
    run()
    before = (tmp_path / "map.tif").read_bytes()
    with pytest.raises(OutputExists):
        run()
    assert (tmp_path / "map.tif").read_bytes() == before


def test_an_empty_scene_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(10, 10)
    for a in made.tiles[0].available.values():
        a[:] = False
    with pytest.raises(AllModalitiesMissing, match="nothing to map"):
        map_tile(Identity(), MemoryReader(made), MapRequest("t", CLASSES), tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mamol.mapping.rasters.MapWriter.write", full)
    with pytest.raises(WriteFailed, match="No space left"):
        map_tile(Identity(), MemoryReader(scene(10, 10)), MapRequest("t", CLASSES), tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_scene_with_other_sensors(scene_run: Trained, tmp_path: Path) -> None:
    made = made_scene(2)
    extra = tuple(
        Tile(
            t.name, t.values | {"thermal": t.values["lidar"]}, t.available | {"thermal": t.available["lidar"]}, t.labels, t.group
        )
        for t in made.tiles
    )
    more = Scene("more", (*made.modalities, Modality("thermal", 1)), made.classes, extra)
    a = map_scene(scene_run.run, more, tmp_path / "more.tif")
    b = map_scene(scene_run.run, made, tmp_path / "same.tif")
    assert [p.classes.name for p in a] == ["more_t0.tif", "more_t1.tif"]
    assert a[0].classes.read_bytes() == b[0].classes.read_bytes()
    only = map_scene(scene_run.run, made, tmp_path / "one.tif", MapOptions(tiles=["t1"]))
    assert [p.classes.name for p in only] == ["one.tif"]
    foreign = Scene(
        "foreign",
        (Modality("thermal", 1),),
        made.classes,
        tuple(
            Tile(t.name, {"thermal": t.values["lidar"]}, {"thermal": t.available["lidar"]}, t.labels, t.group) for t in made.tiles
        ),
    )
    with pytest.raises(AllModalitiesMissing, match="none in common"):
        map_scene(scene_run.run, foreign, tmp_path / "foreign.tif")


def test_pattern_bits() -> None:
    batch = scene(3, 3).tiles[0].batch()
    bits = pattern_bits(batch, ("y", "x", "z"))
    np.testing.assert_array_equal(bits, batch.available["y"][0] * 1 + batch.available["x"][0] * 2)
