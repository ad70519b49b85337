"""Areas of interest from vector files: the window that covers them, the pixels inside, and what cannot be meant."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform

from mamol.data.area import Area, Grid, area_mask, area_window, read_area
from mamol.data.dataset import Georeference
from mamol.errors import DataError, FileMissing, GridMismatch, UnknownName, UsageError

CRS = "EPSG:32632"
WEST, NORTH = 500_000.0, 5_000_000.0
GRID = Grid(30, 40, Georeference(CRS, (10.0, 0.0, WEST, 0.0, -10.0, NORTH)))
EVERYTHING = (slice(0, 30), slice(0, 40))


def box(top: float, left: float, bottom: float, right: float) -> shapely.Polygon:
    """Return a rectangle, in pixels of GRID."""
    return shapely.box(WEST + 10 * left, NORTH - 10 * bottom, WEST + 10 * right, NORTH - 10 * top)


def save(path: Path, *shapes: shapely.Geometry, crs: str | None = CRS, layer: str | None = None) -> Path:
    kinds = {s.geom_type for s in shapes} or {"Polygon"}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, dtype=object)),
        [np.arange(len(shapes))],
        ["id"],
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        crs=crs,
        layer=layer,
        append=path.exists(),
    )
    return path


def inside(area: Area, grid: Grid = GRID) -> np.ndarray:
    return area_mask(area, grid, slice(0, grid.height), slice(0, grid.width))


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb"])
def test_polygons_become_a_window_and_a_mask(tmp_path: Path, name: str) -> None:
    area = read_area(save(tmp_path / name, box(3, 5, 9, 12), box(20, 8, 24, 9)))
    rows, columns = area_window(area, GRID)
    assert (rows, columns) == (slice(3, 24), slice(5, 12))
    expected = np.zeros((30, 40), dtype=bool)
    expected[3:9, 5:12] = expected[20:24, 8:9] = True
    np.testing.assert_array_equal(inside(area), expected)
    np.testing.assert_array_equal(area_mask(area, GRID, rows, columns), expected[rows, columns])


def test_windows_of_the_mask_are_pieces_of_the_whole_and_pickles_agree() -> None:
    shape = shapely.Point(WEST + 190, NORTH - 140).buffer(111).difference(box(10, 14, 16, 22))
    area = pickle.loads(pickle.dumps(Area(shape, CRS)))
    full = inside(area)
    assert 100 < full.sum() < 400
    for y in range(0, 30, 7):
        for x in range(0, 40, 9):
            part = slice(y, min(y + 7, 30)), slice(x, min(x + 9, 40))
            np.testing.assert_array_equal(area_mask(area, GRID, *part), full[part])


def test_a_pixel_is_inside_where_its_centre_is() -> None:
    area = Area(box(2.4, 3.6, 5.6, 7.4), CRS)
    assert area_window(area, GRID) == (slice(2, 6), slice(3, 8))
    expected = np.zeros((30, 40), dtype=bool)
    expected[2:6, 4:7] = True
    np.testing.assert_array_equal(inside(area), expected)


def test_holes_and_pieces_that_overlap(tmp_path: Path) -> None:
    ring = shapely.Polygon(box(2, 2, 12, 12).exterior, [box(5, 5, 8, 9).exterior])
    area = read_area(save(tmp_path / "a.gpkg", ring, box(0, 10, 6, 14)))
    mask = inside(area)
    assert mask.sum() == 100 - 12 + 24 - 8
    assert not mask[5:8, 5:9].any()


def test_a_bow_tie_is_mended(tmp_path: Path) -> None:
    corners = [(WEST, NORTH), (WEST + 100, NORTH - 100), (WEST + 100, NORTH), (WEST, NORTH - 100)]
    assert 40 <= inside(read_area(save(tmp_path / "a.gpkg", shapely.Polygon(corners)))).sum() <= 60


def test_an_area_smaller_than_a_pixel_has_a_window_but_perhaps_no_pixel() -> None:
    corner, centre = Area(box(4.1, 6.1, 4.3, 6.3), CRS), Area(box(4.4, 6.4, 4.6, 6.6), CRS)
    for area, pixels in ((corner, 0), (centre, 1)):
        assert area_window(area, GRID) == (slice(4, 5), slice(6, 7))
        assert inside(area).sum() == pixels


def test_an_area_beyond_the_border_is_cut_off() -> None:
    area = Area(box(-50, 30, 5, 500), CRS)
    assert area_window(area, GRID) == (slice(0, 5), slice(30, 40))
    assert inside(area).sum() == 50
    assert area_window(Area(box(-9, -9, 99, 99), CRS), GRID) == EVERYTHING
    assert inside(Area(box(-9, -9, 99, 99), CRS)).all()


def test_what_bounds_a_window_is_the_part_in_the_tile() -> None:
    bent = shapely.union_all([box(-20, 10, 12, 14), box(-20, 10, -10, 39)])  # its arm to the east lies north of the tile
    assert area_window(Area(bent, CRS), GRID) == (slice(0, 12), slice(10, 14))


def test_another_crs_with_long_edges(tmp_path: Path) -> None:
    grid = Grid(400, 1200, Georeference(CRS, (100.0, 0.0, 440_000.0, 0.0, -100.0, NORTH)))
    (west, east), (south, _) = transform(CRS, "EPSG:4326", [445_000.0, 555_000.0], [NORTH - 20_000, NORTH - 20_000])
    area = read_area(save(tmp_path / "a.geojson", shapely.box(west, south, east, 60), crs="EPSG:4326"))
    mask = inside(area, grid)
    x = np.arange(440_050.0, 560_000, 100)
    latitude = np.array(transform(CRS, "EPSG:4326", np.tile(x, 400), np.repeat(NORTH - 50 - 100 * np.arange(400), 1200)))
    longitude, latitude = latitude.reshape(2, 400, 1200)
    np.testing.assert_array_equal(mask, (longitude > west) & (longitude < east) & (latitude > south))
    assert area_window(area, grid)[0].start == 0


def test_an_area_of_the_whole_earth_covers_the_tile() -> None:
    assert inside(Area(shapely.box(-180, -90, 180, 90), "EPSG:4326")).all()


def test_a_tile_without_a_crs_takes_the_coordinates_as_they_are() -> None:
    assert area_window(Area(shapely.box(2, 3, 6, 5)), Grid(10, 10, Georeference())) == (slice(3, 5), slice(2, 6))


def test_areas_and_tiles_apart(tmp_path: Path) -> None:
    with pytest.raises(GridMismatch, match=r"covers \(501000, .*, the tile \(500000, 4999700, 500400, 5000000\)"):
        area_window(Area(box(0, 100, 10, 110), CRS, "east.gpkg"), GRID)
    with pytest.raises(GridMismatch, match=r"polar\.gpkg covers \(0, 80, 1, 81\), the tile \(9, 45.*do not overlap"):
        area_mask(Area(shapely.box(0, 80, 1, 81), "EPSG:4326", "polar.gpkg"), GRID, *EVERYTHING)
    with pytest.raises(GridMismatch, match="do not overlap"):
        area_window(Area(box(0, 40, 30, 50), CRS), GRID)  # a border in common is no ground in common
    with pytest.warns(UserWarning, match="crs"):
        path = save(tmp_path / "a.gpkg", box(0, 0, 9, 9), crs=None)
    with pytest.raises(GridMismatch, match=r"a\.gpkg has no CRS"):
        area_window(read_area(path), GRID)


def test_files_that_hold_no_area(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"a\.gpkg"):
        read_area(tmp_path / "a.gpkg")
    (tmp_path / "text.gpkg").write_text("no database")
    with pytest.raises(DataError, match=r"text\.gpkg cannot be read"):
        read_area(tmp_path / "text.gpkg")
    with pytest.raises(DataError, match="no polygon with an area, but LineString, Point"):
        read_area(save(tmp_path / "p.gpkg", shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)])))
    with pytest.raises(DataError, match="but nothing"):
        read_area(save(tmp_path / "empty.gpkg"))
    with pytest.raises(DataError, match="but Polygon"):
        read_area(save(tmp_path / "flat.gpkg", shapely.Polygon([(0, 0), (1, 1), (0, 0)])))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="but nothing"):
        read_area(tmp_path / "table.csv")


def test_layers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", box(0, 0, 3, 3), layer="north")
    assert inside(read_area(path)).sum() == 9
    save(path, box(5, 5, 6, 6), layer="south")
    assert inside(read_area(path, "south")).sum() == 1
    with pytest.raises(UsageError, match=r"north, south; name .* --area-layer"):
        read_area(path)
    with pytest.raises(UnknownName, match="Did you mean 'south'"):
        read_area(path, "sout")


def test_tables_without_geometry_are_no_layers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", box(0, 0, 3, 3), layer="park")
    texts = [np.array(["park"], dtype=object), np.array(["<qgis/>"], dtype=object)]
    pyogrio.raw.write(path, None, texts, ["f_table_name", "styleQML"], layer="layer_styles", append=True, geometry_type=None)
    assert inside(read_area(path)).sum() == 9
    assert inside(read_area(path, "park")).sum() == 9
    with pytest.raises(DataError, match="no polygon with an area, but nothing"):
        read_area(path, "layer_styles")
