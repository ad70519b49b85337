"""Map the tiles of a scene: which of them, under which names, one after the other.

    scene.tif                  the map of a scene of one tile
    scene_<tile>.tif           the map of each, where there are several

A tile in which nothing is available has no map and does not keep the others from theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mamol.data.area import Area, area_window
from mamol.data.memory import Reader
from mamol.data.raster import Grid
from mamol.errors import AllModalitiesMissing, GridMismatch, together
from mamol.mapping.engines import Engine, here
from mamol.mapping.layers import make_layers
from mamol.mapping.paths import MapPaths, check_names
from mamol.mapping.predict import MapRequest, check_tile, files_read, map_tile
from mamol.modality import Predictor

log = logging.getLogger(__name__)


def touched_tiles(reader: Reader, tiles: Sequence[str], area: Area | None) -> list[str]:
    """Return the tiles that an area touches, all of them without one; a tile without any file lies nowhere, which is logged.

    Raises GridMismatch if the area touches none.
    """
    if area is None:
        return list(tiles)
    found: list[str] = []
    beside: list[GridMismatch] = []
    nowhere: list[AllModalitiesMissing] = []
    for tile in tiles:
        try:
            area_window(area, Grid(*reader.shape(tile), reader.georeference(tile)))
            found.append(tile)
        except GridMismatch as error:
            beside.append(error)
        except AllModalitiesMissing as error:
            nowhere.append(error)
    if not found and (beside or nowhere):
        raise (beside or nowhere)[-1]
    _say_left_out(nowhere)
    return found


def map_tiles(
    predictor: Predictor,
    reader: Reader,
    requests: Sequence[MapRequest],
    out: Path,
    engine: Engine = here,
    progress: Callable[[str, int, int, str], None] = lambda what, done, total, note: None,
) -> list[MapPaths]:
    """Write the map of each request's tile and return where their files are; a tile with nothing to map is logged.

    One tile goes to `out`, several go to OUT_<tile>.tif each. Nothing is computed if a file of one of the maps is in the
    way. Raises as `map_tile`, AllModalitiesMissing only if no tile has anything to map.
    """
    files = [out] if len(requests) == 1 else [_tile_file(out, r.tile) for r in requests]
    layers = [make_layers(r.layers, len(predictor.classes), len(predictor.modalities)) for r in requests]
    named = {r.tile: MapPaths.beside(f, made) for r, f, made in zip(requests, files, layers, strict=True)}
    check_names(named, files_read(reader, requests))
    for request, file in zip(requests, files, strict=True):
        with suppress(AllModalitiesMissing):  # said when it is the tile's turn
            check_tile(predictor, reader, request, file)
    mapped: list[MapPaths] = []
    empty: list[AllModalitiesMissing] = []
    for i, (request, file) in enumerate(zip(requests, files, strict=True)):

        def show(done: int, total: int, tile: str = request.tile, i: int = i) -> None:
            progress("map", i * total + done, len(requests) * total, tile)

        try:
            mapped.append(map_tile(predictor, reader, request, file, engine, show))
        except AllModalitiesMissing as error:
            empty.append(error)
    if empty and not mapped:
        raise together(list({str(e): e for e in empty}.values()))
    _say_left_out(empty)
    return mapped


def _say_left_out(errors: Sequence[AllModalitiesMissing]) -> None:
    for error in errors:
        log.warning("%s It is left out; the other tiles are mapped.", error)


def _tile_file(out: Path, tile: str) -> Path:
    """Name one tile's map; a tile's name may hold slashes, a file's may not."""
    return out.with_name(f"{out.stem}_{tile.replace('/', '-')}{out.suffix}")
