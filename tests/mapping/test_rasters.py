"""Map files: place, colours and names, all three together or none."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from mamol.data.dataset import Georeference, classes_from
from mamol.errors import UsageError, WriteFailed
from mamol.mapping.picture import draw_maps, read_classes
from mamol.mapping.rasters import MapLayout, MapPaths, MapWriter

CLASSES = classes_from(["wheat & rye", "oak <old>"], ["#ff0000", "#00ff80"])
PLACE = Georeference(CRS.from_epsg(32632).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))


def write(folder: Path, modalities: tuple[str, ...] = ("hsi", "sar")) -> MapPaths:
    paths = MapPaths.beside(folder / "map.tif")
    with MapWriter(paths, MapLayout(2, 3, PLACE, CLASSES, modalities)) as writer:
        probability = np.array([[[0.2, 0.9, np.nan], [0.6, 0.1, 0.5]], [[0.8, 0.1, np.nan], [0.4, 0.9, 0.5]]])
        writer.write(0, 0, probability, np.array([[1, 3, 0], [2, 1, 1]], dtype=np.uint32))
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
    aux = (tmp_path / "map.tif.aux.xml").read_text()
    assert "<Category>wheat &amp; rye</Category><Category>oak &lt;old&gt;</Category>" in aux
    with rasterio.open(paths.confidence) as raster:
        np.testing.assert_allclose(raster.read(1), [[0.8, 0.9, np.nan], [0.6, 0.9, 0.5]], rtol=1e-6)
        assert np.isnan(raster.nodata)
    with rasterio.open(paths.pattern) as raster:
        assert raster.read(1).tolist() == [[1, 3, 0], [2, 1, 1]]
        assert raster.tags(1)["BIT_1"] == "sar"
        assert raster.dtypes == ("uint8",)


def test_many_modalities_take_a_wider_type(tmp_path: Path) -> None:
    with rasterio.open(write(tmp_path, tuple("abcdefghi")).pattern) as raster:
        assert raster.dtypes == ("uint32",)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    paths = MapPaths.beside(tmp_path / "sub" / "map.tif")
    with pytest.raises(RuntimeError, match="stop"), MapWriter(paths, MapLayout(2, 3, PLACE, CLASSES, ("hsi",))):
        raise RuntimeError("stop")
    assert list((tmp_path / "sub").iterdir()) == []


def test_more_classes_than_a_byte_holds() -> None:
    layout = MapLayout(2, 2, PLACE, classes_from([str(i) for i in range(256)]), ("hsi",))
    with pytest.raises(UsageError, match="at most 255"):
        MapWriter(MapPaths.beside(Path("x.tif")), layout)


def test_a_picture(tmp_path: Path) -> None:
    classes = read_classes(write(tmp_path).classes)
    picture = draw_maps({"all": classes, "none": np.zeros_like(classes)}, CLASSES, tmp_path / "maps.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_failure_while_opening_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rasterio.io.DatasetWriter.write_colormap", full)
    paths = MapPaths.beside(tmp_path / "map.tif")
    with pytest.raises(WriteFailed, match="No space left"):
        MapWriter(paths, MapLayout(2, 3, PLACE, CLASSES, ("hsi",))).__enter__()
    assert list(tmp_path.iterdir()) == []
