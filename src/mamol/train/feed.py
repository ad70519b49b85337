"""Draws training batches: windows around labelled pixels, or samples, each with some modalities made missing.

Every draw is a function of (seed, step), so a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mamol.config import Config
from mamol.data.availability import table_hash
from mamol.data.dataset import UNLABELLED, Dataset, Scene
from mamol.data.normalize import Normalizer
from mamol.data.split import TEST, TRAIN, UNUSED, VAL, Split
from mamol.data.windows import starts
from mamol.errors import DataError
from mamol.model.predictor import tensors
from mamol.model.tokens import anywhere
from mamol.seed import generator
from mamol.train.patterns import draw_training_patterns, held_out_patterns


@dataclass
class Draw:
    """Normalised tensors of one batch: `values[m]` (B, C, ...), `available[m]` (B, ...), `labels` (B,) or (B, H, W)."""

    values: dict[str, Tensor]
    available: dict[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: slice | Tensor) -> Draw:
        """Return some of the samples."""
        return Draw(
            {m: v[rows] for m, v in self.values.items()},
            {m: a[rows] for m, a in self.available.items()},
            self.labels[rows],
        )

    def without(self, missing: Tensor, order: tuple[str, ...]) -> Draw:
        """Return the draw with modality m of sample b hidden where `missing[b, m]`, bool (B, M)."""
        hidden = {}
        for i, m in enumerate(order):
            there = self.available[m]
            hidden[m] = there & ~missing[:, i].view(-1, *[1] * (there.dim() - 1))
        return Draw(self.values, hidden, self.labels)

    def to(self, device: torch.device) -> Draw:
        """Return the draw on another device."""
        move = {m: v.to(device) for m, v in self.values.items()}
        return Draw(move, {m: a.to(device) for m, a in self.available.items()}, self.labels.to(device))


class Feed:
    """The prepared data of one run: normalised once, drawn from many times.

    A run that is extended is `taught` modalities: training draws places that have one of them, and never hides all of these.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        normalizer: Normalizer,
        config: Config,
        seed: int,
        taught: tuple[str, ...] = (),
    ) -> None:
        self.taught = taught
        self.order = tuple(m.name for m in dataset.modalities)
        self.config, self.seed, self.split = config, seed, split
        self.held_out_patterns = held_out_patterns(config.train.held_out, self.order)
        self.texts = {m.name for m in dataset.modalities if m.kind == "text"}
        self.is_scene = isinstance(dataset, Scene)
        batches = [t.batch() for t in dataset.tiles] if isinstance(dataset, Scene) else [dataset.samples]
        self.pieces = [tensors(b, normalizer) for b in batches]
        labels = [t.labels for t in dataset.tiles] if isinstance(dataset, Scene) else [dataset.labels]
        self.labels = [torch.from_numpy(a.astype(np.int64)) for a in labels]
        self.roles = [torch.from_numpy(r.astype(np.int8)) for r in split.roles]
        self.train = self._places(labels, split.roles, (TRAIN,), taught)
        self.classes = len(dataset.classes)
        if not len(self.train) and split.kind != "unlabelled":
            needed = f" with {' or '.join(taught)}" if taught else ""
            raise DataError(f"'{dataset.name}' has no labelled training pixel or sample{needed} under this split.")
        # Unlabelled ground outside the test area: what the label-free pretraining may see.
        self.free = self._places(None, split.roles, (UNUSED, TRAIN, VAL) if self.is_scene else (TRAIN, VAL))

    def _places(
        self, labels: list[np.ndarray] | None, roles: list[np.ndarray], wanted: tuple[int, ...], having: Sequence[str] = ()
    ) -> np.ndarray:
        """List where a window may be centred: rows (piece, row, column), or (0, sample, 0); somewhere observed.

        By one of the modalities that it is `having`, if any are named.
        """
        out = []
        for i, role in enumerate(roles):
            fit = np.isin(role, wanted)
            if labels is not None:
                fit &= labels[i] != UNLABELLED
            seen = [a.numpy() for m, a in self.pieces[i][1].items() if m in (having or self.order)]
            if self.is_scene:
                fit &= np.any([a[0] for a in seen], axis=0)
                rows, columns = np.nonzero(fit)
            else:
                fit &= np.any([a.reshape(len(a), -1).any(1) for a in seen], axis=0)
                rows = np.nonzero(fit)[0]
                columns = np.zeros_like(rows)
            out.append(np.stack([np.full_like(rows, i), rows, columns], axis=1))
        return np.concatenate(out)

    def _by_piece(self, places: np.ndarray) -> list[np.ndarray]:
        """Return rows (row, column) of each piece from places, which go by piece."""
        return np.split(places[:, 1:], np.searchsorted(places[:, 0], np.arange(1, len(self.labels))))

    def available_hashes(self) -> dict[str, str]:
        """Return what says, modality by modality, where in the data it is available."""
        return {m: table_hash(np.concatenate([a[m].numpy().ravel() for _, a, *_ in self.pieces]))[:16] for m in self.order}

    def class_weight(self) -> Tensor:
        """Return one loss weight per class, (K,): frequency^-power, 1 on average over the training labels."""
        by_piece = zip(self.labels, self._by_piece(self.train), strict=True)
        labels = [a.numpy()[tuple(at.T) if self.is_scene else at[:, 0]] for a, at in by_piece]
        count = np.bincount(np.concatenate(labels), minlength=self.classes).astype(np.float64)
        weight = np.where(count > 0, np.maximum(count, 1), np.inf) ** -self.config.train.class_balance
        return torch.from_numpy((weight * count.sum() / (weight * count).sum()).astype(np.float32))

    def draw(self, step: int, batch: int, labelled: bool = True) -> Draw:
        """Draw a batch for a step: augmented, complete (as far as observed); labels outside TRAIN are hidden.

        Scenes: windows (B, C, window_px, window_px) at random offsets around random places, flipped and turned. Without labels
        they reach further, and what they hold of the test area is not available.
        """
        rng = generator(self.seed, "batch" if labelled else "pretrain", step)
        places = self.train if labelled else self.free
        chosen = places[rng.integers(len(places), size=batch)]
        draw = self._windows(chosen, rng, labelled) if self.is_scene else self._samples(chosen)
        if labelled and self.config.train.band_noise:
            _add_noise(draw, int(rng.integers(2**31)), self.config.train.band_noise, self.texts)
        return draw

    def draw_missing(self, draw: Draw, step: int) -> Tensor:
        """Draw which modalities each sample of a batch loses, bool (B, M), by train.patterns."""
        t, observed = self.config.train, self._observed(draw)
        rng = generator(self.seed, "pattern", step)
        needed = np.array([m in self.taught for m in self.order]) if self.taught else None
        kept = draw_training_patterns(observed, t.patterns, t.missing_rate, rng, self.held_out_patterns, needed)
        return torch.from_numpy(observed & ~kept)

    def fullest(self, draw: Draw, missing: Tensor) -> Draw:
        """Return all that training may show of a batch: without `missing` (B, M) where a sample's own pattern is held out."""
        if not len(self.held_out_patterns):
            return draw
        held = (self._observed(draw)[:, None] == self.held_out_patterns).all(2).any(1)
        return draw.without(missing & torch.from_numpy(held)[:, None], self.order)

    def _observed(self, draw: Draw) -> np.ndarray:
        return np.stack([anywhere(draw.available[m]).numpy() for m in self.order], axis=1)

    def _samples(self, chosen: np.ndarray) -> Draw:
        values, available = self.pieces[0]
        rows = torch.from_numpy(chosen[:, 1])
        return Draw({m: v[rows] for m, v in values.items()}, {m: a[rows] for m, a in available.items()}, self.labels[0][rows])

    def _windows(self, chosen: np.ndarray, rng: np.random.Generator, labelled: bool) -> Draw:
        side = self.config.tokens.window_px
        dense = self.config.model.task == "dense"
        cuts = []
        for piece, row, column in chosen:
            height, width = self.labels[piece].shape
            down = rng.integers(side) if dense else side // 2
            right = rng.integers(side) if dense else side // 2
            top, left = row - down, column - right
            if dense:  # stay inside the tile where it is large enough: padding teaches nothing
                top, left = (int(np.clip(v, 0, max(n - side, 0))) for v, n in ((top, height), (left, width)))
            cut = self.cut((int(piece), int(top), int(left)), TRAIN, test_hidden=not labelled)
            cuts.append(_turn(cut, int(rng.integers(4)), bool(rng.integers(2))) if dense else cut)
        return join(cuts)

    def cut(self, place: tuple[int, int, int], role: int, test_hidden: bool = False) -> Draw:
        """Cut one window (1, C, side, side) that may reach over the border; labels of other roles are hidden.

        With `test_hidden` its pixels of the test area are not available.
        """
        (piece, top, left), side = place, self.config.tokens.window_px
        values, available = self.pieces[piece]
        height, width = self.labels[piece].shape
        rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
        pad = (columns.start - left, left + side - columns.stop, rows.start - top, top + side - rows.stop)

        def window(x: Tensor, fill: float) -> Tensor:
            inside = x[..., rows, columns]
            return torch.nn.functional.pad(inside, pad, value=fill) if any(pad) else inside

        roles = window(self.roles[piece], TEST)
        label = torch.where(roles == role, window(self.labels[piece], UNLABELLED), UNLABELLED)[None]
        cut_values = {m: window(v, 0.0) for m, v in values.items()}
        there = {m: window(a, False) for m, a in available.items()}
        if test_hidden:
            seen = roles != TEST
            cut_values, there = {m: v * seen for m, v in cut_values.items()}, {m: a & seen for m, a in there.items()}
        return Draw(cut_values, there, label)

    def held_out_places(self, role: int = VAL) -> np.ndarray:
        """List the labelled places of `role`: rows (piece, row, column), or (0, sample, 0); raises DataError if none."""
        places = self._places([a.numpy() for a in self.labels], self.split.roles, (role,))
        if not len(places):
            raise DataError(
                f"the {self.split.kind} split (seed {self.split.seed}) leaves no labelled pixel or sample for validation; "
                "choose another split or seed, or add labels."
            )
        return places

    def held_out(self, role: int = VAL, most: int = 600) -> Draw:
        """Return the windows or samples with labels of `role`, at most `most` windows; raises as `held_out_places`."""
        places = self.held_out_places(role)
        if not self.is_scene:
            return self._samples(places)
        corners = self._corners(places)
        keep = generator(self.seed, "held out").permutation(len(corners))[:most]
        return join([self.cut(corners[k], role) for k in sorted(keep)])

    def _corners(self, places: np.ndarray) -> list[tuple[int, int, int]]:
        """List the windows (piece, top, left) around places, or, if dense, those of a grid that hold any."""
        side = self.config.tokens.window_px
        if self.config.model.task == "centre":
            return [(int(i), int(r) - side // 2, int(c) - side // 2) for i, r, c in places]
        corners = []
        for i, (label, inside) in enumerate(zip(self.labels, self._by_piece(places), strict=True)):
            wanted = np.zeros(label.shape, dtype=bool)
            wanted[tuple(inside.T)] = True
            grid = [(y, x) for y in starts(label.shape[0], side, side) for x in starts(label.shape[1], side, side)]
            corners += [(i, y, x) for y, x in grid if wanted[y : y + side, x : x + side].any()]
        return corners


def join(draws: list[Draw]) -> Draw:
    """Put draws one after another."""

    def cat(maps: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {m: torch.cat([x[m] for x in maps]) for m in maps[0]}

    return Draw(cat([d.values for d in draws]), cat([d.available for d in draws]), torch.cat([d.labels for d in draws]))


def _add_noise(draw: Draw, seed: int, noise: float, spared: set[str]) -> None:
    """Add normal noise to every value in place; the bytes of a text are spared."""
    random = torch.Generator().manual_seed(seed)
    for m, v in draw.values.items():
        if m not in spared:
            draw.values[m] = v + noise * torch.randn(v.shape, generator=random)


def _turn(draw: Draw, quarters: int, mirror: bool) -> Draw:
    def turned(x: Tensor) -> Tensor:
        x = torch.rot90(x, quarters, (-2, -1))
        return x.flip(-1) if mirror else x

    values = {m: turned(v) for m, v in draw.values.items()}
    return Draw(values, {m: turned(a) for m, a in draw.available.items()}, turned(draw.labels))
