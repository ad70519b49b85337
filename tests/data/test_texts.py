"""Texts come back from their bytes, whole or cut between characters; what is no text is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamol.data.texts import decode_texts, encode_texts
from mamol.errors import DataError

TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12), max_size=5)


@given(TEXTS)
def test_round_trip(texts: list[str]) -> None:
    length = max((len(t.encode()) for t in texts), default=1)
    values = encode_texts(texts, length)
    assert values.shape == (len(texts), length)
    assert values.dtype == np.float32
    assert decode_texts(values) == decode_texts(values.astype(np.uint8)) == texts


@given(TEXTS, st.integers(1, 20))
def test_a_text_too_long_is_cut_before_the_character_that_no_longer_fits(texts: list[str], length: int) -> None:
    for whole, cut in zip(texts, decode_texts(encode_texts(texts, length)), strict=True):
        assert whole.startswith(cut)
        assert len(cut.encode()) <= length
        assert cut == whole or len(whole[: len(cut) + 1].encode()) > length


def test_bytes_as_they_lie() -> None:
    assert encode_texts(["aé", ""], 4).tolist() == [[97, 0xC3, 0xA9, 0], [0, 0, 0, 0]]
    assert encode_texts(["aé"], 2).tolist() == [[97, 0]]


@pytest.mark.parametrize(("text", "says"), [("a\0b", "text 1 holds a NUL"), ("\ud800", "text 1 cannot be written as UTF-8")])
def test_what_cannot_be_bytes(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        encode_texts(["fine", text], 8)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([[97.0, np.nan]], "holds nan, which is no byte"),
        ([[97.5, 0.0]], r"holds 97\.5"),
        ([[97.0, -1.0]], r"holds -1\.0"),
        ([[300.0, 0.0]], r"holds 300\.0"),
        ([[97.0, 0.0], [0.0, 97.0]], "text 1 goes on after a NUL"),
        ([[97.0, 0.0], [0xC3, 0.0]], "text 1 is not UTF-8"),
    ],
)
def test_what_is_no_text(values: list[list[float]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        decode_texts(np.array(values, dtype=np.float32))
