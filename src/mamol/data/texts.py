"""Texts as arrays: the UTF-8 bytes of each, padded with zeros, so that a batch needs no tokenizer to travel.

["blue shirt", ""]  <->  (2, L) float32 of 98 108 117 101 32 ... 0 0 0

NUL pads and so cannot be part of a text. float32 holds every byte exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mamol.errors import DataError


def encode_texts(texts: Sequence[str], length: int) -> np.ndarray:
    """Return the bytes of each text, float32 (n, length), cut before the character that no longer fits.

    Raises DataError for a text that holds a NUL character, which pads, or half a surrogate pair, which UTF-8 has not.
    """
    out = np.zeros((len(texts), length), dtype=np.float32)
    for i, text in enumerate(texts):
        if "\0" in text:
            raise DataError(f"text {i} holds a NUL character; remove it, it marks where a text ends.")
        try:
            whole = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"text {i} cannot be written as UTF-8 ({error}); remove that character.") from error
        # Cutting inside a character leaves bytes that do not decode; those are dropped.
        kept = whole[:length].decode("utf-8", errors="ignore").encode("utf-8")
        out[i, : len(kept)] = np.frombuffer(kept, dtype=np.uint8)
    return out


def decode_texts(values: np.ndarray) -> list[str]:
    """Return the texts behind (n, L), the inverse of `encode_texts`; raises DataError for what is no padded UTF-8."""
    found = np.asarray(values)
    with np.errstate(invalid="ignore"):  # NaN is said in words below
        rows = found.astype(np.uint8)
    strange = found[rows != found]
    if strange.size:
        raise DataError(f"a text modality holds {strange[0]}, which is no byte (0 to 255); write it with encode_texts.")
    texts = []
    for i, row in enumerate(rows):
        kept = bytes(row).rstrip(b"\0")
        if b"\0" in kept:
            raise DataError(f"text {i} goes on after a NUL byte; zeros only pad. Write it with encode_texts.")
        try:
            texts.append(kept.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"text {i} is not UTF-8 ({error}); write it with encode_texts.") from error
    return texts


def decoded(value: object, where: str) -> object:
    """Return bytes, as numpy and HDF5 keep names, as text, and anything else as it is; raises DataError for what is no UTF-8."""
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise DataError(f"{where} hold {error.object!r}, which is not UTF-8; decode it from the encoding that it has.") from error


def without_bytes(values: np.ndarray, where: str) -> np.ndarray:
    """Return an array with each of its bytes `decoded`."""
    if values.dtype.kind not in "OS":
        return values
    return np.fromiter((decoded(v, where) for v in values.ravel()), dtype=object, count=values.size).reshape(values.shape)
