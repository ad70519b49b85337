"""Small made data whose right answer is known, for every test."""

from __future__ import annotations

import numpy as np

from mamol.config import Config
from mamol.configs import build_config
from mamol.data.dataset import SampleSet, Scene, Tile, classes_from
from mamol.modality import Batch, Modality

TINY = {
    "tokens": {"window_px": 8, "token_px": 2, "stem": 8},
    "backbone": {"width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2},
    "pretrain": {"steps": 3, "batch": 8},
    "experts": {"shared_rank": 4, "specific_rank": 2, "dynamic_rank": 2},
    "model": {"head_hidden": 16},
    "train": {"steps": 6, "batch": 8, "eval_every": 3},
}
MODALITIES = (Modality("hsi", 6, gsd_m=1.0), Modality("sar", 2), Modality("lidar", 1))


def tiny_config(**sections: dict[str, object]) -> Config:
    """Return a configuration that trains in a second; `sections` override single keys."""
    tree = {s: dict(v) for s, v in TINY.items()}
    for section, values in sections.items():
        tree.setdefault(section, {}).update(values)
    return build_config(tree)


def made_scene(tiles: int = 8, side: int = 20, seed: int = 0) -> Scene:
    """Make tiles with three classes: hsi tells 0 from the rest, lidar tells 2 from the rest, sar tells nothing."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(tiles):
        coarse = rng.integers(0, 3, size=(side // 4, side // 4))
        labels = np.kron(coarse, np.ones((4, 4), dtype=int)).astype(np.int16)
        hsi = rng.normal(0, 0.3, (6, side, side)) + (labels == 0)[None]
        lidar = rng.normal(0, 0.3, (1, side, side)) + 3.0 * (labels == 2)[None]
        sar = rng.normal(-12, 2, (2, side, side))
        values = {"hsi": hsi, "sar": sar, "lidar": lidar}
        available = {m: np.ones((side, side), dtype=bool) for m in values}
        available["lidar"][:, : side // 5] = i % 2 == 0
        labels[rng.random(labels.shape) < 0.3] = -1
        values = {m: v.astype(np.float32) for m, v in values.items()}
        out.append(Tile(f"t{i}", values, available, labels, group=f"g{i}"))
    return Scene("made", MODALITIES, classes_from(["bare", "grass", "wood"]), tuple(out))


def made_samples(n: int = 120, seed: int = 0) -> SampleSet:
    """Make samples of a series (4 bands, 6 steps), a vector (3) and a patch (2, 8, 8); the class shifts each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n).astype(np.int16)
    shift = labels[:, None].astype(np.float32)
    values = {
        "optical": (rng.normal(0, 1, (n, 4, 6)) + shift[..., None]).astype(np.float32),
        "weather": (rng.normal(0, 1, (n, 3)) + shift).astype(np.float32),
        "photo": (rng.normal(0, 1, (n, 2, 8, 8)) + shift[..., None, None]).astype(np.float32),
    }
    available = {
        "optical": rng.random((n, 6)) > 0.1,
        "weather": rng.random(n) > 0.2,
        "photo": np.ones((n, 8, 8), dtype=bool),
    }
    modalities = (
        Modality("optical", 4, "series", length=6),
        Modality("weather", 3, "vector"),
        Modality("photo", 2, "grid"),
    )
    groups = np.array([f"g{i % 12}" for i in range(n)])
    return SampleSet("made-samples", modalities, classes_from(["a", "b", "c"]), Batch(values, available), labels, groups)
