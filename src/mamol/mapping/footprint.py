"""Where a map lies on the globe: the bounding box and the outline of its grid in degrees, for the STAC Item."""

from __future__ import annotations

import math
from typing import Any

import rasterio
import shapely
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds, transform_geom
from shapely import affinity, geometry

from mamol.data.grid import NO_WAY, Grid
from mamol.errors import DataError

EDGE_POINTS = 21
"""Points per edge of a footprint: a straight edge in the map's CRS is a curve in degrees."""
WGS84, FARTHEST = "EPSG:4326", 540
"""Longitudes up to FARTHEST are wrapped; what lies beyond is no longitude."""


def crs_of(place: Grid) -> rasterio.crs.CRS:
    """Return the CRS of a grid that has one; raises DataError if its text cannot be read."""
    try:
        return rasterio.crs.CRS.from_user_input(place.georeference.crs)
    except (CRSError, RasterioError) as error:
        raise DataError(f"the map's CRS cannot be read ({error}); give WKT, as rasterio's crs.to_wkt() does.") from error


def footprint(place: Grid) -> tuple[list[float], dict[str, Any]] | None:
    """Return [west, south, east, north] and the outline in degrees; west > east where the map crosses 180 degrees.

    None where there is none: PROJ knows no way from the CRS to degrees (a site's own grid, the Moon), or what comes out
    lies off the globe. Longitudes of 0 to 360 are wrapped. Raises DataError as `crs_of`.
    """
    crs, ring = crs_of(place), _ring(place)
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    try:
        with rasterio.Env():  # which keeps PROJ from printing its own words
            bounds = transform_bounds(crs, WGS84, min(xs), min(ys), max(xs), max(ys), densify_pts=EDGE_POINTS)
            west, south, east, north = bbox = [round(float(v), 7) for v in bounds]
            if not (west >= -FARTHEST and east <= FARTHEST and -90 <= south <= north <= 90):  # so are infinite and NaN
                return None
            outline = transform_geom(crs, WGS84, {"type": "Polygon", "coordinates": [ring]}, precision=7)
    except (*NO_WAY, SystemError):  # the last is what rasterio makes of an outline that is only partly on the globe
        return None
    if west < -180 or east > 180:
        return _wrapped(bbox, outline)
    return _whole(bbox) if east - west >= 360 else (bbox, {k: outline[k] for k in ("type", "coordinates")})


def _ring(place: Grid) -> list[tuple[float, float]]:
    """Return the closed, counter-clockwise outline in the grid's CRS, EDGE_POINTS points an edge."""
    a, b, c, d, e, f = place.georeference.transform
    corners = [(0, 0), (0, place.height), (place.width, place.height), (place.width, 0)]
    if a * e - b * d > 0:  # rows run north: the other way round keeps the ring counter-clockwise, as GeoJSON asks
        corners.reverse()
    ring = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        for step in range(EDGE_POINTS):
            t = step / EDGE_POINTS
            x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
            ring.append((a * x + b * y + c, d * x + e * y + f))
    return [*ring, ring[0]]


def _wrapped(bbox: list[float], outline: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """Bring an outline with longitudes beyond -180 or 180 to between them; across 180 degrees it becomes two."""
    west, south, east, north = bbox
    turn = 360 * math.floor((west + 180) / 360)
    west, east = west - turn, east - turn
    if east - west >= 360:
        return _whole(bbox)
    moved = affinity.translate(geometry.shape(outline), -turn)
    parts = [moved]
    if east > 180:
        beyond = shapely.intersection(moved, shapely.box(180, -90, east, 90))
        parts = [shapely.intersection(moved, shapely.box(west, -90, 180, 90)), affinity.translate(beyond, -360)]
        east -= 360
    polygons = [geometry.polygon.orient(p) for p in shapely.get_parts(parts) if p.geom_type == "Polygon"]
    made = geometry.mapping(polygons[0] if len(polygons) == 1 else geometry.MultiPolygon(polygons))
    return [round(v, 7) for v in (west, south, east, north)], {k: made[k] for k in ("type", "coordinates")}


def _whole(bbox: list[float]) -> tuple[list[float], dict[str, Any]]:
    """Return a band around the globe, or a cap of it: around a pole an outline in degrees is no ring."""
    _, south, _, north = bbox
    ring = [[-180.0, south], [180.0, south], [180.0, north], [-180.0, north], [-180.0, south]]
    return [-180.0, south, 180.0, north], {"type": "Polygon", "coordinates": [ring]}
