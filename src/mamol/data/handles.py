"""The files of a scene: where they are, and handles on them that stay open.

A place is the text that GDAL opens: a file, a URL, a name in an archive. Opening costs as much as reading a window, and
GDAL keeps decoded blocks only while a file is open, so each thread keeps a few open. Before each use a local file is looked
at again (time, size, inode). A server's "not found" is FileMissing; everything else that goes wrong there is DataError,
because a sensor must not seem absent when a network is slow.
"""

from __future__ import annotations

import os
import re
import threading
import urllib.request
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT

from mamol.data.dataset import Georeference
from mamol.data.grid import Grid
from mamol.errors import DataError, FileMissing, MamolError, some
from mamol.files import denied, lies_there, sha256_file

NETWORK = re.compile(
    r"(?:^|[+/])(?:https?|ftp|s3|gs|az|oss)://|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?/"
)
ARCHIVE = re.compile(r"(zip|tar|gzip)://([^!]*)(?:!/?(.*))?$")
IN_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip)/)(?![/{])(.*)$")
PART = re.compile(r"(?i)(?:vrt|netcdf|hdf[45]\w*|gpkg|zarr|bag|s1\d\d|nitf_im|gtiff_dir|gtiff_raw|sentinel2_\w+):")
"""How GDAL's name of a part of a file begins, such as NETCDF:"a.nc":b."""
NOT_THERE = re.compile(r"HTTP (?:response|error) code(?: on .*)?: (?:404|410)\b|specified (?:key|blob) does not exist|NoSuchKey")
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_MAX_RETRY": "2",
    # Without this GDAL remembers a time-out as "there is no such file" for the rest of the process.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/:/vsioss/:/vsiswift/",
}
"""What GDAL is told about remote files, where neither the environment nor a surrounding `rasterio.Env` says it."""
HASH_LIMIT = 200_000_000
"""Files over this many bytes are named in the provenance by size and time, not by hash."""
HANDLES = 32
"""Files that one thread keeps open; past it the one not used for longest is closed."""


def as_place(path: str | Path) -> str:
    """Return a path as a place; a `Path` made of a URL has lost one of its two slashes."""
    return re.sub(r"(^|/)(https?|ftp|s3|gs|az|oss):/(?!/)", r"\1\2://", str(path)) if isinstance(path, Path) else path


def is_remote(place: str | Path) -> bool:
    """Tell whether a place lies behind a network (a URL, /vsicurl/, /vsis3/ and the like)."""
    return NETWORK.search(as_place(place)) is not None


def resolve(text: str, folder: Path) -> str:
    """Return the place that a path names: a URL or /vsi name as it stands, a local one relative to `folder`.

    Archives may be relative too: zip://a.zip!b.tif and /vsizip/a.zip/b.tif lead to the same place.
    """
    if found := ARCHIVE.match(text):
        kind, archive, inner = found.groups()
        return f"/vsi{kind}/{folder / archive}" + (f"/{inner}" if inner else "")
    if found := IN_ARCHIVE.match(text):
        return f"{found[1]}{folder / found[2]}"
    if text.startswith("file://"):
        return urllib.request.url2pathname(urlsplit(text).path)
    return text if is_remote(text) or text.startswith("/vsi") else str(folder / text)


def identify(place: str) -> tuple[int, ...]:
    """Return what changes when a local file, or the archive around it, does; () of a remote one. Raises FileMissing."""
    if is_remote(place):
        return ()
    try:
        stat = os.stat(_local_file(place))
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(f"raster not found: {place}. Check the path (it is taken relative to {Path.cwd()}).") from None
    except OSError as error:
        raise denied(place, error, "looked at") from error
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _local_file(place: str) -> Path:
    if not place.startswith("/vsi"):
        return Path(place)
    inner = Path(place.split("/", 2)[2])
    return next((p for p in (inner, *inner.parents) if p.is_file()), inner)


def file_of(name: str) -> str:
    """Return the file of a part that GDAL names so (NETCDF:"/data/a.nc":b), if it is there; any other name as it is."""
    texts = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|([^":]+)', name)] if PART.match(name) else []
    return next((t for t in texts if os.path.exists(t)), name)


def settings(place: str) -> AbstractContextManager[object]:
    """Return the context in which GDAL opens and reads a place."""
    if not is_remote(place):
        return nullcontext()
    given = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    return rasterio.Env(**{k: v for k, v in SETTINGS.items() if k not in given and k not in os.environ})


def refusal(place: str, error: BaseException) -> MamolError:
    """Build the error for a place that GDAL does not read: FileMissing where it says that nothing is there.

    A time-out, a refused connection, 403 and 5xx are DataError.
    """
    causes, link = [str(error)], error.__cause__ or error.__context__
    while link is not None and len(causes) < 4:
        causes.append(str(link))
        link = link.__cause__ or link.__context__
    said = "; ".join(dict.fromkeys(causes))
    if is_remote(place):
        if NOT_THERE.search(said):
            return FileMissing(f"raster not found: {place} ({said}). Check the address.")
        return DataError(f"{place} cannot be read ({said}). It may be there all the same: try again, check address and access.")
    if place.startswith("/vsi") and "does not exist" in said and not _broken_archive(place):
        return FileMissing(f"raster not found: {place}. Check the archive and the name in it.")
    if "Permission denied" in said:
        return DataError(f"{place} cannot be read ({said}); check the permissions.")
    return DataError(f"{place} cannot be read as a raster ({said}); it may be truncated. Get the file anew.")


def _broken_archive(place: str) -> bool:
    file = _local_file(place)
    return place.startswith("/vsizip/") and file.is_file() and not zipfile.is_zipfile(file)


@dataclass
class Handle:
    """An open raster, what its file looked like when it was opened, what it says of itself, and the views that warp it.

    `masked`: it has a mask of its own, or an alpha band.
    """

    raster: rasterio.DatasetReader
    identity: tuple[int, ...]
    grid: Grid
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    masked: bool
    views: dict[tuple[object, ...], WarpedVRT] = field(default_factory=dict)

    def dtype(self, bands: Sequence[int]) -> np.dtype:
        """Return the type that holds every value of some bands; raises DataError for complex ones."""
        names = {self.dtypes[b - 1] for b in bands}
        if any(n.startswith("complex") for n in names):
            raise DataError(f"{self.raster.name} holds complex values; write their amplitude, or two real bands.")
        return np.result_type(*names)

    def close(self) -> None:
        """Close the raster and its views."""
        while self.views:
            self.views.popitem()[1].close()
        self.raster.close()


_local, _inherited = threading.local(), list[object]()


def _handles() -> OrderedDict[str, Handle]:
    """Return the handles of this thread of this process, the one used last at the end. None is ever pickled or passed on."""
    if getattr(_local, "process", None) != os.getpid():
        # A forked child would share file positions, and GDAL's locks, with its parent: it begins with no open file, and
        # does not close the parent's.
        if hasattr(_local, "handles"):
            _inherited.append(_local.handles)
        _local.process, _local.handles = os.getpid(), OrderedDict()
    handles: OrderedDict[str, Handle] = _local.handles
    return handles


def _drop(place: str) -> None:
    if handle := _handles().pop(place, None):
        handle.close()


@contextmanager
def reading(place: str) -> Iterator[Handle]:
    """Yield this thread's handle of a raster, opened anew if its file has changed. Raises FileMissing, DataError."""
    handles = _handles()
    try:
        identity = identify(place)
    except FileMissing:
        _drop(place)
        raise
    with _told(place):
        handle = handles.get(place)
        if handle is None or handle.identity != identity:
            _drop(place)
            handle = handles[place] = _open(place, identity)
            while len(handles) > HANDLES:
                _drop(next(iter(handles)))
        handles.move_to_end(place)
        yield handle


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Give GDAL its settings, and turn its errors into ours."""
    with settings(place):
        try:
            yield
        except (RasterioError, CRSError) as error:
            _drop(place)
            raise refusal(place, error) from error


def _open(place: str, identity: tuple[int, ...]) -> Handle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        raster = rasterio.open(place if is_remote(place) or place.startswith("/vsi") else Path(place))
        if not raster.count:
            with raster:
                raise _no_bands(place, raster.subdatasets)
        crs = raster.crs.to_wkt() if raster.crs else ""
        grid = Grid(raster.height, raster.width, Georeference(crs, tuple(raster.transform)[:6]))
    masked = any(MaskFlags.per_dataset in flags for flags in raster.mask_flag_enums)
    return Handle(raster, identity, grid, raster.dtypes, raster.nodatavals, masked)


def _no_bands(place: str, parts: Sequence[str]) -> DataError:
    if not parts:
        return DataError(f"{place} holds no band; check the file.")
    advice = f"Make a file of one (`gdal_translate -of VRT '{parts[0]}' part.vrt`) and name that"
    return DataError(f"{place} holds {len(parts)} rasters ({some(parts)}), and none of its own. {advice}.")


@contextmanager
def open_raster(path: Path | str) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for reading; raises FileMissing, and DataError that names the file if it is broken."""
    place = as_place(path)
    with _told(place), _open(place, identify(place)).raster as raster:
        yield raster


def fingerprint(place: str) -> str:
    """Return the SHA-256 of a local file, or its size and time if it is large; a remote file is not read for it."""
    if is_remote(place) or place.startswith("/vsi"):
        return "not hashed: no plain file"
    try:
        stat = os.stat(place)
        return sha256_file(Path(place)) if stat.st_size <= HASH_LIMIT else f"{stat.st_size} bytes, {stat.st_mtime_ns}"
    except PermissionError as error:
        raise denied(place, error) from error


def is_there(place: str) -> bool:
    """Tell whether a file is there; raises DataError if a server, or the system, does not say so (anything but "not found")."""
    if not place.startswith("/vsi") and not is_remote(place):
        return lies_there(place)
    if is_remote(place):
        _drop(place)  # a handle from before does not know whether the file is still there
    try:
        with reading(place):
            return True
    except FileMissing:
        return False
