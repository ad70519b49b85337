"""The real data sets, where MAMOL_DATA has them: sizes as published, and the main job on a plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from present import ROOT, here

from conftest import make_run
from mamol.api import MapOptions, map_scene
from mamol.data.catalog import load_dataset
from mamol.data.dataset import SampleSet, Scene
from mamol.data.split import make_split

pytestmark = pytest.mark.real


@here("idtrees")
def test_idtrees_and_its_map(tmp_path: Path) -> None:
    scene = load_dataset("idtrees")
    assert isinstance(scene, Scene)
    assert len(scene.tiles) == 85
    assert [m.bands for m in scene.modalities] == [369, 7, 6]
    assert abs(sum(int((t.labels >= 0).sum()) for t in scene.tiles) - 15_054) < 50
    assert len({t.group for t in scene.tiles}) == 65
    assert make_split(scene).overlap["overlapping"] == 0
    few = Scene("few", scene.modalities, scene.classes, scene.tiles[:30])
    run = make_run(few, tmp_path / "run", data={"compress": 8}).run
    for without in ((), ("lidar",)):
        paths = map_scene(run, "idtrees", tmp_path / f"map{len(without)}.tif", MapOptions(without, ["MLBS_5"]))[0]
        with rasterio.open(paths.classes) as made, rasterio.open(ROOT / "idtrees/train/RemoteSensing/HSI/MLBS_5.tif") as source:
            assert made.crs == source.crs
            assert made.crs.to_epsg() == 32617
            assert (made.transform, made.shape) == (source.transform, source.shape)
            assert made.tags(1)["CLASS_1"] == scene.classes[0].name
            assert len({made.colormap(1)[k] for k in range(1, 9)}) == 8
            assert (made.read(1) > 0).all()
        with rasterio.open(paths.pattern) as raster:
            assert np.unique(raster.read(1)).tolist() == [7 - 2 * len(without)]


@here("bigearthnet-s1s2")
def test_bigearthnet() -> None:
    scene = load_dataset("bigearthnet-s1s2")
    assert isinstance(scene, Scene)
    assert len(scene.tiles) == 120
    names = {m.name: m.band_names for m in scene.modalities}
    assert names == {"s1": ("VV", "VH"), "s2": ("B2", "B3", "B4", "B8")}
    assert scene.tiles[0].labels.shape == (120, 120)
    assert len(scene.classes) == 5
    assert len(load_dataset("bigearthnet-s1s2-9").classes) == 9


@here("worldcereal-canada")
def test_worldcereal() -> None:
    dataset = load_dataset("worldcereal-canada")
    assert isinstance(dataset, SampleSet)
    assert [(m.name, m.kind, m.bands) for m in dataset.modalities][:2] == [("s1", "series", 2), ("s2", "series", 9)]
    assert len(dataset.classes) == 9
    assert dataset.samples.values["s1"].shape[2] == 12
    split = make_split(dataset)
    assert split.overlap["overlapping"] == 0
