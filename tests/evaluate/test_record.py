"""Records: complete, never overwritten, refused when they are not records."""

import subprocess
from pathlib import Path

import pytest

from mamol.errors import DataError, OutputExists
from mamol.evaluate import record
from mamol.evaluate.record import KEYS, make_record, read_record, write_record


def test_round_trip(tmp_path: Path) -> None:
    made = make_record("forest", {"trees": 3}, {"mean_oa": 1.0}, {"a": "b"}, 1.23, "make bench")
    assert set(made) == set(KEYS)
    assert made["environment"]["packages"]["torch"]
    path = tmp_path / "sub" / "r.json"
    write_record(path, made)
    assert read_record(path) == made
    with pytest.raises(OutputExists):
        write_record(path, made)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"record": 9}'])
def test_not_a_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        read_record(path)


def test_an_installed_package_has_no_commit_of_the_repository_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    installed = tmp_path / ".venv" / "mamol" / "evaluate" / "record.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    (tmp_path / "own.txt").touch()
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(tmp_path), "add", "own.txt"], check=True)
    subprocess.run(["git", "-C", str(tmp_path), *own, "commit", "-q", "-m", "own"], check=True)
    monkeypatch.setattr(record, "__file__", str(installed))
    assert record.environment()["commit"] is None
    subprocess.run(["git", "-C", str(tmp_path), "add", "-f", str(installed)], check=True)
    assert record.environment()["commit"].endswith("+")
