"""Galileo nano's weights and normalisation: from MAMOL_WEIGHTS/galileo-nano, else from the Hugging Face hub."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mamol.errors import CheckpointError, FileMissing
from mamol.files import must_exist
from mamol.model.galileo import SPACE_BANDS, SPACE_TIME_BANDS, STATIC_BANDS, TIME_BANDS, Galileo, GalileoConfig

REPO = "nasaharvest/galileo"
FOLDER = "galileo-nano"
INSIDE = {
    "encoder.pt": "models/nano/encoder.pt",
    "config.json": "models/nano/config.json",
    "normalization.json": "config/normalization.json",
}
"""Where the hub's repository keeps each file."""
PARTS = {"space_time": SPACE_TIME_BANDS, "space": SPACE_BANDS, "time": TIME_BANDS, "static": STATIC_BANDS}


def load_galileo(folder: Path | None = None) -> Galileo:
    """Load the encoder, in evaluation mode; `folder` None looks where the head of this file says.

    Raises FileMissing, and CheckpointError for a broken or foreign file.
    """
    document = _json(galileo_file("config.json", folder))
    try:
        sizes = document["model"]["encoder"]
        model = Galileo(GalileoConfig(**{k: int(sizes[k]) for k in GalileoConfig.__dataclass_fields__}))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json of {FOLDER} does not describe an encoder: {error}.") from error
    path = galileo_file("encoder.pt", folder)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict({k.replace(".backbone", ""): v for k, v in tensors.items()})
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not Galileo's encoder ({error}); it may be truncated.") from error
    return model.eval()


def galileo_statistics(folder: Path | None = None) -> dict[str, tuple[Float[Tensor, " C"], Float[Tensor, " C"]]]:
    """Return, per part of the input, what to subtract from and divide values by, (C,) each.

    Galileo maps mean - 2 deviations to 0 and mean + 2 deviations to 1, per band, without clipping.
    """
    document = _json(galileo_file("normalization.json", folder))
    out = {}
    for part, bands in PARTS.items():
        try:
            mean, std = (torch.tensor(document[str(len(bands))][key], dtype=torch.float32) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"normalization.json of {FOLDER} lacks the bands of {part}: {error}.") from error
        out[part] = (mean - 2 * std, 4 * std)
    return out


def galileo_file(name: str, folder: Path | None = None) -> Path:
    """Return the path of one of Galileo's files, fetched if need be; raises FileMissing."""
    root = os.environ.get("MAMOL_WEIGHTS")
    if folder is not None:
        return must_exist(folder / name, "file of galileo-nano")
    if root and (Path(root) / FOLDER).is_dir():
        return must_exist(Path(root) / FOLDER / name, "file of galileo-nano")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise FileMissing(_not_found(root, "and the package huggingface_hub is not installed")) from None
    try:
        return Path(hf_hub_download(REPO, INSIDE[name]))
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise FileMissing(_not_found(root, f"and {REPO} on the Hugging Face hub cannot be read ({error})")) from error


def _not_found(root: str | None, why: str) -> str:
    return (
        f"the weights '{FOLDER}' are not under MAMOL_WEIGHTS ({root or 'not set'}), {why}. Set MAMOL_WEIGHTS to the folder "
        f"that holds {FOLDER}/, or install 'mamol[hub]' on a machine that reaches the hub."
    )


def _json(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); it may be truncated.") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} holds a {type(tree).__name__}, not an object.")
    return tree
