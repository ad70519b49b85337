"""Where a map lies on the globe: the bounding box and the outline of its grid in degrees, for the STAC Item."""

from __future__ import annotations

from typing import Any

import rasterio
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds, transform_geom

from mamol.data.raster import Grid
from mamol.errors import DataError

EDGE_POINTS = 21
"""Points per edge of a footprint: a straight edge in the map's CRS is a curve in degrees."""
WGS84 = "EPSG:4326"


def crs_of(place: Grid) -> rasterio.crs.CRS:
    """Return the CRS of a grid that has one; raises DataError if its text cannot be read."""
    try:
        return rasterio.crs.CRS.from_user_input(place.georeference.crs)
    except (CRSError, RasterioError) as error:
        raise DataError(f"the map's CRS cannot be read ({error}); give WKT, as rasterio's crs.to_wkt() does.") from error


def footprint(place: Grid) -> tuple[list[float], dict[str, Any]]:
    """Return [west, south, east, north] and the outline in degrees; west > east where the map crosses 180 degrees."""
    crs, (a, b, c, d, e, f) = crs_of(place), place.georeference.transform
    corners = [(0, 0), (0, place.height), (place.width, place.height), (place.width, 0)]
    if a * e - b * d > 0:  # rows run north: the other way round keeps the ring counter-clockwise, as GeoJSON asks
        corners.reverse()
    ring = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        for step in range(EDGE_POINTS):
            t = step / EDGE_POINTS
            x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
            ring.append((a * x + b * y + c, d * x + e * y + f))
    ring.append(ring[0])
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    try:
        bounds = transform_bounds(crs, WGS84, min(xs), min(ys), max(xs), max(ys), densify_pts=EDGE_POINTS)
    except (CRSError, RasterioError) as error:
        raise DataError(f"the map's outline cannot be brought to longitude and latitude ({error}); check its CRS.") from error
    bbox = [round(float(v), 7) for v in bounds]
    if not all(abs(v) <= most for v, most in zip(bbox, (180, 90, 180, 90), strict=True)):  # also infinite or NaN
        raise DataError(f"the map's outline has the bounds {bbox} in degrees, off the globe; check its CRS and transform.")
    outline = transform_geom(crs, WGS84, {"type": "Polygon", "coordinates": [ring]}, precision=7)
    west, south, east, north = bbox
    if east - west >= 360:  # around a pole an outline in degrees is no ring
        outline = {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        }
    return bbox, {"type": outline["type"], "coordinates": outline["coordinates"]}
