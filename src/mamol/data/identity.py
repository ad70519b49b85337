"""Tell whether what a scene is read from is still the same, without reading it.

    files    places, nodata, scale, bands, masks, and each file's size and time; of a URL its address
    arrays   shapes, types and a checksum

The digests only ever are compared: two that differ are two scenes, or one before and after a change.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from mamol.data.handles import file_of, identify, is_remote, reading
from mamol.data.spec import Mask, SceneSpec, Source
from mamol.errors import DataError, FileMissing
from mamol.files import by_itself, lies_there


def identify_sources(sources: Sequence[Source], mask: Mask | None) -> str:
    """Return a digest of the files of a modality in one tile: where they are, how they are read, their sizes and times.

    Raises FileMissing and DataError for a file that is gone or no raster.
    """
    parts = [(replace(s, place=_absolute(s.place)), _stamps(s.place)) for s in sources]
    covered = None if mask is None else (replace(mask, place=_absolute(mask.place)), _stamps(mask.place))
    return hashlib.sha256(repr((parts, covered)).encode()).hexdigest()


def identify_arrays(values: np.ndarray, available: np.ndarray) -> str:
    """Return shapes, types and checksums of a modality in memory."""
    arrays = (values, available)
    return ", ".join(f"{a.dtype}{a.shape} {zlib.crc32(np.ascontiguousarray(a).view(np.uint8).data):08x}" for a in arrays)


def scene_files(spec: SceneSpec, tile: str, assets: Mapping[str, Source]) -> list[Path]:
    """Return the local files that a description names for a tile, there or not; `assets` are the STAC item's.

    Of a VRT also the files that it is made of; one that cannot be read names none, which is said when it is read.
    """
    found = [spec.files(tile, m, assets) for m in spec.modalities]
    places = [s.place for sources, _ in found for s in sources] + [mask.place for _, mask in found if mask is not None]
    labels = spec.labels
    named = [spec.groups, *((labels.path, labels.train, labels.test, labels.split) if labels is not None else ())]
    places += [spec.place(text, tile) for text in named if text is not None]
    if spec.stac is not None:  # in a scene.toml it is relative to that; a document that is opened itself is as it was given
        inside = spec.place(spec.stac, tile)
        places.append(inside if os.path.exists(inside) else spec.stac)
    local = [p for p in places if _is_local(p)]
    for place in local:  # which grows: a VRT may be made of others
        if place.lower().endswith(".vrt"):
            with suppress(FileMissing, DataError):
                local += sorted(set(filter(_is_local, _parts(place))) - set(local))
    return [Path(_absolute(p)) for p in local]


def _is_local(place: str) -> bool:
    return not place.startswith("/vsi") and not is_remote(place)


def _absolute(place: str) -> str:
    """Return a local file's place as it is from every folder."""
    return os.path.realpath(place) if _is_local(place) else place


def _parts(place: str) -> list[str]:
    """Return the other files that a raster is made of (of a VRT), without what a viewer writes beside it.

    What that changes of the raster is asked of the raster itself.
    """
    with reading(place) as handle:
        return sorted(file_of(f) for f in handle.raster.files if f != place and not by_itself(f))


def _stamps(place: str) -> list[object]:
    """Return what a raster's file and the files that it is made of (of a VRT) look like now."""
    if is_remote(place):
        return []
    found: list[object] = [identify(place)[:2]]
    if place.lower().endswith(".mat"):
        return found
    with reading(place) as handle:
        found += [handle.grid, handle.dtypes, [str(v) for v in handle.nodata]]
    return found + [(_absolute(f), identify(f)[:2]) for f in _parts(place) if not _is_local(f) or lies_there(f)]
