"""Windows that cover every pixel of a raster of any size, and the weights that blend them.

    starts = 0, s, 2s, ..., L - w        the last one is moved back so that it ends at the border
    count  = ceil((L - w) / s) + 1       for L > w, else 1 (a raster smaller than a window is padded by the caller)

Ceil, not floor: the last window must reach the border even when the stride does not divide the rest.
"""

from __future__ import annotations

import numpy as np

from mamol.errors import UsageError


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return where the windows begin along one axis of `length` pixels; raises UsageError if they would leave gaps."""
    if length < 1 or window < 1:
        raise UsageError(f"length {length} and window {window} must be at least 1 pixel.")
    if not 1 <= stride <= window:
        raise UsageError(f"stride {stride} must lie in 1..{window} (the window), or pixels between windows get no class.")
    if length <= window:
        return [0]
    return sorted({min(s, length - window) for s in range(0, length - window + stride, stride)})


def blend_weight(window: int) -> np.ndarray:
    """Return weights (window, window), float32: a raised cosine with a floor, so that no pixel has weight zero."""
    ramp = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)
    axis = 0.05 + 0.95 * ramp
    return np.outer(axis, axis).astype(np.float32)
