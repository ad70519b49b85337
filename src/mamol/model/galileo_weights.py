"""Galileo nano's weights and statistics on this machine, else from the Hugging Face hub.

    MAMOL_WEIGHTS/galileo-nano/{config.json, encoder.pt, normalization.json}                        looked at first
    nasaharvest/galileo: models/nano/{config.json, encoder.pt}, config/normalization.json           mamol[hub]

Weights are read without unpickling objects, and compared with the sizes in config.json before a model is made of them.
Source: Galileo (2502.09356); its public repository for what normalises each band (MIT).
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mamol.errors import CheckpointError, ConfigError, FileMissing
from mamol.files import must_exist
from mamol.model.galileo import Galileo, GalileoConfig
from mamol.model.galileo_inputs import SPACE_BANDS, SPACE_TIME_BANDS, STATIC_BANDS, TIME_BANDS

NAME = "galileo-nano"
REPO = "nasaharvest/galileo"
INSIDE = {
    "encoder.pt": "models/nano/encoder.pt",
    "config.json": "models/nano/config.json",
    "normalization.json": "config/normalization.json",
}
"""Where the repository keeps each file."""
PARTS = {"space_time": SPACE_TIME_BANDS, "space": SPACE_BANDS, "time": TIME_BANDS, "static": STATIC_BANDS}
FIXED_DIVISORS = {"NDVI": 1.0, "DW": 1.0, "WC": 100.0, "x": 1.0, "y": 1.0, "z": 1.0}
"""Bands, by the first word of their name, that are divided by a constant in place of their spread."""

BROKEN = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip
"""What torch.load ends in, depending on which byte of a file is wrong."""


def load_galileo(folder: Path | None = None) -> Galileo:
    """Load the encoder, in evaluation mode; `folder` None looks where the head of this file says.

    Raises FileMissing, and CheckpointError for a file that is broken or holds something else.
    """
    folder = folder or find_weights(NAME, REPO, tuple(INSIDE.values()))
    document, path = _file(folder, "config.json"), _file(folder, "encoder.pt")
    config = _config(document)
    tensors = {key.replace(".backbone", ""): x for key, x in _tensors(path).items()}
    with torch.device("meta"):  # sizes that the weights do not have must not be allocated
        model = Galileo(config)
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        wanted, found = (tuple(x[name].shape) if name in x else "nothing" for x in (expected, tensors))
        if wanted != found:
            raise CheckpointError(
                f"{path}: weight '{name}' is {found}, {document.name} beside it needs {wanted}; the files do not belong together."
            )
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def galileo_statistics(folder: Path | None = None) -> dict[str, tuple[Float[Tensor, " C"], Float[Tensor, " C"]]]:
    """Return, per part of the input, what to subtract and what to divide by, per band.

    Sentinel-1 (dB), Sentinel-2 (reflectance x 10 000), terrain, weather and population: mean - 2 s becomes 0 and
    mean + 2 s becomes 1 (s: standard deviation), without clipping. NDVI, location and the shares of DW stay as they
    are, WC is given in percent; their means and deviations in the file are not used. This is the convention of the
    weights' training, which the files themselves do not say. Raises FileMissing and CheckpointError.
    """
    path = _file(folder or find_weights(NAME, REPO, tuple(INSIDE.values())), "normalization.json")
    document, out = _json(path), {}
    for part, bands in PARTS.items():
        try:  # the file names a part by how many bands it has
            mean, std = (torch.tensor(document[str(len(bands))][key], dtype=torch.float32) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} lacks mean and std of the {len(bands)} bands of {part} ({error!r}).") from error
        if mean.shape != (len(bands),) or std.shape != mean.shape or not bool((std > 0).all() and mean.isfinite().all()):
            raise CheckpointError(f"{path}: mean and std of {part} must be {len(bands)} numbers each, the std positive.")
        constant = torch.tensor([FIXED_DIVISORS.get(band.split("_")[0], 0.0) for band in bands])
        fixed = constant > 0
        out[part] = (torch.where(fixed, 0.0, mean - 2 * std), torch.where(fixed, constant, 4 * std))
    return out


def find_weights(name: str, repo: str, patterns: Sequence[str] | None = None) -> Path:
    """Return a folder of weights: MAMOL_WEIGHTS/`name`, else a snapshot of `repo` of the Hugging Face hub.

    `patterns` are the files to fetch, None all. Fetched once, then kept in the hub's cache. Raises FileMissing.
    """
    root = os.environ.get("MAMOL_WEIGHTS")
    if root and (Path(root) / name).is_dir():
        return Path(root) / name
    here = f"the weights '{name}' are not at {Path(root) / name}" if root else f"the weights '{name}': MAMOL_WEIGHTS is not set"
    advice = f"Set MAMOL_WEIGHTS to the folder that holds {name}/"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise FileMissing(
            f"{here}, and to fetch {repo} the package huggingface_hub is missing. {advice}, or pip install 'mamol[hub]'."
        ) from None
    try:
        return Path(snapshot_download(repo_id=repo, allow_patterns=None if patterns is None else list(patterns)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileMissing(
            f"{here}, and {repo} on the Hugging Face hub cannot be read ({first}). {advice}, or run once with a network."
        ) from error


def _file(folder: Path, name: str) -> Path:
    """Return a file of the folder, which is laid out flat or like the repository."""
    inside = folder / INSIDE[name]
    return inside if inside.exists() else must_exist(folder / name, f"{NAME}'s {name} (in {REPO}: {INSIDE[name]})")


def _json(path: Path) -> Mapping[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); it may be truncated.") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} holds a {type(tree).__name__}, not an object; get the file anew.")
    return tree


def _config(path: Path) -> GalileoConfig:
    try:
        sizes = _json(path)["model"]["encoder"]
        return GalileoConfig(**{key: int(sizes[key]) for key in GalileoConfig.__dataclass_fields__})
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} does not describe an encoder ({error!r}); get the file anew.") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights as 32-bit floats."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is not a readable file of weights (no zip archive); it may be truncated.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is not a readable file of weights ({first}); it may be truncated.") from error
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not named weights; get the file anew.")
    for name, x in found.items():
        if not bool(x.isfinite().all()):
            raise CheckpointError(f"{path}: weight '{name}' holds NaN or infinity; the file is damaged.")
    return {str(name): x.float() for name, x in found.items()}
