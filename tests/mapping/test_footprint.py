"""Footprints: what a map says of its place in degrees, and nothing where there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest

from mamol.data.dataset import Georeference
from mamol.data.raster import Grid
from mamol.errors import DataError
from mamol.mapping.footprint import footprint

LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
MOON = (
    'GEOGCRS["Moon",DATUM["Moon",ELLIPSOID["Moon",1737400,0,LENGTHUNIT["metre",1]]],PRIMEM["Ref",0],'
    'CS[ellipsoidal,2],AXIS["lat",north],AXIS["lon",east],ANGLEUNIT["degree",0.0174532925199433]]'
)
TRANSFORM = (10.0, 0.0, 600000.0, 0.0, -10.0, 5400000.0)


def at(crs: str, *transform: float) -> Grid:
    return Grid(40, 40, Georeference(crs, transform))  # type: ignore[arg-type]


def degrees(west: float, north: float = 50.0, pixel: float = 0.1) -> Grid:
    return at("EPSG:4326", pixel, 0, west, 0, -0.1, north)


@pytest.mark.parametrize("crs", [LOCAL, MOON], ids=["local", "moon"])
def test_a_crs_that_leads_to_no_degrees_has_none(crs: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert footprint(at(crs, *TRANSFORM)) is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "transform",
    [
        (1e9, 0.0, 1e12, 0.0, -1e9, 1e12),
        (10.0, 0.0, float("nan"), 0.0, -10.0, 0.0),
        (1.0, 0.0, 0.0, 0.0, -1.0, 700.0),
    ],
)
def test_off_the_globe_there_is_none(transform: tuple[float, ...]) -> None:
    assert footprint(at("EPSG:4326" if transform[0] == 1 else "EPSG:32632", *transform)) is None
    assert footprint(at("EPSG:4326", *transform)) is None


@pytest.mark.parametrize(("west", "wrapped"), [(190.0, -170.0), (-194.0, 166.0), (10.0, 10.0), (356.0, -4.0), (180.0, -180.0)])
def test_longitudes_beyond_180_are_wrapped(west: float, wrapped: float) -> None:
    found = footprint(degrees(west))
    assert found is not None
    bbox, geometry = found
    assert bbox == pytest.approx([wrapped, 46, wrapped + 4, 50])
    ring = np.array(geometry["coordinates"][0])
    np.testing.assert_allclose([*ring.min(0), *ring.max(0)], bbox, atol=1e-6)
    x, y = ring[:-1].T
    assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0, "counter-clockwise"


@pytest.mark.parametrize("west", [178.0, -182.0])
def test_degrees_across_180_become_two_polygons(west: float) -> None:
    found = footprint(degrees(west))
    assert found is not None
    bbox, geometry = found
    assert bbox == pytest.approx([178, 46, -178, 50])
    assert geometry["type"] == "MultiPolygon"
    pieces = [np.array(p[0]) for p in geometry["coordinates"]]
    assert sorted((p[:, 0].min(), p[:, 0].max()) for p in pieces) == [(-180, -178), (178, 180)]


def test_the_whole_globe_from_0_to_360() -> None:
    found = footprint(degrees(0.0, pixel=9.0))
    assert found is not None
    assert found[0] == pytest.approx([-180, 46, 180, 50])
    assert np.array(found[1]["coordinates"]).shape == (1, 5, 2)


def test_text_that_is_no_crs_is_said() -> None:
    with pytest.raises(DataError, match="CRS cannot be read"):
        footprint(at("nonsense", *TRANSFORM))
