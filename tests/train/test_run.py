"""A run folder from nothing: refused, resumed, trained by two processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from conftest import Trained
from made import TINY, made_samples, made_scene, tiny_config
from mamol.cli.main import execute
from mamol.data.dataset import Dataset, classes_from
from mamol.data.samples import write_samples
from mamol.data.split import TEST, UNUSED, VAL, make_split
from mamol.errors import CheckpointError, ConfigError, DataError, OutputExists
from mamol.modality import Batch
from mamol.model.checkpoint import load_run, read_run
from mamol.train.backbones import pretrain_backbone
from mamol.train.prepare import Prepared, prepare
from mamol.train.run import train


def prepared(**sections: dict[str, object]) -> Prepared:
    dataset = made_samples()
    return prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(**sections), 0)


def test_a_folder_in_use_is_refused(scene_run: Trained, tmp_path: Path) -> None:
    with pytest.raises(OutputExists, match="finished run"):
        train(prepared(), scene_run.run)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="not empty"):
        train(prepared(), tmp_path)
    with pytest.raises(OutputExists, match=r"notes\.txt is a file; a run is a folder"):
        train(prepared(), tmp_path / "notes.txt", resume=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("dataset", [made_samples(24), made_scene(4)], ids=["samples", "scene"])
def test_a_split_without_validation_is_refused_before_anything_is_trained(dataset: Dataset, tmp_path: Path) -> None:
    split = make_split(dataset, "random", 0, 8)
    for role in split.roles:
        role[role == VAL] = UNUSED
    with pytest.raises(DataError, match=r"the random split \(seed 0\) leaves no labelled pixel or sample for validation"):
        train(prepare(dataset, split, tiny_config(), 0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stopped_and_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int, note: str) -> None:
        if what == "train" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared(), tmp_path / "a", progress=stop)
    assert not (tmp_path / "a" / "mamol.json").exists()
    with pytest.raises(OutputExists, match="--resume"):
        train(prepared(), tmp_path / "a")
    with pytest.raises(ConfigError, match="another configuration"):
        train(prepared(train={"lr": 1.0}), tmp_path / "a", resume=True)
    train(prepared(), tmp_path / "a", resume=True)
    train(prepared(), tmp_path / "b")
    for name in ("adapters.safetensors", "backbone/weights.safetensors", "log.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_run_that_was_stopped_while_pretraining_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamol.train.pretrain.SAVE_EVERY", 2)
    done: list[int] = []

    def stop(what: str, step: int, total: int, note: str) -> None:
        done.append(step)
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared(pretrain={"steps": 5}), tmp_path / "a", progress=stop)
    train(prepared(pretrain={"steps": 5}), tmp_path / "a", True, lambda what, step, *_: done.append(step))
    assert done[:6] == [1, 2, 3, 3, 4, 5]  # the third step was not saved; the first two were
    train(prepared(pretrain={"steps": 5}), tmp_path / "b")
    for name in ("adapters.safetensors", "backbone/weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a" / "backbone").iterdir()) == ["backbone.json", "weights.safetensors"]


def test_a_run_is_not_resumed_on_another_backbone(tmp_path: Path) -> None:
    given = tmp_path / "backbone"
    pretrain_backbone(prepared(), given)
    train(prepared(backbone={"path": str(given)}), tmp_path / "run")
    shutil.rmtree(given)
    pretrain_backbone(prepared(pretrain={"steps": 4}), given)
    with pytest.raises(ConfigError, match=r"another backbone \(other weights\)"):
        train(prepared(backbone={"path": str(given)}), tmp_path / "run", resume=True)


def test_a_finished_run_is_kept_only_for_the_same_question(
    sample_run: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, data = shutil.copytree(sample_run.run, tmp_path / "run"), made_samples()

    def asked(dataset: Dataset = data, seed: int = 0, **sections: dict[str, object]) -> Prepared:
        return prepare(dataset, make_split(dataset, "block", seed, 8), tiny_config(**sections), seed)

    shifted = Batch({m: v + 1 for m, v in data.samples.values.items()}, data.samples.available)
    hole = {m: a.copy() for m, a in data.samples.available.items()}
    hole["photo"][np.flatnonzero(asked().split.roles[0] == TEST)[0]] = False  # not in training: the means stay
    holed = Batch(data.samples.values, hole)
    swapped = replace(data, labels=np.select([data.labels == 1, data.labels == 2], [2, 1], data.labels).astype(np.int16))
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    assert train(asked(), run, resume=True).modalities == ("optical", "weather", "photo")
    assert "was finished already" in caplog.text
    for other, says in (
        (asked(train={"lr": 1.0}), r"another configuration \(train.lr: \S+ then, 1.0 now\);"),
        (asked(seed=1), "another split, seed;"),
        (asked(replace(data, name="others")), "another data set;"),
        (asked(replace(data, samples=shifted)), "another set of values"),
        (asked(swapped), "another set of labels;"),
        (asked(replace(data, samples=holed)), r"another availability \(other places"),
        (asked(replace(data, classes=classes_from(["a", "b", "z"]))), "another set of classes;"),
    ):
        with pytest.raises(ConfigError, match=says):
            train(other, run, resume=True)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    older = json.loads((run / "run.json").read_text())  # of before: statistics were then of fewer pixels, so other means
    del older["available"], older["labels"]
    older["means"]["photo"][0] = "1.234e+00"
    (run / "run.json").write_text(json.dumps(older))
    assert train(asked(), run, resume=True).modalities == ("optical", "weather", "photo")
    with pytest.raises(ConfigError, match="another split, seed;"):
        train(asked(seed=1), run, resume=True)
    (run / "run.json").unlink()
    with pytest.raises(CheckpointError, match=r"no run.json"):
        train(asked(), run, resume=True)


def test_a_run_of_before_the_scale_keeps_its_own(tmp_path: Path) -> None:
    """Before experts.scale was a setting experts had alpha / r, which is scale 0; today's default is another."""
    train(prepared(experts={"scale": 0.0}), tmp_path / "run")
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    del document["config"]["experts"]["scale"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(document))
    train(prepared(experts={"scale": 0.0}), tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match=r"experts\.scale: 0\.0 then, 4\.0 now"):
        train(prepared(), tmp_path / "run", resume=True)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"config": 1}'])
def test_another_tools_run_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json (cannot be read|does not say what was started)"):
        train(prepared(), tmp_path, resume=True)


def test_the_log_can_be_plotted(scene_run: Trained) -> None:
    rows = [json.loads(line) for line in (scene_run.run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [3, 6]
    assert set(rows[0]) == {"step", "loss", "lr", "score"}
    assert any((scene_run.run / "tensorboard").iterdir())


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    data = write_samples(made_samples(), tmp_path / "data")
    settings = [f"{s}.{k}={json.dumps(v)}" for s, keys in TINY.items() for k, v in keys.items()] + ["model.dropout=0"]
    words = ["train", str(data), *[w for s in settings for w in ("--set", s)], "--out"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert execute([*words, str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]  # any free port
    command = [*launch, "-m", "mamol", *words, str(tmp_path / "two")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [read_run(tmp_path / r).training["processes"] for r in ("one", "two")] == [1, 2]
    assert read_run(tmp_path / "one").training["environment"]["packages"]["torch"] == metadata.version("torch")
    samples = made_samples().samples
    one, two = load_run(tmp_path / "one").predict(samples), load_run(tmp_path / "two").predict(samples)
    np.testing.assert_allclose(one, two, atol=1e-4)
