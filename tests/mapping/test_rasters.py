"""Map files: place, colours and names, cloud-optimised, all together or none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from mamol.data.dataset import Georeference, classes_from
from mamol.data.raster import Grid
from mamol.errors import OutputExists, WriteFailed
from mamol.mapping.layers import Block, make_layers
from mamol.mapping.paths import MapPaths
from mamol.mapping.picture import draw_maps, read_classes
from mamol.mapping.rasters import MapLayout, write_map

CLASSES = classes_from(["wheat & rye", "oak <old>"], ["#ff0000", "#00ff80"])
PLACE = Georeference(CRS.from_epsg(32632).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))
EVERY = ("class", "confidence", "pattern", "entropy", "probability", "expert")
P = np.array([[[0.2, 0.9, np.nan], [0.6, 0.1, 0.5]], [[0.8, 0.1, np.nan], [0.4, 0.9, 0.5]]], dtype=np.float32)
BITS = np.array([[1, 3, 0], [2, 1, 1]], dtype=np.uint32)


def write(
    folder: Path, modalities: tuple[str, ...] = ("hsi", "sar"), overwrite: bool = False, place: Georeference = PLACE
) -> MapPaths:
    layers = make_layers(EVERY, 2, len(modalities))
    paths = MapPaths.beside(folder / "map.tif", layers)
    block = Block(P, BITS, np.ones((2, 3), dtype=np.uint8))
    layout = MapLayout(Grid(2, 3, place), CLASSES, modalities, layers, ("dynamic 1",))
    write_map(paths, layout, [((0, 0), {n: la.compute(block) for n, la in layers.items()})], folder / "work", overwrite)
    shutil.rmtree(folder / "work")  # as `map_tile` does when all files have their names
    return paths


def test_values_place_colours_and_names(tmp_path: Path) -> None:
    paths = write(tmp_path)
    with rasterio.open(paths.classes) as raster:
        assert raster.read(1).tolist() == [[2, 1, 0], [1, 2, 1]]
        assert raster.nodata == 0
        assert raster.crs.to_epsg() == 32632
        assert raster.transform[:6] == PLACE.transform
        assert raster.colormap(1)[1] == (255, 0, 0, 255)
        assert raster.colormap(1)[2] == (0, 255, 128, 255)
        assert raster.tags(1)["CLASS_2"] == "oak <old>"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    aux = (tmp_path / "map.tif.aux.xml").read_text()
    assert "<Category>wheat &amp; rye</Category><Category>oak &lt;old&gt;</Category>" in aux
    with rasterio.open(paths.confidence) as raster:
        np.testing.assert_allclose(raster.read(1), [[0.8, 0.9, np.nan], [0.6, 0.9, 0.5]], rtol=1e-6)
        assert np.isnan(raster.nodata)
    with rasterio.open(paths.pattern) as raster:
        assert raster.read(1).tolist() == [[1, 3, 0], [2, 1, 1]]
        assert raster.tags(1)["BIT_1"] == "sar"
        assert raster.dtypes == ("uint8",)
    with rasterio.open(paths.layers["probability"]) as raster:
        assert raster.read(2).tolist() == [[200, 25, 255], [100, 225, 125]]
        assert raster.descriptions == ("wheat & rye", "oak <old>")
        assert raster.scales == (0.004, 0.004)
    with rasterio.open(paths.layers["expert"]) as raster:
        assert raster.tags(1)["EXPERT_1"] == "dynamic 1"


def test_every_file_is_there_and_the_item_names_them(tmp_path: Path) -> None:
    paths = write(tmp_path)
    assert all(p.is_file() for p in paths.all())
    item = json.loads(paths.item.read_text())
    assert {tmp_path / a["href"] for a in item["assets"].values()} == set(paths.all()) - {paths.item, paths.categories}
    assert item["assets"]["class"]["type"].endswith("profile=cloud-optimized")
    assert "oak &lt;old>" in paths.style.read_text() or "oak &lt;old&gt;" in paths.style.read_text()
    assert not any(".partial" in str(p) for p in tmp_path.rglob("*"))


def test_many_modalities_take_a_wider_type(tmp_path: Path) -> None:
    with rasterio.open(write(tmp_path, tuple("abcdefghi")).pattern) as raster:
        assert raster.dtypes == ("uint16",)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path)
    with pytest.raises(OutputExists):
        write(tmp_path)
    before = {p: p.read_bytes() for p in paths.all()}
    assert len(before) == 10

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("rasterio.io.DatasetWriter.write_colormap", "rasterio.shutil.copy", "mamol.mapping.rasters.draw_legend"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, full if "copy" not in broken else lambda *a, **k: full())
            with pytest.raises(WriteFailed, match="No space left"):
                write(tmp_path, overwrite=True)
        assert {p: p.read_bytes() for p in paths.all()} == before
        assert not any(".partial" in str(p) for p in tmp_path.rglob("*"))


def test_a_large_map_has_overviews(tmp_path: Path) -> None:
    layers = make_layers((), 2, 1)
    paths = MapPaths.beside(tmp_path / "map.tif", layers)
    truth = np.ones((1, 700, 600), dtype=np.uint8)
    truth[:, :350] = 2
    layout = MapLayout(Grid(700, 600, PLACE), CLASSES, ("x",), layers)
    write_map(paths, layout, (((y, 0), {"class": truth[:, y : y + 256]}) for y in range(0, 700, 256)), tmp_path / "work")
    with rasterio.open(paths.classes) as raster:
        assert raster.overviews(1)
        np.testing.assert_array_equal(raster.read(), truth)
        assert set(np.unique(raster.read(1, out_shape=(350, 300)))) == {1, 2}


def test_a_picture(tmp_path: Path) -> None:
    classes = read_classes(write(tmp_path).classes)
    picture = draw_maps({"all": classes, "none": np.zeros_like(classes)}, CLASSES, tmp_path / "maps.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_place_without_a_crs_is_kept(tmp_path: Path) -> None:
    paths = write(tmp_path, place=Georeference("", PLACE.transform))
    with rasterio.open(paths.classes) as raster:
        assert raster.crs is None
        assert raster.transform[:6] == PLACE.transform
