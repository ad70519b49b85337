"""Records: complete, never overwritten, refused when they are not records."""

from pathlib import Path

import pytest

from mamol.errors import DataError, OutputExists
from mamol.evaluate.record import KEYS, make_record, read_record, write_record


def test_round_trip(tmp_path: Path) -> None:
    record = make_record("forest", {"trees": 3}, {"mean_oa": 1.0}, {"a": "b"}, 1.23, "make bench")
    assert set(record) == set(KEYS)
    assert record["environment"]["packages"]["torch"]
    path = tmp_path / "sub" / "r.json"
    write_record(path, record)
    assert read_record(path) == record
    with pytest.raises(OutputExists):
        write_record(path, record)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"record": 9}'])
def test_not_a_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        read_record(path)
