"""Several tiles: which are mapped, under which names, and what becomes of those with nothing to map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

import geojson_made
from conftest import Trained
from made import made_scene
from mamol.api import MapOptions, evaluate_run, map_scene
from mamol.data.area import Area
from mamol.data.dataset import Georeference, Scene
from mamol.data.memory import MemoryReader
from mamol.errors import AllModalitiesMissing, GridMismatch, UsageError
from mamol.mapping.tiles import touched_tiles

UTM = rasterio.crs.CRS.from_epsg(32632).to_wkt()


def side_by_side(count: int, side: int = 20) -> Scene:
    """Make tiles of 10 m pixels from west to east."""
    made = made_scene(count, side)
    places = [Georeference(UTM, (10.0, 0.0, 500_000.0 + 10 * side * i, 0.0, -10.0, 5_000_000.0)) for i in range(count)]
    return replace(made, tiles=tuple(replace(t, georeference=p) for t, p in zip(made.tiles, places, strict=True)))


def emptied(made: Scene, *empty: str) -> Scene:
    """Let no sensor see anything of some tiles."""
    nothing = [{m: np.zeros_like(a) for m, a in t.available.items()} if t.name in empty else t.available for t in made.tiles]
    return replace(made, tiles=tuple(replace(t, available=a) for t, a in zip(made.tiles, nothing, strict=True)))


class Lost(MemoryReader):
    """A scene in which one tile has no file of any sensor."""

    def shape(self, tile: str) -> tuple[int, int]:
        if tile == "t1":
            raise AllModalitiesMissing("tile 't1' has no file of any modality.")
        return super().shape(tile)


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_tile_is_left_out_and_the_others_are_mapped(
    scene_run: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, resume: bool
) -> None:
    made = emptied(made_scene(3), "t1")
    paths = map_scene(scene_run.run, made, tmp_path / "m.tif", MapOptions(resume=resume))
    assert [p.classes.name for p in paths] == ["m_t0.tif", "m_t2.tif"]
    assert not list(tmp_path.glob("m_t1*"))
    assert "tile 't1' has no pixel with any of" in caplog.text
    assert "left out" in caplog.text
    again = map_scene(scene_run.run, made, tmp_path / "m.tif", MapOptions(resume=True))
    assert again == paths


def test_a_tile_without_any_file_is_left_out(
    scene_run: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mamol.data.catalog.MemoryReader", Lost)
    (tmp_path / "m_t1.tif").write_text("of somebody else")
    paths = map_scene(scene_run.run, made_scene(3), tmp_path / "m.tif")
    assert [p.classes.name for p in paths] == ["m_t0.tif", "m_t2.tif"]
    assert "no file of any modality" in caplog.text
    assert (tmp_path / "m_t1.tif").read_text() == "of somebody else"


def test_no_tile_with_anything_is_an_error_that_names_each(scene_run: Trained, tmp_path: Path) -> None:
    made = emptied(made_scene(2), "t0", "t1")
    with pytest.raises(AllModalitiesMissing, match=r"(?s)tile 't0'.*tile 't1'"):
        map_scene(scene_run.run, made, tmp_path / "m.tif")
    with pytest.raises(AllModalitiesMissing) as all_left_out:
        map_scene(scene_run.run, made, tmp_path / "m.tif", MapOptions(without=["hsi", "sar", "lidar"]))
    assert len(all_left_out.value.faults()) == 1  # it is said once, not for each tile
    assert list(tmp_path.iterdir()) == []


def test_an_area_a_little_over_a_border_maps_what_it_covers(
    scene_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = Area(shapely.box(500_199, 4_999_850, 500_350, 4_999_950), UTM)  # 1 m of t0, which holds no pixel's centre
    monkeypatch.setattr("mamol.options.read_area", lambda path, layer: area)
    paths = map_scene(scene_run.run, side_by_side(3), tmp_path / "m.tif", MapOptions(area="made"))
    assert [p.classes.name for p in paths] == ["m_t1.tif"]


def test_what_the_map_is_made_from_is_not_replaced(scene_run: Trained, tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 20, "width": 20, "dtype": "float32", "crs": UTM}
    with rasterio.open(tmp_path / "b1.tif", "w", transform=from_origin(500_000, 5_000_000, 10, 10), **profile) as raster:
        raster.write(made_scene(1, 20).tiles[0].values["lidar"])
    with rasterio.open(tmp_path / "b1.tif") as raster, WarpedVRT(raster) as view:
        rasterio.shutil.copy(view, tmp_path / "lidar.vrt", driver="VRT")
    (tmp_path / "scene.toml").write_text('name = "s"\n[modalities.lidar]\npath = "lidar.vrt"\n')
    geojson_made.write(tmp_path / "county.geojson", [("county", (0, 0, 10, 10))], (500_000, 5_000_000), "EPSG:32632")
    area = (tmp_path / "county.geojson").rename(tmp_path / "county.json")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name, options in (("b1.tif", MapOptions(overwrite=True)), ("county.tif", MapOptions(overwrite=True, area=area))):
        with pytest.raises(UsageError, match="that the map is made from"):
            map_scene(scene_run.run, tmp_path, tmp_path / name, options)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_area_chooses_tiles(caplog: pytest.LogCaptureFixture) -> None:
    reader, tiles = MemoryReader(side_by_side(3)), ["t0", "t1", "t2"]
    assert touched_tiles(reader, tiles, None) == tiles
    area = Area(shapely.box(500_100, 4_999_850, 500_250, 4_999_950), UTM)
    assert touched_tiles(reader, tiles, area) == ["t0", "t1"]
    assert touched_tiles(Lost(reader.scene), tiles, area) == ["t0"]
    assert "tile 't1' has no file of any modality" in caplog.text
    far = Area(shapely.box(600_000, 4_999_850, 600_100, 4_999_950), UTM)
    with pytest.raises(GridMismatch, match="do not overlap"):
        touched_tiles(Lost(reader.scene), tiles, far)


def test_a_map_does_not_replace_the_run_that_makes_it(scene_run: Trained) -> None:
    before = (scene_run.run / "mamol.json").read_bytes()
    with pytest.raises(UsageError, match=r"mamol\.json is a file that the map is made from"):
        map_scene(scene_run.run, scene_run.dataset, scene_run.run / "mamol.tif", MapOptions(tiles=("t0",), overwrite=True))
    assert (scene_run.run / "mamol.json").read_bytes() == before


def test_a_sensor_under_a_name_that_the_run_does_not_know_is_told(
    scene_run: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = made_scene(1)
    called = {"hsi": "optical"}
    modalities = tuple(replace(m, name=called.get(m.name, m.name)) for m in made.modalities)
    tiles = tuple(
        replace(
            t,
            values={called.get(m, m): v for m, v in t.values.items()},
            available={called.get(m, m): a for m, a in t.available.items()},
        )
        for t in made.tiles
    )
    map_scene(scene_run.run, replace(made, modalities=modalities, tiles=tiles), tmp_path / "m.tif")
    assert "'made' has no 'hsi', which the run knows; what the run does not know is left out: optical." in caplog.text
    caplog.clear()
    map_scene(scene_run.run, made, tmp_path / "n.tif")
    assert "does not know" not in caplog.text
    with pytest.raises(UsageError, match=r"such as without=\['s1'\]"):
        map_scene(scene_run.run, made, tmp_path / "o.tif", MapOptions(without="hsi"))


def test_values_in_another_unit_are_told_of(scene_run: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = made_scene(2)
    scaled = tuple(replace(t, values={**t.values, "hsi": 1e-4 * t.values["hsi"]}) for t in made.tiles)
    map_scene(scene_run.run, replace(made, tiles=scaled), tmp_path / "m.tif")
    assert caplog.text.count("'hsi' has values of another magnitude than in training") == 1
    caplog.clear()
    other = replace(made, name="elsewhere", tiles=scaled)
    evaluate_run(scene_run.run, other)
    assert caplog.text.count("'hsi' has values of another magnitude than in training") == 1
    caplog.clear()
    map_scene(scene_run.run, made, tmp_path / "n.tif")
    evaluate_run(scene_run.run, replace(made, name="elsewhere"))
    assert "another magnitude" not in caplog.text
