"""Grids on one ground: whole multiples, other CRSs, and what cannot be brought together."""

from __future__ import annotations

import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform

from mamol.data.area import Area, area_window
from mamol.data.dataset import Georeference
from mamol.data.grid import Grid, around, pixel_size, same_grid, spans
from mamol.errors import GridMismatch

UTM = rasterio.crs.CRS.from_epsg(32632).to_wkt()
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1]]'
WEST, NORTH = 500_000.0, 5_000_000.0
ALL = (slice(0, 30), slice(0, 40))
SQUARE = shapely.box(0, 0, 1, 1)


def grid(
    crs: str = UTM, pixel: float = 10.0, corner: tuple[float, float] = (WEST, NORTH), side: tuple[int, int] = (30, 40)
) -> Grid:
    return Grid(*side, Georeference(crs, tuple(from_origin(*corner, pixel, pixel))[:6]))


def test_a_crs_that_proj_cannot_reach_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GridMismatch, match=r"lidar\.tif has the CRS 'site grid', the grid EPSG:32632: .* Give"):
        around(grid(LOCAL), grid(), ALL, "lidar.tif")
    with pytest.raises(GridMismatch, match=r"lidar\.tif has the CRS EPSG:32632, the grid 'site grid'"):
        around(grid(), grid(LOCAL), ALL, "lidar.tif")
    with pytest.raises(GridMismatch, match=r"park\.gpkg has the CRS EPSG:4326, the tile 'site grid'"):
        area_window(Area(SQUARE, "EPSG:4326", "park.gpkg"), grid(LOCAL))
    with pytest.raises(GridMismatch, match=r"park\.gpkg has the CRS 'nonsense', the tile EPSG:32632"):
        area_window(Area(SQUARE, "nonsense", "park.gpkg"), grid())
    assert around(grid(LOCAL), grid(LOCAL), ALL, "lidar.tif") == ALL
    assert capfd.readouterr().err == ""


def test_without_a_crs_a_transform_that_contradicts_is_refused() -> None:
    bare, plain = grid(""), Grid(30, 40, Georeference())
    for there in (grid(), bare, plain):
        assert around(bare, there, ALL, "lidar.tif") == ALL
        assert around(plain, there, ALL, "lidar.tif") == ALL
        fine = grid("", 5.0, side=(60, 80)) if there != plain else Grid(60, 80, Georeference())
        assert around(fine, there, ALL, "lidar.tif") == (slice(0, 60), slice(0, 80))
    half = grid("", corner=(WEST + 5, NORTH - 5))  # a corner given as a centre
    assert around(half, grid(), ALL, "lidar.tif") == ALL
    for far in (grid("", corner=(WEST + 10_000, NORTH)), grid("", 20.0), grid("", 1e-4, (9.0, 45.0))):
        for there in (grid(), bare):
            with pytest.raises(GridMismatch, match=r"lidar\.tif has no CRS, .*contradicts.*Give"):
                around(far, there, ALL, "lidar.tif")
    with pytest.raises(GridMismatch, match=r"the grid has no CRS"):
        around(grid(corner=(WEST + 10_000, NORTH)), bare, ALL, "lidar.tif")


def turned(degrees: float, pixel: float = 10.0, crs: str = UTM) -> Grid:
    place = rasterio.Affine.translation(WEST, NORTH) @ rasterio.Affine.rotation(degrees) @ rasterio.Affine.scale(pixel, -pixel)
    return Grid(30, 40, Georeference(crs, tuple(place)[:6]))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 90.0, 200.0])
def test_the_size_of_a_pixel_does_not_depend_on_how_a_grid_is_turned(degrees: float) -> None:
    for here, there in ((grid(), turned(degrees)), (turned(degrees), grid()), (turned(degrees), turned(45))):
        assert pixel_size(here, there) == pytest.approx(1)
    assert pixel_size(turned(degrees, 2.5), grid()) == pytest.approx(0.25)
    assert pixel_size(grid(pixel=40.0), turned(degrees)) == pytest.approx(4)


def test_the_size_of_a_pixel_in_another_crs() -> None:
    other = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    (x,), (y,) = transform(UTM, other, [WEST + 200], [NORTH - 150])
    assert pixel_size(grid(other, corner=(x, y)), grid()) == pytest.approx(1, abs=0.01)
    # A degree of longitude is 78.8 km long here and one of latitude 111.1 km: what counts is the shorter side.
    assert pixel_size(grid("EPSG:4326", 10 / 111_000, (9.0, 45.2)), grid()) == pytest.approx(0.71, abs=0.01)
    line = grid("EPSG:4326", 1e-3, (179.985, 60.0))
    assert pixel_size(line, line) == pytest.approx(1)


def test_how_many_pixels_of_a_raster_a_grid_pixel_spans() -> None:
    assert spans(grid(pixel=8.0), grid()) == pytest.approx((1.25, 1.25))
    assert spans(grid(pixel=20.0), grid()) == (1, 1)  # never less than one
    assert spans(grid(pixel=10 / 3.02), grid()) == (3, 3)
    assert spans(turned(45.0), grid()) == (1, 1)
    assert spans(turned(30.0, 4.0), grid()) == pytest.approx((2.5, 2.5))
    other = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    (x,), (y,) = transform(UTM, other, [WEST + 200], [NORTH - 150])
    assert spans(grid(other, corner=(x, y)), grid()) == (1, 1)
    east, south = spans(grid("EPSG:4326", 10 / 111_000, (9.0, 45.2)), grid())
    assert (east, south) == (pytest.approx(1.41, abs=0.01), 1)  # 10 m are 1.41 pixels of a degree of longitude


@pytest.mark.parametrize("crs", [UTM, ""])
def test_grids_that_drift_apart_along_the_row_are_not_the_same(crs: str) -> None:
    long = (4, 3000)
    here = grid(crs, side=long)
    assert not same_grid(grid(crs, 10.009, side=long), here)  # a thousandth of a pixel each, three at the end
    assert same_grid(grid(crs, 10 + 1e-6, side=long), here)
    assert same_grid(grid(crs, corner=(WEST + 5e-3, NORTH), side=long), here)
    assert same_grid(grid(crs, corner=(WEST + 0.05, NORTH), side=long), here) == (crs == "")
    assert not same_grid(Grid(*long, Georeference(UTM)), grid(side=long))  # with a CRS no transform is one, too
    assert same_grid(Grid(*long, Georeference("")), grid("", side=long))
    assert same_grid(turned(30.0), turned(30.0))
    assert not same_grid(turned(30.0), turned(30.1))
