"""Data are made ready for a run, or refused: too few classes, a backbone that was made otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import mamol
from made import TINY, made_samples, made_scene, tiny_config
from mamol.config import BackboneConfig, Config, TrainConfig
from mamol.configs import build_config
from mamol.data.split import TRAIN, VAL, make_split
from mamol.errors import ConfigError, DataError, UsageError
from mamol.model.checkpoint import read_run
from mamol.train.backbones import pretrain_backbone
from mamol.train.prepare import prepare


def test_one_class_in_train_is_refused() -> None:
    scene = made_scene()
    for tile in scene.tiles:
        tile.labels[tile.labels > 0] = 0
    with pytest.raises(DataError, match=r"has 1 class\(es\) \(bare\)"):
        prepare(scene, make_split(scene, "block", 0, 8), tiny_config(), 0)


def test_a_given_backbone_fixes_its_settings_and_another_one_asked_for_is_refused(tmp_path: Path) -> None:
    given = tmp_path / "backbone"
    dataset = made_samples()
    split = make_split(dataset, "block", 0, 8)
    pretrain_backbone(prepare(dataset, split, tiny_config(data={"compress": 3}), 0), given)
    silent_on_them = build_config({"backbone": {"path": str(given), "freeze": False}, "tokens": {"placeholder": "zeros"}})
    found = prepare(dataset, split, silent_on_them, 0).config
    assert (found.data.compress, found.tokens.window_px) == (3, TINY["tokens"]["window_px"])
    assert (found.backbone.freeze, found.tokens.placeholder) == (False, "zeros")
    with pytest.raises(ConfigError, match=r"data\.compress = 40, it has 3\. Leave them out"):
        prepare(dataset, split, build_config({"backbone": {"path": str(given)}, "data": {"compress": 40}}), 0)


def test_a_backbone_of_another_split_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset, given = made_samples(), tmp_path / "backbone"
    splits = [make_split(dataset, "block", seed, 8) for seed in (0, 1)]
    pretrain_backbone(prepare(dataset, splits[0], tiny_config(), 0), given)
    config = build_config({"backbone": {"path": str(given)}})
    prepare(dataset, splits[0], config, 1)  # another seed of the weights is no other split
    assert "another split" not in caplog.text
    prepare(dataset, splits[1], config, 1)
    assert f"pretrained on '{dataset.name}' with another split (block, seed 0): it may have seen" in caplog.text


def test_a_backbone_fixes_the_windows_that_the_split_keeps_apart(tmp_path: Path) -> None:
    scene = made_scene(1, 160)  # one tile: squares of ground, with a gap of a window
    asked = [f"{s}.{k}={json.dumps(v)}" for s, keys in TINY.items() for k, v in keys.items() if s != "tokens"]
    wide = mamol.TrainOptions(overrides=[*asked, "tokens.window_px=32", "tokens.token_px=4"])
    given = mamol.pretrain_backbone(scene, tmp_path / "backbone", wide)
    mamol.train_model(scene, tmp_path / "run", mamol.TrainOptions(overrides=[*asked, f"backbone.path={given}"]))
    split = read_run(tmp_path / "run").split
    assert (split["overlap"]["patch_px"], split["overlap"]["overlapping"]) == (32, 0)
    mamol.evaluate_run(tmp_path / "run", scene, baselines=())  # splits again, with the run's own windows
    with pytest.raises(UsageError, match=r"made for windows of 8 pixels, and the model has windows of 32; .* patch_px=32"):
        prepare(scene, make_split(scene, "block", 0, 8), build_config({"backbone": {"path": str(given)}}), 0)


def test_what_a_config_leaves_at_its_default_is_not_asked_for(tmp_path: Path) -> None:
    dataset, given = made_samples(), tmp_path / "backbone"
    pretrain_backbone(prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(), 0), given)
    config = Config(backbone=BackboneConfig(path=str(given)), train=TrainConfig(steps=2, eval_every=2))
    run = mamol.train_model(dataset, tmp_path / "run", mamol.TrainOptions(config))
    assert run.model.config.backbone.width == TINY["backbone"]["width"]


def test_a_backbone_of_other_series_is_refused_and_of_another_unit_is_not(tmp_path: Path) -> None:
    dataset, given = made_samples(), tmp_path / "backbone"
    split = make_split(dataset, "block", 0, 8)
    pretrain_backbone(prepare(dataset, split, tiny_config(), 0), given)
    config = build_config({"backbone": {"path": str(given)}})
    optical, *others = dataset.modalities
    prepare(replace(dataset, modalities=(replace(optical, unit="K", gsd_m=3.0), *others)), split, config, 0)
    longer = replace(optical, length=optical.length + 1)
    with pytest.raises(ConfigError, match=rf"optical \(series, 4 bands, {optical.length} steps\).* {longer.length} steps"):
        prepare(replace(dataset, modalities=(longer, *others)), split, config, 0)


def test_a_class_that_the_split_takes_from_training_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    prepare(scene, split, tiny_config(), 0)
    assert "leaves no label" not in caplog.text
    for tile, role in zip(scene.tiles, split.roles, strict=True):
        tile.labels[(role == TRAIN) & (tile.labels == 2)] = 0
        tile.labels[(role == VAL) & (tile.labels == 1)] = 0
    prepare(scene, split, tiny_config(), 0)
    assert "the block split (seed 0) leaves no label to train wood of 'made' on" in caplog.text
    assert "leaves no label to validate grass of 'made' on" in caplog.text
    assert [r.levelname for r in caplog.records if "leaves no label" in r.message] == ["WARNING", "INFO"]
