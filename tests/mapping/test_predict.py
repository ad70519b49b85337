"""Mapping with a model that is its own answer: every pixel of every size gets what was there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Trained
from made import made_scene
from mamol.api import MapOptions, map_scene
from mamol.data.area import Area
from mamol.data.dataset import Georeference, Scene, Tile, classes_from
from mamol.data.memory import MemoryReader
from mamol.data.raster import open_raster
from mamol.errors import AllModalitiesMissing, DataError, FileMissing, OutputExists, UnknownName, UsageError, WriteFailed
from mamol.mapping.blocks import Arrays, Corner, Job
from mamol.mapping.engines import here
from mamol.mapping.predict import MapRequest, map_tile, plan
from mamol.modality import Batch, Modality
from mamol.model.raster_windows import Folds

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

    for broken, left in (("numpy.savez", []), ("rasterio.shutil.copy", ["map.tif.blocks"])):
        with monkeypatch.context() as patch:
            patch.setattr(broken, lambda *a, **k: full())
            with pytest.raises(WriteFailed, match="No space left"):
                map_tile(Identity(), MemoryReader(scene(10, 10)), MapRequest("t", CLASSES, overwrite=True), tmp_path / "map.tif")
        assert [p.name for p in tmp_path.iterdir()] == left  # what is finished waits for --resume
    map_tile(Identity(), MemoryReader(scene(10, 10)), MapRequest("t", CLASSES, resume=True), tmp_path / "map.tif")
    assert (tmp_path / "map.tif").is_file()
    assert not (tmp_path / "map.tif.blocks").exists()


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


class Stops(MemoryReader):
    """Reads a few windows, then fails as a disk, a network or a person would."""

    left = 5

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        if Stops.left == 0:
            raise FileMissing("x.tif has vanished")
        Stops.left -= 1
        return super().read(tile, rows, columns)


def test_a_stopped_map_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    made, layers = scene(40, 33), ("class", "confidence", "pattern", "entropy", "probability")
    request = MapRequest("t", CLASSES, rim_px=4, block_px=8, layers=layers)
    whole = map_tile(Identity(), MemoryReader(made), request, tmp_path / "whole.tif")
    Stops.left = 5
    with pytest.raises(FileMissing, match=r"x.tif has vanished \(at tile 't', rows 4..20, columns 0..12"):
        map_tile(Identity(), Stops(made), request, tmp_path / "part.tif")
    assert not (tmp_path / "part.tif").exists()
    done = len(list((tmp_path / "part.tif.blocks").glob("*.npz")))
    assert 0 < done < 25
    with pytest.raises(OutputExists, match="--resume"):
        map_tile(Identity(), MemoryReader(made), request, tmp_path / "part.tif")
    steps: list[int] = []
    part = map_tile(
        Identity(),
        MemoryReader(made),
        replace(request, resume=True),
        tmp_path / "part.tif",
        progress=lambda d, n: steps.append(d),
    )
    assert steps[0] == done
    for name, path in whole.layers.items():
        assert path.read_bytes() == part.layers[name].read_bytes(), name


def stopped(made: Scene, out: Path, request: MapRequest, blocks: int = 5) -> None:
    """Begin a map and stop it after a few blocks."""
    Stops.left = blocks
    with pytest.raises(FileMissing, match="has vanished"):
        map_tile(Identity(), Stops(made), request, out)


def test_resume_goes_on_only_with_the_same_scene(tmp_path: Path) -> None:
    made, other = scene(40, 33), scene(40, 33, seed=1)
    request = MapRequest("t", CLASSES, rim_px=4, block_px=8, stride_px=4)
    stopped(made, tmp_path / "m.tif", request)
    again = replace(request, resume=True)
    with pytest.raises(UsageError, match="another version of the x data, version of the y data;"):
        map_tile(Identity(), MemoryReader(other), again, tmp_path / "m.tif")
    with pytest.raises(UsageError, match=r"another stride \(4 then, 2 now\);"):
        map_tile(Identity(), MemoryReader(made), replace(again, stride_px=2), tmp_path / "m.tif")
    moved = replace(made.tiles[0], georeference=Georeference("", (1.0, 0.0, 5.0, 0.0, 1.0, 0.0)))
    with pytest.raises(UsageError, match="another grid"):
        map_tile(Identity(), MemoryReader(replace(made, tiles=(moved,))), again, tmp_path / "m.tif")
    map_tile(Identity(), MemoryReader(made), again, tmp_path / "m.tif")


class Killed(BaseException):
    """Stands for a process that ends at once: nothing in the code catches it."""


def killed_at_rename(monkeypatch: pytest.MonkeyPatch, n: int, run: Callable[[], object]) -> None:
    """Run until the n-th file of the map is about to get its name."""
    left, real = [n], os.replace

    def replace_(a: Path, b: Path) -> None:
        if Path(a).parent.name == "files" != Path(b).parent.name:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace_)
        with pytest.raises(Killed):
            run()


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_map_killed_between_two_names_is_finished_by_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    made, request = scene(20, 20), MapRequest("t", CLASSES, rim_px=4, block_px=8)
    reader, out = MemoryReader(made), tmp_path / "m.tif"
    killed_at_rename(monkeypatch, n, lambda: map_tile(Identity(), reader, request, out))
    assert not (tmp_path / "m.json").exists()
    assert len([p for p in tmp_path.iterdir() if p.is_file()]) == n - 1
    with pytest.raises(OutputExists):
        map_tile(Identity(), reader, request, out)
    killed_at_rename(monkeypatch, n, lambda: map_tile(Identity(), reader, replace(request, resume=True), out))
    paths = map_tile(Identity(), reader, replace(request, resume=True), out)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in paths.all()}


def test_blocks_left_beside_a_finished_map_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, out = MapRequest("t", CLASSES, rim_px=4, block_px=8), tmp_path / "m.tif"
    reader = MemoryReader(scene(20, 20))
    with monkeypatch.context() as patch:  # killed after the last file got its name
        patch.setattr("mamol.mapping.store.remove_blocks", lambda folder: None)
        map_tile(Identity(), reader, request, out)
    assert (tmp_path / "m.tif.blocks").is_dir()
    map_tile(Identity(), reader, replace(request, resume=True), out)
    assert not (tmp_path / "m.tif.blocks").exists()


def test_resume_replaces_no_file_of_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = MapRequest("t", CLASSES, rim_px=4, block_px=8)
    reader, out = MemoryReader(scene(20, 20)), tmp_path / "m.tif"
    killed_at_rename(monkeypatch, 3, lambda: map_tile(Identity(), reader, request, out))
    out.write_text("mine")
    with pytest.raises(OutputExists, match=r"m\.tif exists already"):
        map_tile(Identity(), reader, replace(request, resume=True), out)
    assert out.read_text() == "mine"
    map_tile(Identity(), reader, replace(request, resume=True, overwrite=True), out)
    (tmp_path / "n.tif.aux.xml").write_text("mine")
    with pytest.raises(OutputExists, match=r"n\.tif\.aux\.xml exists already"):
        map_tile(Identity(), reader, request, tmp_path / "n.tif")


def test_a_finished_map_is_known_by_its_job_and_its_files(tmp_path: Path) -> None:
    reader, out = MemoryReader(scene(20, 20)), tmp_path / "m.tif"
    request = MapRequest("t", CLASSES, rim_px=4, block_px=8, resume=True)
    paths = map_tile(Identity(), reader, request, out)
    before, steps = paths.classes.stat(), list[tuple[int, int]]()
    map_tile(Identity(), reader, request, out, progress=lambda d, n: steps.append((d, n)))
    assert steps == [(9, 9)]  # nothing is computed
    assert paths.classes.stat() == before
    with pytest.raises(OutputExists, match="not of this very job"):
        map_tile(Identity(), MemoryReader(scene(20, 20, seed=1)), request, out)
    paths.confidence.unlink()
    with pytest.raises(OutputExists):
        map_tile(Identity(), reader, request, out)
    map_tile(Identity(), reader, replace(request, overwrite=True), out)
    assert paths.confidence.exists()
    assert paths.classes.stat().st_mtime_ns > before.st_mtime_ns


def test_a_block_that_is_damaged_is_computed_once_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, request = scene(24, 24), MapRequest("t", CLASSES, rim_px=4, block_px=8)
    whole = map_tile(Identity(), MemoryReader(made), request, tmp_path / "whole.tif")

    def flips(job: Job, corners: Iterable[Corner]) -> Iterator[tuple[Corner, Arrays]]:
        yield from here(job, corners)
        first = tmp_path / "m.tif.blocks" / "0_0.npz"
        while not first.exists():
            time.sleep(0.01)
        first.write_bytes(first.read_bytes()[:-300])

    paths = map_tile(Identity(), MemoryReader(made), request, tmp_path / "m.tif", flips)
    assert paths.classes.read_bytes() == whole.classes.read_bytes()
    assert "row 0, column 0 was damaged" in caplog.text


def test_a_scene_that_changes_meanwhile_gives_no_map(tmp_path: Path) -> None:
    made = scene(24, 24)

    def changes(job: Job, corners: Iterable[Corner]) -> Iterator[tuple[Corner, Arrays]]:
        yield from here(job, corners)
        made.tiles[0].values["y"][:] = 0

    with pytest.raises(DataError, match="the y data of tile 't' were changed"):
        map_tile(Identity(), MemoryReader(made), MapRequest("t", CLASSES), tmp_path / "m.tif", changes)
    assert not (tmp_path / "m.tif").exists()


def test_tiles_go_on_or_give_way_as_asked(scene_run: Trained, tmp_path: Path) -> None:
    made, out = made_scene(3), tmp_path / "m.tif"
    assert len(map_scene(scene_run.run, made, out, MapOptions(tiles=["t0", "t0", "t1"]))) == 2  # given twice, mapped once
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    map_scene(scene_run.run, made, out, MapOptions(resume=True))
    assert {n: (tmp_path / n).read_bytes() for n in before} == before
    changed = made_scene(3, seed=1)
    with pytest.raises(OutputExists, match=r"m_t0\.tif exists already"):
        map_scene(scene_run.run, changed, out, MapOptions(resume=True))
    assert {n: (tmp_path / n).read_bytes() for n in before} == before
    map_scene(scene_run.run, changed, out, MapOptions(resume=True, overwrite=True))
    assert (tmp_path / "m_t0_confidence.tif").read_bytes() != before["m_t0_confidence.tif"]
    twice = replace(made, tiles=(replace(made.tiles[0], name="a/b"), replace(made.tiles[1], name="a-b")))
    with pytest.raises(UsageError, match="'a/b' and 'a-b' would both"):
        map_scene(scene_run.run, twice, tmp_path / "n.tif")
    assert not list(tmp_path.glob("n*"))


@dataclass(frozen=True)
class Overflows(Identity):
    """Has no answer in the upper left."""

    def predict(self, batch: Batch) -> np.ndarray:
        found = super().predict(batch)
        found[..., :3, :3] = np.nan
        return found


def test_a_pixel_without_a_finite_probability_has_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = scene(10, 10)
    made.tiles[0].available["x"][:] = True
    paths = map_tile(Overflows(), MemoryReader(made), MapRequest("t", CLASSES), tmp_path / "map.tif")
    with open_raster(paths.classes) as raster:
        assert not raster.read(1)[:3, :3].any()
        assert (raster.read(1) > 0).sum() == 91
    assert "no finite probability for 9 pixels" in caplog.text


def test_an_area_clips_and_changes_nothing_inside(scene_run: Trained, tmp_path: Path) -> None:
    made = made_scene(1, 40)
    place = Georeference(rasterio.crs.CRS.from_epsg(32632).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))
    tile = replace(made.tiles[0], georeference=place)
    made = replace(made, tiles=(tile,))
    area = Area(shapely.box(*_ground(tile, 13, 21, 30, 39)), tile.georeference.crs)
    request = MapRequest("t0", made.classes, rim_px=8, block_px=16)
    whole = map_tile(scene_run.predictor, MemoryReader(made), request, tmp_path / "whole.tif")
    part = map_tile(scene_run.predictor, MemoryReader(made), replace(request, area=area), tmp_path / "part.tif")
    with open_raster(whole.confidence) as a, open_raster(part.confidence) as b:
        assert b.shape == (22, 23)  # rows 8..30, columns 16..39: the corner stays on the grid of windows
        assert b.transform * (0, 0) == a.transform * (16, 8)
        np.testing.assert_allclose(b.read(1)[5:, 5:], a.read(1)[13:30, 21:39], atol=1e-6)
        assert np.isnan(b.read(1)[:5]).all()
        assert np.isnan(b.read(1)[:, :5]).all()


def _ground(tile: Tile, top: int, left: int, bottom: int, right: int) -> tuple[float, float, float, float]:
    place = rasterio.Affine(*tile.georeference.transform)
    (west, north), (east, south) = place * (left, top), place * (right, bottom)
    return west, min(north, south), east, max(north, south)


def test_the_expert_layer_names_what_the_router_chose(scene_run: Trained, tmp_path: Path) -> None:
    made = made_scene(1, 24)
    request = MapRequest("t0", made.classes, rim_px=8, block_px=16, layers=("expert", "pattern"))
    paths = map_tile(scene_run.predictor, MemoryReader(made), request, tmp_path / "map.tif")
    with open_raster(paths.layers["expert"]) as e, open_raster(paths.pattern) as p:
        expert, bits = e.read(1), p.read(1)
    for code in np.unique(bits[bits > 0]):
        names = [m for i, m in enumerate(scene_run.predictor.modalities) if code >> i & 1]
        assert set(expert[bits == code]) == {scene_run.predictor.chosen_expert(names)}
    assert scene_run.predictor.chosen_expert(["hsi"]) in (1, 2)
    with pytest.raises(UsageError, match="router sees the pattern"):
        plan(Identity(), MemoryReader(scene(9, 9)), MapRequest("t", CLASSES, layers=("expert",)))


def test_windows_of_one_pattern_run_folded_and_agree_with_the_mixture(
    scene_run: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = made_scene(1, 40).tiles[0].batch()
    for i, m in enumerate(batch.names()):  # holes with edges across the windows
        batch.available[m][:, 11 * i : 11 * i + 13, 5 : 30 - 4 * i] = False
    predictor = replace(scene_run.predictor, folds=Folds())
    folded = predictor.predict(batch)
    assert len(predictor.folds.models) > 2
    monkeypatch.setattr(Folds, "get", lambda self, model, pattern: model)
    np.testing.assert_allclose(folded, predictor.predict(batch), atol=1e-4)
