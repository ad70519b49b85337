"""Which pixel or sample is for training, validation or test: three splits, each with its overlap report.

    block     whole groups (plot, patch, map cell), or square blocks of tiles of fewer than four groups, with a gap of at least
              the patch between train and test; no test patch may reach a training pixel, nor the ground of one in another tile
    random    per class at random, as much of the literature does; it leaks, and the report says how much
    official  the published one

Validation comes out of train by the same rule (for `official`: by blocks). Source: PROTOCOL.md section 2.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mamol.data.dataset import UNLABELLED, Dataset, Scene, label_arrays
from mamol.data.ground import shared_ground, tile_grids, within_reach
from mamol.errors import DataError, unknown
from mamol.seed import generator

UNUSED, TRAIN, VAL, TEST = 0, 1, 2, 3
TEST_FOLDS, VAL_FOLDS = 4, 5
RANDOM_PER_CLASS = 100
TRIES = 20
ROW = 10_000
"""Squares in a row of a tile, at most."""


@dataclass(frozen=True)
class Split:
    """`roles`: one int8 array per tile (H, W), or one (n,) of a sample set, of UNUSED, TRAIN, VAL, TEST.

    Roles cover ground, labelled or not, so that label-free pretraining can stay out of the test area.
    `overlap`: {"patch_px", "test", "overlapping", "percent"}: test labels whose patch holds a training label.
    """

    kind: str
    seed: int
    roles: list[np.ndarray]
    overlap: dict[str, float]

    def hash(self) -> str:
        """Return the SHA-256 of kind and roles."""
        digest = hashlib.sha256(self.kind.encode())
        for role in self.roles:
            digest.update(str(role.shape).encode() + np.ascontiguousarray(role, dtype=np.int8).tobytes())
        return digest.hexdigest()


def make_split(dataset: Dataset, kind: str = "block", seed: int = 0, patch_px: int = 16) -> Split:
    """Split a data set; the seed decides the fold. Raises UnknownName, and DataError if the split cannot be made."""
    if kind not in SPLITS:
        raise unknown("split", kind, SPLITS)
    labels = label_arrays(dataset)
    if not any((a != UNLABELLED).any() for a in labels):
        raise DataError(f"'{dataset.name}' has no labelled pixel or sample; there is nothing to split.")
    roles = SPLITS[kind](dataset, seed, patch_px)
    split = Split(kind, seed, roles, _overlap(dataset, roles, patch_px))
    if kind == "block" and split.overlap["overlapping"]:
        raise DataError(f"the block split of '{dataset.name}' leaks ({split.overlap}); use larger blocks or report this.")
    return split


def labels_hash(dataset: Dataset, split: Split) -> str:
    """Return the SHA-256 of the labels that train and validate."""
    digest = hashlib.sha256()
    for role, labels in zip(split.roles, label_arrays(dataset), strict=True):
        digest.update(np.where(np.isin(role, (TRAIN, VAL)), labels, UNLABELLED).astype(np.int16).tobytes())
    return digest.hexdigest()


def unlabelled_split(dataset: Dataset, seed: int = 0) -> Split:
    """Give all of a data set without any label to training, which without labels is all that can be done with it."""
    roles = [np.full(a.shape, TRAIN, dtype=np.int8) for a in label_arrays(dataset)]
    return Split("unlabelled", seed, roles, {"patch_px": 0, "test": 0, "overlapping": 0, "percent": 0.0})


def split_again(dataset: Dataset, told: Mapping[str, Any], patch_px: int, advice: str) -> Split:
    """Split as a run was: `told` has its kind, seed, hash and, but for old runs, the hash of its labels.

    Raises DataError, which ends with `advice`, if test and training labels are not what they were.
    """
    split = make_split(dataset, told["kind"], int(told["seed"]), patch_px)
    if split.hash() != told["hash"]:
        raise DataError(
            f"'{dataset.name}' is not what it was when the run was trained (its split has hash {split.hash()[:12]}, the run's "
            f"has {told['hash'][:12]}), so test and training labels cannot be told apart. {advice}"
        )
    if told.get("labels", found := labels_hash(dataset, split)) != found:
        raise DataError(
            f"the training labels of '{dataset.name}' are not those that the run was trained with; its classes may have moved. "
            f"{advice}"
        )
    return split


def _block(dataset: Dataset, seed: int, patch_px: int) -> list[np.ndarray]:
    if isinstance(dataset, Scene) and len({t.group for t in dataset.tiles}) < TEST_FOLDS:
        return _square_blocks(dataset, seed, patch_px)
    role_of = _fold_groups(*_group_table(dataset), seed)
    if isinstance(dataset, Scene):
        return _gap(
            [np.full(t.labels.shape, role_of.get(str(t.group), TRAIN), dtype=np.int8) for t in dataset.tiles], dataset, patch_px
        )
    return [np.array([role_of.get(str(g), TRAIN) for g in dataset.groups], dtype=np.int8)]


def group_ids(dataset: Dataset, patch_px: int) -> list[np.ndarray]:
    """Number the groups that a block split keeps together: int, one (H, W) per tile, or one (n,) of a sample set."""
    if not isinstance(dataset, Scene):
        return [np.unique(dataset.groups, return_inverse=True)[1]]
    names = sorted({t.group for t in dataset.tiles})
    if len(names) >= TEST_FOLDS:
        return [np.full(t.labels.shape, names.index(t.group)) for t in dataset.tiles]
    return _squares(dataset, patch_px)


def _group_table(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """List labels and groups, one row per labelled pixel or sample, thinned to 200 a tile."""
    if not isinstance(dataset, Scene):
        chosen = dataset.labels != UNLABELLED
        return dataset.labels[chosen], dataset.groups[chosen]
    rows = [(t.labels[t.labels != UNLABELLED], t.group) for t in dataset.tiles]
    rows = [(found[:: max(1, len(found) // 200)], g) for found, g in rows if len(found)]
    labels = np.concatenate([found for found, _ in rows])
    return labels, np.concatenate([np.full(len(found), g) for found, g in rows])


def _fold_groups(labels: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, int]:
    """Give each group a role; every class stays in train where some seed of the folds allows it (a run says where none does)."""
    best: dict[str, int] = {}
    fewest = np.inf
    for attempt in range(TRIES):
        roles = {str(g): TRAIN for g in np.unique(groups)}
        test = _one_fold(labels, groups, TEST_FOLDS, seed, attempt)
        roles |= {str(g): TEST for g in np.unique(groups[test])}
        rest = ~test
        val = _one_fold(labels[rest], groups[rest], VAL_FOLDS, seed, attempt)
        roles |= {str(g): VAL for g in np.unique(groups[rest][val])}
        kept = {int(k) for k in labels[rest][~val]}
        lost = len(set(labels.tolist()) - kept)
        if lost < fewest:
            best, fewest = roles, lost
        if not lost:
            break
    return best


def _one_fold(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int, attempt: int) -> np.ndarray:
    """Return which rows are in the fold that (seed, attempt) picks, bool (n,)."""
    count = len(np.unique(groups))
    if count < 2:
        raise DataError(f"a block split needs labels in at least 3 groups or blocks; there are {count + 1}.")
    folds = min(folds, count)
    # Seeds 0 .. folds - 1 take the folds of one partition in turn, the next seeds those of another one: the splitter
    # balances greedily and hardly varies with its own seed, so a partition is varied by leaving out random rows.
    partition, fold = divmod(seed + attempt * 997, folds)
    kept = generator(partition, "partition").random(len(labels)) < 0.7
    kept |= ~np.isin(groups, groups[kept])  # every group must be dealt out
    if (most := int(np.bincount(labels).max())) < folds:
        raise DataError(
            f"to share out {count} groups or blocks over {folds} folds, a class needs as many labels; the largest here has "
            f"{most}. Add labels, or choose another split or seed."
        )
    kept |= np.bincount(labels[kept]).max() < folds  # of so few labels none can be left out
    with warnings.catch_warnings():
        # A class in fewer groups than folds is said once, in words, by the caller.
        warnings.simplefilter("ignore", UserWarning)
        parts = StratifiedGroupKFold(folds).split(labels[kept, None], labels[kept], groups[kept])
        _, chosen = next(itertools.islice(parts, fold, None))
    return np.isin(groups, np.unique(groups[kept][chosen]))


def _square_blocks(dataset: Scene, seed: int, patch_px: int) -> list[np.ndarray]:
    """Cut tiles into squares, share them out, and leave a gap of patch_px around the test squares."""
    squares, labels, groups = _squares(dataset, patch_px), [], []
    for tile, square in zip(dataset.tiles, squares, strict=True):
        chosen = tile.labels != UNLABELLED
        step = max(1, int(chosen.sum()) // 20_000)
        labels.append(tile.labels[chosen][::step])
        groups.append(np.array([_name(s) for s in square[chosen][::step]]))
    role_of = _fold_groups(np.concatenate(labels), np.concatenate(groups), seed)
    out = []
    for square in squares:
        ids, index = np.unique(square, return_inverse=True)
        table = np.array([role_of.get(_name(s), UNUSED) for s in ids], dtype=np.int8)
        out.append(table[index].reshape(square.shape))
    return _gap(out, dataset, patch_px)


def _squares(dataset: Scene, patch_px: int) -> list[np.ndarray]:
    """Number the squares of every tile, int (H, W): of four patches' side, less where a tile is small, never under two.

    Tiles of one group have the same numbers, so that a square of one and the same square of another stay together.
    """
    order = list(dict.fromkeys(t.group for t in dataset.tiles))
    smallest = {g: min(min(t.labels.shape) for t in dataset.tiles if t.group == g) for g in order}
    side = {g: max(2 * patch_px, min(4 * patch_px, n // 5)) for g, n in smallest.items()}
    return [order.index(t.group) * ROW**2 + _grid(t.labels.shape, side[t.group]) for t in dataset.tiles]


def _name(square: int) -> str:
    return f"{square // ROW**2}/{square % ROW**2}"


def _grid(shape: tuple[int, ...], side: int) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.arange(n) // side for n in shape), indexing="ij")
    return np.asarray(rows * ROW + columns)


def _gap(roles: list[np.ndarray], dataset: Scene, patch_px: int) -> list[np.ndarray]:
    """Set to UNUSED what lies within patch_px - 1 of a test pixel, and what trains within the same distance of validation."""
    near_test = within_reach([r == TEST for r in roles], dataset, patch_px)
    out = [np.where(near & (r != TEST), UNUSED, r) for r, near in zip(roles, near_test, strict=True)]
    near_val = within_reach([r == VAL for r in out], dataset, patch_px)
    out = [np.where(near & (r == TRAIN), UNUSED, r).astype(np.int8) for r, near in zip(out, near_val, strict=True)]
    shared = shared_ground(tile_grids(dataset))
    if shared and not any((r == TRAIN).any() for r in out):
        names = ", ".join(f"'{dataset.tiles[i].name}' and '{dataset.tiles[j].name}'" for i, j in shared[:3])
        raise DataError(
            f"nothing of '{dataset.name}' is left to train on: its tiles share ground with the test area ({names}"
            f"{', ...' if shared[3:] else ''}). Give the tiles of one place one group (groups in scene.toml), or leave some out."
        )
    return out


def _random(dataset: Dataset, seed: int, patch_px: int) -> list[np.ndarray]:
    """Draw 100 labels per class (at most half) for training, a fifth of them for validation; the rest is test."""
    del patch_px
    labels = label_arrays(dataset)
    rng = generator(seed, "random split")
    flat = np.concatenate([a.ravel() for a in labels])
    roles = np.where(flat == UNLABELLED, UNUSED, TEST).astype(np.int8)
    for k in np.unique(flat[flat != UNLABELLED]):
        places = rng.permutation(np.flatnonzero(flat == k))
        count = min(RANDOM_PER_CLASS, max(1, len(places) // 2))
        val = count // 5
        roles[places[:val]], roles[places[val:count]] = VAL, TRAIN
    cuts = np.cumsum([a.size for a in labels])[:-1]
    return [r.reshape(a.shape) for r, a in zip(np.split(roles, cuts), labels, strict=True)]


def _official(dataset: Dataset, seed: int, patch_px: int) -> list[np.ndarray]:
    """Take the published train and test; a fifth of the training squares or groups validates."""
    published = [t.official for t in dataset.tiles] if isinstance(dataset, Scene) else [dataset.official]
    if any(p is None for p in published):
        raise DataError(f"'{dataset.name}' has no official split; use --split block or random.")
    out = []
    for piece, (found, labels) in enumerate(zip(published, label_arrays(dataset), strict=True)):
        roles = np.asarray(found, dtype=np.int8).copy()
        train = (roles == TRAIN) & (labels != UNLABELLED)
        group = (_grid(labels.shape, patch_px) if isinstance(dataset, Scene) else dataset.groups)[train]
        keys = np.array([f"{piece}/{g}" for g in group])
        if len(np.unique(keys)) > 1:
            val = _one_fold(labels[train], keys, VAL_FOLDS, seed, 0)
            chosen = roles[train]
            chosen[val] = VAL
            roles[train] = chosen
        out.append(roles)
    return out


def _overlap(dataset: Dataset, roles: list[np.ndarray], patch_px: int) -> dict[str, float]:
    """Count test labels whose patch holds a training label, or its ground; for a sample set, whose group does."""
    labels = label_arrays(dataset)
    is_test, is_train = ([(r == k) & (a != UNLABELLED) for r, a in zip(roles, labels, strict=True)] for k in (TEST, TRAIN))
    if isinstance(dataset, Scene):
        near = within_reach(is_train, dataset, patch_px)
    else:
        near = [np.isin(dataset.groups, np.unique(dataset.groups[is_train[0]]))]
    test = sum(int(t.sum()) for t in is_test)
    overlapping = sum(int((t & n).sum()) for t, n in zip(is_test, near, strict=True))
    return {
        "patch_px": patch_px,
        "test": test,
        "overlapping": overlapping,
        "percent": round(100 * overlapping / max(test, 1), 2),
    }


def labelled_counts(dataset: Dataset, split: Split) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (role's name, labels per class (K,)) for train, val and test."""
    for name, role in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        found = [a[(r == role) & (a != UNLABELLED)] for a, r in zip(label_arrays(dataset), split.roles, strict=True)]
        yield name, np.bincount(np.concatenate(found), minlength=len(dataset.classes))


SPLITS: dict[str, Callable[[Dataset, int, int], list[np.ndarray]]] = {
    "block": _block,
    "random": _random,
    "official": _official,
}
