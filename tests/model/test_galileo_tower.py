"""How a data set's bands reach Galileo: NDVI that is given, static bands that were seen late, one time axis."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from made import tiny_config
from mamol.errors import ConfigError, ShapeMismatch
from mamol.modality import Modality
from mamol.model import galileo_tower
from mamol.model.galileo import Galileo, GalileoConfig
from mamol.model.galileo_inputs import SPACE_TIME_BANDS, SPACE_TIME_GROUPS, GalileoInput
from mamol.model.galileo_tower import GalileoTower
from mamol.model.galileo_weights import PARTS

SIZES = {"embedding_size": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "max_sequence_length": 6, "max_patch_size": 2}
NDVI_BAND, NDVI_GROUP = SPACE_TIME_BANDS.index("NDVI"), list(SPACE_TIME_GROUPS).index("NDVI")
VISIBLE = Modality("visible", 3, "series", unit="reflectance", length=3, band_names=("B2", "B3", "B4"))
INFRARED = Modality("infrared", 1, "series", unit="reflectance", length=3, band_names=("B8",))
INDEX = Modality("index", 1, "series", unit="reflectance", length=3, band_names=("NDVI",))
PEOPLE = Modality("people", 1, "series", length=3, band_names=("LS",))


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a tiny random model, and statistics that leave values as they are, in the place of Galileo's own."""
    plain = {p: (torch.zeros(len(bands)), torch.ones(len(bands))) for p, bands in PARTS.items()}
    monkeypatch.setattr(galileo_tower, "load_galileo", lambda: Galileo(GalileoConfig(**SIZES)).eval())
    monkeypatch.setattr(galileo_tower, "galileo_statistics", lambda: plain)


def tower_of(*modalities: Modality) -> GalileoTower:
    return GalileoTower(modalities, tiny_config(backbone={"kind": "galileo-nano"}), is_scene=False)


def fed(*parts: tuple[Modality, Sequence[float], Sequence[bool]]) -> GalileoInput:
    """Return what Galileo gets for one sample of series: each modality with a value (of all bands) and a mask per step."""
    values = {m.name: torch.tensor(v).expand(1, m.bands, -1) for m, v, _ in parts}
    return tower_of(*(m for m, *_ in parts)).inputs(values, {m.name: torch.tensor([seen]) for m, _, seen in parts}, 1)


def test_a_given_ndvi_counts_where_it_does_not_follow_from_both_bands() -> None:
    infrared, red = [0.3, 0.3, 0.3], [0.1, 0.1, 0.1]
    found = fed(
        (VISIBLE, red, [True, True, False]), (INFRARED, infrared, [True] * 3), (INDEX, [0.9, 0.8, 0.7], [True, False, True])
    )
    ndvi, seen = found.space_time[0, 0, 0, :, NDVI_BAND], found.keep_space_time[0, 0, 0, :, NDVI_GROUP]
    assert seen.tolist() == [True, True, True]
    torch.testing.assert_close(ndvi, torch.tensor([0.5, 0.5, 0.7]))
    alone = fed((INDEX, [0.9, 0.8, 0.7], [True, False, True]))
    assert alone.keep_space_time[0, 0, 0, :, NDVI_GROUP].tolist() == [True, False, True]


def test_a_static_band_is_read_where_it_was_first_seen() -> None:
    for mask, expected in (([True] * 3, 5.0), ([False, True, True], 6.0), ([False, False, True], 7.0)):
        found = fed((PEOPLE, [5.0, 6.0, 7.0], mask))
        assert found.static[0, 0] == expected
        assert found.keep_static[0, 0]
    assert not fed((PEOPLE, [5.0, 6.0, 7.0], [False] * 3), (INDEX, [1.0] * 3, [True] * 3)).keep_static.any()


def test_series_have_one_time_axis() -> None:
    longer = Modality("weather", 2, "series", length=5, band_names=("temperature_2m", "total_precipitation_sum"))
    with pytest.raises(ConfigError, match=r"index 3, weather 5 time steps.*one length"):
        tower_of(INDEX, longer)
    once = Modality("weather", 2, "series", length=1, band_names=longer.band_names)
    tower_of(INDEX, once)  # the same at every step, as a vector is


@pytest.mark.parametrize(("unit", "warns"), [("", True), ("Reflectance", True), ("reflectance", False)])
def test_reflectance_that_is_not_said_to_be_one_is_told_of(unit: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    tower = tower_of(Modality("visible", 3, "series", unit=unit, length=3, band_names=("B2", "B3", "B4")))
    tower.divisor_space_time += 2000.0
    tower.raw["visible"].std.fill_(0.1)
    tower.warn_of_units()
    assert ("its values look like reflectance in 0..1" in caplog.text) == warns


@pytest.mark.parametrize("sides", [(9, 9), (4, 8)])
def test_grids_lie_on_one_ground_that_cells_divide(sides: tuple[int, int]) -> None:
    parts = [Modality(n, 1, "grid", band_names=(b,)) for n, b in (("infrared", "B8"), ("index", "NDVI"))]
    values = {m.name: torch.zeros(1, 1, side, side) for m, side in zip(parts, sides, strict=True)}
    with pytest.raises(ShapeMismatch, match=rf"cells of 2 pixels .* infrared of {sides[0]} x {sides[0]}, index of"):
        tower_of(*parts).inputs(values, {m: torch.ones(v.shape[0], *v.shape[2:], dtype=torch.bool) for m, v in values.items()}, 2)
