"""A scene from files on different grids, with holes, read whole and by window."""

import os
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import scipy.io
import shapely
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

import geojson_made as polygons
from mamol.data.check import check
from mamol.data.memory import MemoryReader, Reader
from mamol.data.reader import open_scene
from mamol.errors import (
    AllModalitiesMissing,
    ConfigError,
    DataError,
    FileMissing,
    GridMismatch,
    UnknownName,
    UsageError,
)

CRS = "EPSG:32632"
WEST, NORTH = 500_000.0, 5_000_000.0


def write(path: Path, values: np.ndarray, pixel: float = 10.0, nodata: float | None = None, **place: object) -> None:
    """Write (C, H, W) as a GeoTIFF whose corner is (WEST, NORTH) unless `place` says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    corner = place.get("corner", (WEST, NORTH))
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
    profile |= {"dtype": values.dtype, "crs": place.get("crs", CRS), "nodata": nodata}
    with rasterio.open(path, "w", transform=from_origin(*corner, pixel, pixel), **profile) as raster:
        raster.write(values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    hsi = rng.normal(size=(4, 12, 16)).astype("float32")
    hsi[1, 0, 0] = np.nan
    hsi[:, 0, 1] = -9999
    write(tmp_path / "hsi.tif", hsi, nodata=-9999)
    photo = np.zeros((1, 24, 32), dtype="float32")
    photo[0, ::2] = 2.0  # every 10 m pixel holds two 0 and two 2
    write(tmp_path / "rgb.tif", photo, pixel=5.0)
    write(tmp_path / "sar.tif", np.full((2, 6, 4), 7, dtype="int16"), pixel=20.0)  # the western half only
    labels = np.zeros((1, 12, 16), dtype="uint8")
    labels[0, 2:5, 2:9], labels[0, 8:, 10:] = 1, 2
    write(tmp_path / "labels.tif", labels)
    clouds = np.zeros((1, 12, 16), dtype="uint8")
    clouds[0, 5, 5] = 1
    write(tmp_path / "clouds.tif", clouds)
    (tmp_path / "scene.toml").write_text(
        """
name = "made"
[modalities.hsi]
path = "hsi.tif"
mask = "clouds.tif"
[modalities.sar]
path = "sar.tif"
scale = 0.5
resampling = "nearest"
[modalities.rgb]
path = "rgb.tif"
resampling = "mean_std"
[modalities.lidar]
path = "lidar.tif"
count = 1
[labels]
path = "labels.tif"
[[classes]]
name = "field"
[[classes]]
name = "wood"
colour = "#228833"
"""
    )
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    """Edit scene.toml."""
    path = folder / "scene.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("crs", "degrees", "metres"),
    [
        (CRS, 0, 10),
        (CRS, 90, 10),
        (CRS, 30, 10),
        ("EPSG:2263", 90, 10 * 1200 / 3937),  # US survey feet
        ("EPSG:4326", 0, None),
        ('LOCAL_CS["site grid",UNIT["metre",1]]', 45, 10),
        ('LOCAL_CS["site grid",UNIT["unknown",1]]', 0, None),
    ],
)
def test_the_ground_sample_distance_is_in_metres_however_a_file_is_turned(
    tmp_path: Path, crs: str, degrees: float, metres: float | None
) -> None:
    turned = rasterio.Affine.translation(50, 50) @ rasterio.Affine.rotation(degrees) @ rasterio.Affine.scale(10, -10)
    profile = {"driver": "GTiff", "count": 1, "height": 3, "width": 4, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", crs=CRS, transform=turned, **profile) as raster:
        raster.write(np.ones((1, 3, 4), "uint8"))
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.vrt", driver="VRT")
    text = re.sub("<SRS.*</SRS>", f"<SRS>{crs}</SRS>", (tmp_path / "a.vrt").read_text())
    (tmp_path / "a.vrt").write_text(text)  # a GeoTIFF would call an unknown unit a metre
    (tmp_path / "scene.toml").write_text('name = "t"\n[modalities.a]\npath = "a.vrt"\n')
    assert open_scene(tmp_path).modalities[0].gsd_m == (metres if metres is None else pytest.approx(metres))


def test_load_aligns_every_modality_on_the_grid(folder: Path) -> None:
    scene = open_scene(folder / "scene.toml").load()
    tile = scene.tiles[0]
    assert [(m.name, m.bands) for m in scene.modalities] == [("hsi", 4), ("sar", 2), ("rgb", 2), ("lidar", 1)]
    assert [m.gsd_m for m in scene.modalities] == [10.0, 20.0, 5.0, None]
    assert {m: v.shape for m, v in tile.values.items()} == {
        "hsi": (4, 12, 16),
        "sar": (2, 12, 16),
        "rgb": (2, 12, 16),
        "lidar": (1, 12, 16),
    }
    np.testing.assert_allclose(tile.values["rgb"], 1.0)  # mean 1 and standard deviation 1 of {0, 0, 2, 2}
    assert tile.georeference.transform == (10.0, 0.0, WEST, 0.0, -10.0, NORTH)


def test_missing_values_become_availability(folder: Path) -> None:
    tile = open_scene(folder).load().tiles[0]
    gone = np.argwhere(~tile.available["hsi"]).tolist()
    assert gone == [[0, 0], [0, 1], [5, 5]]  # NaN in one band, nodata, cloud mask
    assert not tile.available["lidar"].any()  # no file: absent everywhere
    assert np.isfinite(tile.values["hsi"]).all()


def test_outside_a_files_extent_is_missing_and_scale_applies_inside(folder: Path) -> None:
    tile = open_scene(folder).load().tiles[0]
    assert tile.available["sar"][:, :8].all()
    assert not tile.available["sar"][:, 8:].any()
    assert (tile.values["sar"][:, :, :8] == 3.5).all()


def test_classes_and_labels(folder: Path) -> None:
    scene = open_scene(folder).load()
    assert [(c.name, c.colour) for c in scene.classes][1] == ("wood", "#228833")
    assert np.unique(scene.tiles[0].labels, return_counts=True)[1].tolist() == [192 - 21 - 24, 21, 24]


def test_a_window_is_a_piece_of_the_whole(folder: Path) -> None:
    reader = open_scene(folder)
    whole, part = reader.load().tiles[0].batch(), reader.read("made", slice(3, 11), slice(4, 13))
    for m in whole.values:
        np.testing.assert_array_equal(part.available[m], whole.available[m][:, 3:11, 4:13])
        np.testing.assert_allclose(part.values[m], whole.values[m][:, :, 3:11, 4:13], atol=1e-6)


def test_memory_reader_reads_the_same(folder: Path) -> None:
    reader = open_scene(folder)
    memory = MemoryReader(reader.load())
    assert isinstance(memory, Reader)
    assert isinstance(reader, Reader)
    a, b = (r.read("made", slice(0, 5), slice(2, 9)) for r in (reader, memory))
    for m in a.values:
        np.testing.assert_allclose(a.values[m], b.values[m], atol=1e-6)
    with pytest.raises(UnknownName, match="made"):
        memory.shape("mades")


def test_another_crs_is_warped(folder: Path) -> None:
    from rasterio.warp import transform

    (lon,), (lat,) = transform(CRS, "EPSG:4326", [WEST - 20], [NORTH + 20])
    write(folder / "sar.tif", np.full((2, 40, 60), 4, "int16"), pixel=1e-4, corner=(lon, lat), crs="EPSG:4326")
    tile = open_scene(folder).load().tiles[0]
    assert tile.available["sar"].all()
    assert (tile.values["sar"] == 2.0).all()


def test_polygons_are_burnt_by_field(folder: Path) -> None:
    polygons.write(folder / "crowns.gpkg", [("oak", (2, 2, 5, 6)), ("pine", (8, 8, 12, 12))], (WEST, NORTH), CRS)
    change(folder, 'path = "labels.tif"', 'path = "crowns.gpkg"\nfield = "species"')
    change(folder, '"field"\n', '"pine"\n')
    change(folder, '"wood"', '"oak"')
    labels = open_scene(folder).load().tiles[0].labels
    assert (labels == 1).sum() == 3 * 4
    assert (labels == 0).sum() == 4 * 4


@pytest.mark.parametrize(("one", "kind"), [("1", "int32"), ("1.0", "float32"), ('"1"', "float64")])
def test_numbers_as_classes_of_polygons(folder: Path, one: str, kind: str) -> None:
    boxes = shapely.box([WEST, WEST + 50, WEST + 100], NORTH - 40, [WEST + 40, WEST + 90, WEST + 140], NORTH)
    code = np.ma.masked_equal(np.array([1, 1234567, 0], kind), 0)  # of the third it is not known
    fields = {"field_data": [code.data], "fields": ["code"], "field_mask": [code.mask]}
    pyogrio.raw.write(folder / "crowns.gpkg", shapely.to_wkb(boxes), **fields, geometry_type="Polygon", crs=CRS)
    change(folder, 'path = "labels.tif"', 'path = "crowns.gpkg"\nfield = "code"')
    change(folder, '"field"', f'"field"\nvalue = {one}')
    change(folder, '"wood"', '"wood"\nvalue = 1234567')
    labels = open_scene(folder).load().tiles[0].labels
    assert [(labels == k).sum() for k in (0, 1)] == [16, 16]
    text = (folder / "scene.toml").read_text()
    (folder / "scene.toml").write_text(text[: text.index("[[classes]]")])
    assert [c.name for c in open_scene(folder).classes] == ["1", "1234567"]
    change(folder, 'field = "code"', 'field = "code"\nignore = [1234567]')
    assert [c.name for c in open_scene(folder).classes] == ["1"]


def test_all_touched_burns_more(folder: Path) -> None:
    polygons.write(folder / "crowns.gpkg", [("field", (2.4, 2.4, 5.4, 6.4))], (WEST, NORTH), CRS)
    change(folder, 'path = "labels.tif"', 'path = "crowns.gpkg"\nfield = "species"')
    few = (open_scene(folder).load().tiles[0].labels == 0).sum()
    change(folder, 'field = "species"', 'field = "species"\nall_touched = true')
    assert (open_scene(folder).load().tiles[0].labels == 0).sum() > few


def test_mat_files_of_one_size_need_no_georeference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cube, gt = rng.integers(0, 9000, (8, 9, 5), dtype=np.int16), rng.integers(0, 3, (8, 9), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "HSI.mat", {"HSI": cube, "wavelength": 3.0})
    scipy.io.savemat(tmp_path / "L.mat", {"L": rng.normal(size=(16, 18))})
    scipy.io.savemat(tmp_path / "gt.mat", {"gt": gt})
    toml = 'name = "m"\n[modalities.hsi]\npath = "HSI.mat"\n[modalities.lidar]\npath = "L.mat"\n[labels]\npath = "gt.mat"\n'
    (tmp_path / "scene.toml").write_text(toml)
    scene = open_scene(tmp_path).load()
    np.testing.assert_array_equal(scene.tiles[0].values["hsi"], np.moveaxis(cube, -1, 0))
    np.testing.assert_array_equal(scene.tiles[0].labels, gt.astype(int) - 1)
    assert scene.tiles[0].values["lidar"].shape == (1, 8, 9)  # 2 x 2 blocks averaged
    (tmp_path / "scene.toml").write_text(toml.replace('"HSI.mat"', '"HSI.mat"\nkey = "HSl"'))
    with pytest.raises(UnknownName, match="Did you mean 'HSI'"):
        open_scene(tmp_path).load()


def test_envi_is_read(folder: Path) -> None:
    with rasterio.open(folder / "hsi.tif") as source:
        profile, values = source.profile | {"driver": "ENVI"}, source.read()
    for key in ("tiled", "blockysize", "interleave", "compress"):
        profile.pop(key, None)
    with rasterio.open(folder / "hsi.dat", "w", **profile) as target:
        target.write(values)
    change(folder, "hsi.tif", "hsi.dat")
    assert not open_scene(folder).load().tiles[0].available["hsi"][0, :2].any()


def test_official_split_from_two_label_rasters(folder: Path) -> None:
    with rasterio.open(folder / "labels.tif") as source:
        labels = source.read()
    write(folder / "tr.tif", np.where(labels == 1, labels, 0))
    write(folder / "te.tif", np.where(labels == 2, labels, 0))
    change(folder, 'path = "labels.tif"', 'path = "labels.tif"\ntrain = "tr.tif"\ntest = "te.tif"')
    official = open_scene(folder).load().tiles[0].official
    assert official is not None
    assert [(official == r).sum() for r in (1, 3)] == [21, 24]


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("mask =", "mesk =", UnknownName, "Did you mean 'mask'"),
        ('resampling = "nearest"', 'resampling = "nearst"', ConfigError, "nearest"),
        ("[modalities.hsi]", "[modalities.hsi", ConfigError, "line"),
        ('name = "made"', 'name = "made"\ngrid = "hsl"', UnknownName, "Did you mean 'hsi'"),
        ('name = "wood"', 'name = "field"', ConfigError, "twice"),
        ('path = "labels.tif"', 'path = "label.tif"', FileMissing, "label.tif"),
        ('name = "wood"\ncolour = "#228833"', 'name = "wood"\nvalue = 5', DataError, "value 2"),
        ('path = "hsi.tif"', 'path = "hsi.tif"\nbands = [5]', DataError, "band 5"),
    ],
)
def test_a_wrong_description_is_one_clear_error(folder: Path, old: str, new: str, error: type[Exception], says: str) -> None:
    change(folder, old, new)
    with pytest.raises(error, match=says):
        open_scene(folder).load()


def test_grids_that_do_not_overlap_are_refused(folder: Path) -> None:
    write(folder / "sar.tif", np.zeros((2, 6, 4), "int16"), corner=(WEST + 1e5, NORTH))
    with pytest.raises(GridMismatch, match="do not overlap"):
        open_scene(folder).load()


def test_class_codes_of_many_digits_keep_all_of_them(folder: Path) -> None:
    codes = np.full((1, 12, 16), 3301010101, "uint32")
    codes[0, 6:] += 1
    write(folder / "labels.tif", codes)
    toml = (folder / "scene.toml").read_text()
    (folder / "scene.toml").write_text(toml[: toml.index("[[classes]]")])
    scene = open_scene(folder / "scene.toml").load()
    assert [c.name for c in scene.classes] == ["class 3301010101", "class 3301010102"]
    assert np.unique(scene.tiles[0].labels).tolist() == [0, 1]
    change(
        folder,
        'path = "labels.tif"',
        'path = "labels.tif"\nignore = [1234567.0, 0.5]\n[[classes]]\nname = "a"\nvalue = 3301010101',
    )
    says = r"the value 3301010102, which is none of the classes \(3301010101\) and not in ignore = \[1234567, 0\.5\]"
    with pytest.raises(DataError, match=says):
        open_scene(folder / "scene.toml").load()


def test_labels_of_another_size_and_nan_labels_are_refused(folder: Path) -> None:
    write(folder / "labels.tif", np.zeros((1, 11, 16), "uint8"))
    with pytest.raises(GridMismatch, match="11 x 16"):
        open_scene(folder).load()
    write(folder / "labels.tif", np.full((1, 12, 16), np.nan, "float32"))
    with pytest.raises(DataError, match="192 NaN"):
        open_scene(folder).load()


def write_labels(path: Path, transform: rasterio.Affine, crs: str | None) -> None:
    values = np.repeat([[0, 1], [1, 2]], [8, 8], axis=1).repeat(6, axis=0).astype("uint8")
    place = {"height": 12, "width": 16, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint8", **place) as raster:
        raster.write(values[None])


UPWARD = rasterio.Affine(10, 0, WEST, 0, 10, NORTH - 120)


@pytest.mark.parametrize("key", ["path", "split", "train"])
@pytest.mark.parametrize(
    ("transform", "crs", "says"),
    [
        (from_origin(WEST + 100, NORTH, 10, 10), CRS, "500100"),
        (UPWARD, CRS, "-10, 5000000"),
        (from_origin(WEST, NORTH, 10, 10), "EPSG:32633", "EPSG:32633"),
        (from_origin(10, 45, 1, 1), "EPSG:4326", "EPSG:4326"),
        (from_origin(WEST, NORTH, 10, 10), 'LOCAL_CS["site grid",UNIT["metre",1]]', "site grid"),
        (from_origin(WEST + 100, NORTH, 10, 10), None, "no CRS"),
    ],
)
def test_labels_on_other_ground_are_refused(
    folder: Path, key: str, transform: rasterio.Affine, crs: str | None, says: str
) -> None:
    write_labels(folder / "elsewhere.tif", transform, crs)
    if key == "path":
        change(folder, 'path = "labels.tif"', 'path = "elsewhere.tif"')
    else:
        change(folder, 'path = "labels.tif"', f'path = "labels.tif"\ntest = "labels.tif"\n{key} = "elsewhere.tif"')
    with pytest.raises(GridMismatch, match=r"the labels .*elsewhere\.tif") as caught:
        open_scene(folder).load()
    assert says in str(caught.value)
    assert [("elsewhere.tif" in f) for f in check(folder).faults] == [True]


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (from_origin(WEST, NORTH, 10, 10), "EPSG:25832"),  # the same ground by another name
        (from_origin(WEST + 0.01, NORTH, 10, 10), CRS),  # somebody rounded
        (from_origin(WEST + 5, NORTH - 5, 10, 10), None),  # a corner given as a centre
    ],
)
def test_labels_on_the_same_ground_are_read(folder: Path, transform: rasterio.Affine, crs: str | None) -> None:
    write_labels(folder / "labels.tif", transform, crs)
    labels = open_scene(folder).load().tiles[0].labels
    assert labels[[0, 0, 11, 11], [0, 15, 0, 15]].tolist() == [-1, 0, 0, 1]


def test_nodata_of_a_split_is_no_part_whatever_labels_are_ignored(folder: Path) -> None:
    parts = np.zeros((1, 12, 16), "uint8")
    parts[0, :3], parts[0, 10:] = 1, 2
    change(folder, 'path = "labels.tif"', 'path = "labels.tif"\nsplit = "split.tif"\nignore = [2, 0]')
    change(folder, '[[classes]]\nname = "wood"\ncolour = "#228833"\n', "")
    for nodata in (0, 9):
        write(folder / "split.tif", np.where(parts == 0, nodata, parts).astype("uint8"), nodata=nodata)
        official = open_scene(folder).load().tiles[0].official
        assert official is not None
        np.testing.assert_array_equal(official, np.select([parts[0] == 1, parts[0] == 2], [1, 3]))


def test_a_split_raster_beside_polygons_of_which_some_are_left_out(folder: Path) -> None:
    polygons.write(folder / "crowns.gpkg", [("oak", (2, 2, 5, 6)), ("road", (8, 8, 12, 12))], (WEST, NORTH), CRS)
    write(folder / "split.tif", np.ones((1, 12, 16), "uint8"))
    change(folder, 'path = "labels.tif"', 'path = "crowns.gpkg"\nfield = "species"\nignore = ["road"]\nsplit = "split.tif"')
    change(folder, '"field"\n', '"oak"\n')
    official = open_scene(folder).load().tiles[0].official
    assert official is not None
    assert (official == 1).all()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "field"', 'name = "field"\nvalue = "oak"', "class 'field' has value = 'oak', but .*labels.tif is a raster"),
        ('name = "wood"', 'name = "wood"\nvalue = 1', "classes 'field' and 'wood' both have the value 1"),
    ],
)
def test_values_of_classes_that_cannot_be_meant(folder: Path, old: str, new: str, says: str) -> None:
    change(folder, old, new)
    with pytest.raises(ConfigError, match=says):
        open_scene(folder).load()
    (fault,) = check(folder).faults
    assert re.search(says, fault)


def test_polygons_of_two_classes_need_two_texts(folder: Path) -> None:
    polygons.write(folder / "crowns.gpkg", [("oak", (2, 2, 5, 6))], (WEST, NORTH), CRS)
    change(folder, 'path = "labels.tif"', 'path = "crowns.gpkg"\nfield = "species"')
    change(folder, 'name = "field"', 'name = "field"\nvalue = "wood"')
    with pytest.raises(ConfigError, match="both have the value wood"):
        open_scene(folder).load()


def test_a_truncated_raster_names_the_file(folder: Path) -> None:
    data = (folder / "hsi.tif").read_bytes()
    (folder / "hsi.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"hsi\.tif"):
        open_scene(folder).load()


def test_nothing_available_anywhere_is_refused(folder: Path) -> None:
    for name in ("hsi.tif", "sar.tif", "rgb.tif"):
        with rasterio.open(folder / name) as source:
            shape = source.read().shape
        write(folder / name, np.full(shape, np.nan, "float32"), pixel=120 / shape[1])
    with pytest.raises(AllModalitiesMissing, match="no available value"):
        open_scene(folder).load()
    for name in ("hsi.tif", "sar.tif", "rgb.tif"):
        (folder / name).unlink()
    change(folder, 'path = "hsi.tif"', 'path = "hsi.tif"\ncount = 4')
    change(folder, 'path = "sar.tif"', 'path = "sar.tif"\ncount = 2')
    change(folder, 'path = "rgb.tif"', 'path = "rgb.tif"\ncount = 1')
    with pytest.raises(AllModalitiesMissing, match="no file of any modality"):
        open_scene(folder).load()


def test_many_tiles_with_a_wildcard_and_groups(tmp_path: Path) -> None:
    for t in ("a", "b"):
        write(tmp_path / t / "hsi.tif", np.ones((2, 6, 6), "float32"))
        write(tmp_path / t / "labels.tif", np.ones((1, 6, 6), "uint8"))
    write(tmp_path / "a" / "sar.tif", np.ones((1, 6, 6), "float32"))
    (tmp_path / "groups.csv").write_text("tile,group\na,north\nb,north\n")
    (tmp_path / "scene.toml").write_text(
        'name = "m"\ntiles = "*"\ngroups = "groups.csv"\n[modalities.hsi]\npath = "{tile}/hsi.tif"\n'
        '[modalities.sar]\npath = "{tile}/sar.tif"\n[labels]\npath = "{tile}/labels.tif"\n'
    )
    scene = open_scene(tmp_path).load()
    assert [(t.name, t.group, bool(t.available["sar"].any())) for t in scene.tiles] == [
        ("a", "north", True),
        ("b", "north", False),
    ]
    assert scene.classes[0].name == "class 1"


def grouped(folder: Path, table: str | bytes) -> list[str]:
    """Return the groups of the tiles a and b when the groups table is this."""
    for t in ("a", "b"):
        write(folder / t / "hsi.tif", np.ones((1, 4, 4), "float32"))
    (folder / "groups.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    (folder / "scene.toml").write_text(
        'name = "m"\ntiles = ["a", "b"]\ngroups = "groups.csv"\n[modalities.hsi]\npath = "{tile}/hsi.tif"\n'
    )
    return [t.group for t in open_scene(folder).load().tiles]


def test_a_groups_table_may_come_from_a_spreadsheet_and_name_more_tiles(tmp_path: Path) -> None:
    assert grouped(tmp_path, "\ufeffgroup,tile,note\r\nsüd,a,x\r\n\r\nsüd,b\r\nnord,c,\r\n") == ["süd", "süd"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("tile,group\nA,x\nb ,x\nc,x\n", r"no group for the tiles 'a', 'b'; it names 'A', 'b ', 'c'\."),
        ("tile,group\na,x\n", "no group for the tile 'b'"),
        ("tile,group\na,x\nb\n", "no group for the tile 'b'"),
        ("tile,group\na,x\nb,\n", "no group for the tile 'b'"),
        ("tile,group\na,x\nb,x\na,y\n", "several groups for the tile 'a'; it names 'a', 'b'"),
        ("tile;group\na;x\nb;x\n", "columns tile and group.*it begins with 'tile;group'"),
        ("", "columns tile and group"),
        ("tile,group\na,süd\nb,süd\n".encode("latin-1"), "not UTF-8.*CSV UTF-8"),
    ],
)
def test_a_groups_table_that_leaves_a_tile_without_its_group(tmp_path: Path, table: str | bytes, says: str) -> None:
    with pytest.raises(UsageError, match=f"groups.csv.*{says}"):
        grouped(tmp_path, table)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("{tile}/{tile}_hsi.tif", ["north/north_hsi.tif", "southwest/southwest_hsi.tif", "north/southwest_hsi.tif"]),
        ("./{tile}/hsi.tif", ["north/hsi.tif", "southwest/hsi.tif"]),
        ("{tile}/{tile}2.tif", ["north/north2.tif", "southwest/southwest2.tif"]),
        ("[old]/hsi.{tile}.tif", ["[old]/hsi.north.tif", "[old]/hsi.southwest.tif", "o/hsi.east.tif", "[old]/hsi_west.tif"]),
    ],
)
def test_tiles_that_are_found(tmp_path: Path, pattern: str, files: list[str]) -> None:
    for file in files:
        write(tmp_path / file, np.ones((1, 4, 4), "float32"))
    (tmp_path / "scene.toml").write_text(f'name = "m"\ntiles = "*"\n[modalities.hsi]\npath = "{pattern}"\n')
    assert open_scene(tmp_path).tile_names == ("north", "southwest")


def test_what_a_tile_is_read_from_has_an_identity(folder: Path) -> None:
    def now() -> dict[str, str]:
        return open_scene(folder).identity("made")

    first = now()
    assert first == now()
    assert set(first) == {"hsi", "sar", "rgb", "lidar"}
    (folder / "hsi.tif.aux.xml").write_text("<PAMDataset/>")  # what a viewer leaves there
    assert now() == first
    touched = folder / "clouds.tif"
    os.utime(touched, ns=(1, touched.stat().st_mtime_ns + 1))
    second = now()
    assert {m for m in first if first[m] != second[m]} == {"hsi"}  # its mask
    change(folder, "scale = 0.5", "scale = 0.25")
    write(folder / "lidar.tif", np.ones((1, 12, 16), dtype="float32"))
    third = now()
    assert {m for m in first if second[m] != third[m]} == {"sar", "lidar"}


def test_a_raster_of_rasters_changes_with_its_parts(tmp_path: Path) -> None:
    write(tmp_path / "part.tif", np.ones((1, 8, 8), dtype="float32"))
    with rasterio.open(tmp_path / "part.tif") as raster, WarpedVRT(raster) as view:
        rasterio.shutil.copy(view, tmp_path / "all.vrt", driver="VRT")
    (tmp_path / "scene.toml").write_text('name = "s"\n[modalities.x]\npath = "all.vrt"\n')
    first = open_scene(tmp_path).identity("s")
    write(tmp_path / "part.tif", np.ones((1, 8, 8), dtype="float64"))
    assert open_scene(tmp_path).identity("s") != first


def test_a_scene_in_memory_has_an_identity(folder: Path) -> None:
    scene = open_scene(folder).load()
    first = MemoryReader(scene).identity("made")
    assert first == MemoryReader(open_scene(folder).load()).identity("made")
    scene.tiles[0].available["hsi"][3, 3] = False
    second = MemoryReader(scene).identity("made")
    assert {m for m in first if first[m] != second[m]} == {"hsi"}


def test_files_names_all_of_a_scenes_files_there_or_not(folder: Path) -> None:
    assert {p.name for p in open_scene(folder, ["hsi"]).files()} == {
        "hsi.tif", "clouds.tif", "sar.tif", "rgb.tif", "lidar.tif", "labels.tif",
    }  # fmt: skip
    assert all(p.is_absolute() for p in open_scene(folder).files())
    assert MemoryReader(open_scene(folder).load()).files() == frozenset()


def test_files_names_what_a_raster_of_rasters_is_made_of(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "b1.tif", np.ones((1, 8, 8), dtype="float32"))
    for part, whole in (("parts/b1.tif", "inner.vrt"), ("inner.vrt", "all.vrt")):
        with rasterio.open(tmp_path / part) as raster, WarpedVRT(raster) as view:
            rasterio.shutil.copy(view, tmp_path / whole, driver="VRT")
    (tmp_path / "scene.toml").write_text('name = "s"\n[modalities.x]\npath = "all.vrt"\n')
    names = {"all.vrt", "inner.vrt", "b1.tif"}
    assert {p.name for p in open_scene(tmp_path).files()} == names
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert open_scene(tmp_path / "link").files() == open_scene(tmp_path).files()
    (tmp_path / "inner.vrt").write_text("no raster any more")
    assert {p.name for p in open_scene(tmp_path).files()} == names - {"b1.tif"}  # that it is broken is said when it is read


@pytest.mark.parametrize("fill", [1e20, -1e30, -3.4028235e38, np.inf])
@pytest.mark.parametrize("scale", [1.0, 1e-4])
@pytest.mark.parametrize("pixel", [10.0, 5.0])
def test_a_fill_that_nobody_declared_is_missing(
    folder: Path, caplog: pytest.LogCaptureFixture, fill: float, scale: float, pixel: float
) -> None:
    times = int(10 / pixel)
    lidar = np.full((1, 12 * times, 16 * times), 3, dtype="float32")
    lidar[0, : 4 * times, : 4 * times] = fill
    write(folder / "lidar.tif", lidar, pixel=pixel)
    change(folder, 'path = "lidar.tif"', f'path = "lidar.tif"\nscale = {scale}')
    reader = open_scene(folder)
    batch = reader.read("made", slice(0, 12), slice(0, 16))
    expected = np.ones((12, 16), dtype=bool)
    expected[:4, :4] = False
    np.testing.assert_array_equal(batch.available["lidar"][0], expected)
    assert np.isfinite(batch.values["lidar"]).all()
    reader.read("made", slice(0, 12), slice(0, 16))
    said = [r.message for r in caplog.records if "Declare them as nodata" in r.message]
    if not (np.isinf(fill) and pixel == 5.0):  # GDAL's warper gives NaN for it, which is no news
        assert len(said) == 1  # not once a window
        assert "modality 'lidar'" in said[0]


def test_nan_and_declared_fills_need_no_warning_and_large_values_in_memory_are_missing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lidar = np.full((1, 12, 16), -3.4028235e38, dtype="float32")
    lidar[:, 6:], lidar[:, 7:] = 3, np.nan
    write(folder / "lidar.tif", lidar, nodata=-3.4028234663852886e38)
    scene = open_scene(folder).load()
    assert scene.tiles[0].available["lidar"].sum() == 16
    assert "Declare" not in caplog.text
    scene.tiles[0].values["lidar"][0, 6, 3] = 1e30
    assert MemoryReader(scene).read("made", slice(6, 7), slice(0, 16)).available["lidar"].sum() == 15
    assert "modality 'lidar' of 'made'" in caplog.text
