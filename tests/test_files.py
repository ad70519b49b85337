"""Whole or not at all."""

import itertools
import os
from collections.abc import Callable, Container
from pathlib import Path

import pytest

from locked_made import lock
from mamol.errors import DataError, FileMissing, OutputExists, WriteFailed
from mamol.files import atomic, lies_there, must_exist, must_not_exist, read_text, sha256_file, write_json, write_text


def test_a_file_and_a_folder_appear_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"
    for word in ("one", "two"):
        with atomic(tmp_path / "f", ours=("one", "t*")) as partial:
            partial.mkdir()
            (partial / word).write_text(word)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["two"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "f"]


def test_a_folder_is_replaced_only_if_it_holds_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "f" / "one", "old")
    write_text(tmp_path / "f" / "thesis.docx", "years of work")
    for ours in ((), ("one", "two")):
        with pytest.raises(OutputExists, match=r"f holds .*thesis\.docx.*Choose another name"), atomic(tmp_path / "f", ours=ours):
            pytest.fail("nothing is to be made")
    with pytest.raises(OutputExists, match=r"thesis\.docx"):
        must_not_exist(tmp_path / "f", overwrite=True, ours=("one",))
    assert (tmp_path / "f" / "thesis.docx").read_text() == "years of work"
    (tmp_path / "f" / "thesis.docx").unlink()
    must_not_exist(tmp_path / "f", overwrite=True, ours=("one",))

    def late() -> None:
        with atomic(tmp_path / "f", ours=("one",)) as partial:
            partial.mkdir()
            write_text(tmp_path / "f" / "thesis.docx", "put there meanwhile")

    with pytest.raises(OutputExists, match=r"thesis\.docx"):
        late()
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["one", "thesis.docx"]


def test_the_folder_that_one_stands_in_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").mkdir()
    monkeypatch.chdir(tmp_path / "f")
    for word in ("one", "two"):
        with atomic(Path(), ours=("one", "two")) as partial:
            partial.mkdir()
            (partial / word).write_text(word)
        assert (Path.cwd() / word).read_text() == word  # it is still the folder that the shell stands in
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert [p.name for p in Path().iterdir()] == ["two"]


def replace_but_for(failing: Container[int], error: BaseException) -> Callable[[Path, Path], None]:
    """Return os.replace, but that its calls of these numbers, from 1, fail."""
    calls, move = itertools.count(1), os.replace

    def replace(source: Path, target: Path) -> None:
        if next(calls) in failing:
            raise error
        move(source, target)

    return replace


@pytest.mark.parametrize("failing", [2, 4], ids=["while the old is put aside", "while the new is put in"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_folder_that_cannot_be_refilled_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    for name in ("one", "two"):
        write_text(tmp_path / "f" / name, "old")

    def refill() -> None:
        with atomic(tmp_path / "f", ours=("one", "two", "three")) as partial:
            partial.mkdir()
            for name in ("two", "three"):
                (partial / name).write_text("new")
            monkeypatch.setattr(os, "replace", replace_but_for({failing}, error))

    with pytest.raises(WriteFailed if isinstance(error, OSError) else KeyboardInterrupt):
        refill()
    assert {p.name: p.read_text() for p in (tmp_path / "f").iterdir()} == {"one": "old", "two": "old"}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_files_that_cannot_be_put_back_are_said_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write_text(tmp_path / "f" / name, "old")

    def refill() -> None:
        with atomic(tmp_path / "f", ours=("one", "two")) as partial:
            partial.mkdir()
            monkeypatch.setattr(os, "replace", replace_but_for(range(2, 99), OSError(5, "Input/output error")))

    with pytest.raises(WriteFailed, match=r"Input/output error.*old files are in .*\.f\."):
        refill()
    assert sorted(p.name for p in tmp_path.glob("*/*")) == ["one", "two"]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", ".nfs0000001", "one.tif.aux.xml", "one.tif.ovr"])
def test_what_a_system_or_a_viewer_left_hinders_no_overwriting(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / "f" / "one.tif", "old")
    write_text(tmp_path / "f" / name, "by itself")
    must_not_exist(tmp_path / "f", overwrite=True, ours=("one.tif",))
    with atomic(tmp_path / "f", ours=("one.tif",)) as partial:
        partial.mkdir()
        (partial / "one.tif").write_text("new")
    assert {p.name: p.read_text() for p in (tmp_path / "f").iterdir()} == {"one.tif": "new"}


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "t.txt"
    write_text(target, "old")

    def stopped() -> None:
        with atomic(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(WriteFailed, match="No space left"), atomic(target):
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t.txt"]


def test_refusals(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(OutputExists, match=r"overwrite=True \(--overwrite on the command line\)"):
        write_json(tmp_path / "a.json", {}, overwrite=False)
    with pytest.raises(OutputExists, match=r"choose another name\.$"):
        must_not_exist(tmp_path / "a.json", overwrite=None)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
    assert len(sha256_file(tmp_path / "a.json")) == 64


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(WriteFailed, match=r"could not write .*a\.txt"):
            write_text(path, "y")


def test_a_file_has_the_rights_of_any_new_file_whoever_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    usual = (tmp_path / "any").stat().st_mode
    with atomic(tmp_path / "f") as partial:
        partial.touch(0o600)
    with atomic(tmp_path / "folder") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "f").touch(0o600)
    assert [(tmp_path / f).stat().st_mode for f in ("f", "folder/deep/f")] == [usual, usual]


def test_what_may_not_be_looked_at_is_neither_there_nor_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a" / "b.txt", "x")
    assert [lies_there(p) for p in (tmp_path / "a" / "b.txt", tmp_path / "c", tmp_path / "a" / "b.txt" / "c")] == [
        True,
        False,
        False,
    ]
    assert read_text(tmp_path / "a" / "b.txt") == "x"
    with pytest.raises(FileMissing, match=r"table not found: .*c"):
        must_exist(tmp_path / "c", "table")
    lock(monkeypatch, tmp_path / "a")
    for look in (lies_there, read_text, lambda path: must_exist(path, "table")):
        with pytest.raises(DataError, match=r"b\.txt cannot be .*Permission denied.*check the permissions"):
            look(tmp_path / "a" / "b.txt")
