"""Data sets built in memory: what is mended, and what is refused with every fault at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS

from made import made_samples, made_scene, tiny_config
from mamol.api import TrainOptions, evaluate_run, map_scene, train_model
from mamol.data.checked import checked
from mamol.data.dataset import ClassInfo, Georeference, SampleSet, Scene, classes_from
from mamol.data.samples import load_samples, write_samples
from mamol.data.split import TEST, TRAIN, VAL, make_split
from mamol.data.values import warn_large
from mamol.errors import DataError, ShapeMismatch, UsageError
from mamol.modality import Batch, Modality


def with_values(dataset: SampleSet, **values: object) -> SampleSet:
    """Return a sample set with other values of some modalities; their availability stays."""
    samples = dataset.samples
    return replace(dataset, samples=Batch({**samples.values, **values}, samples.available))  # type: ignore[dict-item]


def with_tile(scene: Scene, **parts: object) -> Scene:
    """Return a scene whose first tile has other parts."""
    return replace(scene, tiles=(replace(scene.tiles[0], **parts), *scene.tiles[1:]))  # type: ignore[arg-type]


def test_what_is_right_stays_as_it_is() -> None:
    scene, samples = made_scene(2), made_samples(9)
    for old, new in zip(scene.tiles, checked(scene).tiles, strict=True):
        assert all(new.values[m] is old.values[m] and new.available[m] is old.available[m] for m in old.values)
        np.testing.assert_array_equal(new.labels, old.labels)
        assert (new.name, new.group, new.georeference) == (old.name, old.group, old.georeference)
    again = checked(samples)
    assert again.modalities == samples.modalities
    assert all(again.samples.values[m] is samples.samples.values[m] for m in samples.samples.values)
    assert again.groups.tolist() == samples.groups.tolist()


@pytest.mark.parametrize("strange", [np.nan, np.inf, 1e30, -3.4e38])
def test_what_is_no_measured_value_is_missing(strange: float, caplog: pytest.LogCaptureFixture) -> None:
    warn_large.cache_clear()
    samples, scene = made_samples(9), made_scene(1)
    samples.samples.values["weather"][2, 1] = strange
    scene.tiles[0].values["hsi"][3, 4, 5] = strange
    samples.samples.available["weather"][:] = True
    assert checked(samples).samples.available["weather"].tolist() == [i != 2 for i in range(9)]
    there = checked(scene).tiles[0].available["hsi"]
    assert not there[4, 5]
    assert there.sum() == there.size - 1
    assert ("count as missing" in caplog.text) == (not np.isnan(strange))


def test_types_that_say_the_same_are_taken() -> None:
    samples = made_samples(12)
    photo = np.arange(12 * 2 * 64, dtype=np.uint8).reshape(12, 2, 8, 8)
    masks = {m: a.astype(np.uint8) for m, a in samples.samples.available.items()}
    given = replace(
        samples,
        samples=Batch({**samples.samples.values, "photo": photo}, masks),
        labels=samples.labels.astype(float),
        groups=np.array([1, 1, 2, 2, None, np.nan, "x", "x", 3, 3, 3, 3], dtype=object),
    )
    out = checked(given)
    assert out.samples.values["photo"].dtype == np.float32
    np.testing.assert_array_equal(out.samples.values["photo"], photo)
    np.testing.assert_array_equal(out.samples.available["optical"], samples.samples.available["optical"])
    assert out.samples.available["optical"].dtype == bool
    assert out.labels.tolist() == samples.labels.tolist()
    assert out.groups.tolist() == ["1", "1", "2", "2", "(no group) 4", "(no group) 5", "x", "x", "3", "3", "3", "3"]


def test_groups_that_are_numbers_are_kept_apart_by_the_split() -> None:
    numbers, texts = np.arange(60) // 3, np.array([str(i // 3) for i in range(60)])
    one, other = (make_split(replace(made_samples(60), groups=g), "block", 0, 8).roles[0] for g in (numbers, texts))
    assert set(one) == {TRAIN, VAL, TEST}
    for role in (one, other):
        assert all(len(set(role[numbers == g])) == 1 for g in range(20))
    scene = made_scene(8)
    tiles = tuple(replace(t, group=i) for i, t in enumerate(scene.tiles))  # type: ignore[arg-type]
    roles = np.concatenate([r.ravel() for r in make_split(replace(scene, tiles=tiles), "block", 0, 8).roles])
    assert {TRAIN, VAL, TEST} <= set(roles.tolist())


def test_a_series_gets_the_length_of_its_values() -> None:
    samples = made_samples(9)
    unsaid = replace(samples, modalities=tuple(replace(m, length=1) for m in samples.modalities))
    assert checked(unsaid).modalities == samples.modalities
    wrong = replace(samples, modalities=tuple(replace(m, length=12 if m.length > 1 else 1) for m in samples.modalities))
    with pytest.raises(ShapeMismatch, match="'optical' has 6 time steps, and says 12; which is right"):
        checked(wrong)


def test_a_sensor_that_a_tile_does_not_hold_is_missing_there(tmp_path: Path) -> None:
    scene = made_scene()
    tile = scene.tiles[0]
    poor = with_tile(scene, values={m: v for m, v in tile.values.items() if m != "sar"})
    out = checked(poor).tiles[0]
    assert not out.available["sar"].any()
    assert out.values["sar"].shape == (2, 20, 20)
    train_model(poor, tmp_path / "run", TrainOptions(tiny_config()))
    evaluate_run(tmp_path / "run", poor, baselines=[])
    assert map_scene(tmp_path / "run", poor, tmp_path / "m.tif")


def test_a_crs_may_be_a_code_or_what_rasterio_makes_of_it() -> None:
    place = (10.0, 0.0, 500000.0, 0.0, -10.0, 5500000.0)
    for crs in ("EPSG:32632", CRS.from_epsg(32632), CRS.from_epsg(32632).to_wkt()):
        found = checked(with_tile(made_scene(1), georeference=Georeference(crs, place))).tiles[0].georeference  # type: ignore[arg-type]
        assert CRS.from_wkt(found.crs).to_epsg() == 32632
        assert found.transform == place
    with pytest.raises(DataError, match="tile 't0': 'EPSG:nonsense' is no CRS"):
        checked(with_tile(made_scene(1), georeference=Georeference("EPSG:nonsense", place)))
    with pytest.raises(DataError, match="it needs a Georeference of a CRS and six numbers"):
        checked(with_tile(made_scene(1), georeference=Georeference("", (1.0, 0.0))))  # type: ignore[arg-type]


LABELS = made_samples(9).labels


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"labels": LABELS + 1}, r"labels lie in 1\.\.3; with 3 classes they must lie in -1\.\.2"),
        ({"labels": LABELS - 3}, r"labels lie in -3\.\.-1; with"),
        ({"labels": LABELS + 0.5}, "labels must be whole numbers; got"),
        ({"labels": np.where(LABELS, LABELS, np.nan)}, r"labels: \d are NaN; write what is unlabelled as -1"),
        ({"labels": np.array(["a"] * 9)}, "labels must be whole numbers, 0 to 2; got <U1"),
        ({"labels": LABELS[:, None]}, r"labels have shape \(9, 1\); they must be one whole number per sample"),
        ({"official": np.full(9, 2)}, r"official must have shape \(9,\) and hold 0 \(none\), 1 \(train\) or 3 \(test\)"),
        ({"official": np.zeros(8, int)}, r"official must have shape \(9,\)"),
        ({"groups": np.zeros((9, 2))}, r"groups has shape \(9, 2\); beside the labels"),
        ({"classes": ()}, r"labels lie in 0\.\.2; with 0 classes"),
        ({"classes": ("a", "b", "c")}, "needs a tuple of ClassInfo; got"),
        ({"modalities": ()}, "needs a tuple of Modality; got"),
        ({"classes": (*classes_from(["a", "b"]), ClassInfo("a", "#000000"))}, "two classes of the name 'a'"),
        ({"classes": (*classes_from(["a", "b"]), ClassInfo("c", "red"))}, "a colour '#rrggbb'; got 'c' and 'red'"),
        ({"modalities": (Modality("optical", 4, "image"),)}, "kind 'image'; it may be grid, series, vector, text"),
        ({"modalities": made_samples().modalities * 2}, "two modalities of the name 'optical'"),
        ({"modalities": made_samples().modalities[:2]}, "holds 'photo', which is none of its modalities: optical, weather"),
        ({"name": None}, "a data set needs a name, a text; got None"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_sample_set_is_told(parts: dict[str, object], says: str, tmp_path: Path) -> None:
    wrong = replace(made_samples(9), **parts)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=says):
        checked(wrong)
    with pytest.raises(DataError, match=says):
        write_samples(wrong, tmp_path / "set")
    with pytest.raises(DataError, match=says):
        train_model(wrong, tmp_path / "run", TrainOptions(tiny_config()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("weather", np.zeros((9, 5)), r"'weather' has values of shape \(9, 5\); expected \(9, 3\)"),
        ("weather", np.full((9, 3), "1"), "'weather' is of type <U1; it must hold numbers"),
        ("weather", np.zeros((9, 3), complex), "is of type complex128; it must hold numbers"),
        ("weather", np.full((9, 3), None), "is of type object; it must hold numbers"),
        ("optical", np.zeros((9, 6, 6)), r"'optical' has values of shape \(9, 6, 6\); expected \(9, 4, 6\)"),
    ],
)
def test_values_of_another_shape_or_type_are_told(name: str, value: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        checked(with_values(made_samples(9), **{name: value}))
    with pytest.raises(ShapeMismatch, match="as many samples as the others; got 'optical'"):
        Batch({**made_samples(9).samples.values, "photo": np.zeros((8, 2, 8, 8))}, made_samples(9).samples.available)


def test_every_fault_is_told_at_once() -> None:
    scene = made_scene(3)
    bad = [
        replace(scene.tiles[0], labels=scene.tiles[0].labels + 7),
        replace(scene.tiles[1], name="t0", official=np.full((20, 20), 9)),
        replace(scene.tiles[2], available={**scene.tiles[2].available, "sar": np.full((20, 20), 0.5)}),
    ]
    with pytest.raises(DataError) as caught:
        checked(replace(scene, tiles=tuple(bad)))
    told = str(caught.value)
    assert "and 3 more faults:" in told
    for fault in (
        "two tiles of the name 't0'",
        "labels lie in 6..9",
        "official must",
        "availability of 'sar' is of type float64",
    ):
        assert told.count(fault) == 1


def test_what_is_wrong_with_a_tile_is_told() -> None:
    scene = made_scene(2)
    wrong = [
        (replace(scene, tiles=()), "needs a tuple of one Tile or more; got tuple"),
        (replace(scene, tiles=scene.tiles[0]), "needs a tuple of one Tile or more; got Tile"),  # type: ignore[arg-type]
        (replace(scene, modalities=(Modality("hsi", 6, "series"),)), "kind 'series'; it may be grid, in a scene"),
        (replace(scene, modalities=(Modality("hsi", 4), *scene.modalities[1:])), r"\(6, 20, 20\); expected \(4, 20, 20\)"),
        (
            with_tile(scene, available={"hsi": np.ones((6, 20, 20), bool)}),
            r"'hsi' has shape \(6, 20, 20\); it must be \(20, 20\)",
        ),
    ]
    for data, says in wrong:
        with pytest.raises(DataError, match=says):
            checked(data)


@pytest.mark.parametrize("given", [{}, np.zeros(3), None, made_scene(1).tiles[0], made_samples(3).samples])
def test_what_is_no_data_set_is_told(given: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"a data set is .* got {type(given).__name__}.*samples_from_arrays"):
        train_model(given, tmp_path / "run", TrainOptions(tiny_config()))  # type: ignore[arg-type]


def test_what_is_written_is_what_was_checked(tmp_path: Path) -> None:
    samples = made_samples(9)
    samples.samples.values["weather"][2, 1] = 1e30
    again = load_samples(write_samples(samples, tmp_path / "set"))
    np.testing.assert_array_equal(again.samples.available["weather"], checked(samples).samples.available["weather"])


def test_a_mask_under_a_name_that_no_modality_has_is_told() -> None:
    scene = made_scene(1)
    there = {**scene.tiles[0].available, "lidr": np.zeros((20, 20), dtype=bool)}
    with pytest.raises(DataError, match="tile 't0' holds 'lidr', which is none of its modalities: hsi, sar, lidar"):
        checked(with_tile(scene, available=there))


def test_lists_come_back_as_tuples_and_a_tile_without_a_group_is_its_own() -> None:
    scene = made_scene(2)
    tiles = tuple(replace(t, group=None) for t in scene.tiles)  # type: ignore[arg-type]
    out = checked(replace(scene, modalities=list(scene.modalities), tiles=tiles))  # type: ignore[arg-type]
    assert out.modalities == scene.modalities
    assert [t.group for t in out.tiles] == ["t0", "t1"]


def test_a_transform_may_have_its_third_row_and_a_crs_that_is_none_is_told() -> None:
    nine = (10.0, 0.0, 5.0, 0.0, -10.0, 7.0, 0.0, 0.0, 1.0)
    place = Georeference("", nine)  # type: ignore[arg-type]
    assert checked(with_tile(made_scene(1), georeference=place)).tiles[0].georeference.transform == nine[:6]
    for wrong in (Georeference("", ("a",) * 6), None):  # type: ignore[arg-type]
        with pytest.raises(DataError, match="it needs a Georeference of a CRS and six numbers"):
            checked(with_tile(made_scene(1), georeference=wrong))
    with pytest.raises(DataError, match=r"'RUBBISH\[' is no CRS"):
        checked(with_tile(made_scene(1), georeference=Georeference("RUBBISH[", nine[:6])))


def test_without_classes_nothing_is_written(tmp_path: Path) -> None:
    nameless = replace(made_samples(9), classes=(), labels=np.full(9, -1))
    assert checked(nameless).classes == ()
    with pytest.raises(DataError, match="has no classes; a sample set on disk names one at least"):
        write_samples(nameless, tmp_path / "set")
    with pytest.raises(DataError, match="40000 classes are more than the 32767"):
        checked(replace(nameless, classes=classes_from([str(i) for i in range(40_000)])))
