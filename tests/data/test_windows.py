"""Windows cover every pixel of every length, and blend weights are never zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamol.data.windows import blend_weight, starts
from mamol.errors import UsageError


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_every_pixel_is_covered_and_none_beyond(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    found = starts(length, window, stride)
    covered = np.zeros(max(length, window), dtype=int)
    for s in found:
        covered[s : s + window] += 1
        assert 0 <= s <= max(length - window, 0)
    assert covered[:length].min() >= 1
    assert found == sorted(set(found))
    assert len(found) == (1 if length <= window else -(-(length - window) // stride) + 1)


@pytest.mark.parametrize("window", [1, 2, 7, 16])
def test_weights(window: int) -> None:
    weight = blend_weight(window)
    assert weight.shape == (window, window)
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1, ::-1], rtol=1e-5)


@pytest.mark.parametrize("wrong", [(0, 4, 1), (4, 0, 1), (9, 4, 5), (9, 4, 0)])
def test_gaps_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        starts(*wrong)
