"""The one training loop.

    for each step:  draw a batch -> hide modalities -> loss -> AdamW step -> running mean of the weights
    every so often: score the running mean on validation under every pattern, keep the best, save the state

`Accelerator` brings device, precision and several processes (start with torchrun or accelerate launch). Each process
takes its share of the same batch and gradients are summed before the step, so that two processes train what one
would. All randomness is a function of (seed, step): the state file needs weights, optimizer and step, and a run that
was killed at any moment goes on to the same bits.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mamol.config import TrainConfig
from mamol.errors import TrainingDiverged
from mamol.model.build import AnyClassifier
from mamol.model.classifier import Classifier
from mamol.seed import seed_torch
from mamol.train.feed import Draw, Feed
from mamol.train.losses import batch_loss
from mamol.train.state import reading_state, write_state
from mamol.train.validate import Validation

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int, str], None]
"""Called as progress(what, done, total, note)."""


def silent(what: str, done: int, total: int, note: str) -> None:
    """Show nothing."""


@dataclass
class History:
    """What happened: rows of {"step", "loss", "lr", "score"}, and the best validation score with its step."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best_score: float = -math.inf
    best_step: int = 0
    stale: int = 0


@dataclass
class Trainer:
    """Everything that changes while training, and how to put it on disk."""

    model: AnyClassifier
    optimizer: torch.optim.Optimizer
    mean: dict[str, Tensor]
    best: dict[str, Tensor]
    history: History
    step: int = 0

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the weights that train, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def save(self, path: Path) -> None:
        """Write weights, optimizer and history as one safetensors file, atomically; no pickle."""
        tensors = {f"weight.{n}": p.detach() for n, p in self.trainable().items()}
        tensors |= {f"mean.{n}": t for n, t in self.mean.items()} | {f"best.{n}": t for n, t in self.best.items()}
        for name, p in self.trainable().items():
            state = self.optimizer.state.get(p, {})
            tensors |= {f"optimizer.{key}.{name}": torch.as_tensor(v) for key, v in state.items()}
        about = {"step": str(self.step), "history": json.dumps(vars(self.history))}
        write_state(path, tensors, about)

    def load(self, path: Path) -> None:
        """Go back to a saved state; raises CheckpointError if it is broken or of another model."""
        with reading_state(path) as (tensors, about):
            self.history = History(**json.loads(about["history"]))
            self.step = int(about["step"])
            for name, p in self.trainable().items():
                p.data.copy_(tensors[f"weight.{name}"])
                keys = ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.step.{name}" in tensors:
                    self.optimizer.state[p] = {k: tensors[f"optimizer.{k}.{name}"].clone() for k in keys}
            self.mean = {n: tensors[f"mean.{n}"].to(t.device) for n, t in self.mean.items()}
            self.best = {n: tensors[f"best.{n}"].to(t.device) for n, t in self.best.items()}


def schedule(step: int, steps: int, warmup: float = 0.1, decay: str = "cosine") -> float:
    """Return the factor on the learning rate: linear warm-up over a share of the steps, then a decay to zero."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    rest = (step - warm) / max(1, steps - warm)
    return 1 - rest if decay == "linear" else 0.5 * (1 + math.cos(math.pi * rest))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a training step."""
    return config.lr * schedule(step, config.steps, config.warmup, config.decay)


def fit(
    model: AnyClassifier,
    feed: Feed,
    config: TrainConfig,
    state: Path | None = None,
    progress: Progress = silent,
    on_row: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Train until config.steps or until validation stops improving; the model ends with the best weights.

    `state` is where to save and, if the file is there, to resume from; None keeps nothing. Raises CheckpointError, and
    TrainingDiverged as soon as the loss or a weight is not finite.
    """
    accelerator = Accelerator(mixed_precision=config.precision, cpu=not torch.cuda.is_available())
    model.to(accelerator.device)
    model.freeze()
    if feed.taught and isinstance(model, Classifier):
        model.freeze_all_but(feed.taught)
    weights = [p for p in model.parameters() if p.requires_grad]
    raw = torch.optim.AdamW(weights, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    start = {n: p.detach().clone() for n, p in trainable.items()}
    trainer = Trainer(model, raw, start, {n: t.clone() for n, t in start.items()}, History())
    if state is not None and state.exists():
        trainer.load(state)
        log.info("resumed at step %d of %d", trainer.step, config.steps)
    optimizer = accelerator.prepare_optimizer(raw)
    validation = Validation(feed.held_out().to(accelerator.device), feed.order, config)
    weight = feed.class_weight().to(accelerator.device)
    while trainer.step < config.steps and trainer.history.stale < config.patience:
        loss = _step(trainer, optimizer, feed, weight, accelerator)
        must_be_finite(loss, "train", trainer.step + 1, learning_rate(trainer.step, config))
        _average(trainer, config.ema)
        trainer.step += 1
        if trainer.step % config.eval_every == 0 or trainer.step == config.steps:
            weights_norm = float(sum(p.detach().norm() for p in trainer.mean.values()))
            must_be_finite(weights_norm, "train", trainer.step, learning_rate(trainer.step - 1, config))
            row = {"step": trainer.step, "loss": loss, "lr": learning_rate(trainer.step - 1, config)}
            row["score"] = _evaluate(trainer, validation)
            trainer.history.rows.append(row)
            if on_row is not None and accelerator.is_main_process:
                on_row(row)
            if state is not None and accelerator.is_main_process:
                trainer.save(state)
        progress("train", trainer.step, config.steps, f"loss {loss:.3f} best {trainer.history.best_score:.1f}")
    with torch.no_grad():
        for name, p in trainer.trainable().items():
            p.copy_(trainer.best[name])
    return trainer.history


def must_be_finite(value: float, section: str, step: int, lr: float) -> None:
    """Raise TrainingDiverged for a loss, or a norm of weights, that is not finite; what it came to be is of no use."""
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"the training diverged: after step {step}, at a learning rate of {lr:.2g}, loss or weights are no numbers any more. "
            f"Lower {section}.lr, look for outlandish values in the bands, and begin anew in another folder."
        )


def _step(trainer: Trainer, optimizer: torch.optim.Optimizer, feed: Feed, weight: Tensor, accelerator: Accelerator) -> float:
    """Take one optimizer step and return the mean loss over all processes."""
    config, model, step = feed.config.train, trainer.model, trainer.step
    whole = feed.draw(step, config.batch)
    missing = feed.draw_missing(whole, step)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    draw = feed.fullest(whole, missing).part(share).to(accelerator.device)
    subset = draw.without(missing[share].to(accelerator.device), feed.order)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    seed_torch(feed.seed, f"dropout {accelerator.process_index}", step)
    model.train()
    with accelerator.autocast():
        loss = batch_loss(model, draw, subset, weight, config)
    count = accelerator.reduce(loss.count, "sum").clamp_min(1.0)
    optimizer.zero_grad()
    accelerator.backward(loss.total / count)
    _sum_gradients(trainer.trainable().values(), accelerator)
    accelerator.clip_grad_norm_(list(trainer.trainable().values()), config.clip)
    optimizer.step()
    return float(accelerator.reduce(loss.total.detach(), "sum") / count)


def _sum_gradients(weights: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Add the gradients of all processes, as one message."""
    if accelerator.num_processes == 1:
        return
    weights = list(weights)
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights])
    parts = accelerator.reduce(flat, "sum").split([p.numel() for p in weights])
    for p, part in zip(weights, parts, strict=True):
        p.grad = part.view_as(p).clone()


def _average(trainer: Trainer, decay: float) -> None:
    """Move the running mean of the weights; early steps count more, so that the start is soon forgotten."""
    decay = min(decay, (1 + trainer.step) / (10 + trainer.step)) if decay else 0.0
    with torch.no_grad():
        for name, p in trainer.trainable().items():
            trainer.mean[name].lerp_(p.detach(), 1 - decay)


def _evaluate(trainer: Trainer, validation: Validation) -> float:
    """Score the running mean on validation and remember it if it is the best so far."""
    own = {n: p.detach().clone() for n, p in trainer.trainable().items()}
    with torch.no_grad():
        for name, p in trainer.trainable().items():
            p.copy_(trainer.mean[name])
        score = validation.score(trainer.model)
        for name, p in trainer.trainable().items():
            p.copy_(own[name])
    history = trainer.history
    if score > history.best_score:
        history.best_score, history.best_step, history.stale = score, trainer.step, 0
        trainer.best = {n: t.clone() for n, t in trainer.mean.items()}
    else:
        history.stale += 1
    return score


__all__ = ["Draw", "History", "Trainer", "fit", "schedule", "silent"]
