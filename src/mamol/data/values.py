"""What a file's numbers mean: scaled to float32, and which of them are no values.

A number is missing where it is nodata, NaN or infinite, and where its size is LARGEST or more: no sensor measures that,
but files that forget to declare their nodata (1e20, 1e30, -3.4e38) hold it. One of those in a window, and the model's
sums overflow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mamol.data.spec import Source
from mamol.errors import DataError

log = logging.getLogger(__name__)
LARGEST = 1e20


def is_measured(values: np.ndarray) -> np.ndarray:
    """Return where numbers are finite and below LARGEST in size, bool of the same shape."""
    return (values > -LARGEST) & (values < LARGEST)  # neither is true of NaN


def measured_only(values: np.ndarray, available: np.ndarray, modality: str, where: str, bands: int = 0) -> np.ndarray:
    """Return `available` without the places at which a value is no measured one, in any band; warn of large ones.

    `bands` is the axis of the bands in `values`, which `available` lacks: 0 of a tile (C, h, w), 1 of samples (n, C, ...).
    """
    measured = is_measured(values)
    if measured.all():
        return available
    if bool((available & (~measured & ~np.isnan(values)).any(axis=bands)).any()):
        warn_large(modality, where)
    return available & measured.all(axis=bands)


@lru_cache(maxsize=1024)
def warn_large(modality: str, where: str) -> None:
    """Say once in a process that values of a modality are too large to be measured ones."""
    log.warning(
        "modality '%s' of %s holds values of %g or more, or infinite ones; they count as missing. Declare them as nodata.",
        modality, where, LARGEST,
    )  # fmt: skip


def take(raw: np.ndarray, nodata: Sequence[float | None], source: Source, out: np.ndarray, modality: str = "?") -> np.ndarray:
    """Write raw values (C, h, w), scaled, to `out`, and return where all are valid. A band at a time: it stays in cache.

    `modality` is named in the warning about values that are too large.
    """
    count = len(raw) // 2 if source.resampling == "mean_std" else len(raw)
    scale, offset = list(each_band(source.scale, count, source)), list(each_band(source.offset, count, source))
    if count < len(raw):  # a standard deviation is scaled but not moved
        scale, offset = scale + [abs(s) for s in scale], offset + [0.0] * count
    # Up to 16 bits, integers are exact in float32; wider ones are scaled before they are rounded.
    wide = np.result_type(raw.dtype, np.float32) != np.float32
    there = np.ones(raw.shape[1:], dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for band, missing, s, o, target in zip(raw, nodata, scale, offset, out, strict=True):
            if missing is not None:
                there &= differs(band, missing)
            if raw.dtype.kind == "f":
                there = measured_only(band[None], there, modality, source.place)
            if (s, o) != (1, 0):
                target[...] = band * s + o if wide else np.add(np.multiply(band, s, out=target, dtype=np.float32), o, out=target)
            elif band is not target:
                target[...] = band
            if (s, o) != (1, 0):
                there = measured_only(target[None], there, modality, source.place)
    return there


def with_holes(
    raw: np.ndarray, nodata: Sequence[float | None], seen: np.ndarray | None, dtype: str, modality: str, where: str
) -> np.ndarray:
    """Return raw values (C, h, w) as floats of a type, NaN where one is missing; warns of large ones.

    `seen` is what the file's own mask says, bool (h, w), None without one.
    """
    cube = raw.astype(dtype)
    for band, own, missing in zip(cube, raw, nodata, strict=True):
        there = np.ones(own.shape, dtype=bool) if seen is None else seen.copy()
        if missing is not None:
            with np.errstate(over="ignore"):  # in the file's own type, to which a nodata such as -99.9 is rounded
                there &= differs(own, missing)
        if own.dtype.kind == "f":
            there = measured_only(own[None], there, modality, where)
        band[~there] = np.nan
    return cube


def differs(band: np.ndarray, nodata: float) -> np.ndarray:
    """Return where a band is not nodata (NaN is for others to find)."""
    if band.dtype.kind != "f":
        whole = float(nodata).is_integer() and np.iinfo(band.dtype).min <= nodata <= np.iinfo(band.dtype).max
        return band != int(nodata) if whole else np.ones(band.shape, dtype=bool)
    if not abs(nodata) > 1e30:
        return band != nodata
    # A float32 file's nodata may be written with other digits than its pixels hold.
    return (band < min(nodata * 0.999999, nodata * 1.000001)) | (band > max(nodata * 0.999999, nodata * 1.000001))


def each_band(values: tuple[Any, ...], count: int, source: Source) -> tuple[Any, ...]:
    """Return one entry per band."""
    if len(values) not in (1, count):
        raise DataError(f"{source.place} gives {count} bands, but its STAC item describes {len(values)}; mend the item.")
    return values * count if len(values) == 1 else values
