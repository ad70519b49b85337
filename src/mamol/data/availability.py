"""Frozen missing tables and holes in scenes (PROTOCOL.md section 3, `rate` and `pixel`).

A table says for each of n test places which modalities are there. It is a function of (n, modalities, rate, kind,
seed) alone, can be stored as a plain .npy and is named by its hash in every record.

    rate   the share of places that are incomplete, exact to one place
    kind   the modality that the incomplete ones lack, or "both": they share the incomplete patterns equally
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from mamol.data.dataset import Dataset, Scene, modality_names
from mamol.data.split import TRAIN, Split
from mamol.errors import DataError, UsageError, unknown
from mamol.files import atomic, must_exist
from mamol.modality import patterns
from mamol.seed import generator


def draw_rate_table(n: int, modalities: Sequence[str], rate: float, kind: str, seed: int) -> np.ndarray:
    """Draw which modalities each place has, bool (n, M), never empty; raises UsageError and UnknownName."""
    if not 0 <= rate <= 1:
        raise UsageError(f"a missing rate lies in 0..1; got {rate}.")
    if len(modalities) < 2 and rate > 0:
        raise UsageError(f"with one modality ({', '.join(modalities)}) nothing can go missing; use rate 0.")
    if kind != "both" and kind not in modalities:
        raise unknown("missing type", kind, [*modalities, "both"])
    incomplete = [p for p in patterns(modalities) if len(p) < len(modalities)]
    if kind != "both":
        incomplete = [tuple(m for m in modalities if m != kind)]
    table = np.ones((n, len(modalities)), dtype=bool)
    rng = generator(seed, f"rate {kind}", round(rate * 1000))
    chosen = rng.permutation(n)[: round(rate * n)]
    # Dealt out in turn to places in random order: equal shares, to within one.
    for i, present in enumerate(incomplete):
        table[chosen[i :: len(incomplete)]] = [m in present for m in modalities]
    return table


def hide_at_rate(dataset: Dataset, split: Split, rate: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """Make a share of the training samples, or of a scene's tiles that hold training labels, incomplete for good.

    Return the data set with what is hidden, and the frozen table (n, M) of those samples or tiles, of kind "both". What is
    not trained on stays as it is. Raises as `draw_rate_table`.
    """
    order = modality_names(dataset)
    if isinstance(dataset, Scene):
        rows = [i for i, role in enumerate(split.roles) if (role == TRAIN).any()]
        table = draw_rate_table(len(rows), order, rate, "both", seed)
        tiles = list(dataset.tiles)
        for i, kept in zip(rows, table, strict=True):
            there = {m: tiles[i].available[m] & k for m, k in zip(order, kept, strict=True)}
            tiles[i] = replace(tiles[i], available=there)
        return replace(dataset, tiles=tuple(tiles)), table
    chosen = np.flatnonzero(split.roles[0] == TRAIN)
    table = draw_rate_table(len(chosen), order, rate, "both", seed)
    available = {m: a.copy() for m, a in dataset.samples.available.items()}
    for column, m in zip(table.T, order, strict=True):
        available[m][chosen[~column]] = False
    return replace(dataset, samples=replace(dataset.samples, available=available)), table


def table_hash(table: np.ndarray) -> str:
    """Return the SHA-256 of a table's shape and bits."""
    return hashlib.sha256(str(table.shape).encode() + np.packbits(table).tobytes()).hexdigest()


def save_table(path: Path, table: np.ndarray) -> None:
    """Write a table as .npy, atomically."""
    with atomic(path) as partial, open(partial, "wb") as file:
        np.save(file, table, allow_pickle=False)


def load_table(path: Path, expected_hash: str | None = None) -> np.ndarray:
    """Read a table; raises DataError if it is not one or its hash is not the expected one."""
    must_exist(path, "missing table")
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a missing table ({error}).") from error
    if table.dtype != bool or table.ndim != 2:
        raise DataError(f"{path} holds {table.dtype} of shape {table.shape}; a missing table is bool (n, M).")
    if expected_hash is not None and table_hash(table) != expected_hash:
        raise DataError(f"{path} has hash {table_hash(table)[:12]}, expected {expected_hash[:12]}; it was changed.")
    return table


def cloud_mask(shape: tuple[int, int], coverage: float, seed: int, scale_px: float = 12.0) -> np.ndarray:
    """Draw clouds, bool (H, W), True where missing: smoothed noise cut at the quantile that gives `coverage` in [0, 1]."""
    if not 0 <= coverage <= 1:
        raise UsageError(f"coverage lies in 0..1; got {coverage}.")
    noise = ndimage.gaussian_filter(generator(seed, "cloud").standard_normal(shape), scale_px)
    order = noise.ravel().argsort()
    mask = np.zeros(noise.size, dtype=bool)
    mask[order[noise.size - round(coverage * noise.size) :]] = True
    return mask.reshape(shape)


def stripe_mask(shape: tuple[int, int], period_px: int, width_px: int) -> np.ndarray:
    """Make missing scan lines, bool (H, W): `width_px` rows out of every `period_px`."""
    if not 0 < width_px <= period_px:
        raise UsageError(f"stripes of {width_px} px every {period_px} px; the width must lie in 1..period.")
    return np.broadcast_to((np.arange(shape[0]) % period_px < width_px)[:, None], shape).copy()


def swath_mask(shape: tuple[int, int], coverage: float, angle_deg: float = 20.0) -> np.ndarray:
    """Make the missing side beyond a swath's edge, bool (H, W), covering `coverage` of the scene."""
    if not 0 <= coverage <= 1:
        raise UsageError(f"coverage lies in 0..1; got {coverage}.")
    rows, columns = np.indices(shape)
    across = columns * np.cos(np.deg2rad(angle_deg)) + rows * np.sin(np.deg2rad(angle_deg))
    return across > np.quantile(across, 1 - coverage) if coverage else np.zeros(shape, dtype=bool)
