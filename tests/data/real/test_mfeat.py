"""Multiple Features: sizes as published, and one view alone tells the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from present import ROOT, here
from views import accuracy

from mamol.data.catalog import load_dataset
from mamol.data.dataset import SampleSet, class_names
from mamol.data.real.mfeat import VIEWS, load_mfeat
from mamol.data.split import TEST, TRAIN, VAL, make_split
from mamol.errors import DataError, FileMissing


def test_files_that_are_not_there_or_not_it(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"mfeat6\.npz"):
        load_mfeat(tmp_path)
    np.savez(tmp_path / "mfeat6.npz", pix240_train=np.zeros((2, 240)))
    with pytest.raises(DataError, match=r"missing array in .*mfeat6\.npz: 'pix240_test'"):
        load_mfeat(tmp_path)
    (tmp_path / "mfeat6.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="may be truncated"):
        load_mfeat(tmp_path)


def test_class_1_of_the_file_is_the_digit_0(tmp_path: Path) -> None:
    arrays = {f"{v}{n}_{part}": np.zeros((10, n)) for v, n in VIEWS.items() for part in ("train", "test")}
    np.savez(tmp_path / "mfeat6.npz", y_train=np.arange(1, 11), y_test=np.arange(10, 0, -1), **arrays)
    made = load_mfeat(tmp_path)
    assert [class_names(made)[k] for k in made.labels] == [*"0123456789", *"9876543210"]
    assert made.official is not None
    assert made.official.tolist() == [TRAIN] * 10 + [TEST] * 10


@here("mfeat")
@pytest.mark.real
def test_mfeat() -> None:
    dataset = load_dataset("mfeat")
    assert isinstance(dataset, SampleSet)
    assert dataset.official is not None
    assert {m.name: (m.kind, m.bands) for m in dataset.modalities} == {v: ("vector", n) for v, n in VIEWS.items()}
    for name, values in dataset.samples.values.items():
        assert values.shape == (2000, VIEWS[name])
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert dataset.samples.available[name].all()
    assert np.bincount(dataset.labels).tolist() == [200] * 10
    assert np.bincount(dataset.official).tolist() == [0, 1600, 0, 400]
    assert len(set(dataset.groups)) == 2000
    for kind in ("block", "official"):
        split = make_split(dataset, kind)
        assert split.overlap["overlapping"] == 0
        assert set(np.unique(split.roles[0])) == {TRAIN, VAL, TEST}
    assert accuracy(dataset, dataset.samples.values["pix"]) > 0.9
    with np.load(ROOT / "mfeat" / "mfeat6.npz") as file:
        np.testing.assert_array_equal(dataset.samples.values["pix"][1600:], file["pix240_test"])
        assert file["y_train"].max() == 10
    # A nought is empty in the middle, a one is full there: the names of the classes are those of the pictures.
    middle = {k: dataset.samples.values["pix"][dataset.labels == k].reshape(-1, 16, 15)[:, 6:10, 6:9].mean() for k in range(10)}
    assert (min(middle, key=lambda k: middle[k]), max(middle, key=lambda k: middle[k])) == (0, 1)
