"""Opening data sets by name or path, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made import made_samples
from mamol.data.catalog import CATALOG, data_root, load_dataset, open_reader
from mamol.data.dataset import SampleSet, Scene
from mamol.data.samples import write_samples
from mamol.data.synthetic import write_scene
from mamol.errors import FileMissing, UnknownName, UsageError


def test_names_and_paths(tmp_path: Path) -> None:
    assert isinstance(load_dataset("embedded"), Scene)
    toml = write_scene(tmp_path / "scene", 64)
    assert load_dataset(toml).name == load_dataset(toml.parent).name == "embedded"
    folder = write_samples(made_samples(), tmp_path / "samples")
    assert isinstance(load_dataset(folder), SampleSet)
    assert isinstance(load_dataset(folder / "samples.toml"), SampleSet)
    batch = open_reader(toml).read("embedded", slice(0, 5), slice(3, 9))
    assert batch.values["hsi"].shape == (1, 48, 5, 6)
    memory = open_reader("embedded")
    whole = memory.read(memory.tile_names[0], slice(0, 9), slice(0, 9))
    np.testing.assert_array_equal(whole.values["sar"][0], load_dataset("embedded").tiles[0].values["sar"][:, :9, :9])


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMOL_DATA", str(tmp_path))
    for name in set(CATALOG) - {"embedded"}:
        with pytest.raises(FileMissing, match="set MAMOL_DATA"):
            load_dataset(name)
    with pytest.raises(UnknownName, match="Did you mean 'trento'"):
        load_dataset("tretno")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "x.toml", Path("x"), "./embedded", "no/such", "x.toml", "~/x"):
        with pytest.raises(FileMissing, match=r"no such folder or file: .*Give a scene\.toml or its folder"):
            load_dataset(path)
    with pytest.raises(FileMissing, match="neither"):
        load_dataset(tmp_path)
    with pytest.raises(UsageError, match="no ground to map"):
        open_reader(write_samples(made_samples(), tmp_path / "s"))


def test_where_data_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAMOL_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert data_root() == Path("/somewhere/mamol")
