"""Numpy archives: what is not there, not whole, or not the file it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mamol.data.arrays import read_arrays
from mamol.errors import DataError, FileMissing


def test_read_and_refuse(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(FileMissing, match=r"a\.npz"):
        read_arrays(path)
    np.savez(path, wave=np.arange(3), offset=np.zeros(2))
    assert read_arrays(path, ["wave"])["wave"].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"missing array in .*a\.npz: 'waves', 'x'; there is: offset, wave\. Rename 'wave'"):
        read_arrays(path, ["offset", "waves", "x"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="may be truncated"):
        read_arrays(path)
