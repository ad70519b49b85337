"""WorldCereal Canada: a year per point, as three modalities and as four."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from present import here

from mamol.data.catalog import load_dataset
from mamol.data.dataset import SampleSet
from mamol.data.real.worldcereal import load_worldcereal
from mamol.data.split import make_split
from mamol.errors import FileMissing

NAMES = {
    "s1": ("VV", "VH"),
    "s2": ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12"),
    "aux": ("log_precipitation_mm", "temperature_2m", "elevation", "slope"),
    "weather": ("log_precipitation_mm", "temperature_2m"),
    "terrain": ("elevation", "slope"),
}


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="WorldCereal Canada table not found"):
        load_worldcereal(tmp_path)


@here("worldcereal-canada")
@pytest.mark.real
def test_weather_and_terrain_apart_are_the_same_samples() -> None:
    three, four = load_dataset("worldcereal-canada"), load_dataset("worldcereal-canada-4")
    assert isinstance(three, SampleSet)
    assert isinstance(four, SampleSet)
    assert (three.name, four.name) == ("worldcereal-canada", "worldcereal-canada-4")
    assert [m.name for m in three.modalities] == ["s1", "s2", "aux"]
    assert [(m.name, m.kind) for m in four.modalities] == [
        ("s1", "series"), ("s2", "series"), ("weather", "series"), ("terrain", "vector"),
    ]  # fmt: skip
    for m in (*three.modalities, *four.modalities):
        assert m.band_names == NAMES[m.name]
        assert (m.kind == "vector") == (m.name == "terrain") == (m.length == 1)
    assert len(three.labels) == 3104
    assert three.classes == four.classes
    np.testing.assert_array_equal(three.labels, four.labels)
    np.testing.assert_array_equal(three.groups, four.groups)
    before, after = three.samples.values, four.samples.values
    for m in ("s1", "s2"):
        np.testing.assert_array_equal(before[m], after[m])
        np.testing.assert_array_equal(three.samples.available[m], four.samples.available[m])
    np.testing.assert_array_equal(before["aux"][:, :2], after["weather"])
    for month in range(12):
        np.testing.assert_array_equal(before["aux"][:, 2:, month], after["terrain"])
    assert after["terrain"].shape == (3104, 2)
    assert four.samples.available["terrain"].shape == (3104,)
    assert all(np.isfinite(v).all() for v in after.values())
    np.testing.assert_array_equal(make_split(three).roles[0], make_split(four).roles[0])
