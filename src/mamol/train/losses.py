"""The training loss: cross-entropy under a random pattern, and what may be added to it.

    L = CE(subset) + balance * L_balance
        + CE(full) + distill * KL(full || subset) + w * max(0, CE(full) - CE(subset))      if distill or w is above 0

`full` is the same sample with every modality that was observed. To teach its subsets it has to be right itself: hence its own
cross-entropy, which weighs 1 whatever distill and w are. Source: METHOD.md section 3, "Losses"; the last term is
more-vs-fewer of SimMLM (2507.19264). Every sum is returned with its count, so that several processes can divide by the
total and reach the gradient of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mamol.config import TrainConfig
from mamol.data.dataset import UNLABELLED
from mamol.model.build import AnyClassifier
from mamol.model.classifier import Output
from mamol.train.feed import Draw


@dataclass
class LossSum:
    """A loss summed over `count` labelled pixels or samples."""

    total: Tensor
    count: Tensor


def labelled(logits: Tensor, labels: Tensor, task: str) -> tuple[Float[Tensor, "n K"], Tensor]:
    """Return logits (n, K) and labels (n,) of what has a label, from any of the three tasks."""
    if task == "centre":
        labels = labels[:, labels.shape[1] // 2, labels.shape[2] // 2]
    if task == "dense":
        logits = logits.movedim(1, -1)
    chosen = labels != UNLABELLED
    return logits[chosen], labels[chosen]


def batch_loss(model: AnyClassifier, draw: Draw, subset: Draw, weight: Tensor, config: TrainConfig) -> LossSum:
    """Return the loss of one batch; `draw` has all that may be shown, `subset` fewer, `weight` (K,) per class.

    `draw` is run, and learnt from, if config.distill or config.more_vs_fewer is above 0 only.
    """
    few = model(subset.values, subset.available)
    logits, labels = labelled(few.logits, draw.labels, model.task)
    count = torch.tensor(float(len(labels)), device=logits.device)

    def cross_entropy(x: Tensor) -> Tensor:
        return nn.functional.cross_entropy(x, labels, weight, reduction="none", label_smoothing=config.label_smoothing)

    each = cross_entropy(logits)
    if config.distill or config.more_vs_fewer:
        more, _ = labelled(model(draw.values, draw.available).logits, draw.labels, model.task)
        full = cross_entropy(more)
        each = each + full + config.more_vs_fewer * (full - each).clamp_min(0)
        teacher = more.detach().log_softmax(-1)
        divergence = nn.functional.kl_div(logits.log_softmax(-1), teacher, reduction="none", log_target=True)
        each = each + config.distill * divergence.sum(-1)
    return LossSum(each.sum() + balance(few, model) * count, count)


def balance(output: Output, model: AnyClassifier) -> Tensor:
    """Return the weighted load-balancing loss of one forward pass; 0 when it is off."""
    terms = output.routing.balance
    return model.config.router.balance * torch.stack(terms).mean() if terms else torch.zeros((), device=output.logits.device)
