"""A backbone folder of its own: refused, stopped and gone on with, finished."""

from __future__ import annotations

from pathlib import Path

import pytest

import mamol
from made import made_samples, tiny_config
from mamol.errors import CheckpointError, ConfigError, OutputExists
from mamol.model.checkpoint import read_backbone
from mamol.train.backbones import STATE


def asked(resume: bool = False, seed: int = 0, **pretrain: object) -> mamol.TrainOptions:
    return mamol.TrainOptions(tiny_config(pretrain={"steps": 5} | pretrain), seed=seed, resume=resume)


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose pretraining was killed in its third step; it saves after every second."""
    monkeypatch.setattr("mamol.train.pretrain.SAVE_EVERY", 2)

    def stop(what: str, step: int, total: int, note: str) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mamol.pretrain_backbone(made_samples(), tmp_path / "stopped", asked(), stop)
    return tmp_path / "stopped"


def test_a_stopped_pretraining_goes_on_to_the_same_bits(stopped: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    mamol.pretrain_backbone(made_samples(), stopped, asked(resume=True), lambda what, step, *_: steps.append(step))
    assert steps == [3, 4, 5]
    whole = mamol.pretrain_backbone(made_samples(), tmp_path / "whole", asked())
    assert (stopped / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert read_backbone(stopped)[0].pretraining["losses"] == read_backbone(whole)[0].pretraining["losses"]
    names = ["backbone.json", "run.json", "weights.safetensors"]
    assert [sorted(p.name for p in folder.iterdir()) for folder in (stopped, whole)] == [names, names]


def test_a_stopped_pretraining_is_gone_on_with_only_by_the_same(stopped: Path) -> None:
    with pytest.raises(OutputExists, match=r"is not empty; pass resume=True .* a backbone that was stopped"):
        mamol.pretrain_backbone(made_samples(), stopped, asked())
    with pytest.raises(ConfigError, match=r"another configuration \(pretrain.lr: 0.001 then, 1.0 now\)"):
        mamol.pretrain_backbone(made_samples(), stopped, asked(resume=True, lr=1.0))
    (stopped / STATE).write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"cannot be resumed from .*; delete it to start afresh"):
        mamol.pretrain_backbone(made_samples(), stopped, asked(resume=True))


def test_what_else_lies_in_the_folder_stays(stopped: Path) -> None:
    (stopped / "notes.txt").write_text("mine")
    left = stopped / f".{Path(STATE).stem}.1a2b3c4d.partial.safetensors"  # of a kill while the state was written
    left.touch()
    mamol.pretrain_backbone(made_samples(), stopped, asked(resume=True))
    assert (stopped / "notes.txt").read_text() == "mine"
    assert not left.exists()


def test_it_goes_on_from_a_given_backbone(tmp_path: Path) -> None:
    first = mamol.pretrain_backbone(made_samples(), tmp_path / "first", asked())
    same = mamol.TrainOptions(tiny_config(pretrain={"steps": 0}, backbone={"path": str(first)}))
    again = mamol.pretrain_backbone(made_samples(), tmp_path / "again", same)
    assert (again / "weights.safetensors").read_bytes() == (first / "weights.safetensors").read_bytes()
    assert read_backbone(again)[0].pretraining["after"] == read_backbone(first)[0].pretraining


def test_a_finished_backbone_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = mamol.pretrain_backbone(made_samples(), tmp_path / "backbone", asked())
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(OutputExists, match="holds a finished backbone"):
        mamol.pretrain_backbone(made_samples(), folder, asked())
    mamol.pretrain_backbone(made_samples(), folder, asked(resume=True))
    assert "was finished already" in caplog.text
    with pytest.raises(ConfigError, match="another split, seed"):
        mamol.pretrain_backbone(made_samples(), folder, asked(resume=True, seed=1))
    (folder / "run.json").unlink()  # as one has no that was made before it was written
    with pytest.raises(CheckpointError, match=r"has no run\.json"):
        mamol.pretrain_backbone(made_samples(), folder, asked(resume=True))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {k: v for k, v in before.items() if k != "run.json"}
