"""Validation while training: every pattern on held-out training windows or samples, and the temperatures.

    score  = mean over the 2^M - 1 patterns (at most 15 of them) of (OA + AA) / 2; with train.patterns = "none" of what the
             samples have, as trained
    T(p)   = argmin over a grid of T of the NLL of softmax(logits / T) under pattern p     [temperature scaling, 1706.04599]

As in the test, a pixel or sample that has none of a pattern's modalities is not scored under it. T(p) is fitted on those
that have all of them: the others will take the temperature of what they have. Nothing here sees the test part.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mamol.config import TrainConfig
from mamol.data.dataset import UNLABELLED
from mamol.modality import patterns
from mamol.model.build import AnyClassifier
from mamol.model.tokens import anywhere
from mamol.train.feed import Draw
from mamol.train.losses import labelled

CHUNK = 64
TEMPERATURES = np.geomspace(0.25, 8.0, 61)
MOST_PATTERNS = 15
"""The score takes so many patterns at most: with five modalities or more, evenly spaced ones of all, from the full one on."""


class Validation:
    """Held-out windows or samples, scored under every pattern, or MOST_PATTERNS of them."""

    def __init__(self, held_out: Draw, order: tuple[str, ...], config: TrainConfig) -> None:
        self.held_out, self.order = held_out, order
        self.unseen = [set(name.split("+")) for name in config.held_out]
        every = self._seen() if config.patterns != "none" else [order]
        if len(every) > MOST_PATTERNS:
            step = len(every) / MOST_PATTERNS
            every = [every[int(i * step)] for i in range(MOST_PATTERNS)]
        self.patterns = every

    def _seen(self) -> list[tuple[str, ...]]:
        """Return the patterns that training may show: what is held out must not choose anything."""
        return [p for p in patterns(self.order) if set(p) not in self.unseen]

    def logits(self, model: AnyClassifier, present: tuple[str, ...], whole: bool = False) -> tuple[Tensor, Tensor]:
        """Return logits (n, K) and labels (n,) of the held-out labels under one pattern; n may be 0.

        A label counts if its pixel or sample has some of the pattern's modalities; with `whole`, if it has all of them.
        """
        missing = torch.tensor([[m not in present for m in self.order]]).expand(len(self.held_out), -1)
        hidden = self.held_out.without(missing.to(self.held_out.labels.device), self.order)
        some = torch.stack([anywhere(hidden.available[m]) for m in present], 1)
        per_pixel = hidden.labels.dim() > 1
        has = torch.stack([hidden.available[m] for m in present], -1) if per_pixel else some
        hidden.labels = torch.where(has.all(-1) if whole else has.any(-1), hidden.labels, UNLABELLED)
        hidden = hidden.part(some.any(1))
        out: list[tuple[Tensor, Tensor]] = []
        model.eval()
        with torch.no_grad():
            for start in range(0, len(hidden), CHUNK):
                part = hidden.part(slice(start, start + CHUNK))
                out.append(labelled(model(part.values, part.available).logits.float(), part.labels, model.task))
        if not out:
            return torch.zeros(0, model.shape.classes), torch.zeros(0, dtype=torch.long)
        return torch.cat([a for a, _ in out]), torch.cat([b for _, b in out])

    def score(self, model: AnyClassifier) -> float:
        """Return the mean over patterns of (OA + AA) / 2, percent."""
        scores = []
        for present in self.patterns:
            logits, labels = self.logits(model, present)
            if len(labels):
                right = (logits.argmax(1) == labels).float()
                recall = [right[labels == k].mean() for k in labels.unique()]
                scores.append(50 * float(right.mean() + torch.stack(recall).mean()))
        return sum(scores) / max(len(scores), 1)

    def temperatures(self, model: AnyClassifier) -> dict[str, float]:
        """Return the best temperature per pattern, keyed by its modalities joined with "+"; none for one that no label has."""
        best = {}
        for present in self._seen():
            logits, labels = self.logits(model, present, whole=True)
            if len(labels):
                grid = [torch.nn.functional.cross_entropy(logits / t, labels).item() for t in TEMPERATURES]
                best["+".join(present)] = float(TEMPERATURES[int(np.argmin(grid))])
        return best
