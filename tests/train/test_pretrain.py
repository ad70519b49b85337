"""Label-free pretraining: it learns, it never sees the test area nor a label, and its backbone can be used again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mamol
from made import made_samples, made_scene, tiny_config
from mamol.data.dataset import Dataset, Scene
from mamol.data.split import TEST, Split, make_split
from mamol.errors import ConfigError, OutputExists
from mamol.model.backbone import fingerprint
from mamol.model.checkpoint import load_run
from mamol.train.backbones import pretrain_backbone
from mamol.train.prepare import prepare
from mamol.train.pretrain import pretrain
from mamol.train.run import train


def backbone_of(dataset: Dataset, split: Split, steps: int = 4) -> str:
    p = prepare(dataset, split, tiny_config(pretrain={"steps": steps}), 0)
    pretrain(p.model, p.feed, p.config)
    return fingerprint(p.model.backbone) + fingerprint(p.model.tokenizers)


@pytest.mark.parametrize(("tiles", "side"), [(8, 20), (1, 120)], ids=["whole tiles", "squares of one"])
def test_values_and_labels_of_the_test_part_do_not_matter(tiles: int, side: int) -> None:
    scene = made_scene(tiles, side)
    split = make_split(scene, "block", 0, 8)
    before = backbone_of(scene, split)
    for tile, role in zip(scene.tiles, split.roles, strict=True):
        for v in tile.values.values():
            v[:, role == TEST] += 100
        tile.labels[role != TEST] = np.where(tile.labels >= 0, (tile.labels + 1) % 3, -1)[role != TEST]
    assert backbone_of(scene, split) == before


@pytest.mark.parametrize("side", [7, 1])
def test_samples_whose_grids_cells_do_not_divide_are_learnt_from(tmp_path: Path, side: int) -> None:
    dataset = made_samples()
    for arrays in vars(dataset.samples).values():
        arrays["photo"] = arrays["photo"][..., :side, :side]
    predictor = train(prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(), 0), tmp_path / "run")
    photo = dataset.samples.only(["photo"])
    before = predictor.predict(photo)
    assert np.isfinite(before).all()
    dataset.samples.values["photo"][..., -1] += 9  # the last column, which is half a cell
    assert not np.array_equal(predictor.predict(photo), before)


def test_test_samples_do_not_matter() -> None:
    dataset = made_samples()
    split = make_split(dataset, "block", 0, 8)
    before = backbone_of(dataset, split)
    for v in dataset.samples.values.values():
        v[split.roles[0] == TEST] = 77
    assert backbone_of(dataset, split) == before


@pytest.mark.parametrize("dataset", [made_scene(), made_samples()], ids=["scene", "samples"])
def test_it_learns(dataset: Dataset) -> None:
    p = prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(pretrain={"steps": 151, "batch": 16, "lr": 3e-3}), 0)
    losses = pretrain(p.model, p.feed, p.config)
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(w).all() for w in p.model.parameters())


def test_a_backbone_folder_is_used_again(tmp_path: Path) -> None:
    scene = made_scene()
    assert isinstance(scene, Scene)
    split = make_split(scene, "block", 0, 8)
    pretrain_backbone(prepare(scene, split, tiny_config(), 0), tmp_path / "backbone")
    with pytest.raises(OutputExists):
        mamol.pretrain_backbone(scene, tmp_path / "backbone")
    config = tiny_config(backbone={"path": str(tmp_path / "backbone")})
    train(prepare(scene, split, config, 0), tmp_path / "run")
    made = json.loads((tmp_path / "backbone" / "backbone.json").read_text())["hash"]
    assert fingerprint(load_run(tmp_path / "run").model.backbone) == made
    dataset = made_samples()
    split = make_split(dataset, "block", 0, 8)
    with pytest.raises(ConfigError, match=r"pretrained on hsi \(grid, 6 bands\), .*, lidar \(grid, 1 band\); .* optical \("):
        prepare(dataset, split, config, 0)


@pytest.mark.parametrize(("first", "then"), [("none", "learned"), ("learned", "none")])
def test_a_backbone_serves_any_placeholder(tmp_path: Path, first: str, then: str) -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    folder = tmp_path / "backbone"
    pretrain_backbone(prepare(scene, split, tiny_config(tokens={"placeholder": first}), 0), folder)
    config = tiny_config(tokens={"placeholder": then}, backbone={"path": str(folder)})
    trained = train(prepare(scene, split, config, 0), tmp_path / "run")
    assert ("tokenizers.hsi.absent" in trained.model.state_dict()) == (then == "learned")


@pytest.mark.parametrize("classes", [3, 0])
def test_data_without_a_label_are_enough(tmp_path: Path, classes: int) -> None:
    scene = made_scene(3)
    blank = tuple(replace(t, labels=np.full_like(t.labels, -1)) for t in scene.tiles)
    blank_scene = replace(scene, tiles=blank, classes=scene.classes[:classes])
    made = mamol.pretrain_backbone(blank_scene, tmp_path / "backbone", mamol.TrainOptions(tiny_config()))
    record = json.loads((made / "backbone.json").read_text())
    assert record["pretraining"]["split"] == "unlabelled"
    config = tiny_config(backbone={"path": str(made)})
    assert train(prepare(made_scene(), make_split(made_scene(), "block", 0, 8), config, 0), tmp_path / "run").classes
