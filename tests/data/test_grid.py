"""Grids on one ground: whole multiples, other CRSs, and what cannot be brought together."""

from __future__ import annotations

import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from mamol.data.area import Area, area_window
from mamol.data.dataset import Georeference
from mamol.data.grid import Grid, around
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
