"""Tiles that share ground are found, in one CRS or two; those that only touch are not."""

from __future__ import annotations

import pytest

from mamol.data.dataset import Georeference
from mamol.data.grid import Grid
from mamol.data.ground import shared_ground

LOCAL = 'LOCAL_CS["Arbitrary",UNIT["metre",1]]'
MOON = "ESRI:104903"


def at(x: float, y: float, crs: str = "EPSG:32632", size: int = 100) -> Grid:
    """Return a grid of 10 m pixels whose upper left corner is at x, y."""
    return Grid(size, size, Georeference(crs, (10.0, 0.0, x, 0.0, -10.0, y)))


def test_neighbours_touch_and_share_nothing() -> None:
    beside, below, apart = at(501_000, 5_000_000), at(500_000, 4_999_000), at(600_000, 5_000_000)
    assert shared_ground((at(500_000, 5_000_000), beside, below, apart)) == ()
    assert shared_ground((at(500_000, 5_000_000), apart, at(500_990, 5_000_000))) == ((0, 2),)


def test_scenes_of_neighbouring_zones() -> None:
    # The same point, 9 degrees east and 45 north, in the zones 32 and 33.
    here, there = at(500_000, 4_983_000), at(27_000, 5_000_000, "EPSG:32633", 2000)
    assert shared_ground((here, there, at(700_000, 4_983_000))) == ((0, 1),)


def test_pixels_without_a_crs_lie_nowhere() -> None:
    assert shared_ground((Grid(9, 9, Georeference()), Grid(9, 9, Georeference()), at(0, 0))) == ()


@pytest.mark.parametrize("crs", [LOCAL, MOON], ids=["local", "moon"])
def test_a_crs_from_which_no_way_leads_away_is_compared_with_itself(crs: str) -> None:
    grids = (at(0, 0, crs), at(500, 0, crs), at(5000, 0, crs), at(500_000, 5_000_000))
    assert shared_ground(grids) == ((0, 1),)
