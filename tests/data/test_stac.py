"""STAC items as tiles and their assets as modalities, from files and from a server, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.warp import transform
from test_raster import RangeServer
from test_raster import server as _server
from test_reader import CRS, NORTH, WEST, write

from mamol.data.catalog import load_dataset, open_reader
from mamol.data.check import check
from mamol.data.dataset import Scene
from mamol.data.reader import FileReader, open_scene
from mamol.data.stac import read_items
from mamol.errors import (
    AllModalitiesMissing,
    ConfigError,
    DataError,
    FileMissing,
    GridMismatch,
    MamolError,
    UnknownName,
    UsageError,
)
from mamol.modality import Batch

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
server = _server


def item(name: str, assets: dict[str, dict[str, Any]], **more: object) -> dict[str, Any]:
    """Build an Item of STAC 1.0."""
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "assets": assets, "links": [], **more}


def save(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def whole(reader: FileReader, tile: str) -> Batch:
    height, width = reader.shape(tile)
    return reader.read(tile, slice(0, height), slice(0, width))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two bands of 10 m, one of 20 m, a scene classification of 20 m, and a radar image in another CRS."""
    rng = np.random.default_rng(0)
    for name in ("B02", "B03"):
        write(tmp_path / f"{name}.tif", rng.integers(1, 999, (1, 12, 16)).astype("uint16"), nodata=0)
    write(tmp_path / "B8A.tif", np.full((1, 6, 8), 50, "uint16"), pixel=20.0)
    scl = np.full((1, 6, 8), 4, "uint8")
    scl[0, 1, 2], scl[0, 2, 2], scl[0, 5, 7] = 9, 5, 0
    write(tmp_path / "SCL.tif", scl, pixel=20.0, nodata=0)
    (lon,), (lat,) = transform(CRS, "EPSG:4326", [WEST - 50], [NORTH + 50])
    write(tmp_path / "vv.tif", np.full((1, 40, 60), -12, "float32"), pixel=1e-4, corner=(lon, lat), crs="EPSG:4326")
    assets = {n: {"href": f"./{n}.tif", "type": TIFF, "roles": ["data"]} for n in ("B02", "B03", "B8A", "SCL", "vv")}
    assets["thumbnail"] = {"href": "t.png", "type": "image/png", "roles": ["thumbnail"]}
    assets["preview"] = {"href": "p.tif", "type": TIFF, "roles": ["overview"]}
    save(tmp_path / "item.json", item("S2A/T32", assets))
    return tmp_path


TOML = """
name = "county"
stac = "item.json"
grid = "s2"
[modalities.s1]
assets = ["vv"]
[modalities.s2]
assets = ["B02", "B03", "B8A"]
mask_asset = "SCL"
mask_values = [0, 3, 8, 9, 10]
[modalities.lidar]
path = "chm/{tile}.tif"
"""


def change(folder: Path, key: str, **asset: object) -> None:
    """Add to an asset of the item."""
    document = json.loads((folder / "item.json").read_text())
    document["assets"][key] |= asset
    save(folder / "item.json", document)


def test_an_item_is_a_tile_and_its_rasters_are_modalities(folder: Path) -> None:
    reader = open_scene(folder / "item.json")
    assert reader.tile_names == ("S2A_T32",)
    assert [m.name for m in reader.modalities] == ["B02", "B03", "B8A", "SCL", "vv"]
    assert reader.shape("S2A_T32") == (12, 16)
    batch = whole(reader, "S2A_T32")
    assert (batch.values["B8A"] == 50).all()
    np.testing.assert_allclose(batch.values["vv"], -12, rtol=1e-6)  # an asset in another projection
    scene = load_dataset(folder / "item.json")
    assert isinstance(scene, Scene)
    assert scene.name == "S2A/T32"
    assert check(folder / "item.json").faults == []


def test_the_modalities_that_a_model_knows_are_the_keys_of_assets(folder: Path) -> None:
    reader = open_reader(folder / "item.json", ["vv", "lidar", "B03"])
    assert [m.name for m in reader.modalities] == ["vv", "B03"]
    assert open_scene(folder / "item.json", ["thumbnail"]).spec.modalities  # named, it is taken, whatever it looks like
    with pytest.raises(UnknownName, match="known: B02, B03"):
        open_scene(folder / "item.json", ["hsi"])
    (folder / "scene.toml").write_text(TOML)
    assert [m.name for m in open_reader(folder, ["s2"]).modalities] == ["s2"]


def test_assets_are_stacked_and_masked_by_another_asset(folder: Path) -> None:
    (folder / "chm").mkdir()
    write(folder / "chm" / "S2A_T32.tif", np.full((1, 12, 16), 7, "float32"))
    (folder / "scene.toml").write_text(TOML)
    reader = open_scene(folder)
    assert [(m.name, m.bands, m.gsd_m) for m in reader.modalities] == [("s1", 1, None), ("s2", 3, 10.0), ("lidar", 1, 10.0)]
    batch = whole(reader, "S2A_T32")
    single = whole(open_scene(folder / "item.json"), "S2A_T32")
    hidden = np.zeros((12, 16), dtype=bool)
    hidden[2:4, 4:6] = hidden[10:, 14:] = True  # 9 is cloud and 0 no data, 5 is bare soil
    np.testing.assert_array_equal(batch.available["s2"][0], ~hidden)
    for k, name in enumerate(("B02", "B03", "B8A")):
        np.testing.assert_array_equal(batch.values["s2"][0, k][~hidden], single.values[name][0, 0][~hidden])
    assert (batch.values["s2"][0][:, hidden] == 0).all()
    assert (batch.values["lidar"] == 7).all()


@pytest.mark.parametrize(
    "said",
    [
        {"raster:bands": [{"nodata": 500, "scale": 0.5, "offset": -10}]},
        {"bands": [{"name": "blue", "nodata": 500, "raster:scale": 0.5, "raster:offset": -10}]},
        {"nodata": 500, "raster:scale": 0.5, "raster:offset": -10, "bands": [{"name": "blue"}]},
    ],
)
def test_what_the_item_says_of_values_holds_unless_scene_toml_says_more(folder: Path, said: dict[str, object]) -> None:
    write(folder / "B02.tif", np.array([[[500, 100]]], "uint16").repeat(12, 1).repeat(8, 2), nodata=100)
    change(folder, "B02", **said)
    batch = whole(open_scene(folder / "item.json"), "S2A_T32")
    assert batch.values["B02"][0, 0, 0, [0, 15]].tolist() == [0, 40]
    assert batch.available["B02"][0, 0, [0, 15]].tolist() == [False, True]
    keys = 'stac = "item.json"\n[modalities.B02]\nnodata = 100\nscale = 2\n'
    (folder / "scene.toml").write_text(f'name = "x"\n{keys}')
    batch = whole(open_scene(folder), "S2A_T32")
    assert batch.values["B02"][0, 0, 0, [0, 15]].tolist() == [990, 0]  # scale is scene.toml's, offset the item's


def test_bands_of_one_asset_may_differ(folder: Path) -> None:
    write(folder / "B02.tif", np.full((2, 12, 16), 10, "uint16"))
    change(folder, "B02", **{"raster:bands": [{"scale": 2, "nodata": "nan"}, {"scale": 3, "nodata": "nan"}]})
    batch = whole(open_scene(folder / "item.json", ["B02"]), "S2A_T32")
    assert batch.values["B02"][0, :, 0, 0].tolist() == [20, 30]
    change(folder, "B02", **{"raster:bands": [{"scale": 1}, {"scale": 2}, {"scale": 3}]})
    with pytest.raises(DataError, match="gives 2 bands, but its STAC item describes 3"):
        whole(open_scene(folder / "item.json", ["B02"]), "S2A_T32")


def test_bands_choose_what_the_item_says_of_them_too(folder: Path) -> None:
    write(folder / "B02.tif", np.array([1, 10, 100], "int16").reshape(3, 1, 1).repeat(12, 1).repeat(16, 2))
    said = [{"scale": 1, "nodata": -1}, {"scale": 0.1, "offset": 5, "nodata": -1}, {"scale": 0.01, "nodata": 100}]
    change(folder, "B02", **{"raster:bands": said})

    def read(bands: str) -> Batch:
        (folder / "scene.toml").write_text(f'name="x"\nstac="item.json"\n[modalities.B02]\nbands={bands}\n')
        return whole(open_scene(folder), "S2A_T32")

    np.testing.assert_allclose(read("[2, 1]").values["B02"][0, :, 0, 0], [6, 1])
    np.testing.assert_allclose(read("[2]").values["B02"][0, :, 0, 0], [6])
    assert not read("[3, 1]").available["B02"].any()
    for band in (4, 0):
        with pytest.raises(DataError, match=rf"B02\.tif has 3 bands by its STAC item; bands = asks for band {band}"):
            read(f"[{band}]")


def test_an_absent_asset_or_file_is_an_absent_modality(folder: Path) -> None:
    first = json.loads((folder / "item.json").read_text())
    second = item("b", {k: dict(first["assets"][k]) for k in ("B02", "SCL", "vv")})  # without the grid's second asset
    third = item("c", {**first["assets"], "B03": {"href": "gone.tif", "type": TIFF}})
    save(folder / "items.json", {"type": "FeatureCollection", "features": [first, second, third]})
    (folder / "scene.toml").write_text(TOML.replace("item.json", "items.json"))
    reader = open_scene(folder)
    assert reader.tile_names == ("S2A_T32", "b", "c")
    for tile, there in (("S2A_T32", True), ("b", False), ("c", False)):
        batch = whole(reader, tile)
        assert batch.available["s2"].any() == there
        assert batch.available["s1"].all()
        assert not batch.available["lidar"].any()
        assert batch.values["s2"].shape[:2] == (1, 3)
    assert reader.shape("b") == (40, 60)  # the next sensor defines the ground
    (folder / "scene.toml").write_text(TOML.replace("item.json", "items.json").replace("grid =", 'tiles = ["b"]\ngrid ='))
    assert open_scene(folder).tile_names == ("b",)
    (folder / "scene.toml").write_text(TOML.replace("item.json", "items.json").replace("grid =", 'tiles = ["d"]\ngrid ='))
    with pytest.raises(UnknownName, match="S2A_T32, b, c"):
        open_scene(folder)


def test_an_item_without_any_file_has_no_ground(folder: Path) -> None:
    save(folder / "item.json", item("a", {"B02": {"href": "gone.tif", "type": TIFF}}))
    with pytest.raises(AllModalitiesMissing, match=r"asset B02 of .*item\.json"):
        open_scene(folder / "item.json").shape("a")


def test_assets_that_share_no_ground_are_refused(folder: Path) -> None:
    write(folder / "vv.tif", np.zeros((1, 12, 16), "float32"), corner=(WEST + 1e5, NORTH))
    with pytest.raises(GridMismatch, match=r"vv\.tif.*do not overlap"):
        whole(open_scene(folder / "item.json"), "S2A_T32")


def test_a_collection_leads_to_its_items(folder: Path) -> None:
    first = json.loads((folder / "item.json").read_text())
    for name in ("a", "b"):
        assets = {k: v | {"href": f"../../{k}.tif"} for k, v in first["assets"].items()}
        save(folder / "items" / name / f"{name}.json", first | {"id": name, "assets": assets})
    links = [{"rel": "self", "href": "https://host/c.json"}, {"rel": "item", "href": "./items/a/a.json"}]
    collection = {"type": "Collection", "id": "county", "links": [*links, {"rel": "item", "href": "items/b/b.json"}]}
    reader = open_scene(save(folder / "collection.json", collection))
    assert (reader.name, reader.tile_names) == ("county", ("a", "b"))
    np.testing.assert_array_equal(whole(reader, "a").values["B02"], whole(reader, "b").values["B02"])
    (folder / "items" / "b" / "b.json").unlink()
    with pytest.raises(FileMissing, match=r"items/b/b\.json"):
        open_scene(folder / "collection.json")


@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        ("{", DataError, "not valid JSON"),
        ([1], DataError, "holds a list"),
        ({"type": "Topology"}, DataError, "its type is 'Topology'"),
        ({"type": "FeatureCollection", "features": []}, DataError, "has no items"),
        ({"type": "Collection", "id": "c", "links": [{"rel": "child", "href": "c.json"}]}, DataError, "has no items"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}}]}, DataError, "polygons"),
        (item("a", {}), DataError, "assets"),
        (item("", {"B02": {"href": "B02.tif"}}), DataError, "id"),
        (item("a", {"B02": {"title": "blue"}}), DataError, r"'a': assets\.B02\.href: Field required"),
        (item("a", {"B02": {"href": ""}}), DataError, r"B02\.href"),
        (item("a", {"B02": {"href": "B02.tif", "raster:bands": [{"scale": "big"}]}}), DataError, "scale"),
        (item("a", {"B02": {"href": "B02.tif", "raster:bands": [{"scale": "nan"}]}}), DataError, "scale"),
        (item("a", {"notes": {"href": "notes.txt"}}), UnknownName, "known: notes"),
        ({"type": "FeatureCollection", "features": [item("a/b", {"x": {"href": "x.tif"}})] * 2}, DataError, "several.*a_b"),
    ],
)
def test_broken_documents_are_one_clear_error(tmp_path: Path, document: object, error: type[Exception], says: str) -> None:
    path = save(tmp_path / "item.json", document)
    if isinstance(document, str):
        path.write_text(document)
    with pytest.raises(error, match=says):
        open_scene(path)


def test_percent_encoded_paths_of_local_files(tmp_path: Path) -> None:
    items = tmp_path / "my items"
    for name in ("a b.tif", "a%20c.tif", "d%20e.tif", "d e.tif"):
        write(items / name, np.ones((1, 2, 2), "uint8"))
    hrefs = {"spaced": "a%20b.tif", "literal": "a%20c.tif", "both": "./d%20e.tif", "absent": "f%20g.tif"}
    save(items / "i.json", item("t", {k: {"href": h} for k, h in hrefs.items()}))
    links = [{"rel": "item", "href": "my%20items/i.json"}]
    path = save(tmp_path / "c.json", {"type": "Collection", "id": "c", "links": links})
    assets = read_items(str(path))[1]["t"].assets
    assert {k: Path(a.place).name for k, a in assets.items()} == {
        "spaced": "a b.tif", "literal": "a%20c.tif", "both": "d%20e.tif", "absent": "f%20g.tif",
    }  # fmt: skip
    assert Path(assets["spaced"].place).exists()


def test_names_of_tiles_are_names_of_files(tmp_path: Path) -> None:
    assets = {"a": {"href": "a.tif"}}
    for name, tile in (("../../etc/x", "_.._etc_x"), ("..", "item"), ("S2:1 é", "S2_1_é"), ("a.b-c", "a.b-c")):
        assert list(read_items(str(save(tmp_path / "i.json", item(name, assets))))[1]) == [tile]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('stac = "item.json"\n', "", "assets = and mask_asset = need stac"),
        ('assets = ["vv"]', 'assets = ["vv"]\npath = "x.tif"', "exclude each other"),
        ('mask_asset = "SCL"', 'mask_asset = "SCL"\nmask = "c.tif"', "exclude each other"),
        ('mask_asset = "SCL"\n', "", "mask_values = needs"),
        ('assets = ["B02", "B03", "B8A"]', 'assets = ["B02", "B03"]\nbands = [1]', "single asset"),
        ('assets = ["vv"]', 'assets = ["vv"]\nkey = "x"', "key = goes with path"),
        ('assets = ["vv"]', "assets = []", "at least 1"),
    ],
)
def test_keys_that_do_not_go_together(folder: Path, old: str, new: str, says: str) -> None:
    assert old in TOML
    (folder / "scene.toml").write_text(TOML.replace(old, new))
    with pytest.raises(ConfigError, match=says):
        open_scene(folder)


def test_an_item_on_a_server(folder: Path, server: RangeServer) -> None:
    for path in folder.iterdir():
        server.files[f"s2/{path.name}"] = path.read_bytes()
    url = f"{server.url}/s2/item.json"
    remote, local = open_scene(url), open_scene(folder / "item.json")
    for m in (a := whole(remote, "S2A_T32")).values:
        np.testing.assert_array_equal(a.values[m], whole(local, "S2A_T32").values[m])
    assert open_reader(url, ["vv"]).modalities[0].name == "vv"
    del server.files["s2/B03.tif"]
    assert not whole(open_scene(url), "S2A_T32").available["B03"].any()
    server.codes["s2/B03.tif"] = 500
    with pytest.raises(DataError, match=r"B03\.tif.*500"):
        whole(open_scene(url), "S2A_T32")


def test_a_file_that_vanishes_between_opening_and_reading(folder: Path) -> None:
    reader = open_scene(folder / "item.json")
    assert len(reader.modalities) == 5
    (folder / "B03.tif").unlink()
    with pytest.raises(FileMissing, match=r"B03\.tif.*rows 2:4, columns 0:3 of tile 'S2A_T32'"):
        reader.read("S2A_T32", slice(2, 4), slice(0, 3))


def test_documents_that_a_server_does_not_give(server: RangeServer) -> None:
    cases: list[tuple[str, type[MamolError], str]] = [
        (f"{server.url}/gone.json", FileMissing, "HTTP 404"),
        (f"{server.url}/broken.json", DataError, "HTTP 500"),
        ("http://127.0.0.1:1/item.json", DataError, "cannot be read"),
        ("s3://bucket/item.json", UsageError, "over http"),
    ]
    server.codes["broken.json"] = 500
    for place, error, says in cases:
        with pytest.raises(error, match=says):
            open_scene(place)
    server.files["item.json"] = json.dumps(item("a", {"B02": {"href": "file:///etc/passwd", "type": TIFF}})).encode()
    with pytest.raises(DataError, match="not on a server"):
        open_scene(f"{server.url}/item.json")


def test_files_names_the_document_and_its_local_assets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for place in (folder / "item.json", Path(folder.name) / "item.json"):
        found = open_scene(place, ["B02", "vv"]).files()
        assert found == {(folder / n).resolve() for n in ("item.json", "B02.tif", "vv.tif")}
    (folder / "scene.toml").write_text(TOML)
    change(folder, "vv", href="https://example.org/vv.tif")
    names = {"item.json", "B02.tif", "B03.tif", "B8A.tif", "SCL.tif", "S2A_T32.tif"}
    assert {p.name for p in open_scene(folder).files()} == names
