"""Blocks on disk: whole or not there, and only of one job."""

from pathlib import Path

import numpy as np
import pytest

from mamol.errors import OutputExists, UsageError, WriteFailed
from mamol.mapping.store import BlockStore

JOB = {"tile": "t", "block": 8, "layers": ["class"]}


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


def test_a_damaged_block_is_taken_away_and_so_is_one_without_a_layer(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False)
    for corner in ((0, 0), (0, 8), (0, 16)):
        store.write(corner, {"class": np.full((1, 8, 8), 7, np.uint8)})
    whole = store.path((0, 0)).read_bytes()
    store.path((0, 0)).write_bytes(whole.replace(bytes([7] * 64), bytes([7] * 63 + [6])))  # a bit, not the length
    np.savez(store.path((0, 8)), pattern=np.zeros((1, 8, 8), np.uint8))
    assert BlockStore(tmp_path / "b", JOB, resume=True, overwrite=False).done == {(0, 16)}
    store.path((0, 16)).write_bytes(whole[:100])
    with pytest.raises(WriteFailed, match="column 16"):
        store.read((0, 16))
    assert not store.path((0, 16)).exists()  # so that the advice, --resume, helps
    assert (0, 16) not in store.done


def test_a_folder_that_is_not_ours_is_never_cleared(tmp_path: Path) -> None:
    def refused(match: str, **how: bool) -> None:
        with pytest.raises(UsageError, match=match):
            BlockStore(tmp_path / "b", JOB, **({"resume": False, "overwrite": False} | how))

    folder = tmp_path / "b"
    BlockStore(folder, JOB, resume=False, overwrite=False).write((0, 0), {"class": np.zeros((1, 8, 8), np.uint8)})
    (folder / "thesis.doc").write_text("mine")
    for how in ({"overwrite": True}, {"resume": True}, {"resume": True, "overwrite": True}):
        refused("no folder of blocks: it holds thesis.doc", **how)
    assert {p.name for p in folder.iterdir()} == {"job.json", "0_0.npz", "thesis.doc"}
    (folder / "thesis.doc").unlink()
    (folder / "job.json").write_text("[1]")
    refused("its job.json is not one of ours", overwrite=True)
    (folder / "job.json").unlink()
    refused(r"it has no job\.json", overwrite=True)
    (tmp_path / "link").mkdir()
    folder.rename(tmp_path / "c")
    folder.symlink_to(tmp_path / "link")
    refused("a link or a file", overwrite=True)


def test_with_resume_and_overwrite_another_jobs_blocks_give_way_and_half_written_ones_go(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "b", JOB, resume=False, overwrite=False)
    store.write((0, 0), {"class": np.zeros((1, 8, 8), np.uint8)})
    (tmp_path / "b" / ".0_8.0123abcd.partial.npz").write_bytes(b"half")
    (tmp_path / "b" / ".DS_Store").touch()
    (tmp_path / "b" / "files").mkdir()
    (tmp_path / "b" / "files" / "class.tif").write_bytes(b"half")
    assert BlockStore(tmp_path / "b", JOB, resume=True, overwrite=True).done == {(0, 0)}
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"job.json", "0_0.npz", ".DS_Store"}
    assert not BlockStore(tmp_path / "b", JOB | {"block": 16}, resume=True, overwrite=True).done
    (tmp_path / "c").mkdir()  # killed before the job was written down
    assert not BlockStore(tmp_path / "c", JOB, resume=True, overwrite=False).done
