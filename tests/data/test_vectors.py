"""Polygons as labels: from layers that hold none, of far ground, and with edges that are long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform as transform_points

from mamol.data.area import Area, area_mask
from mamol.data.dataset import Georeference
from mamol.data.grid import Grid
from mamol.data.labels import read_labels
from mamol.data.spec import LabelSpec, ModalitySpec, SceneSpec
from mamol.data.vectors import onto_ground
from mamol.errors import DataError, GridMismatch, UnknownName, UsageError

CRS, DEGREES = "EPSG:32632", "EPSG:4326"
COARSE = Grid(400, 500, Georeference(CRS, (100.0, 0.0, 300_000.0, 0.0, -100.0, 5_600_000.0)))
WORLD = shapely.box(-180, -90, 180, 90)


def save(path: Path, *shapes: shapely.Geometry | None, crs: str | None = DEGREES, layer: str | None = None) -> Path:
    """Write shapes with the field `kind`: a, b, ..."""
    kinds = np.array([chr(ord("a") + k) for k in range(len(shapes))], dtype=object)
    wkb = shapely.to_wkb(np.array(shapes, dtype=object))
    pyogrio.raw.write(path, wkb, [kinds], ["kind"], geometry_type="Polygon", crs=crs, layer=layer, append=path.exists())
    return path


def labels(path: Path, grid: Grid = COARSE, layer: str | None = None) -> np.ndarray:
    """Burn the polygons of a file onto a grid, class "a" as 0, "b" as 1, ..."""
    spec = SceneSpec(
        name="s", modalities={"x": ModalitySpec(path="x.tif")}, labels=LabelSpec(path=str(path), field="kind", layer=layer)
    )
    return read_labels(spec, "s", grid, {"a": 0, "b": 1, "c": 2})


def test_long_edges_are_burnt_where_an_area_puts_them(tmp_path: Path) -> None:
    shape = shapely.box(4, 49, 14, 50.3)
    burnt = labels(save(tmp_path / "a.geojson", shape)) == 0
    assert 0.2 < burnt.mean() < 0.8
    np.testing.assert_array_equal(burnt, area_mask(Area(shape, DEGREES), COARSE, slice(0, 400), slice(0, 500)))


def test_polygons_of_far_ground_are_left_out_and_of_the_whole_earth_cover_the_tile(tmp_path: Path) -> None:
    pole, tropics = shapely.box(-180, 89, 180, 90), shapely.box(99, 0, 100, 1)
    burnt = labels(save(tmp_path / "a.gpkg", WORLD, pole, tropics))
    assert (burnt == 0).all()
    assert (labels(save(tmp_path / "far.gpkg", pole, tropics)) == -1).all()


def test_a_tile_across_the_antimeridian(tmp_path: Path) -> None:
    grid = Grid(20, 20, Georeference("EPSG:32660", (1000.0, 0.0, 727_000.0, 0.0, -1000.0, 5_000_000.0)))
    assert (labels(save(tmp_path / "a.gpkg", WORLD), grid) == 0).all()
    west, east = shapely.box(170, 40, 180, 50), shapely.box(-180, 40, -170, 50)
    burnt = labels(save(tmp_path / "b.gpkg", west, east), grid)
    assert set(np.unique(burnt)) == {0, 1}
    assert (np.diff(burnt, axis=1) >= 0).all()
    beyond = labels(save(tmp_path / "c.gpkg", shapely.box(170, 40, 190, 50)), grid)
    assert (beyond == 0).all()


def test_a_bow_tie_in_another_crs_is_burnt(tmp_path: Path) -> None:
    tie = shapely.Polygon([(6.3, 50.2), (6.7, 50.5), (6.7, 50.2), (6.3, 50.5)])
    assert (labels(save(tmp_path / "a.gpkg", tie)) == 0).any()


@pytest.mark.parametrize("crs", [CRS, DEGREES])
def test_of_a_polygon_with_a_spike_or_a_line_beside_it_only_the_polygon_is_burnt(tmp_path: Path, crs: str) -> None:
    spike = shapely.Polygon([(0, 0), (20, 0), (20, 20), (11, 20), (50, 80), (11, 20), (0, 20)])
    flat = shapely.Polygon([(60, 10), (90, 40), (60, 10)])
    beside = shapely.GeometryCollection([shapely.box(30, 0, 50, 20), shapely.LineString([(100, 100), (200, 290)])])
    left, top = COARSE.georeference.transform[2], COARSE.georeference.transform[5]
    there = [shapely.transform(s, lambda p: (left, top) + (p + 0.3) * (100, -100)) for s in (spike, flat, beside)]
    if crs == DEGREES:
        there = [shapely.transform(s, lambda p: np.column_stack(transform_points(CRS, DEGREES, *p.T))) for s in there]
    burnt = labels(save(tmp_path / "a.geojson", *there, crs=crs))
    assert [(burnt == k).sum() for k in range(3)] == [400, 0, 400]


def test_shapes_keep_their_places() -> None:
    shapes = np.array([shapely.box(99, 0, 100, 1), shapely.box(6.4, 50.2, 6.5, 50.3)])
    there = onto_ground(shapes, DEGREES, COARSE, "x")
    assert shapely.is_empty(there).tolist() == [True, False]
    assert onto_ground(shapes, CRS, COARSE, "x") is shapes


def test_no_way_between_the_crs_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", shapely.box(0, 0, 9, 9), crs='LOCAL_CS["of the building",UNIT["metre",1]]')
    with pytest.raises(GridMismatch, match=r"a\.gpkg has the CRS .*of the building.*the tile EPSG:32632.*no way"):
        labels(path)


def test_layers_that_hold_no_polygons(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", WORLD, layer="crowns")
    with pytest.raises(UnknownName, match=r"layer of a\.gpkg 'crownz'.*Did you mean 'crowns'"):
        labels(path, layer="crownz")
    styles = [np.array(["crowns"], dtype=object), np.array(["<qgis/>"], dtype=object)]
    pyogrio.raw.write(path, None, styles, ["kind", "styleQML"], layer="layer_styles", append=True, geometry_type=None)
    assert (labels(path) == 0).all()
    with pytest.raises(DataError, match=r"no shapes, only a table of kind, styleQML.*layer ="):
        labels(path, layer="layer_styles")
    save(path, WORLD, layer="plots")
    with pytest.raises(UsageError, match=r"crowns, plots; name .* layer = in \[labels\]"):
        labels(path)
    (tmp_path / "b.gpkg").write_text("no database")
    with pytest.raises(DataError, match=r"b\.gpkg cannot be read"):
        labels(tmp_path / "b.gpkg")


def test_an_empty_layer_labels_nothing(tmp_path: Path) -> None:
    assert (labels(save(tmp_path / "a.gpkg")) == -1).all()


def test_texts_in_another_encoding_than_said_are_told_of(tmp_path: Path) -> None:
    shapes = shapely.to_wkb(np.array([WORLD], dtype=object))
    kinds = [np.array(["Föhre"], dtype=object)]
    path = tmp_path / "trees.shp"
    pyogrio.raw.write(path, shapes, kinds, ["kind"], geometry_type="Polygon", crs=DEGREES, encoding="latin1")
    with pytest.raises(UnknownName, match="Föhre"):
        labels(path)
    (tmp_path / "trees.cpg").write_text("UTF-8")
    says = r"trees\.shp .*not UTF-8 .*byte 0xf6.*its \.cpg.*write it anew as UTF-8"
    with pytest.raises(DataError, match=says):
        labels(path)
    geojson = save(tmp_path / "trees.geojson", WORLD)
    geojson.write_bytes(geojson.read_bytes().replace(b'"a"', b'"F\xf6hre"'))
    with pytest.raises(DataError, match=r"trees\.geojson .*not UTF-8.*write it anew as UTF-8"):
        labels(geojson)


@pytest.mark.parametrize("kind", ['["oak", "beech"]', "[1, 2]"])
def test_a_class_that_is_a_list_is_refused(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "a.geojson", WORLD)
    path.write_text(path.read_text().replace('"a"', kind))
    with pytest.raises(DataError, match=r"field 'kind' of .*a\.geojson holds lists, such as \[.*; a class is one text or number"):
        labels(path)
