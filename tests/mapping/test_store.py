"""Blocks on disk: whole or not there, and only of one job."""

from pathlib import Path

import numpy as np
import pytest

from mamol.errors import OutputExists, UsageError, WriteFailed
from mamol.mapping.store import BlockStore

JOB = {"tile": "t", "block": 8}


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "b", JOB, resume=False, overwrite=False)
    arrays = {"class": np.arange(6, dtype=np.uint8).reshape(1, 2, 3), "probability-float": np.full((2, 2, 3), np.nan, np.float32)}
    store.write((0, 8), arrays)
    again = BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False)
    assert again.done == {(0, 8)}
    for name, value in again.read((0, 8)).items():
        np.testing.assert_array_equal(value, arrays[name])
    again.remove()
    assert not (tmp_path / "b").exists()


def test_a_broken_block_is_not_done_and_one_that_breaks_later_is_said(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False)
    for corner in ((0, 0), (0, 8)):
        store.write(corner, {"class": np.zeros((1, 8, 8), np.uint8)})
    store.path((0, 0)).write_bytes(store.path((0, 0)).read_bytes()[:50])
    (tmp_path / "b" / ".4_4.partial.npz").write_bytes(b"half")
    assert BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False).done == {(0, 8)}
    store.path((0, 8)).write_bytes(b"PK")
    with pytest.raises(WriteFailed, match="row 0, column 8"):
        store.read((0, 8))


def test_another_jobs_folder_is_refused(tmp_path: Path) -> None:
    BlockStore(tmp_path / "b", JOB, resume=False, overwrite=False).write((0, 0), {"class": np.zeros((1, 8, 8), np.uint8)})
    with pytest.raises(OutputExists, match="--resume goes on"):
        BlockStore(tmp_path / "b", JOB, resume=False, overwrite=False)
    with pytest.raises(UsageError, match="another block"):
        BlockStore(tmp_path / "b", JOB | {"block": 16}, resume=True, overwrite=False)
    assert not BlockStore(tmp_path / "b", JOB, resume=False, overwrite=True).done
    (tmp_path / "b" / "job.json").write_text("{")
    with pytest.raises(UsageError, match="no folder of blocks"):
        BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False)
