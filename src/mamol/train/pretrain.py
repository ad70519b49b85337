"""Label-free pretraining of the `scene` backbone: predict what is hidden, tokens and whole sensors.

    hide a share of the tokens, and now and then a whole modality    -> a learned mask token stands in (SimMIM, 2111.09886)
    leave a modality out altogether now and then                     -> the backbone learns every pattern
    loss = mean squared error of the hidden, observed values         -> one linear decoder per modality

It sees pixels outside the test area only. Afterwards the backbone is frozen, and the tokenizers start from here.
Source: METHOD.md section 3, "Backbones" (a); masking whole modalities as in MultiMAE (2204.01678).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from mamol.config import Config
from mamol.model.classifier import Classifier
from mamol.model.tokens import Tokens, whole_cells
from mamol.seed import generator, seed_torch
from mamol.train.feed import Draw, Feed
from mamol.train.loop import Progress, must_be_finite, schedule, silent
from mamol.train.state import reading_state, write_state

SAVE_EVERY = 100
"""Steps after which a pretraining saves its state."""


class Decoder(nn.Module):
    """One mask token and one linear decoder per modality; thrown away after pretraining."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        config = model.config
        width, cell = config.backbone.width, config.tokens.token_px**2
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        sizes = {m.name: model.shape.bands[m.name] * (cell if m.kind == "grid" else 1) for m in model.modalities}
        self.out = nn.ModuleDict({m: nn.Linear(width, n) for m, n in sizes.items()})


def pretrain(
    model: Classifier, feed: Feed, config: Config, state: Path | None = None, progress: Progress = silent
) -> list[float]:
    """Train tokenizers and backbone in place; return the loss every 50 steps. The same seed gives the same bits.

    `state` is where to save and, if the file is there, to go on from, to the same bits; None keeps nothing. Raises
    CheckpointError, and TrainingDiverged for a loss that is not finite.
    """
    seed_torch(feed.seed, "pretrain")
    device = next(model.parameters()).device
    decoder = Decoder(model).to(device)
    weights = [*model.tokenizers.parameters(), *model.backbone.parameters(), *decoder.parameters()]
    for p in weights:
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=config.pretrain.lr, betas=(0.9, 0.98), weight_decay=0.05)
    losses: list[float] = []
    first = _load(state, weights, optimizer, losses) if state is not None and state.exists() else 0
    model.train()
    for step in range(first, config.pretrain.steps):
        draw = feed.draw(step, config.pretrain.batch, labelled=False).to(device)
        lr = config.pretrain.lr * schedule(step, config.pretrain.steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = masked_loss(model, decoder, draw, step, feed.seed)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == config.pretrain.steps - 1:
            losses.append(float(loss.detach()))
            must_be_finite(losses[-1], "pretrain", step + 1, lr)
        if state is not None and (step + 1) % SAVE_EVERY == 0:
            _save(state, weights, optimizer, losses, step + 1)
        progress("pretrain", step + 1, config.pretrain.steps, f"loss {losses[-1]:.3f}")
    return losses


def _save(path: Path, weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, losses: list[float], step: int) -> None:
    """Write weights, optimizer and torch's random state, from which dropout draws."""
    tensors = {f"weight.{i}": p for i, p in enumerate(weights)} | {"random.cpu": torch.get_rng_state()}
    if weights[0].is_cuda:
        tensors["random.cuda"] = torch.cuda.get_rng_state(weights[0].device)
    for i, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in kept.items()}
    write_state(path, tensors, {"step": str(step), "losses": json.dumps(losses)})


def _load(path: Path, weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, losses: list[float]) -> int:
    """Go back to a saved state; return the steps that it has done."""
    with reading_state(path) as (tensors, about):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "weight":
                weights[int(rest)].data.copy_(value)
            elif kind == "optimizer":
                i, _, key = rest.partition(".")
                state.setdefault(int(i), {})[key] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and weights[0].is_cuda:
            torch.cuda.set_rng_state(tensors["random.cuda"], weights[0].device)
        losses.extend(json.loads(about["losses"]))
        return int(about["step"])


def masked_loss(model: Classifier, decoder: Decoder, draw: Draw, step: int, seed: int) -> Tensor:
    """Return the mean squared error of the hidden tokens' observed values."""
    config = model.config.pretrain
    rng = generator(seed, "mask", step)
    batch = len(draw)
    tokens: list[Tokens] = []
    hidden: list[Tensor] = []
    left_out = torch.from_numpy(rng.random((batch, len(model.modalities))) < config.drop_modality)
    left_out &= torch.from_numpy(rng.permuted(torch.arange(left_out.shape[1]).expand(batch, -1).numpy(), axis=1)) != 0
    for i, m in enumerate(model.modalities):
        t = model.tokenizers[m.name](draw.values[m.name], draw.available[m.name])
        whole = rng.random((batch, 1)) < config.mask_modality
        hide = torch.from_numpy((rng.random(tuple(t.keep.shape)) < config.mask_tokens) | whole).to(t.keep.device)
        t.keep = t.keep & ~left_out[:, i : i + 1].to(t.keep.device)
        # Position and modality stay visible at a hidden token: only what was observed there is taken away.
        place = model.tokenizers[m.name](torch.zeros_like(draw.values[m.name][:1]), torch.zeros_like(draw.available[m.name][:1]))
        t.values = torch.where(hide[..., None], decoder.mask_token + place.values, t.values)
        tokens.append(t)
        hidden.append(hide & t.keep)
    sequence, keep = torch.cat([t.values for t in tokens], 1), torch.cat([t.keep for t in tokens], 1)
    keep = keep | ~keep.any(1, keepdim=True)
    features = model.backbone(sequence, keep).split([t.values.shape[1] for t in tokens], dim=1)
    total = torch.zeros((), device=sequence.device)
    for m, feature, hide in zip(model.modalities, features, hidden, strict=True):
        target, seen = _targets(draw, m.name, model)
        use = seen & hide[..., None]
        error = (decoder.out[m.name](feature) - target) ** 2
        total = total + (error * use).sum() / use.sum().clamp_min(1)
    return total / len(model.modalities)


def _targets(draw: Draw, name: str, model: Classifier) -> tuple[Tensor, Tensor]:
    """Return the values behind each token (B, N, C * cell) and which of them were observed."""
    values, mask = draw.values[name], draw.available[name][:, None].expand_as(draw.values[name])
    if values.dim() == 4:
        t = model.config.tokens.token_px
        cut = nn.Unfold(t, stride=t)
        values, mask = whole_cells(values, t), whole_cells(mask, t)
        return cut(values).transpose(1, 2), cut(mask.float()).transpose(1, 2) > 0
    if values.dim() == 2:
        return values[:, None], mask[:, None]
    return values.transpose(1, 2), mask.transpose(1, 2)
