"""Run folders: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import Trained
from mamol.data.split import labels_hash
from mamol.errors import CheckpointError, FileMissing
from mamol.model.checkpoint import load_run, read_run


@pytest.fixture
def run(scene_run: Trained, tmp_path: Path) -> Path:
    shutil.copytree(scene_run.run, tmp_path / "run")
    return tmp_path / "run"


def change(run: Path, **fields: object) -> None:
    path = run / "mamol.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_copied_folder_predicts_the_same(scene_run: Trained, run: Path) -> None:
    batch = scene_run.dataset.tiles[0].batch()
    np.testing.assert_array_equal(load_run(run).predict(batch), scene_run.predictor.predict(batch))


def test_no_pickle_and_no_temporary_state(run: Path) -> None:
    names = {p.name for p in run.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert names == {"mamol.json", "run.json", "log.jsonl", "adapters.safetensors", "backbone.json", "weights.safetensors"}


def test_adapters_hold_no_backbone(run: Path) -> None:
    assert not any(k.startswith("backbone.") for k in load_file(run / "adapters.safetensors"))


def test_another_backbone_is_refused_by_its_hash(run: Path) -> None:
    weights = load_file(run / "backbone" / "weights.safetensors")
    weights["backbone.blocks.0.q.weight"][0, 0] += 1
    save_file(weights, run / "backbone" / "weights.safetensors")
    with pytest.raises(CheckpointError, match="hash"):
        load_run(run)


def test_a_whole_backbone_of_another_run_is_refused(run: Path) -> None:
    change(run, backbone_hash="0" * 64)
    with pytest.raises(CheckpointError, match="put the right backbone"):
        load_run(run)


@pytest.mark.parametrize("file", ["adapters.safetensors", "backbone/weights.safetensors", "mamol.json", "backbone/backbone.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files(run: Path, file: str, share: float) -> None:
    data = (run / file).read_bytes()
    (run / file).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError):
        load_run(run)


@pytest.mark.parametrize("file", ["adapters.safetensors", "mamol.json", "backbone"])
def test_missing_files(run: Path, file: str) -> None:
    path = run / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileMissing, match=file):
        load_run(run)


def test_nan_weights(run: Path) -> None:
    weights = load_file(run / "adapters.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, run / "adapters.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        load_run(run)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 99},
        {"classes": [{"name": "a", "colour": "#000000"}]},
        {"classes": "all"},
        {"modalities": []},
        {"bands": {"hsi": 6}},
        {"bands": {"hsi": 10**9, "sar": 2, "lidar": 1}},
        {"normalizer": {}},
        {"normalizer": {"hsi": {"mean": [1], "std": [0], "unit_spectrum": False, "components": None, "spread": None}}},
        {"unheard_of": 1},
        {"temperatures": {"hsi": "hot"}},
    ],
)
def test_hostile_documents(run: Path, fields: dict[str, object]) -> None:
    change(run, **fields)
    with pytest.raises(CheckpointError):
        load_run(run)


@pytest.mark.parametrize("width", [10**9, 4096, 15])
def test_hostile_sizes_are_refused_before_they_are_allocated(run: Path, width: int) -> None:
    document = json.loads((run / "mamol.json").read_text())
    document["config"]["backbone"]["width"] = width
    change(run, config=document["config"])
    with pytest.raises(CheckpointError):
        load_run(run)


def test_a_pickle_is_not_opened(run: Path) -> None:
    torch.save({"a": torch.zeros(1)}, run / "adapters.safetensors")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_run(run)


def test_a_run_of_before_the_scale_was_a_setting_keeps_alpha_over_r(run: Path) -> None:
    config = json.loads((run / "mamol.json").read_text())["config"]
    assert config["experts"].pop("scale") == 4.0
    change(run, config=config)
    assert read_run(run).config.experts.scale == 0.0


def test_the_document_says_what_was_trained(scene_run: Trained) -> None:
    document = read_run(scene_run.run)
    assert document.dataset == "made"
    split, labels = scene_run.split, labels_hash(scene_run.dataset, scene_run.split)
    assert document.split == {"kind": "block", "seed": 0, "hash": split.hash(), "labels": labels, "overlap": split.overlap}
    assert set(document.parameters) == {"experts", "router", "tokenizers", "head", "backbone", "frozen"}
    assert document.training["best_step"] in {3, 6}
    assert "hsi+sar+lidar" in document.temperatures


def test_a_training_that_is_not_finished_is_called_so(run: Path) -> None:
    (run / "mamol.json").unlink()
    with pytest.raises(FileMissing, match=r"has no mamol\.json: its training is not finished\. .*--resume"):
        load_run(run)
