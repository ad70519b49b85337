"""Texts as arrays: the UTF-8 bytes of each, padded with zeros, so that a batch needs no tokenizer to travel.

["blue shirt", ""]  <->  (2, L) float32 of 98 108 117 101 32 ... 0 0 0
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mamol.errors import DataError


def encode_texts(texts: Sequence[str], length: int) -> np.ndarray:
    """Return the bytes of each text, float32 (n, length), cut before the character that no longer fits.

    Raises DataError for a text that holds a NUL character, which pads.
    """
    out = np.zeros((len(texts), length), dtype=np.float32)
    for i, text in enumerate(texts):
        if "\0" in text:
            raise DataError(f"text {i} holds a NUL character; remove it, it marks where a text ends.")
        # Cutting inside a character leaves bytes that do not decode; those are dropped.
        kept = text.encode("utf-8")[:length].decode("utf-8", errors="ignore").encode("utf-8")
        out[i, : len(kept)] = np.frombuffer(kept, dtype=np.uint8)
    return out


def decode_texts(values: np.ndarray) -> list[str]:
    """Return the texts behind (n, L); the inverse of `encode_texts`. Raises DataError for bytes that are no text."""
    rows = np.asarray(values).astype(np.uint8)
    try:
        return [bytes(row).rstrip(b"\0").decode("utf-8") for row in rows]
    except UnicodeDecodeError as error:
        raise DataError(f"a text modality holds bytes that are not UTF-8 ({error}); write it with encode_texts.") from error
