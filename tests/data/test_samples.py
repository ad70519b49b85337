"""Sample sets on disk, and what is wrong with bad ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from texts_made import made_texts

from made import made_samples
from mamol.data.dataset import UNLABELLED, SampleSet, classes_from
from mamol.data.samples import load_samples, write_samples
from mamol.data.split import TEST, TRAIN
from mamol.data.texts import decode_texts
from mamol.errors import DataError, FileMissing, OutputExists, UsageError
from mamol.modality import Batch, Modality

TEXT = 'name = "p"\nclasses = ["a", "b"]\n[modalities.title]\nkind = "text"\nbands = 5\n'


def made_named(name: str) -> SampleSet:
    values, available = {name: np.zeros((2, 1), np.float32)}, {name: np.ones(2, dtype=bool)}
    groups = np.array(["a", "b"])
    return SampleSet(
        "n", (Modality(name, 1, "vector"),), classes_from(["x"]), Batch(values, available), np.zeros(2, np.int16), groups
    )


@pytest.mark.parametrize(
    "dataset", [made_samples(), made_texts(), made_named("Höhe:m")], ids=["numbers", "texts", "a name that TOML quotes"]
)
def test_round_trip(tmp_path: Path, dataset: SampleSet) -> None:
    again = load_samples(write_samples(dataset, tmp_path / "set"))
    assert again.name == dataset.name
    assert again.modalities == dataset.modalities
    assert [m.band_names for m in again.modalities] == [m.band_names for m in dataset.modalities]
    assert again.classes == dataset.classes
    np.testing.assert_array_equal(again.labels, dataset.labels)
    np.testing.assert_array_equal(again.groups, dataset.groups)
    for m in dataset.samples.values:
        np.testing.assert_array_equal(again.samples.available[m], dataset.samples.available[m])
        seen = np.broadcast_to(np.expand_dims(again.samples.available[m], 1), again.samples.values[m].shape)
        np.testing.assert_array_equal(again.samples.values[m][seen], dataset.samples.values[m][seen])
    with pytest.raises(OutputExists):
        write_samples(dataset, tmp_path / "set")


def test_parquet_rows_and_a_missing_modality(tmp_path: Path) -> None:
    (tmp_path / "samples.toml").write_text(
        'name = "p"\nclasses = ["a", "b"]\n[modalities.s2]\nkind = "series"\nbands = 2\nlength = 3\n'
    )
    frame = pd.DataFrame({"label": [0, 1], "group": ["x", "y"], "s2": [[1, 2, 3, 4, 5, 6], None]})
    frame.to_parquet(tmp_path / "samples.parquet")
    loaded = load_samples(tmp_path)
    assert loaded.samples.values["s2"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert loaded.samples.available["s2"].tolist() == [[True] * 3, [False] * 3]
    frame["s2"] = [[1, 2], [3]]
    frame.to_parquet(tmp_path / "samples.parquet")
    with pytest.raises(DataError, match="'s2': row 0 has 2 values"):
        load_samples(tmp_path)


def test_all_that_a_sample_set_holds_is_written(tmp_path: Path) -> None:
    s2, slope = Modality('s2-"10m"', 3, "series", 10.0, "reflectance", 4), Modality("slope-é", 1, "vector", 0.5)
    values = {s2.name: np.ones((4, 3, 4), np.float32), slope.name: np.ones((4, 1), np.float32)}
    batch = Batch(values, {s2.name: np.ones((4, 4), bool), slope.name: np.ones(4, bool)})
    labels, groups, official = np.array([0, 1, 0, 1], np.int16), np.array(list("aabb")), np.array([0, TRAIN, TEST, TEST], np.int8)
    dataset = SampleSet("q", (s2, slope), classes_from(["a", "b"]), batch, labels, groups, official)
    again = load_samples(write_samples(dataset, tmp_path / "set"))
    assert again.modalities == dataset.modalities
    assert again.official is not None
    np.testing.assert_array_equal(again.official, official)
    with np.load(tmp_path / "set" / "samples.npz") as file:
        assert file["official"].tolist() == [0, 1, 2, 2]


def test_a_row_without_a_group_is_a_group_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "samples.toml").write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vector"\nbands = 1\n')
    frame = pd.DataFrame({"label": [0] * 5, "x": [[1.0]] * 5})
    for groups, known in (
        (["farm-1", None, "farm-2", None, "farm-1"], ["farm-1", "farm-2"]),
        ([7, None, 8, None, 7], ["7.0", "8.0"]),
    ):
        frame.assign(group=groups, official=[1, 1, 2, 0, 1]).to_parquet(tmp_path / "samples.parquet")
        loaded = load_samples(tmp_path)
        assert [loaded.groups[i] for i in (0, 2, 4)] == [known[0], known[1], known[0]]
        assert len(set(loaded.groups)) == 4
        assert loaded.official is not None
        assert loaded.official.tolist() == [TRAIN, TRAIN, TEST, 0, TRAIN]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"labels": np.zeros((6, 1), int)}, r"labels have shape \(6, 1\)"),
        ({"labels": np.zeros(0, int), "values_s2": np.zeros((0, 3, 4))}, r"samples\.npz holds no samples"),
        ({"groups": np.zeros((6, 1), int)}, r"groups has shape \(6, 1\).*\(6,\)"),
        ({"groups": np.array("farm")}, r"groups has shape \(\).*\(6,\)"),
        ({"groups": np.zeros(5, int)}, r"groups has shape \(5,\).*\(6,\)"),
        ({"available_s2": np.ones((6, 3, 4), bool)}, r"available_s2 has shape \(6, 3, 4\).*\(6, 4\)"),
        ({"available_s2": np.ones(4, bool)}, r"available_s2 has shape \(4,\).*\(6, 4\)"),
        ({"available_s2": np.ones(6, bool)}, r"available_s2 has shape \(6,\).*\(6, 4\)"),
        ({"available_s2": np.full((6, 4), "yes")}, "available_s2 is of type <U3"),
        ({"official": np.ones((6, 1), int)}, r"official has shape \(6, 1\).*\(6,\)"),
        ({"official": np.full(6, 3)}, r"official.*0 \(none\), 1 \(train\) or 2 \(test\); got 3"),
        ({"official": np.full(6, "train")}, "official is of type <U5"),
    ],
)
def test_arrays_of_another_shape(tmp_path: Path, wrong: dict[str, np.ndarray], says: str) -> None:
    (tmp_path / "samples.toml").write_text('name = "p"\nclasses = ["a"]\n[modalities.s2]\nkind = "series"\nbands = 3\n')
    right = {"labels": np.zeros(6, int), "values_s2": np.zeros((6, 3, 4))}
    np.savez(tmp_path / "samples.npz", **(right | wrong))
    with pytest.raises(DataError, match=says):
        load_samples(tmp_path)


def test_labels_may_be_left_out_but_not_misspelt(tmp_path: Path) -> None:
    (tmp_path / "samples.toml").write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vector"\nbands = 1\n')
    np.savez(tmp_path / "samples.npz", values_x=np.zeros((3, 1)))
    assert load_samples(tmp_path).labels.tolist() == [UNLABELLED] * 3
    for wrong in ("Label", "Labels", "LABELS", "lables"):
        np.savez(tmp_path / "samples.npz", values_x=np.zeros((3, 1)), **{wrong: np.zeros(3, int)})
        with pytest.raises(DataError, match=rf"samples\.npz has the array '{wrong}', but no 'labels'\. Rename it if"):
            load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", values_x=np.zeros((3, 1)), labeled=np.zeros(3, bool))
    assert load_samples(tmp_path).labels.tolist() == [UNLABELLED] * 3
    (tmp_path / "samples.npz").unlink()
    frame = pd.DataFrame({"x": [[1.0], [2.0]], "longitude": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "samples.parquet")
    assert load_samples(tmp_path).labels.tolist() == [UNLABELLED] * 2
    frame.assign(Labels=[0, 0]).to_parquet(tmp_path / "samples.parquet")
    with pytest.raises(DataError, match=r"samples\.parquet has the column 'Labels', but no 'label'\. Rename it"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", values_x=np.float32(1))
    with pytest.raises(DataError, match=r"labels have shape \(\)"):
        load_samples(tmp_path)


def save_table(folder: Path, table: str, **columns: object) -> Path:
    """Write four samples of a modality `x` of one band, with other arrays or columns beside."""
    (folder / "samples.toml").write_text('name = "p"\nclasses = ["a", "b"]\n[modalities.x]\nkind = "vector"\nbands = 1\n')
    if table == "samples.npz":
        np.savez(folder / table, values_x=np.zeros((4, 1)), **{name: np.asarray(c) for name, c in columns.items()})
    else:
        pd.DataFrame({"x": [[0.0]] * 4, **columns}).to_parquet(folder / table)
    return folder


TABLES = pytest.mark.parametrize("table", ["samples.npz", "samples.parquet"])


@TABLES
@pytest.mark.parametrize("ending", ["", "s"])
def test_labels_and_groups_are_read_under_either_name(tmp_path: Path, table: str, ending: str) -> None:
    columns = {f"label{ending}": [0, 1, 0, 1], f"group{ending}": list("ffgg"), "longitude": [1.0, 2.0, 3.0, 4.0]}
    read = load_samples(save_table(tmp_path, table, **columns))
    assert read.labels.tolist() == [0, 1, 0, 1]
    assert read.groups.tolist() == list("ffgg")


@TABLES
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"group": list("ffgg"), "groups": list("abcd")}, "s 'groups?' and 'groups?', which mean the same; leave one out"),
        ({"label": [0] * 4, "labels": [1] * 4}, "s 'labels?' and 'labels?', which mean the same; leave one out"),
        (
            {"Group": list("ffgg")},
            r" 'Group', but no 'groups?'.*each sample is a group of its own.*these are read: labels?, groups?, off",
        ),
        ({"group_id": list("ffgg")}, " 'group_id', but no 'groups?'"),
        ({"offical": [0, 1, 2, 1]}, " 'offical', but no 'official'.*no published split"),
        ({"availability_x": [1, 0, 0, 1]}, " 'availability_x', but no 'available_x'.*every number counts as a value"),
        ({"Available_X": [1, 0, 0, 1]}, " 'Available_X', but no 'available_x'"),
        ({"mask_x": [1, 0, 0, 1]}, " 'mask_x', but no 'available_x'"),
        (
            {"available_x": [1.0, 0.0, np.nan, 1.0]},
            "available_x .*True where there is a value, and False elsewhere; it holds nan",
        ),
        ({"available_x": [1, 0, 2, 1]}, "available_x .*it holds 2"),
    ],
)
def test_names_that_are_misspelt_or_mean_two_things_are_told(
    tmp_path: Path, table: str, columns: dict[str, object], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_samples(save_table(tmp_path, table, **columns))


@TABLES
def test_availability_may_be_said_and_what_is_of_no_modality_lies_beside(tmp_path: Path, table: str) -> None:
    beside = {"available_water": [0.1] * 4, "doy_x": [120] * 4, "ground": list("abcd"), "soil_group": list("aabb")}
    left_out = {"y": [1.0] * 4, "values_y": [1.0] * 4, "available_y": [True] * 4}
    read = load_samples(save_table(tmp_path, table, available_x=[True, False, False, True], **beside, **left_out))
    assert read.samples.available["x"].tolist() == [True, False, False, True]
    assert len(set(read.groups)) == 4


@TABLES
def test_groups_that_are_bytes_are_texts(tmp_path: Path, table: str) -> None:
    assert load_samples(save_table(tmp_path, table, group=[b"f1", b"f1", b"f2", b"f2"])).groups.tolist() == [
        "f1",
        "f1",
        "f2",
        "f2",
    ]


def test_names_of_a_table_s_index_are_columns_too(tmp_path: Path) -> None:
    folder = save_table(tmp_path, "samples.parquet", label=[0, 1, 0, 1], group=list("ffgg"), sample=range(4))
    frame = pd.read_parquet(folder / "samples.parquet")
    for levels in ("group", ["group", "sample"], ["x", "group", "label"]):
        rows = frame.assign(x=[1.0, 2.0, 3.0, 4.0]) if "x" in levels else frame
        rows.set_index(levels).to_parquet(folder / "samples.parquet")
        assert load_samples(folder).groups.tolist() == list("ffgg")
        assert load_samples(folder).labels.tolist() == [0, 1, 0, 1]


def test_a_nodata_that_nobody_declared_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "samples.toml").write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "series"\nbands = 2\n')
    values = np.arange(12.0).reshape(2, 2, 3)
    values[0, 1, 2], values[1, 0, 0] = -3.4e38, np.nan
    np.savez(tmp_path / "samples.npz", values_x=values, labels=np.zeros(2, int))
    read = load_samples(tmp_path)
    assert read.samples.available["x"].tolist() == [[True, True, False], [False, True, True]]
    assert not read.samples.values["x"][0, :, 2].any()
    assert "modality 'x' of" in caplog.text
    assert "holds values of 1e+20 or more, or infinite ones; they count as missing" in caplog.text
    caplog.clear()
    values[0, 1, 2] = np.nan
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "samples.npz", values_x=values, labels=np.zeros(2, int))
    (tmp_path / "other" / "samples.toml").write_text((tmp_path / "samples.toml").read_text())
    load_samples(tmp_path / "other")
    assert caplog.text == ""


def test_bad_columns(tmp_path: Path) -> None:
    (tmp_path / "samples.toml").write_text(
        'name = "p"\nclasses = ["a"]\n[modalities.s2]\nkind = "series"\nbands = 2\nlength = 2\n'
    )
    frame = pd.DataFrame({"label": [0, 0], "s2": [[1.0, 2.0, 3.0, 4.0]] * 2})
    for values in ([[[1.0, 2.0], [3.0, 4.0]]] * 2, ["a", "b"]):
        frame.assign(s2=values).to_parquet(tmp_path / "samples.parquet")
        with pytest.raises(DataError, match=r"samples\.parquet: 's2': row 0 is no flat list of 4 numbers"):
            load_samples(tmp_path)
    frame[:0].to_parquet(tmp_path / "samples.parquet")
    with pytest.raises(DataError, match=r"samples\.parquet holds no samples"):
        load_samples(tmp_path)


def test_a_text_as_a_column_of_strings(tmp_path: Path) -> None:
    (tmp_path / "samples.toml").write_text(TEXT)
    frame = pd.DataFrame({"label": [0, 1, 1, 0], "title": ["blå", "a longer one", None, ""]})
    frame.to_parquet(tmp_path / "samples.parquet")
    loaded = load_samples(tmp_path)
    assert (loaded.modalities[0].kind, loaded.modalities[0].bands) == ("text", 5)
    assert decode_texts(loaded.samples.values["title"]) == ["blå", "a lon", "", ""]
    assert loaded.samples.available["title"].tolist() == [True, True, False, False]
    for wrong, says in (([1, 2, 3, 4], "row 0 is 1, a int"), (["a", "b\0", "c", "d"], "text 1 holds a NUL")):
        frame.assign(title=wrong).to_parquet(tmp_path / "samples.parquet")
        with pytest.raises(DataError, match=f"samples.parquet: 'title': {says}"):
            load_samples(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_text_as_an_array_of_bytes(tmp_path: Path, dtype: type) -> None:
    (tmp_path / "samples.toml").write_text(TEXT)
    title = np.array([list(b"red\0\0"), list(b"\0\0\0\0\0")], dtype=dtype)
    np.savez(tmp_path / "samples.npz", labels=np.array([0, 1]), values_title=title)
    loaded = load_samples(tmp_path)
    assert decode_texts(loaded.samples.values["title"]) == ["red", ""]
    assert loaded.samples.available["title"].tolist() == [True, False]
    np.savez(tmp_path / "samples.npz", labels=np.array([0, 1]), values_title=np.array(["red", "blue"]))
    with pytest.raises(DataError, match=r"type <U4; it must hold numbers, a text its bytes"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", labels=np.array([0, 1]), values_title=np.full((2, 5), 200, dtype=dtype))
    with pytest.raises(DataError, match=r"samples\.npz: values_title: text 0 is not UTF-8"):
        load_samples(tmp_path)
    hidden = np.array([[200.0] * 5, [np.nan] * 5])
    np.savez(tmp_path / "samples.npz", labels=np.array([0, 1]), values_title=hidden, available_title=np.zeros(2, bool))
    assert not load_samples(tmp_path).samples.available["title"].any()


def test_band_names_are_one_per_band(tmp_path: Path) -> None:
    toml = 'name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vector"\nbands = 2\nband_names = ["VV"]\n'
    (tmp_path / "samples.toml").write_text(toml)
    np.savez(tmp_path / "samples.npz", labels=np.zeros(3, int), values_x=np.zeros((3, 2)))
    with pytest.raises(UsageError, match="2 bands and 1 band names"):
        load_samples(tmp_path)
    (tmp_path / "samples.toml").write_text(toml.replace('["VV"]', '["VV", "VH"]'))
    assert load_samples(tmp_path).modalities[0].band_names == ("VV", "VH")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0.0, np.nan]), "labels: 1 are NaN"),
        (np.array([0, 7]), "0..7"),
        (np.array(["a", "b"]), "whole numbers"),
        (np.array([0.5, 1.0]), "whole numbers"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: np.ndarray, says: str) -> None:
    (tmp_path / "samples.toml").write_text('name = "p"\nclasses = ["a", "b"]\n[modalities.x]\nkind = "vector"\nbands = 1\n')
    np.savez(tmp_path / "samples.npz", labels=labels, values_x=np.zeros((2, 1)))
    with pytest.raises(DataError, match=says):
        load_samples(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    toml = write_samples(made_samples(), tmp_path / "set") / "samples.toml"
    toml.write_bytes(b"\xef\xbb\xbf" + toml.read_bytes())
    assert load_samples(toml.parent).name == "made-samples"


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"samples\.toml"):
        load_samples(tmp_path)
    toml = tmp_path / "samples.toml"
    toml.write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vector"\nband = 1\n')
    with pytest.raises(UsageError, match="band"):
        load_samples(tmp_path)
    toml.write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vectr"\nbands = 0\nbnad_names = []\n')
    with pytest.raises(UsageError, match=r"(?s)kind.*and 2 more faults:\n.*bands.*\n.*'bnad_names'.*Did you mean 'band_names'"):
        load_samples(tmp_path)
    toml.write_text('name = "p"\nclasses = ["a"]\n[modalities.x]\nkind = "vector"\nbands = 1\n')
    with pytest.raises(FileMissing, match="neither"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", labels=np.zeros(3, int), values_x=np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"\(3, 2\)"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", labels=np.zeros(3, int), value_x=np.zeros((3, 1)))
    with pytest.raises(DataError, match=r"missing array in .*samples\.npz: 'values_x'; there is: .*Rename 'value_x'"):
        load_samples(tmp_path)
    (tmp_path / "samples.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="cannot be read"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", labels=np.array([object()]), values_x=np.zeros((1, 1)))
    with pytest.raises(DataError, match="Python objects"):
        load_samples(tmp_path)
