"""A sample set of texts whose words name the class, beside a vector that tells nothing."""

from __future__ import annotations

import numpy as np

from mamol.data.dataset import SampleSet, classes_from
from mamol.data.texts import encode_texts
from mamol.modality import Batch, Modality

WORDS = ("röd äpple", "green pear", "grå sten")
LENGTH = 40


def made_texts(n: int = 120, seed: int = 0) -> SampleSet:
    """Make samples of a text (two words that tell the class, then noise; every eighth is missing) and a vector."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n).astype(np.int16) % 3
    texts = [f"{WORDS[k]} nr {rng.integers(50)} x{rng.integers(9)}" for k in labels]
    available = {"title": np.arange(n) % 8 != 0, "noise": np.ones(n, dtype=bool)}
    title = np.where(available["title"][:, None], encode_texts(texts, LENGTH), 0).astype(np.float32)
    values = {"title": title, "noise": rng.normal(0, 1, (n, 2)).astype(np.float32)}
    modalities = (Modality("title", LENGTH, "text", None, "UTF-8"), Modality("noise", 2, "vector", band_names=("a", "β")))
    groups = np.array([f"g{i % 12}" for i in range(n)])
    classes = classes_from(["child's apple", 'a "pear"', "sten"])
    return SampleSet("texts of 'all'", modalities, classes, Batch(values, available), labels, groups)
