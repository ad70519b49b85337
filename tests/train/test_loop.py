"""The loop: same seed, same bits; killed and resumed, same bits; the best weights are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from made import made_samples, tiny_config
from mamol.config import Config
from mamol.data.split import make_split
from mamol.errors import CheckpointError, TrainingDiverged
from mamol.train.loop import History, Trainer, fit, schedule
from mamol.train.prepare import Prepared, prepare
from mamol.train.pretrain import pretrain
from mamol.train.run import train


def prepared(config: Config, seed: int = 0) -> Prepared:
    dataset = made_samples()
    return prepare(dataset, make_split(dataset, "block", 0, 8), config, seed)


def weights(p: Prepared) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in p.model.parameters()])


CONFIG = tiny_config(train={"steps": 12, "eval_every": 3, "patience": 9}, model={"dropout": 0.2})


def run(seed: int = 0, state: Path | None = None, stop_at: int = 0) -> torch.Tensor:
    p = prepared(CONFIG, seed)

    def progress(what: str, done: int, total: int, note: str) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    fit(p.model, p.feed, CONFIG.train, state, progress)
    return weights(p)


def test_the_same_seed_gives_the_same_bits() -> None:
    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@pytest.mark.parametrize("stop_at", [2, 3, 7, 11])
def test_killed_at_any_moment_and_resumed_gives_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(0, state, stop_at)
    assert state.exists() == (stop_at >= 3)
    assert torch.equal(run(0, state), run(0))


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(0, state, 7)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="start afresh"):
        run(0, state)


def test_what_is_resumed_lies_where_the_model_lies(tmp_path: Path) -> None:
    def trainer(device: str) -> Trainer:  # "meta" stands in for an accelerator
        model = torch.nn.Linear(3, 2, device=device)
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        return Trainer(model, torch.optim.AdamW(model.parameters()), start, dict(start), History())

    trainer("cpu").save(tmp_path / "state.safetensors")
    resumed = trainer("meta")
    resumed.load(tmp_path / "state.safetensors")
    assert {t.device.type for t in (*resumed.mean.values(), *resumed.best.values())} == {"meta"}


def test_training_lowers_the_loss_and_keeps_the_best(tmp_path: Path) -> None:
    config = tiny_config(train={"steps": 60, "eval_every": 10, "lr": 5e-3, "batch": 32})
    p = prepared(config)
    history = fit(p.model, p.feed, config.train)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert history.best_score == max(r["score"] for r in history.rows)
    assert history.best_score > 50


def test_early_stopping() -> None:
    config = tiny_config(train={"steps": 200, "eval_every": 1, "patience": 3, "lr": 1e-8})
    p = prepared(config)
    assert fit(p.model, p.feed, config.train).rows[-1]["step"] < 200


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_schedule(decay: str) -> None:
    values = [schedule(i, 100, 0.1, decay) for i in range(100)]
    assert values[9] == max(values) == 1.0
    assert values[:10] == sorted(values[:10])
    assert values[9:] == sorted(values[9:], reverse=True)
    assert 0 <= values[-1] < 0.02


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 20])
def test_schedule_of_few_steps(steps: int) -> None:
    assert all(0 < schedule(i, steps) <= 1 for i in range(steps))


@pytest.mark.parametrize("lr", [1e4, 1e30])
def test_a_training_that_diverges_says_so_and_keeps_nothing(tmp_path: Path, lr: float) -> None:
    p = prepared(tiny_config(train={"steps": 9, "eval_every": 3, "lr": lr, "warmup": 0.0, "clip": 1e30}))
    with pytest.raises(TrainingDiverged, match=r"after step \d, at a learning rate of .* Lower train\.lr"):
        train(p, tmp_path / "run")
    assert not (tmp_path / "run" / "mamol.json").exists()


def test_a_pretraining_that_diverges_says_so(tmp_path: Path) -> None:
    p = prepared(tiny_config(pretrain={"steps": 60, "lr": 1e30}))
    with pytest.raises(TrainingDiverged, match=r"Lower pretrain\.lr"):
        pretrain(p.model, p.feed, p.config)
