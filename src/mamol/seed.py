"""Seeds and generators: the only place that touches global random state.

Every draw of a run comes from a generator named by (seed, purpose, step): a resumed run needs no saved random state,
and the same seed gives the same bits on CPU.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """Return the random generator for one purpose ("batch", "pattern") and step of a seeded run."""
    digest = hashlib.sha256(purpose.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:4], "little"), step])


def seed_torch(seed: int, purpose: str, step: int = 0) -> None:
    """Set torch's global generator, from which weights start and dropout draws, for one purpose and step."""
    import torch

    torch.manual_seed(int(generator(seed, purpose, step).integers(2**31)))
