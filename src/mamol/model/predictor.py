"""A trained classifier as a Predictor: any batch, any raster size, any pattern -> calibrated probabilities.

    raster -> overlapping windows -> logits / T(pattern of the pixel) -> softmax -> weighted mean over the windows

What is scored is what is mapped: evaluation and mapping both come through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mamol.data.normalize import Normalizer
from mamol.errors import AllModalitiesMissing, ShapeMismatch, UsageError, unknown
from mamol.modality import AXES, Batch, Modality
from mamol.model.build import AnyClassifier
from mamol.model.raster_windows import Folds, RasterWindows

CHUNK = 128


@dataclass
class MamolPredictor:
    """MaMOL behind the Predictor interface.

    `temperatures` maps a pattern ("hsi+lidar") to its temperature; a pattern that is not there takes their mean.
    `stride_px` None moves windows by half their side.
    """

    model: AnyClassifier
    normalizer: Normalizer
    classes: tuple[str, ...]
    temperatures: Mapping[str, float]
    stride_px: int | None = None
    folds: Folds = field(default_factory=Folds, repr=False)
    """Copies of the model for single patterns, made when first needed: they must be dropped if the model changes."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that the model knows."""
        return tuple(m.name for m in self.model.modalities)

    @property
    def default_temperature(self) -> float:
        """Return the temperature of a pattern that has none of its own: the mean of those that are there."""
        return float(np.mean(list(self.temperatures.values()))) if self.temperatures else 1.0

    def must_know(self, scene: bool, modalities: Sequence[Modality] = ()) -> None:
        """Raise UsageError for a scene if the model was trained on a sample set, or the other way round; ShapeMismatch if a
        modality is of another kind than in training (a text is not a vector, though both are (B, C)).
        """
        if scene == (self.model.task == "sample"):
            known, asked = ("a sample set", "a scene") if scene else ("a scene", "a sample set")
            raise UsageError(f"the run was trained on {known}, and knows nothing of {asked}; train another one on such data.")
        kinds = {m.name: m.kind for m in self.model.modalities}
        for m in modalities:
            if m.kind != kinds.get(m.name, m.kind):
                raise ShapeMismatch(f"'{m.name}' is a {m.kind}; the model was trained on a {kinds[m.name]} of that name.")

    def predict(self, batch: Batch) -> np.ndarray:
        """Return probabilities, float32: (B, K), or (B, K, H, W) for a scene's windows of any size.

        Raises AllModalitiesMissing, and UnknownName / ShapeMismatch for modalities that the model does not know.
        """
        full = self._complete(batch)
        if not len(batch):
            rest = () if self.model.task == "sample" else next(iter(full.values.values())).shape[2:]
            return np.zeros((0, len(self.classes), *rest), dtype=np.float32)
        self._refuse_empty(full.pattern(self.modalities))
        self.model.eval()
        with torch.no_grad():
            if self.model.task == "sample":
                return self._samples(full)
            return np.stack([self._raster(full.take(slice(i, i + 1))) for i in range(len(full))])

    def activations(self, batch: Batch) -> np.ndarray:
        """Return the mean gate of every expert per adapted layer, (L, E), over a batch of samples or rasters."""
        values, available = self._tensors(self._complete(batch))
        if self.model.task != "sample":
            raster = RasterWindows(values, available, torch.ones(next(iter(values.values())).shape[-2:]), self.model)
            values, available = raster.some()
        with torch.no_grad():
            routing = self.model(values, available).routing
        return np.stack([routing.chosen[i].mean(0).cpu().numpy() for i in sorted(routing.chosen)] or [np.zeros(0)])

    def expert_names(self) -> list[str]:
        """Name the experts in the order of `activations`."""
        return self.model.expert_names()

    def chosen_expert(self, pattern: Sequence[str]) -> int:
        """Return which dynamic expert has the largest mean gate under a pattern, counted from 1; 0 if there is none."""
        dynamic = [i for i, name in enumerate(self.expert_names()) if name.startswith("dynamic")]
        with torch.no_grad():
            gates = self.model.pattern_gates(pattern)
        return int(gates[:, dynamic].mean(0).argmax()) + 1 if dynamic and len(gates) else 0

    def _complete(self, batch: Batch) -> Batch:
        """Put the modalities into the model's order; one that the batch lacks is absent."""
        for m in batch.names():
            if m not in self.modalities:
                raise unknown("modality", m, self.modalities)
        values, available = {}, {}
        for known in self.model.modalities:
            given = batch.values.get(known.name)
            # One that is absent everywhere may have any number of bands: the file that would tell is not there.
            if given is not None and batch.available[known.name].any():
                if given.ndim != AXES[known.kind]:
                    raise ShapeMismatch(
                        f"'{known.name}' has values of shape {given.shape}; the model was trained on a {known.kind}, which has "
                        f"{AXES[known.kind]} axes with that of the samples."
                    )
                if given.shape[1] != known.bands:
                    raise ShapeMismatch(f"'{known.name}' has {given.shape[1]} bands; the model was trained on {known.bands}.")
                if known.kind == "series" and given.shape[2] != known.length > 1:  # 1: an older run from memory did not say it
                    raise ShapeMismatch(
                        f"'{known.name}' has {given.shape[2]} time steps; the model was trained on {known.length}. Steps that "
                        "are missing belong into the series as NaN."
                    )
                values[known.name], available[known.name] = given, batch.available[known.name]
                continue
            rest = self._rest(known, batch) if given is None else given.shape[2:]
            available[known.name] = np.zeros((len(batch), *rest), dtype=bool)
            values[known.name] = np.zeros((len(batch), known.bands, *rest), dtype=np.float32)
        return Batch(values, available)

    def _rest(self, known: Modality, batch: Batch) -> tuple[int, ...]:
        """Return the shape after the band axis of a modality that a batch does not hold at all."""
        if known.kind != "grid":
            return (known.length,) if known.kind == "series" else ()
        if self.model.task == "sample":
            return self.model.shape.pixels.get(known.name, (self.model.config.tokens.window_px,) * 2)
        return next(iter(batch.values.values())).shape[2:]

    def _tensors(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        values, available = tensors(batch, self.normalizer)
        device = next(self.model.parameters()).device
        return {m: v.to(device) for m, v in values.items()}, {m: a.to(device) for m, a in available.items()}

    def _temperature(self, present: np.ndarray) -> np.ndarray:
        """Return the temperature of each row of `present` (n, M); rows without any modality get 1."""
        default, bits = self.default_temperature, 1 << np.arange(len(self.modalities))
        table = np.full(1 << len(self.modalities), default) if len(bits) <= 16 else None
        codes = present @ bits
        named = {
            sum(int(b) for b, m in zip(bits, self.modalities, strict=True) if m in key.split("+")): t
            for key, t in self.temperatures.items()
        }
        if table is None:
            return np.array([named.get(int(c), default) for c in codes])
        table[list(named)] = list(named.values())
        return table[codes]

    def _refuse_empty(self, present: np.ndarray) -> None:
        if not present.any(axis=1).all():
            i = int(np.argmin(present.any(axis=1)))
            raise AllModalitiesMissing(
                f"sample {i} of the batch has no modality present; known modalities: {', '.join(self.modalities)}."
            )

    def _samples(self, batch: Batch) -> np.ndarray:
        """Classify samples grouped by pattern, so that each group folds and skips what it lacks."""
        out = np.empty((len(batch), len(self.classes)), dtype=np.float32)
        values, available = self._tensors(batch)
        present = np.stack([available[m].reshape(len(batch), -1).any(1).cpu().numpy() for m in self.modalities], axis=1)
        self._refuse_empty(present)  # a value that is not finite once normalised counts as missing
        temperature = torch.from_numpy(self._temperature(present).astype(np.float32))
        _, group = np.unique(present, axis=0, return_inverse=True)
        for g in range(int(group.max()) + 1):
            for rows in np.array_split(np.flatnonzero(group == g), -(-int((group == g).sum()) // CHUNK)):
                index = torch.from_numpy(rows)
                part = self.model({m: v[index] for m, v in values.items()}, {m: a[index] for m, a in available.items()})
                out[rows] = (part.logits.float().cpu() / temperature[index, None]).softmax(1).numpy()
        return out

    def _raster(self, batch: Batch) -> np.ndarray:
        """Classify one raster (1, C, H, W) into (K, H, W), NaN where no modality is available."""
        values, available = self._tensors(batch)
        mask = np.stack([available[m][0].cpu().numpy() for m in self.modalities], axis=-1)  # (H, W, M)
        height, width = mask.shape[:2]
        temperature = torch.from_numpy(self._temperature(mask.reshape(-1, mask.shape[-1])).astype(np.float32))
        temperature = temperature.view(height, width)
        raster = RasterWindows(values, available, temperature, self.model)
        out = raster.centre() if self.model.task == "centre" else raster.dense(self.stride_px, self.folds)
        out[:, ~mask.any(-1)] = np.nan
        return out


def tensors(batch: Batch, normalizer: Normalizer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Normalise a batch and hand it to torch; values that are not available become 0, whatever they were.

    Where a normalised value is not finite, the modality is not available.
    """
    values, available = {}, {}
    for m, v in batch.values.items():
        mask = batch.available[m]
        clean = np.where(np.expand_dims(mask, 1), v, np.float32(0))
        with np.errstate(over="ignore", invalid="ignore"):
            ready = np.where(np.expand_dims(mask, 1), normalizer.apply(clean, m), np.float32(0))
        if not (finite := np.isfinite(ready).all(axis=1)).all():
            mask = mask & finite
            ready = np.where(np.expand_dims(mask, 1), ready, np.float32(0))
        values[m] = torch.from_numpy(np.ascontiguousarray(ready, dtype=np.float32))
        available[m] = torch.from_numpy(mask.copy())
    return values, available
