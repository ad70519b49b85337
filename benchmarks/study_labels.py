"""Protocol `labels-...`: train and validate on a share of the labels, test on the whole test part.

Labels are taken away at random class by class, the fewer from within the more. A block split follows the labels, so the test
part is kept as the `official` one of the thinned set: what others are tested on must not train a model of few labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mamol.data.dataset import UNLABELLED, Dataset, SampleSet, label_arrays
from mamol.data.split import TEST, TRAIN, VAL, Split
from mamol.seed import generator

SHARES = (0.1, 0.3)


def thinned(dataset: SampleSet, split: Split, share: float, seed: int) -> SampleSet:
    """Return the set with a share of every class's labels outside the test part, one at least, and `split`'s test as official."""
    labels, rng = dataset.labels.copy(), generator(seed, "share of the labels")
    ours = np.isin(split.roles[0], (TRAIN, VAL))
    for k in np.unique(labels[ours & (labels != UNLABELLED)]):
        places = rng.permutation(np.flatnonzero(ours & (labels == k)))
        labels[places[max(1, round(share * len(places))) :]] = UNLABELLED
    official = np.where(split.roles[0] == TEST, TEST, np.where(ours, TRAIN, split.roles[0])).astype(np.int8)
    return replace(dataset, labels=labels, official=official)


def counted(dataset: Dataset, split: Split) -> dict[str, int]:
    """Count the labels that train and those that validate."""
    roles = np.concatenate([r[a != UNLABELLED] for r, a in zip(split.roles, label_arrays(dataset), strict=True)])
    return {name: int((roles == role).sum()) for name, role in (("train", TRAIN), ("validation", VAL))}
