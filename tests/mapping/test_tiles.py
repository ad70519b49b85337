"""Several tiles: which are mapped, under which names, and what becomes of those with nothing to map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from conftest import Trained
from made import made_scene
from mamol.api import MapOptions, map_scene
from mamol.data.area import Area
from mamol.data.dataset import Georeference, Scene
from mamol.data.memory import MemoryReader
from mamol.errors import AllModalitiesMissing, GridMismatch
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
    monkeypatch.setattr("mamol.api.MemoryReader", Lost)
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
    monkeypatch.setattr("mamol.api.read_area", lambda path, layer: area)
    paths = map_scene(scene_run.run, side_by_side(3), tmp_path / "m.tif", MapOptions(area="made"))
    assert [p.classes.name for p in paths] == ["m_t1.tif"]


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
