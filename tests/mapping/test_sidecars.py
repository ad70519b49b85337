"""The files beside a map: what QGIS and a STAC client would read from them."""

from __future__ import annotations

import json
import re
import struct
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from rasterio.errors import NotGeoreferencedWarning

from mamol.data.dataset import ClassInfo, Georeference, classes_from
from mamol.data.raster import Grid
from mamol.errors import DataError, FileMissing, UnknownName, UsageError
from mamol.mapping.sidecars import draw_legend, item_document, style_document

ODD = (ClassInfo('Wald & "Wiese" <1>', "#00FF7f"), ClassInfo("5 $ or 6 $", "#123456"), ClassInfo("_\x07", "#ffffff"))
UTM32 = Georeference(rasterio.crs.CRS.from_epsg(32632).to_wkt(), (10.0, 0.0, 600000.0, 0.0, -10.0, 5400000.0))


def written(folder: Path, place: Grid) -> dict[str, Path]:
    """Write rasters such as a map consists of."""
    folder.mkdir(exist_ok=True)
    g = place.georeference
    lies = {"crs": rasterio.crs.CRS.from_wkt(g.crs), "transform": rasterio.Affine(*g.transform)} if g.crs else {}
    out = {}
    for key, kind, nodata in (("class", "uint8", 0), ("confidence", "float32", np.nan), ("pattern", "uint8", 0)):
        out[key] = folder / ("map.tif" if key == "class" else f"map_{key}.tif")
        profile = {"height": place.height, "width": place.width, "count": 1, "dtype": kind, "nodata": nodata, **lies}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(out[key], "w", driver="GTiff", **profile) as raster:
                raster.write(np.ones((1, *place.shape), dtype=kind))
    return out


def test_style() -> None:
    root = ElementTree.fromstring(style_document(ODD))
    renderer = root.find("pipe/rasterrenderer")
    assert root.tag == "qgis"
    assert renderer is not None
    assert renderer.get("type") == "paletted"
    rows = [(e.get("value"), e.get("color"), e.get("alpha"), e.get("label")) for e in renderer.iter("paletteEntry")]
    assert rows == [
        ("0", "#000000", "0", "no data"),
        ("1", "#00ff7f", "255", 'Wald & "Wiese" <1>'),
        ("2", "#123456", "255", "5 $ or 6 $"),
        ("3", "#ffffff", "255", "_ "),
    ]
    with pytest.raises(UsageError, match="at least one"):
        style_document(())
    with pytest.raises(UsageError, match="#rrggbb"):
        style_document([ClassInfo("a", "red")])


def test_legend_grows_with_the_classes(tmp_path: Path) -> None:
    sizes = []
    for n in (1, 40, 255):
        names = ["森", *(f"class number {i}" for i in range(1, n))]
        path = draw_legend(classes_from(names), tmp_path / f"{n}.png")
        sizes.append(imread(path).shape[:2])
    assert sizes[0][0] < sizes[1][0] <= sizes[2][0]
    assert sizes[0][1] < sizes[1][1] < sizes[2][1]
    assert max(sizes[2]) < 5000
    pixels = imread(draw_legend(ODD, tmp_path / "odd.png"))[..., :3]
    for colour in ("#00ff7f", "#123456"):
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels - rgb).max(-1) < 0.01).sum() > 100
    more = imread(draw_legend(classes_from([f"class number {i}" for i in range(5000)]), tmp_path / "more.png"))
    assert np.abs(np.subtract(more.shape[:2], sizes[2])).max() < 50, "no larger than 255 classes"
    draw_legend([ClassInfo("long " * 100, "#000000")], tmp_path / "long.png")
    with pytest.raises(UsageError, match=r"\.png"):
        draw_legend(ODD, tmp_path / "legend.pdf")
    assert len(list(tmp_path.iterdir())) == 6


def test_item_of_a_map_in_utm(tmp_path: Path) -> None:
    place = Grid(300, 400, UTM32)
    assets = written(tmp_path, place) | {"legend": draw_legend(ODD, tmp_path / "map_legend.png"), "style": tmp_path / "map.qml"}
    item = json.loads(
        json.dumps(item_document("map", place, assets, ODD, tmp_path, "2024-06-01T12:30:00+02:00"), allow_nan=False)
    )
    assert (item["type"], item["stac_version"], item["id"], item["links"]) == ("Feature", "1.1.0", "map", [])
    west, south, east, north = item["bbox"]
    assert 10.3 < west < east < 10.5
    assert 48.7 < south < north < 48.8
    ring = np.array(item["geometry"]["coordinates"][0])
    assert item["geometry"]["type"] == "Polygon"
    assert (ring[0] == ring[-1]).all()
    assert len(ring) == 4 * 21 + 1
    x, y = ring[:-1].T
    assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0, "counter-clockwise"
    np.testing.assert_allclose([*ring.min(0), *ring.max(0)], item["bbox"], atol=1e-6)
    properties = item["properties"]
    assert properties["proj:code"] == "EPSG:32632"
    assert properties["proj:wkt2"].startswith("PROJCRS[")
    assert properties["proj:shape"] == [300, 400]
    assert properties["proj:transform"] == list(UTM32.transform)
    assert properties["datetime"] == "2024-06-01T10:30:00Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", properties["created"])
    assert "description" not in properties
    assert properties["processing:software"].keys() == {"mamol"}
    assert all("/v2.0.0/" in e or "processing/v1.2.0" in e for e in item["stac_extensions"])
    assert {k: a["href"] for k, a in item["assets"].items()} == {
        "class": "./map.tif",
        "confidence": "./map_confidence.tif",
        "pattern": "./map_pattern.tif",
        "legend": "./map_legend.png",
        "style": "./map.qml",
    }


def test_assets_say_what_the_files_say(tmp_path: Path) -> None:
    place = Grid(300, 400, UTM32)
    assets = written(tmp_path, place) | {"legend": draw_legend(ODD, tmp_path / "map_legend.png")}
    found = item_document("map", place, assets, ODD, tmp_path / "items")["assets"]
    bands = {k: a["bands"][0] for k, a in found.items() if "bands" in a}
    assert {k: (b["name"], b["data_type"], b["nodata"]) for k, b in bands.items()} == {
        "class": ("class", "uint8", 0),
        "confidence": ("confidence", "float32", "nan"),
        "pattern": ("pattern", "uint8", 0),
    }
    assert found["class"]["href"] == "../map.tif"
    assert {k: a["roles"] for k, a in found.items()} == {k: ["data"] for k in bands} | {"legend": ["thumbnail"]}
    with rasterio.open(assets["class"]) as raster:
        layout = raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
    assert found["class"]["type"].endswith("profile=cloud-optimized") == (layout == "COG")
    assert found["legend"]["type"] == "image/png"
    assert found["legend"]["proj:code"] is None
    assert found["legend"]["proj:shape"] == list(struct.unpack(">II", assets["legend"].read_bytes()[16:24]))[::-1]
    classes = found["class"]["classification:classes"]
    assert [c["value"] for c in classes] == [0, 1, 2, 3]
    assert [c["name"] for c in classes] == ["no-data", "Wald-Wiese-1", "5-or-6", "_"]
    assert all(re.fullmatch("[0-9A-Za-z_-]+", c["name"]) for c in classes)
    assert [c["description"] for c in classes[1:]] == [c.name for c in ODD]
    assert [c.get("color_hint") for c in classes] == [None, "00FF7F", "123456", "FFFFFF"]
    assert [c.get("nodata") for c in classes] == [True, None, None, None]


def test_a_cloud_optimized_raster_is_named_so(tmp_path: Path) -> None:
    place = Grid(40, 50, UTM32)
    profile = {"driver": "COG", "height": 40, "width": 50, "count": 1, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "cog.tif", "w", **profile, transform=rasterio.Affine(*UTM32.transform)) as raster:
        raster.write(np.ones((1, 40, 50), dtype=np.uint16))
        raster.scales, raster.offsets = (0.5,), (2.0,)
    asset = item_document("cog", place, {"class": tmp_path / "cog.tif"}, ODD, tmp_path)["assets"]["class"]
    assert asset["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert asset["bands"] == [{"name": "class", "data_type": "uint16", "raster:scale": 0.5, "raster:offset": 2.0}]


def test_times(tmp_path: Path) -> None:
    place = Grid(20, 20, UTM32)
    assets = written(tmp_path, place)

    def properties(datetime: str | None) -> dict[str, object]:
        return item_document("map", place, assets, ODD, tmp_path, datetime)["properties"]

    unknown = properties(None)
    assert unknown["datetime"] == unknown["created"]
    assert "time of processing" in str(unknown["description"])
    assert properties("2024-06-01")["datetime"] == "2024-06-01T00:00:00Z"
    interval = properties("2023-01-01/2023-12-31T23:59:59Z")
    assert interval["datetime"] is None
    assert (interval["start_datetime"], interval["end_datetime"]) == ("2023-01-01T00:00:00Z", "2023-12-31T23:59:59Z")
    for wrong in ("yesterday", "2024/2025/2026", "2024-02-01/2024-01-01"):
        with pytest.raises(UsageError, match=re.escape(wrong)):
            properties(wrong)


def outline(epsg: int, transform: tuple[float, ...], folder: Path) -> tuple[list[float], dict]:
    place = Grid(40, 40, Georeference(rasterio.crs.CRS.from_epsg(epsg).to_wkt(), transform))  # type: ignore[arg-type]
    item = item_document("map", place, written(folder, place), ODD, folder)
    return item["bbox"], item["geometry"]


def test_footprints_in_hard_places(tmp_path: Path) -> None:
    bbox, geometry = outline(32701, (10000.0, 0, 0, 0, -10000.0, 8000000.0), tmp_path / "date-line")
    assert geometry["type"] == "MultiPolygon"
    assert bbox[0] > bbox[2], "west of a map across 180 degrees is east of its east"
    bbox, geometry = outline(3031, (10000.0, 0, -200000.0, 0, -10000.0, 200000.0), tmp_path / "pole")
    assert bbox[:2] == [-180, -90]
    assert geometry["coordinates"][0][0] == [-180, -90]
    bbox, geometry = outline(4326, (0.1, 0, 10.0, 0, 0.1, 50.0), tmp_path / "upside-down")
    assert bbox == pytest.approx([10, 50, 14, 54])
    x, y = np.array(geometry["coordinates"][0][:-1]).T
    assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0


def test_without_a_crs_there_is_no_geometry(tmp_path: Path) -> None:
    place = Grid(20, 30, Georeference())
    item = item_document("map", place, written(tmp_path, place), ODD, tmp_path)
    assert item["geometry"] is None
    assert "bbox" not in item
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:shape"] == [20, 30]
    assert "proj:transform" not in item["properties"]


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference('LOCAL_CS["site",UNIT["metre",1]]', UTM32.transform),
        Georeference(UTM32.crs, (10.0, 0.0, np.nan, 0.0, 1.0, 0.0)),
    ],
    ids=["no way to degrees", "no place"],
)
def test_a_place_off_the_globe_has_no_geometry(georeference: Georeference, tmp_path: Path) -> None:
    place = Grid(20, 30, georeference)
    item = json.loads(json.dumps(item_document("map", place, written(tmp_path, place), ODD, tmp_path), allow_nan=False))
    assert item["geometry"] is None
    assert "bbox" not in item
    assert item["properties"]["proj:wkt2"]


def test_names_that_collide_and_a_crs_without_a_code(tmp_path: Path) -> None:
    own = Georeference(rasterio.crs.CRS.from_string("+proj=laea +lat_0=50 +lon_0=8 +ellps=GRS80").to_wkt(), UTM32.transform)
    place, classes = Grid(20, 20, own), classes_from(["a b", "a-b", "森", "no data"])
    item = item_document("map", place, written(tmp_path, place), classes, tmp_path)
    names = [c["name"] for c in item["assets"]["class"]["classification:classes"]]
    assert names == ["no-data", "a-b", "a-b-2", "class-3", "no-data-4"]
    assert item["properties"]["proj:code"] is None
    assert "Lambert" in item["properties"]["proj:wkt2"]


def test_refusals(tmp_path: Path) -> None:
    place = Grid(20, 20, UTM32)
    assets = written(tmp_path, place)
    with pytest.raises(UnknownName, match="Give the class raster"):
        item_document("map", place, {"confidence": assets["confidence"]}, ODD, tmp_path)
    with pytest.raises(UsageError, match="empty"):
        item_document(" ", place, assets, ODD, tmp_path)
    with pytest.raises(FileMissing):
        item_document("map", place, {"class": tmp_path / "none.tif"}, ODD, tmp_path)
    with pytest.raises(DataError, match="one map"):
        item_document("map", Grid(21, 20, UTM32), assets, ODD, tmp_path)
    with pytest.raises(UnknownName, match="kind of asset"):
        item_document("map", place, assets | {"notes": tmp_path / "a.txt"}, ODD, tmp_path)
    with pytest.raises(DataError, match="CRS"):
        item_document("map", Grid(20, 20, Georeference("nonsense")), assets, ODD, tmp_path)
    (tmp_path / "short.png").write_bytes(b"")
    with pytest.raises(DataError, match="not a PNG"):
        item_document("map", place, assets | {"legend": tmp_path / "short.png"}, ODD, tmp_path)
