"""`scene check` lists every fault once: of the description, of the sensors and of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import geojson_made as polygons
from locked_made import lock
from made import made_samples
from mamol.data.catalog import load_dataset
from mamol.data.check import check
from mamol.data.reader import open_scene
from mamol.data.samples import write_samples
from mamol.errors import DataError

CRS, CORNER = "EPSG:32632", (500_000.0, 5_000_000.0)
TOML = """
name = "made"
tiles = ["north", "south"]
[modalities.hsi]
path = "{tile}/hsi.tif"
[labels]
path = "crowns.gpkg"
field = "species"
"""
CLASSES = '[[classes]]\nname = "oak"\n[[classes]]\nname = "pine"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, tile in enumerate(("north", "south")):
        (tmp_path / tile).mkdir()
        place = from_origin(CORNER[0], CORNER[1] - 120 * k, 10, 10)
        profile = {"driver": "GTiff", "count": 2, "height": 12, "width": 16, "dtype": "float32", "crs": CRS, "transform": place}
        with rasterio.open(tmp_path / tile / "hsi.tif", "w", **profile) as raster:
            raster.write(np.random.default_rng(k).normal(size=(2, 12, 16)).astype("float32"))
    boxes = [("oak", (1, 1, 4, 4)), ("pine", (1, 6, 4, 9)), ("elm", (6, 1, 9, 4)), ("beech", (14, 1, 18, 4))]
    boxes.append(("oak", (14, 6, 18, 9)))
    polygons.write(tmp_path / "crowns.gpkg", boxes, CORNER, CRS)
    (tmp_path / "scene.toml").write_text(TOML + CLASSES)
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "scene.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_undeclared_classes_of_polygons_are_named_together_and_once(folder: Path) -> None:
    (fault,) = check(folder).faults
    assert fault.startswith("unknown classes in field 'species' of crowns.gpkg: 'beech', 'elm'; known: oak, pine.")
    assert 'ignore = ["beech", "elm"] in [labels]' in fault


def test_classes_of_polygons_can_be_left_out(folder: Path) -> None:
    change(folder, 'field = "species"', 'field = "species"\nignore = ["elm", "beech"]')
    found = check(folder)
    assert found.faults == []
    assert found.classes == ["oak: 21", "pine: 9"]
    (folder / "scene.toml").write_text(TOML + 'ignore = ["elm", 7]\n')
    assert check(folder).classes == ["beech: 12", "oak: 21", "pine: 9"]


def test_a_name_in_ignore_means_nothing_to_a_raster(folder: Path) -> None:
    for tile in ("north", "south"):
        with rasterio.open(folder / tile / "hsi.tif") as raster:
            profile = raster.profile | {"count": 1, "dtype": "uint8"}
        with rasterio.open(folder / tile / "labels.tif", "w", **profile) as raster:
            raster.write(np.arange(12 * 16, dtype="uint8").reshape(1, 12, 16) % 5)
    change(folder, 'path = "crowns.gpkg"\nfield = "species"', 'path = "{tile}/labels.tif"\nignore = [0, "oak tree"]')
    assert ["is a raster" in f for f in check(folder).faults] == [True]
    change(folder, 'ignore = [0, "oak tree"]', "ignore = [0]")
    faults = check(folder).faults
    assert ["hold the values 3, 4, which are none of the classes (1, 2)" in f for f in faults] == [True, True]  # two files


def test_a_label_file_that_is_not_there_is_one_fault(folder: Path) -> None:
    (folder / "crowns.gpkg").unlink()
    for toml in (TOML + CLASSES, TOML):
        (folder / "scene.toml").write_text(toml)
        (fault,) = check(folder).faults
        assert fault.startswith(f"labels not found: {folder / 'crowns.gpkg'}")


def test_faults_of_keys_and_of_files_are_listed_at_once(folder: Path) -> None:
    change(folder, 'path = "{tile}/hsi.tif"', 'path = "{tile}/hsi.tif"\nresampling = "avg"\nmasc = "clouds.tif"')
    (folder / "crowns.gpkg").unlink()
    (folder / "south" / "hsi.tif").write_bytes(b"II*\0 cut")
    faults = check(folder).faults
    for says in ("resampling", "'masc'", "labels not found", "hsi.tif"):
        assert sum(says in f for f in faults) >= 1, (says, faults)
    assert len(faults) == 4, faults


def test_a_groups_table_is_a_fault_beside_others(folder: Path) -> None:
    change(folder, 'name = "made"', 'name = "made"\ngroups = "groups.csv"')
    for table, says in ((None, "groups table not found"), ("tile,group\nnorth,a\nsuoth,a\n", "no group for the tile 'south'")):
        if table is not None:
            (folder / "groups.csv").write_text(table)
        faults = check(folder).faults
        assert [says in f for f in faults] == [True, False]
        assert "unknown classes" in faults[1]


def test_a_description_that_cannot_be_read_further_lists_its_faults(folder: Path) -> None:
    change(folder, 'name = "made"\n', "")
    change(folder, 'field = "species"', 'feild = "species"')
    assert ["name is missing" in f for f in check(folder).faults] == [True, False]


@pytest.mark.parametrize("tiles", ["[]", '["north", "north"]', "3"])
def test_where_it_is_not_known_what_the_tiles_are_no_file_is_blamed(folder: Path, tiles: str) -> None:
    change(folder, 'tiles = ["north", "south"]', f"tiles = {tiles}")
    change(folder, 'field = "species"', 'feild = "species"')
    assert ["tile" in f for f in check(folder).faults] == [False, True] if tiles != "3" else [True, False]


def test_a_sample_set_without_an_array(tmp_path: Path) -> None:
    folder = write_samples(made_samples(), tmp_path / "s")
    with np.load(folder / "samples.npz") as file:
        arrays = dict(file)
    gone = next(k for k in arrays if k.startswith("values_"))
    np.savez(folder / "samples.npz", **{k: v for k, v in arrays.items() if k != gone})
    (fault,) = check(folder).faults
    assert f"missing array in {folder / 'samples.npz'}: '{gone}'" in fault
    toml = folder / "samples.toml"
    toml.write_text(toml.read_text() + "unti = 3\n")
    assert "'unti'" in check(folder).faults[0]


def test_what_may_not_be_looked_at_is_a_fault_beside_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "south" / "sar.tif").write_bytes(b"II*\0nonsense")
    change(folder, "[labels]", '[modalities.sar]\npath = "{tile}/sar.tif"\nmask = "clouds/{tile}.tif"\n[labels]')
    lock(monkeypatch, folder / "north")
    faults = check(folder).faults
    assert any(str(folder / "north" / "hsi.tif") in f and "check the permissions" in f for f in faults)
    assert any("sar.tif" in f and "south" in f for f in faults)
    assert any("'beech', 'elm'" in f for f in faults)
    assert len(faults) == len(set(faults))


@pytest.mark.parametrize("name", ["scene.toml", "groups.csv"])
def test_a_description_that_may_not_be_read_is_said(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "groups.csv").write_text("tile,group\nnorth,a\nsouth,b\n")
    change(folder, "[labels]", '[labels]\nignore = ["elm", "beech"]')
    change(folder, 'name = "made"', 'name = "made"\ngroups = "groups.csv"')
    assert check(folder).faults == []
    for locked in (folder, folder / name):
        with monkeypatch.context() as patch:
            lock(patch, locked)
            with pytest.raises(DataError, match="check the permissions"):
                open_scene(folder).load()
            if locked == folder or name == "scene.toml":
                with pytest.raises(DataError, match="check the permissions"):
                    check(folder)
            else:
                assert ["groups.csv" in f for f in check(folder).faults] == [True]


def test_a_sample_set_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_samples(made_samples(), tmp_path / "s")
    for locked in (folder, folder / "samples.toml", folder / "samples.npz"):
        with monkeypatch.context() as patch:
            lock(patch, locked)
            with pytest.raises(DataError, match="check the permissions"):
                load_dataset(folder)
