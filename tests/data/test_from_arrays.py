"""From numpy arrays to a data set that trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

import mamol
from made import made_samples, made_scene, tiny_config
from mamol.data.checked import checked
from mamol.data.dataset import UNLABELLED, Georeference
from mamol.data.samples import load_samples
from mamol.data.texts import decode_texts
from mamol.errors import DataError, ShapeMismatch, UnknownName, UsageError


def test_what_a_modality_is_follows_from_its_axes(tmp_path: Path) -> None:
    made = made_samples(60)
    values = {m: np.where(np.expand_dims(made.samples.available[m], 1), v, np.nan) for m, v in made.samples.values.items()}
    data = mamol.samples_from_arrays("mine", values, made.labels, ["a", "b", "c"], groups=np.arange(60) // 5)
    assert data.modalities == made.modalities
    for m, there in made.samples.available.items():
        np.testing.assert_array_equal(data.samples.available[m], there)
    assert data.groups.tolist() == [str(i // 5) for i in range(60)]
    mamol.train_model(data, tmp_path / "run", mamol.TrainOptions(tiny_config()))
    scores = mamol.evaluate_run(tmp_path / "run", data, baselines=[])
    assert len(scores.results["mamol"]["patterns"]) == 7


def test_labels_may_be_names_and_texts_may_be_texts() -> None:
    labels = np.array(["wheat", "maize", None, "", "wheat"], dtype=object)
    texts = ["blue shirt", "", "rød kjole", "hat", "x"]
    data = mamol.samples_from_arrays("mine", {"title": texts, "size": np.zeros((5, 2))}, labels)
    assert [c.name for c in data.classes] == ["maize", "wheat"]
    assert data.labels.tolist() == [1, 0, UNLABELLED, UNLABELLED, 1]
    title = data.modalities[0]
    assert (title.kind, title.bands) == ("text", len("blue shirt"))
    assert decode_texts(data.samples.values["title"]) == texts
    assert data.samples.available["title"].tolist() == [True, False, True, True, True]
    ordered = mamol.samples_from_arrays("mine", {"size": np.zeros((5, 2))}, labels, ["wheat", "oats", "maize"])
    assert ordered.labels.tolist() == [0, 2, UNLABELLED, UNLABELLED, 0]
    assert len(set(ordered.groups)) == 5


def test_a_scene_from_arrays_is_mapped_on_its_ground(tmp_path: Path) -> None:
    tile = made_scene(1, side=64).tiles[0]
    lidar = np.where(tile.available["lidar"], tile.values["lidar"][0], np.nan)
    place = Georeference("EPSG:32632", (10.0, 0.0, 500000.0, 0.0, -10.0, 5500000.0))
    data = mamol.scene_from_arrays(
        "valley", {"hsi": tile.values["hsi"], "lidar": lidar}, tile.labels, ["bare", "grass", "wood"], georeference=place
    )
    assert [(m.name, m.bands, m.kind) for m in data.modalities] == [("hsi", 6, "grid"), ("lidar", 1, "grid")]
    np.testing.assert_array_equal(data.tiles[0].available["lidar"], tile.available["lidar"])
    mamol.train_model(data, tmp_path / "run", mamol.TrainOptions(tiny_config()))
    path = mamol.map_scene(tmp_path / "run", data, tmp_path / "map.tif")[0].classes
    with rasterio.open(path) as written:
        assert written.crs.to_epsg() == 32632
        assert written.shape == (64, 64)
        assert tuple(written.transform)[:6] == place.transform
    unlabelled = mamol.scene_from_arrays("new", {"hsi": tile.values["hsi"]}, classes=["bare", "grass", "wood"])
    assert (unlabelled.tiles[0].labels == UNLABELLED).all()


def test_availability_may_be_said_and_what_is_no_number_is_missing_anyway() -> None:
    vector = np.array([[1.0], [np.nan], [3.0]])
    data = mamol.samples_from_arrays("m", {"v": vector}, [0, 0, 0], ["a"], available={"v": [True, True, False]})
    assert data.samples.available["v"].tolist() == [True, False, False]
    with pytest.raises(UnknownName, match="unknown modality in `available`: 'w'"):
        mamol.samples_from_arrays("m", {"v": vector}, [0, 0, 0], ["a"], available={"w": [True, True, False]})


def test_what_cannot_be_a_data_set_is_told() -> None:
    vector = {"v": np.zeros((3, 2))}
    with pytest.raises(DataError, match="labels that are numbers need `classes`"):
        mamol.samples_from_arrays("m", vector, [0, 1, 0])
    with pytest.raises(UsageError, match="classes are a list of names, which are texts; got 'ab'"):
        mamol.samples_from_arrays("m", vector, [0, 1, 0], "ab")
    with pytest.raises(UnknownName, match=r"unknown class in the labels: 'whaet'.*Did you mean 'wheat'"):
        mamol.samples_from_arrays("m", vector, ["wheat", "whaet", "wheat"], ["wheat"])
    with pytest.raises(UsageError, match="by modality's name, one at least; got ndarray"):
        mamol.samples_from_arrays("m", np.zeros((3, 2)), [0, 1, 0], ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="by modality's name, one at least; got dict"):
        mamol.scene_from_arrays("m", {}, None, ["a"])
    with pytest.raises(ShapeMismatch, match=r"'v' has shape \(3,\); it must be \(n, C, H, W\)"):
        mamol.samples_from_arrays("m", {"v": np.zeros(3)}, [0, 1, 0], ["a", "b"])
    with pytest.raises(ShapeMismatch, match=r"'v' has shape \(2, 3, 4, 5\); in a scene it must be \(C, H, W\)"):
        mamol.scene_from_arrays("m", {"v": np.zeros((2, 3, 4, 5))}, None, ["a"])
    with pytest.raises(ShapeMismatch, match="as many samples as the others"):
        mamol.samples_from_arrays("m", {"v": np.zeros((3, 2)), "w": np.zeros((4, 2))}, [0, 1, 0], ["a", "b"])
    with pytest.raises(ShapeMismatch, match="modality 'w' is"):
        mamol.scene_from_arrays("m", {"v": np.zeros((2, 8, 8)), "w": np.zeros((2, 9, 9))}, None, ["a"])
    with pytest.raises(DataError, match=r"labels lie in 0\.\.2; with 2 classes"):
        mamol.samples_from_arrays("m", vector, [0, 1, 2], ["a", "b"])


def test_what_a_masked_array_masks_is_missing() -> None:
    values = np.ma.masked_equal(np.where(np.arange(64).reshape(1, 8, 8) % 8 == 0, -9999.0, 1.0), -9999.0)
    scene = mamol.scene_from_arrays("m", {"sar": values, "dem": values[0]}, classes=["a"])
    for m in ("sar", "dem"):
        np.testing.assert_array_equal(scene.tiles[0].available[m], ~values.mask[0])
    samples = mamol.samples_from_arrays("m", {"x": np.ma.masked_equal([[1.0, 2.0], [3.0, -1.0]], -1.0)}, classes=["a"])
    assert samples.samples.available["x"].tolist() == [True, False]


def test_what_is_masked_in_labels_groups_the_split_and_availability_is_none() -> None:
    mask = [False, False, True, True]
    values = {"v": np.zeros((4, 2))}
    for raw in (np.array([0, 1, 0, 1], np.uint8), np.array([0, 1, 7, 255], np.uint16), np.array([0.0, 1.0, np.nan, 0.5])):
        data = mamol.samples_from_arrays("m", values, np.ma.array(raw, mask=mask), ["a", "b"])
        assert data.labels.tolist() == [0, 1, UNLABELLED, UNLABELLED]
    for names in (np.array(["a", "b", "?", "a"]), np.array(["a", "b", "?", 3], dtype=object)):
        data = mamol.samples_from_arrays("m", values, np.ma.array(names, mask=mask))
        assert [c.name for c in data.classes] == ["a", "b"]
        assert data.labels.tolist() == [0, 1, UNLABELLED, UNLABELLED]
    farms = np.ma.array(["farm", "farm", "?", "?"], mask=mask)
    data = mamol.samples_from_arrays("m", values, [0] * 4, ["a"], groups=farms, official=np.ma.array([1, 3, 1, 3], mask=mask))
    assert data.groups[0] == data.groups[1] == "farm"
    assert len(set(data.groups)) == 3
    assert data.official is not None
    assert data.official.tolist() == [1, 3, 0, 0]
    there = {"v": np.ma.array([True, False, True, True], mask=mask)}
    data = mamol.samples_from_arrays("m", values, [0] * 4, ["a"], available=there)
    assert data.samples.available["v"].tolist() == [True, False, False, False]
    texts = np.ma.array(["x", "y", "z", "z"], mask=mask)
    data = mamol.samples_from_arrays("m", {"note": texts}, [0] * 4, ["a"])
    assert data.samples.available["note"].tolist() == [True, True, False, False]
    with pytest.raises(DataError, match="labels must be whole numbers, 0 to 1; got bool"):
        mamol.samples_from_arrays("m", values, np.ma.array([True, False, True, True], mask=mask), ["a", "b"])


def test_labels_as_rasterio_reads_them_masked_stay_unlabelled(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "labels.tif", "w", driver="GTiff", width=3, height=2, count=1, dtype="uint8", nodata=0, crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as file:  # fmt: skip
        file.write(np.array([[[0, 1, 2], [0, 2, 1]]], np.uint8))
    with rasterio.open(tmp_path / "labels.tif") as file:
        labels = file.read(1, masked=True) - 1
    values, official = {"hsi": np.ones((2, 2, 3))}, np.ma.array(np.ones((2, 3), int), mask=labels.mask)
    scene = mamol.scene_from_arrays("valley", values, labels, ["forest", "water"], official=official)
    assert scene.tiles[0].labels.tolist() == [[UNLABELLED, 0, 1], [UNLABELLED, 1, 0]]
    assert scene.tiles[0].official is not None
    assert scene.tiles[0].official.tolist() == [[0, 1, 1], [0, 1, 1]]
    tile = replace(scene.tiles[0], labels=labels)
    assert checked(replace(scene, tiles=(tile,))).tiles[0].labels.tolist() == scene.tiles[0].labels.tolist()


def test_tables_and_what_is_null_in_them_are_taken() -> None:
    frame = pd.DataFrame(
        {
            "crop": ["maize", None, "wheat"],
            "code": [1, None, 0],
            "note": [None, "dry", np.nan],
            "b2": [1.0, 2.0, np.nan],
            "b3": 0.5,
        },
        index=[7, 8, 9],
    )
    values = {"s2": frame[["b2", "b3"]], "note": frame["note"]}
    data = mamol.samples_from_arrays("m", values, frame["crop"])
    assert [c.name for c in data.classes] == ["maize", "wheat"]
    assert data.labels.tolist() == [0, UNLABELLED, 1]
    assert data.samples.available["s2"].tolist() == [True, True, False]
    assert decode_texts(data.samples.values["note"]) == ["", "dry", ""]
    assert data.samples.available["note"].tolist() == [False, True, False]
    for nulls in (frame["crop"].astype("string"), frame["crop"].tolist(), ["maize", float("nan"), "wheat"]):
        assert mamol.samples_from_arrays("m", values, nulls).labels.tolist() == [0, UNLABELLED, 1]
    for codes in ([1, None, 0], frame["code"].astype("Int64")):
        coded = mamol.samples_from_arrays("m", values, codes, np.array(["maize", "wheat"]))
        assert coded.labels.tolist() == [1, UNLABELLED, 0]
    assert mamol.samples_from_arrays("m", values).labels.tolist() == [UNLABELLED] * 3


def test_labels_of_two_kinds_and_names_that_are_none_are_told() -> None:
    vector = {"v": np.zeros((3, 2))}
    with pytest.raises(DataError, match="labels are numbers or names, not both"):
        mamol.samples_from_arrays("m", vector, ["maize", 1, None])
    with pytest.raises(UsageError, match=r"classes are a list of names, which are texts; got \[0, 1\]"):
        mamol.samples_from_arrays("m", vector, [0, 1, 0], [0, 1])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="a dictionary of arrays by modality's name"):
        mamol.samples_from_arrays("m", {2: np.zeros((3, 2))}, [0, 1, 0], ["a", "b"])  # type: ignore[dict-item]
    with pytest.raises(DataError, match=r"'v' is no array of numbers .*pad what is short with NaN"):
        mamol.samples_from_arrays("m", {"v": [[1, 2], [3]]}, [0, 1], ["a", "b"])


@pytest.mark.parametrize("dtype", ["S", object], ids=["npz", "hdf5"])
def test_names_that_are_bytes_are_decoded(dtype: object, tmp_path: Path) -> None:
    crops, farms = [n.encode() for n in ("maïs", "blé", "maïs")], [b"f1", b"f1", b"f2"]
    vector = {"v": np.zeros((3, 2)), "note": np.array(crops, dtype=dtype)}
    data = mamol.samples_from_arrays("m", vector, np.array(crops, dtype=dtype), groups=np.array(farms, dtype=dtype))
    assert [c.name for c in data.classes] == ["blé", "maïs"]
    assert data.labels.tolist() == [1, 0, 1]
    assert data.groups.tolist() == ["f1", "f1", "f2"]
    assert decode_texts(data.samples.values["note"]) == ["maïs", "blé", "maïs"]
    assert load_samples(mamol.write_samples(data, tmp_path / "set")).groups.tolist() == ["f1", "f1", "f2"]
    scene = mamol.scene_from_arrays("m", {"v": np.zeros((1, 1, 3))}, np.array([crops], dtype=dtype))
    assert scene.tiles[0].labels.tolist() == [[1, 0, 1]]
    tile = replace(scene.tiles[0], group=b"f1")
    assert checked(replace(scene, tiles=(tile,))).tiles[0].group == "f1"
    latin = np.array([n.encode("latin1") for n in ("maïs", "blé", "maïs")], dtype=dtype)
    with pytest.raises(DataError, match=r"labels hold b'ma\\xefs', which is not UTF-8.*decode it"):
        mamol.samples_from_arrays("m", {"v": np.zeros((3, 2))}, latin)
    with pytest.raises(DataError, match=r"'m': groups hold b'ma\\xefs', which is not UTF-8.*decode it"):
        mamol.samples_from_arrays("m", {"v": np.zeros((3, 2))}, groups=latin)
