"""What would give a wrong map without an error is a warning, and what is as it should be is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_reader import write

from made import made_samples
from mamol.config import DataConfig
from mamol.data.catalog import load_dataset
from mamol.data.check import check
from mamol.data.glance import warn_of_dataset, warn_of_samples, warn_of_scene
from mamol.data.normalize import Normalizer
from mamol.data.reader import open_scene
from mamol.data.split import make_split
from mamol.modality import Modality


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make three tiles: a has the sensor of the grid, b lacks it and has larger pixels, c lacks it and has the same."""
    for t, sensors in {"a": ("hsi", "sar"), "b": ("sar",), "c": ("rgb",)}.items():
        for m in sensors:
            write(tmp_path / t / f"{m}.tif", np.ones((1, 6, 6), "float32"), pixel={"sar": 20.0, "rgb": 10.0000001}.get(m, 10.0))
    parts = (f'[modalities.{m}]\npath = "{{tile}}/{m}.tif"\n' for m in ("hsi", "sar", "rgb"))
    (tmp_path / "scene.toml").write_text('name = "m"\ntiles = ["a", "b", "c"]\n' + "".join(parts))
    return tmp_path


def test_pixels_of_another_sensor_are_told_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = open_scene(folder)
    assert [reader.other_pixels(t) is None for t in "abc"] == [True, False, True]
    assert [r for r in check(folder).remarks if "defines the pixels" in r] == [f"{reader.other_pixels('b')}."]
    assert "defines the pixels" not in caplog.text
    load_dataset(folder)
    assert caplog.text.count("tile 'b' of 'm' has no file of 'hsi', which defines the pixels; they are 20, elsewhere 10") == 1


def test_a_damaged_file_of_another_tile_does_not_matter(folder: Path) -> None:
    (folder / "a" / "hsi.tif").write_bytes(b"II*\0nonsense")
    reader = open_scene(folder)
    assert reader.other_pixels("b") is None
    assert reader.grid("b").shape == (6, 6)


def test_only_what_is_mapped_and_used_is_looked_at(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    normalizer = Normalizer.from_json(
        {m: {"unit_spectrum": False, "mean": [0.0], "std": [0.01], "components": None, "spread": None} for m in ("sar", "s2")}
    )
    reader = open_scene(folder)
    write(folder / "a" / "sar.tif", np.ones((1, 40, 40), "float32"), pixel=20.0)
    sar, s2 = (Modality(name, 1) for name in ("sar", "s2"))
    warn_of_scene(reader, ["c"], [sar], normalizer)
    assert caplog.text == ""
    warn_of_scene(reader, ["a"], [sar, s2], normalizer)
    assert "'m' has no 's2', which the run knows; what the run does not know is left out: hsi, rgb." in caplog.text


def test_samples_in_another_unit(caplog: pytest.LogCaptureFixture) -> None:
    dataset = made_samples(400)
    normalizer = Normalizer.fit(dataset, make_split(dataset, "block", 0, 8), DataConfig())
    warn_of_dataset(dataset, dataset.modalities, normalizer)
    assert caplog.text == ""
    dataset.samples.values["optical"][:] *= 1e-4
    warn_of_dataset(dataset, dataset.modalities, normalizer)
    assert "'optical' has values of another magnitude" in caplog.text
    assert caplog.text.count("another magnitude") == 1


def test_pixels_of_another_size_than_in_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    statistics = {"unit_spectrum": False, "mean": [1.0], "std": [1.0], "components": None, "spread": None}
    normalizer = Normalizer.from_json({m: statistics for m in ("hsi", "sar", "rgb")})
    reader = open_scene(folder)
    same = [Modality("hsi", 1, gsd_m=10.0), Modality("sar", 1, gsd_m=18.0), Modality("rgb", 1)]  # unknown: nothing to compare
    warn_of_scene(reader, ["c"], same, normalizer)
    assert caplog.text == ""
    warn_of_scene(reader, ["c"], [Modality("hsi", 1, gsd_m=30.0), *same[1:]], normalizer)
    assert "'hsi' has pixels of 10 m in 'm', and had 30 m in training" in caplog.text
    assert caplog.text.count("in training") == 1


def test_samples_with_pixels_of_another_size(caplog: pytest.LogCaptureFixture) -> None:
    dataset = made_samples(40)
    dataset = replace(dataset, modalities=tuple(replace(m, gsd_m=10.0) for m in dataset.modalities))
    normalizer = Normalizer.fit(dataset, make_split(dataset, "block", 0, 8), DataConfig())
    for warn in (warn_of_samples, warn_of_dataset):
        caplog.clear()
        warn(dataset, [replace(dataset.modalities[0], gsd_m=60.0)], normalizer)
        assert "'optical' has pixels of 10 m in 'made-samples', and had 60 m in training" in caplog.text
