"""Map one tile: plan the blocks, let an engine compute them, keep them as they finish, write the files.

    job (blocks.py) ─► engine (engines.py): read ahead, predict ─► store (store.py), one file a block
                                                                      │ all there
                                                                      ▼
                                                       rasters.py: the map's files, together or not at all

What is finished is kept, so that a killed job goes on; the files do not depend on the engine or on how often it was
stopped. Memory holds a few blocks, whatever the scene's size.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mamol.data.area import Area, area_window
from mamol.data.dataset import ClassInfo
from mamol.data.memory import Reader
from mamol.data.raster import Grid
from mamol.errors import AllModalitiesMissing, DataError, OutputExists, UsageError, WriteFailed, unknown
from mamol.mapping.blocks import Arrays, Corner, Job
from mamol.mapping.engines import AHEAD, Engine, here
from mamol.mapping.layers import DEFAULT, make_layers
from mamol.mapping.paths import MapPaths, check_names
from mamol.mapping.publish import is_finished, refuse_taken
from mamol.mapping.rasters import MapLayout, write_map
from mamol.mapping.store import BlockStore, may_go_on, remove_blocks
from mamol.modality import Predictor
from mamol.model.predictor import MamolPredictor
from mamol.model.rules import by_pattern

log = logging.getLogger(__name__)
BLOCK_PX = 256


@dataclass(frozen=True)
class MapRequest:
    """What to map and how: `without` names modalities to ignore; `rim_px` is the model's window (0 for none).

    `identity` and `stride_px` name the model and its stride in the folder of finished blocks, so that others do not go on
    there; `model_files` are the files of the model, which no map may replace.
    """

    tile: str
    classes: Sequence[ClassInfo]
    without: Sequence[str] = ()
    rim_px: int = 16
    block_px: int = BLOCK_PX
    layers: Sequence[str] = DEFAULT
    area: Area | None = None
    overwrite: bool = False
    resume: bool = False
    identity: str = ""
    stride_px: int | None = None
    model_files: Sequence[Path] = ()


def map_tile(
    predictor: Predictor,
    reader: Reader,
    request: MapRequest,
    out: Path,
    engine: Engine = here,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MapPaths:
    """Write the map of one tile and return where its files are.

    Raises UnknownName for an unknown modality, tile or layer, AllModalitiesMissing if nothing is left to predict from,
    OutputExists, WriteFailed, UsageError for names that are taken (`check_names`), DataError for a scene that changes
    meanwhile, and what the reader raises, with the block's place. Finished blocks stay beside `out` then. A map that this
    very job has finished is left as it is by `resume`.
    """
    job = plan(predictor, reader, request)
    paths, document = MapPaths.beside(Path(out), job.made()), _document(job, request)
    check_names({request.tile: paths}, files_read(reader, [request]))
    if not _may_begin(paths, document, request):
        with suppress(UsageError):  # a folder of somebody else's
            if may_go_on(paths.blocks, document, resume=True, overwrite=True):
                remove_blocks(paths.blocks)
        progress(job.count(), job.count())
        return paths
    store = BlockStore(paths.blocks, document, request.resume, request.overwrite)
    progress(len(store.done), job.count())
    try:
        mapped = _compute(job, engine, store, progress)
    finally:
        if not store.done:  # nothing to go on from
            store.remove()
    _refuse_change(job, document)
    if not mapped:
        store.remove()
        without = f" without {', '.join(request.without)}" if request.without else ""
        raise AllModalitiesMissing(
            f"tile '{request.tile}' has no pixel with any of {', '.join(job.kept)}{without}"
            f"{' inside the area' if request.area else ''} for which the model has a class; nothing to map."
        )
    grid = Grid(*job.out_shape, job.place())
    experts = [e for e in predictor.expert_names() if e.startswith("dynamic")] if isinstance(predictor, MamolPredictor) else []
    layout = MapLayout(grid, request.classes, predictor.modalities, job.made(), experts, _digest(document))
    write_map(paths, layout, _stored(job, store), store.folder, request.overwrite)
    store.remove()
    return paths


def files_read(reader: Reader, requests: Iterable[MapRequest]) -> frozenset[Path]:
    """Return the local files that maps are made from, links followed: the scene's, the areas' and the models'."""
    return reader.files().union(
        (r.area.file for r in requests if r.area is not None), (f.resolve() for r in requests for f in r.model_files)
    )


def check_tile(predictor: Predictor, reader: Reader, request: MapRequest, out: Path) -> None:
    """Raise what `map_tile` would about files and blocks that are in the way, before any work; quick if there are none."""
    made = make_layers(request.layers, len(predictor.classes), len(predictor.modalities))
    paths = MapPaths.beside(Path(out), made)
    if any(os.path.lexists(p) for p in (*paths.all(), paths.blocks)):
        _may_begin(paths, _document(plan(predictor, reader, request), request), request)


def _may_begin(paths: MapPaths, document: Mapping[str, object], request: MapRequest) -> bool:
    """Tell whether there is anything to do; raises OutputExists and UsageError if what is there is not this job's."""
    if request.resume and is_finished(paths, _digest(document)):
        return False
    same = may_go_on(paths.blocks, document, request.resume, request.overwrite)
    try:
        refuse_taken(paths.all(), paths.blocks if same else None, request.overwrite)
    except OutputExists as error:
        if not request.resume:
            raise
        raise OutputExists(f"{error} It is not of this very job: model, scene, settings or the file itself differ.") from None
    return True


def plan(predictor: Predictor, reader: Reader, request: MapRequest) -> Job:
    """Check a request and return the job; raises as `map_tile`."""
    kept = check_without(predictor.modalities, request.without)
    if request.tile not in reader.tile_names:
        raise unknown("tile", request.tile, reader.tile_names)
    if request.block_px < 1 or (request.rim_px and request.block_px % request.rim_px):
        raise UsageError(f"block_px {request.block_px} must be a positive multiple of rim_px {request.rim_px}.")
    there = {m.name for m in reader.modalities}
    if not there & set(kept):
        raise AllModalitiesMissing(
            f"the scene has {', '.join(m.name for m in reader.modalities)}; the model can use {', '.join(kept)}: none in common. "
            "Name the scene's modalities as the model's."
        )
    make_layers(request.layers, len(predictor.classes), len(predictor.modalities))
    if "expert" in request.layers and not (
        isinstance(predictor, MamolPredictor) and by_pattern(predictor.model.config.experts, predictor.model.config.router)
    ):
        raise UsageError('the layer "expert" needs a MaMOL run whose router sees the pattern (router.input = "pattern").')
    height, width = reader.shape(request.tile)
    region = (0, 0, height, width)
    if request.area is not None:
        rows, columns = area_window(request.area, Grid(height, width, reader.georeference(request.tile)))
        step = max(request.rim_px, 1)  # the model's windows stay where they would be in a map of everything
        region = (rows.start // step * step, columns.start // step * step, rows.stop, columns.stop)
    return Job(
        predictor, reader, request.tile, kept, tuple(request.layers), request.rim_px, request.block_px, region, request.area
    )


def check_without(modalities: Sequence[str], without: Iterable[str]) -> tuple[str, ...]:
    """Return the modalities that remain; raises UnknownName, and AllModalitiesMissing if none does."""
    dropped = set(without)
    for name in sorted(dropped - set(modalities)):
        raise unknown("modality", name, modalities)
    kept = tuple(m for m in modalities if m not in dropped)
    if not kept:
        raise AllModalitiesMissing(f"--without names all of {', '.join(modalities)}; keep at least one.")
    return kept


def _compute(job: Job, engine: Engine, store: BlockStore, progress: Callable[[int, int], None]) -> bool:
    """Compute the blocks that are not done; return whether any pixel of the map has data."""
    total = job.count()
    left = (c for c in job.corners() if c not in store.done)
    with ThreadPoolExecutor(1, "mamol write") as writer:
        waiting: list[Future[None]] = []
        for corner, arrays in engine(job, left):
            waiting.append(writer.submit(store.write, corner, arrays))
            while len(waiting) > AHEAD:
                waiting.pop(0).result()
            progress(min(len(store.done) + len(waiting), total), total)
        for future in waiting:
            future.result()
    progress(total, total)
    return any(bool((_kept(job, store, c)["class"] > 0).any()) for c in job.corners())


def _kept(job: Job, store: BlockStore, corner: Corner) -> Arrays:
    """Return a finished block; one that was damaged on the disk is computed once more. Raises WriteFailed if it is again."""
    try:
        return store.read(corner)
    except WriteFailed:
        log.warning("the block at row %d, column %d was damaged on the disk; it is computed once more", *corner)
    store.write(corner, job.run(corner))
    return store.read(corner)


def _stored(job: Job, store: BlockStore) -> Iterator[tuple[Corner, Arrays]]:
    """Yield the blocks in order, with their corners counted from the map's."""
    top, left = job.region[:2]
    return (((y - top, x - left), _kept(job, store, (y, x))) for y, x in job.corners())


def _refuse_change(job: Job, document: Mapping[str, object]) -> None:
    """Raise DataError if what was read is not what it was at the start: blocks from before and after are no map."""
    for modality, digest in job.reader.identity(job.tile).items():
        if document.get(f"version of the {modality} data", digest) != digest:
            raise DataError(
                f"the {modality} data of tile '{job.tile}' were changed while they were mapped, so that a part of the map is of "
                "what they were before. Run again with --overwrite."
            )


def _digest(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _document(job: Job, request: MapRequest) -> dict[str, object]:
    """Return what makes two jobs one: only then may the second go on with the first's blocks."""
    area = hashlib.sha256(job.area.polygons.wkb + job.area.crs.encode()).hexdigest() if job.area is not None else None
    height, width = job.reader.shape(job.tile)
    place = job.reader.georeference(job.tile)
    read = job.reader.identity(job.tile)
    return {
        "mamol": metadata.version("mamol"),
        "model": request.identity,
        "stride": request.stride_px,
        "scene": job.reader.name,
        "tile": job.tile,
        "sensors": list(job.kept),
        "layers": sorted(job.made()),
        "block": job.block_px,
        "rim": job.rim_px,
        "region": list(job.region),
        "area": area,
        "grid": [height, width, place.crs, *map(float, place.transform)],
        "classes": [c.name for c in request.classes],
        **{f"version of the {m} data": read[m] for m in job.kept if m in read},
    }
