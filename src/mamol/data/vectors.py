"""Vector files: one layer of a file, and its shapes on the ground of a tile.

    layer = read_layer(path, None, "--area-layer", ())
    shapes = onto_ground(layer.shapes, layer.crs, reader.grid(tile), str(path))

A straight line in degrees is no straight line in metres, so edges are cut into short pieces before they are reprojected.
Only what lies around the tile is: far parts may have no place in its CRS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from mamol.data.grid import NO_WAY, Bounds, Grid, crs_name, same_crs
from mamol.errors import DataError, GridMismatch, UsageError, unknown

PIECES = 64
"""An edge is at most this part of the tile's extent long before it is reprojected: the error falls with its square."""
RIM = 0.1
"""How far around the tile shapes are reprojected, as a part of its extent."""
AREAL = 2
"""The dimension of a shape that has an area."""
POLYGONS = [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON]


@dataclass(frozen=True)
class Layer:
    """A layer: `shapes` (n,), None where a row has none, the `columns` of its rows by name, and its CRS ("" if unknown)."""

    shapes: np.ndarray
    columns: dict[str, np.ndarray]
    crs: str


def read_layer(path: Path, layer: str | None, choice: str, columns: Sequence[str] | None = None) -> Layer:
    """Read a layer of a vector file (GeoPackage, GeoJSON, Shapefile, ...) with some of its columns, None all.

    `layer` None takes the only layer; a table without geometry (QGIS keeps its styles in one) is none. `choice` is what
    names a layer, for the error. Raises DataError (unreadable, no UTF-8), UnknownName for a layer, and UsageError
    for several of which none is named.
    """
    try:
        tables = {str(name): kind for name, kind in pyogrio.list_layers(path)}
        layers = [name for name, kind in tables.items() if kind is not None] or list(tables)
        if layer is not None and layer not in tables:
            raise unknown(f"layer of {path.name}", layer, layers)
        if layer is None and len(layers) > 1:
            raise UsageError(f"{path} has the layers {', '.join(layers)}; name the one that is meant with {choice}.")
        layer = layer or next(iter(layers), None)
        meta, fids, wkb, values = pyogrio.raw.read(path, layer=layer, columns=columns, return_fids=True)
        shapes = np.full(len(fids), None) if wkb is None else shapely.from_wkb(wkb)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path} cannot be read as polygons ({error}). Give a GeoPackage, GeoJSON or Shapefile.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} holds texts that are not UTF-8 ({error}). If it is a Shapefile, name its encoding in its .cpg, such as "
            "ISO-8859-1; else write it anew as UTF-8."
        ) from error
    return Layer(shapes, dict(zip(map(str, meta["fields"]), values, strict=True)), meta["crs"] or "")


def onto_ground(shapes: np.ndarray, crs: str, grid: Grid, source: str) -> np.ndarray:
    """Return what of shapes (n,) lies around a tile, in the tile's CRS; empty where nothing of a shape does.

    Without a CRS on one side, and in the tile's own, they are returned as they are. Raises GridMismatch, which names
    `source`, if PROJ knows no way from one CRS to the other.
    """
    own = grid.georeference.crs
    if not (crs and own):
        return shapes

    def project(points: np.ndarray) -> np.ndarray:
        return np.column_stack(transform_points(crs, own, points[:, 0], points[:, 1]))

    try:
        with rasterio.Env():  # which keeps PROJ from printing its own words
            if same_crs(crs, own):
                return shapes
            west, south, east, north = bounds_in(crs, grid)
            turn = 360 if west > east else 0  # across the antimeridian, which has a longitude on either side
            extent = max(east + turn - west, north - south)
            box = shapely.box(west, south, east + turn, north).buffer(RIM * extent, join_style="mitre")
            around = shapely.union_all([box, shapely.transform(box, lambda points: points - (turn, 0))])
            near = shapely.intersection(shapely.make_valid(shapes), around)
            there = shapely.transform(shapely.segmentize(near, extent / PIECES), project)
    except NO_WAY:
        raise GridMismatch(
            f"{source} has the CRS {crs_name(crs)}, the tile {crs_name(own)}: there is no way from one to the other. "
            "Check the file's CRS, or write its polygons in the tile's."
        ) from None
    there[~np.isfinite(shapely.bounds(there)).all(axis=1)] = shapely.Polygon()
    return there


def polygons_of(shapes: np.ndarray | shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons that valid shapes consist of; a spike or a border in common with a tile is a line, and left out."""
    parts = shapely.get_parts(shapely.get_parts(shapes))
    return [p for p in parts if p.geom_type == "Polygon" and p.area > 0]


def only_polygons(shapes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return shapes (n,), of those that were `given` with an area the polygons alone, in their places.

    Making a polygon valid and cutting it leave lines, which would be burnt as pixels of their own.
    """
    mixed = (shapely.get_dimensions(given) == AREAL) & ~np.isin(shapely.get_type_id(shapes), POLYGONS)
    out = shapes.copy()
    out[mixed] = [shapely.union_all(polygons_of(shapely.make_valid(shape))) for shape in shapes[mixed]]
    return out


def bounds_in(crs: str, grid: Grid) -> Bounds:
    """Return the bounds (west, south, east, north) of a tile in a CRS, "" its own; west > east across the antimeridian."""
    if not crs:
        return grid.bounds
    west, south, east, north = transform_bounds(grid.georeference.crs, crs, *grid.bounds)
    return west, south, east, north
