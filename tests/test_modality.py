"""Batches and patterns."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from mamol.errors import ShapeMismatch, UnknownName, UsageError
from mamol.modality import AXES, Batch, Modality, patterns


def batch() -> Batch:
    values = {"a": np.zeros((3, 2, 4, 4), np.float32), "b": np.zeros((3, 5), np.float32)}
    return Batch(values, {"a": np.ones((3, 4, 4), bool), "b": np.array([True, False, True])})


def test_all_patterns_the_full_one_first() -> None:
    found = patterns("abc")
    assert len(found) == len(set(found)) == 7
    assert found[0] == ("a", "b", "c")
    assert found[-1] == ("c",)


def test_only_hides_and_pattern_tells() -> None:
    assert batch().pattern(["b", "a"]).tolist() == [[True, True], [False, True], [True, True]]
    assert batch().only(["b"]).pattern(["a", "b"]).tolist() == [[False, True], [False, False], [False, True]]
    assert len(batch().take(np.array([0, 2]))) == 2
    with pytest.raises(UnknownName):
        batch().only(["c"])
    with pytest.raises(UsageError, match=r"present is a list of texts, such as present=\['s1'\]; got 'b'"):
        batch().only("b")
    assert len(Batch({}, {})) == 0


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeMismatch, match=r"\(3, 5\) and availability of shape \(2,\)"):
        Batch({"b": np.zeros((3, 5))}, {"b": np.ones(2, bool)})
    with pytest.raises(UsageError, match="0 bands"):
        Modality("x", 0)


@pytest.mark.parametrize("name", ["", " ", "era5.t2m", "a/b", "s1+s2"])
def test_a_name_that_would_not_stay_one_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot name a modality.*use '_' instead") as refused:
        Modality(name, 1)
    assert repr(name) in str(refused.value)
    assert Modality("s2 10m", 1).name == "s2 10m"


def test_band_names_are_one_per_band_and_old_documents_still_match() -> None:
    with pytest.raises(UsageError, match="2 bands and 1 band names; give one per band or none"):
        Modality("s1", 2, band_names=("VV",))
    named = Modality("s1", 2, "series", 10.0, "dB", 12, ("VV", "VH"))
    document = TypeAdapter(Modality)
    again = document.validate_json(document.dump_json(named))
    assert (again, again.band_names) == (named, ("VV", "VH"))
    # As written before there were band names, the backbone folder of this sensor must still be one for it.
    old = document.validate_python({"name": "s1", "bands": 2, "kind": "series", "gsd_m": 10.0, "unit": "dB", "length": 12})
    assert old == named
    assert old.band_names == ()
    assert old != Modality("s1", 3, "series", 10.0, "dB", 12)


def test_a_text_is_one_row_of_bytes_per_sample() -> None:
    assert AXES["text"] == 2
    assert TypeAdapter(Modality).validate_python({"name": "t", "bands": 40, "kind": "text"}).kind == "text"
    one = Batch({"t": np.zeros((3, 40), np.float32)}, {"t": np.ones(3, bool)})
    assert one.pattern(["t"]).all()
    with pytest.raises(ShapeMismatch, match=r"\(3, 40\)"):
        Batch({"t": np.zeros((3, 40), np.float32)}, {"t": np.ones((3, 40), bool)})
