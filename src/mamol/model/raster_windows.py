"""One raster cut into the model's windows: classified, weighted and put together again.

    windows ─► sorted by pattern ─┬─ one pattern throughout ─► folded model of that pattern     plain weights, fewer tokens
                                  └─ mixed                  ─► the model, gates per token
            ─► softmax(logits / T) ─► sum of weight x probability / sum of weights

A window has one pattern where each modality is seen in all of its tokens or in none. Both ways give the same
probabilities to 1e-5. Windows run in small chunks, which stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mamol.data.windows import blend_weight, starts
from mamol.errors import UsageError
from mamol.model.build import AnyClassifier
from mamol.model.tokens import anywhere

CHUNK = 32
MOST_FOLDS = 64
Corner = tuple[int, int]


@dataclass
class Folds:
    """Folded copies of a model by pattern; a model that does not fold stands for itself."""

    models: dict[tuple[str, ...], AnyClassifier] = field(default_factory=dict)

    def get(self, model: AnyClassifier, pattern: tuple[str, ...]) -> AnyClassifier:
        """Return the model for one pattern."""
        if pattern not in self.models:
            if len(self.models) >= MOST_FOLDS:
                return model
            try:
                self.models[pattern] = model.folded(pattern).eval()
            except UsageError:  # gates that depend on more than the pattern
                self.models[pattern] = model
        return self.models[pattern]

    def __getstate__(self) -> dict[str, object]:
        """Leave the copies behind when the predictor travels to another process."""
        return {"models": {}}


class RasterWindows:
    """One raster as tensors: `values[m]` (1, C, H, W), `available[m]` (1, H, W), `temperature` (H, W)."""

    def __init__(
        self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], temperature: Tensor, model: AnyClassifier
    ) -> None:
        self.values, self.available, self.temperature, self.model = values, available, temperature, model
        self.side = model.config.tokens.window_px
        self.height, self.width = temperature.shape

    def dense(self, stride: int | None, folds: Folds) -> np.ndarray:
        """Blend overlapping windows into probabilities (K, H, W); every pixel is covered, whatever the size."""
        side = self.side
        stride = max(1, side // 2) if stride is None else stride
        corners = [(y, x) for y in starts(self.height, side, stride) for x in starts(self.width, side, stride)]
        total = np.zeros((self.model.shape.classes, max(self.height, side), max(self.width, side)), dtype=np.float32)
        weight, norm = blend_weight(side), np.zeros(total.shape[1:], dtype=np.float32)
        self._pad(0, total.shape[2] - self.width, 0, total.shape[1] - self.height)
        for model, chunk in self._by_pattern(corners, folds):
            values, available = self._cut(chunk)
            logits = model(values, available).logits.float().cpu()
            heat = torch.stack([self.temperature[y : y + side, x : x + side] for y, x in chunk])
            probability = (logits / heat[:, None]).softmax(1).numpy() * weight
            for part, (y, x) in zip(probability, chunk, strict=True):
                total[:, y : y + side, x : x + side] += part
                norm[y : y + side, x : x + side] += weight
        total, norm = total[:, : self.height, : self.width], norm[: self.height, : self.width]
        return total / np.where(norm > 0, norm, np.float32(np.nan))

    def centre(self) -> np.ndarray:
        """Classify every pixel as the middle of its own patch (the paper's way)."""
        half = self.side // 2
        out = np.full((self.model.shape.classes, self.height, self.width), np.nan, dtype=np.float32)
        heat = self.temperature
        self._pad(half, self.side - half - 1, half, self.side - half - 1)
        places = [(y, x) for y in range(self.height) for x in range(self.width)]
        for start in range(0, len(places), 4 * CHUNK):
            chunk = places[start : start + 4 * CHUNK]
            values, available = self._cut(chunk)
            rows = torch.stack([anywhere(a) for a in available.values()]).any(0)
            if not bool(rows.any()):
                continue
            logits = self.model({m: v[rows] for m, v in values.items()}, {m: a[rows] for m, a in available.items()}).logits
            y, x = np.array(chunk)[rows.cpu().numpy()].T
            out[:, y, x] = (logits.float().cpu() / heat[y, x][:, None]).softmax(1).numpy().T
        return out

    def some(self, most: int = 128) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return up to `most` windows side by side that hold anything."""
        side = self.side
        self._pad(0, max(side - self.width, 0), 0, max(side - self.height, 0))
        corners = [(y, x) for y in starts(self.height, side, side) for x in starts(self.width, side, side)]
        observed = torch.stack([a[0] for a in self.available.values()]).any(0)
        corners = [(y, x) for y, x in corners if bool(observed[y : y + side, x : x + side].any())]
        return self._cut(corners[:: -(-len(corners) // most)])

    def _by_pattern(self, corners: list[Corner], folds: Folds) -> Iterator[tuple[AnyClassifier, list[Corner]]]:
        """Yield chunks of windows that hold anything, each with the model that runs it."""
        names = [m.name for m in self.model.modalities]
        whole, some = (torch.stack(x, dim=1).numpy() for x in zip(*(self._seen(m, corners) for m in names), strict=True))
        mixed = (some & ~whole).any(axis=1)
        codes = np.where(mixed, -1, some @ (1 << np.arange(len(names))))
        for code in np.unique(codes[some.any(axis=1)]):
            rows = np.flatnonzero((codes == code) & some.any(axis=1))
            pattern = tuple(m for i, m in enumerate(names) if code >= 0 and code >> i & 1)
            model = folds.get(self.model, pattern) if pattern else self.model
            for start in range(0, len(rows), CHUNK):
                yield model, [corners[i] for i in rows[start : start + CHUNK]]

    def _seen(self, modality: str, corners: list[Corner]) -> tuple[Tensor, Tensor]:
        """Return, per window, whether all of its tokens see a modality, and whether any does: bool (n,) each."""
        t, side = self.model.config.tokens.token_px, self.side
        mask = self.available[modality][0].cpu()
        if bool(mask.all()):
            return torch.ones(len(corners), dtype=torch.bool), torch.ones(len(corners), dtype=torch.bool)
        if not bool(mask.any()):
            return torch.zeros(len(corners), dtype=torch.bool), torch.zeros(len(corners), dtype=torch.bool)
        windows = torch.stack([mask[y : y + side, x : x + side] for y, x in corners])
        tokens = torch.nn.functional.max_pool2d(windows.float()[:, None], t).flatten(1) > 0
        return tokens.all(1), tokens.any(1)

    def _pad(self, left: int, right: int, top: int, bottom: int) -> None:
        around = (left, right, top, bottom)
        pad = torch.nn.functional.pad
        self.values = {m: pad(v, around) for m, v in self.values.items()}
        self.available = {m: pad(a, around, value=False) for m, a in self.available.items()}
        self.temperature = pad(self.temperature[None], around, value=1.0)[0]

    def _cut(self, corners: list[Corner]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the windows at `corners`."""
        side = self.side

        def cut(x: Tensor) -> Tensor:
            return torch.cat([x[..., r : r + side, c : c + side] for r, c in corners])

        return {m: cut(v) for m, v in self.values.items()}, {m: cut(a) for m, a in self.available.items()}
