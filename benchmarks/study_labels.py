"""What else a network may be trained and validated on, while its test part stays the one of its cell.

    labels-...   a share of the labels, taken away at random class by class, the fewer from within the more
    members      all of them, but another validation part

A block split follows the labels and the seed, so the test part is kept as the `official` one of the new set: what others are
tested on must train nobody.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mamol.data.checked import Data
from mamol.data.dataset import UNLABELLED, Dataset, SampleSet, Scene, label_arrays
from mamol.data.split import TRAIN, VAL, Split
from mamol.seed import generator

SHARES = (0.1, 0.3)


def thinned(dataset: SampleSet, split: Split, share: float, seed: int) -> SampleSet:
    """Return the set with a share of every class's labels outside the test part, one at least, and `split`'s test as official."""
    labels, rng = dataset.labels.copy(), generator(seed, "share of the labels")
    ours = np.isin(split.roles[0], (TRAIN, VAL))
    for k in np.unique(labels[ours & (labels != UNLABELLED)]):
        places = rng.permutation(np.flatnonzero(ours & (labels == k)))
        labels[places[max(1, round(share * len(places))) :]] = UNLABELLED
    return replace(with_test(dataset, split), labels=labels)


def with_test(dataset: Data, split: Split) -> Data:
    """Return the data set with the split's test part as its official one; what trains and what validates is open again."""
    official = [np.where(np.isin(r, (TRAIN, VAL)), TRAIN, r).astype(np.int8) for r in split.roles]
    if isinstance(dataset, Scene):
        tiles = tuple(replace(t, official=o) for t, o in zip(dataset.tiles, official, strict=True))
        return replace(dataset, tiles=tiles)
    return replace(dataset, official=official[0])


def counted(dataset: Dataset, split: Split) -> dict[str, int]:
    """Count the labels that train and those that validate."""
    roles = np.concatenate([r[a != UNLABELLED] for r, a in zip(split.roles, label_arrays(dataset), strict=True)])
    return {name: int((roles == role).sum()) for name, role in (("train", TRAIN), ("validation", VAL))}
