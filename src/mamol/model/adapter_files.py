"""An adapter on disk and on the Hugging Face hub: only what was trained, tied to the model that it was trained on.

    FOLDER/adapter_model.safetensors   experts, routers, modules_to_save
    FOLDER/adapter_config.json         settings under PEFT's names where PEFT has one; class and hash of the backbone
    FOLDER/README.md                   the model card

The hub is a folder with a name: `push_adapter` uploads the three files, `load_adapter` takes a folder's path or a
repository's name. No pickle is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mamol.errors import CheckpointError, FileMissing, MamolError, OutputExists, UsageError
from mamol.files import atomic, must_exist, write_json
from mamol.model.adapted import Adapted
from mamol.model.adapter_settings import AdapterSettings
from mamol.model.backbone import fingerprint

FORMAT = 1
WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"


class AdapterDocument(BaseModel):
    """adapter_config.json."""

    model_config = ConfigDict(extra="forbid")

    peft_type: Literal["MAMOL"]
    format: int
    mamol_version: str
    base_model_name_or_path: str
    base_model_class: str
    base_model_sha256: str
    target_modules: str | tuple[str, ...]
    layers_to_transform: tuple[int, ...] | None
    modules_to_save: tuple[str, ...]
    r: int
    lora_alpha: float
    modalities: tuple[str, ...]
    added: tuple[str, ...]
    experts: dict[str, Any]
    router: dict[str, Any]

    def settings(self) -> AdapterSettings:
        """Return what `Adapted` is built from."""
        return AdapterSettings.model_validate(
            {
                "modalities": self.modalities,
                "target_modules": self.target_modules,
                "layers": self.layers_to_transform,
                "modules_to_save": self.modules_to_save,
                "experts": self.experts,
                "router": self.router,
                "added": self.added,
            }
        )


def save_adapter(adapted: Adapted, folder: str | Path, base_model: str = "", overwrite: bool = False) -> Path:
    """Write an adapter folder, whole or not at all; `base_model` is the hub name or path of the backbone, for readers.

    `overwrite` replaces another adapter's folder that holds nothing else. Raises OutputExists, WriteFailed, UsageError.
    """
    if not isinstance(adapted, Adapted):
        raise UsageError(f"save_adapter takes what `adapt` returned; got {type(adapted).__name__}.")
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputExists(
            f"{folder} is there and is no adapter folder (no {CONFIG}); it is never replaced. Choose another name."
        )
    s = adapted.settings
    document = AdapterDocument(
        peft_type="MAMOL",
        format=FORMAT,
        mamol_version=metadata.version("mamol"),
        base_model_name_or_path=base_model,
        base_model_class=type(adapted.base).__name__,
        base_model_sha256=fingerprint(adapted.base),
        target_modules=s.target_modules,
        layers_to_transform=s.layers,
        modules_to_save=s.modules_to_save,
        r=s.experts.rows(len(s.modalities) - len(s.added)),
        lora_alpha=s.experts.alpha,
        modalities=s.modalities,
        added=s.added,
        experts=s.experts.model_dump(mode="json"),
        router=s.router.model_dump(mode="json"),
    )
    with atomic(folder, overwrite or (folder.is_dir() and not any(folder.iterdir())), (WEIGHTS, CONFIG, CARD)) as partial:
        partial.mkdir(parents=True)
        save_file({k: v.detach().cpu().clone().contiguous() for k, v in adapter_state(adapted).items()}, partial / WEIGHTS)
        write_json(partial / CONFIG, document.model_dump(mode="json"))
        (partial / CARD).write_text(model_card(document, adapted), encoding="utf-8")
    return folder


def adapter_state(adapted: Adapted) -> dict[str, Tensor]:
    """Return the weights of the mixture and of modules_to_save, without the backbone's."""
    return {k: v for k, v in adapted.state_dict().items() if not k.startswith("base.")}


def load_adapter(
    model: nn.Module,
    source: str | Path,
    revision: str | None = None,
    any_backbone: bool = False,
    endpoint: str | None = None,
) -> Adapted:
    """Put a saved adapter beside `model`, from a folder or from a repository on the hub ("user/name").

    `endpoint` is the hub's address, None for huggingface_hub's own. `any_backbone` True takes the adapter beside weights
    that it was not trained on. Raises FileMissing, CheckpointError for a broken folder or another backbone, UnknownName
    if the model lacks the layers.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _pull(str(source), revision, endpoint)
    document = _read_config(folder / CONFIG)
    tensors = _read_weights(folder / WEIGHTS, document)
    found = fingerprint(model)
    if found != document.base_model_sha256 and not any_backbone:
        name = f" ({document.base_model_name_or_path})" if document.base_model_name_or_path else ""
        raise CheckpointError(
            f"{source} was trained on a {document.base_model_class}{name} with weights {document.base_model_sha256[:12]}; "
            f"this {type(model).__name__} has {found[:12]}. Load the same weights in the same precision, or pass "
            "any_backbone=True to use it all the same."
        )
    adapted = Adapted(model, document.settings())
    try:
        _fill(adapted, tensors, folder)
    except MamolError:
        adapted.remove()  # a refused adapter leaves the model as it came
        raise
    return adapted


def push_adapter(folder: str | Path, repository: str, private: bool = False, endpoint: str | None = None) -> str:
    """Upload an adapter folder to the hub; return its address. Signing in is huggingface_hub's: HF_TOKEN or its login.

    Raises FileMissing for a folder that is none, UsageError if the hub refuses.
    """
    hub, errors = _hub(repository)
    for name in (WEIGHTS, CONFIG, CARD):
        must_exist(Path(folder) / name, "adapter file")
    api = hub.HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=[WEIGHTS, CONFIG, CARD], commit_message="Upload MaMOL adapter"
        )
    except errors as error:
        raise UsageError(f"the hub did not take '{repository}': {error}. Sign in (HF_TOKEN) and check the name.") from error
    return str(done.commit_url)


def _pull(repository: str, revision: str | None, endpoint: str | None) -> Path:
    if repository.count("/") != 1 or repository.startswith((".", "/")):
        raise FileMissing(f"adapter not found: {repository} is neither a folder nor a repository's name (user/name).")
    hub, errors = _hub(repository)
    try:
        files = [WEIGHTS, CONFIG, CARD]
        return Path(hub.snapshot_download(repository, revision=revision, endpoint=endpoint, allow_patterns=files))
    except errors as error:
        raise FileMissing(f"adapter '{repository}' is no folder here and cannot be read from the hub: {error}") from error


def _hub(name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return the package, and what it raises: its own error, that of the HTTP library that it stands on, and the usual two."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise FileMissing(f"'{name}' is on the hub, which needs huggingface_hub: pip install 'mamol[hub]'.") from None
    return huggingface_hub, (errors.HfHubHTTPError, *errors.HfHubHTTPError.__bases__, OSError, ValueError)


def _read_config(path: Path) -> AdapterDocument:
    must_exist(path, "adapter configuration")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        kind = tree.get("peft_type") if isinstance(tree, dict) else None
        if kind != "MAMOL":
            raise CheckpointError(f"{path} describes an adapter of type {kind!r}; mamol reads MAMOL (PEFT loads its own).")
        if tree.get("format") != FORMAT:
            raise CheckpointError(f"{path} has format {tree.get('format')!r}; this version reads format {FORMAT}.")
        document = AdapterDocument.model_validate(tree)
        s = document.settings()
        if document.r != s.experts.rows(len(s.modalities) - len(s.added)):
            raise CheckpointError(f"{path}: r = {document.r} is not the sum of the experts' ranks.")
        return document
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    except MamolError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}); it may be truncated.") from error


def _read_weights(path: Path, document: AdapterDocument) -> dict[str, Tensor]:
    """Read the weights and hold them against the configuration before anything of its sizes is built."""
    try:
        tensors = load_file(must_exist(path, "adapter weights"))
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, MamolError):
            raise
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}).") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: weight '{name}' ({tensor.dtype}) holds values that are not finite real numbers.")
        if name.endswith(".banks.0.A") and tensor.shape[:1] != (document.r,):
            raise CheckpointError(
                f"{path}: '{name}' has rank {tuple(tensor.shape)[:1]}, {CONFIG} says {document.r}: they do not belong together."
            )
    return tensors


def _fill(adapted: Adapted, tensors: Mapping[str, Tensor], folder: Path) -> None:
    wanted = {k: tuple(v.shape) for k, v in adapter_state(adapted).items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{folder}: weight '{name}' is {found.get(name, 'missing')}, the configuration needs {wanted.get(name, 'none')}; "
                f"{WEIGHTS} and {CONFIG} do not belong together, or the model has other layers."
            )
    adapted.load_state_dict(dict(tensors), strict=False)


def model_card(document: AdapterDocument, adapted: Adapted) -> str:
    """Return the README of an adapter folder: front matter for the hub, what it is, and how to load it."""
    count = sum(v.numel() for v in adapter_state(adapted).values())
    front = ["---", "library_name: mamol", "tags:", "- mamol", "- missing-modality", "- lora"]
    front += [f"base_model: {document.base_model_name_or_path}"] if document.base_model_name_or_path else []
    e = adapted.settings.experts
    sensors = ", ".join(document.modalities)
    return "\n".join(
        [
            *front,
            "---",
            "",
            f"# A mixture of low-rank experts for missing modalities ({sensors})",
            "",
            f"{count:,} weights beside {len(adapted.places)} Linear layers of a frozen {document.base_model_class}"
            f" (SHA-256 of its weights {document.base_model_sha256[:12]}...): one shared expert of rank {e.shared_rank}, one of"
            f" rank {e.specific_rank} per modality, {e.n_dynamic} dynamic ones of rank {e.dynamic_rank}. Any combination of the"
            " modalities may be missing.",
            "",
            "```python",
            "import mamol",
            "",
            'adapted = mamol.load_adapter(model, "this folder or repository")',
            f"output = adapted(inputs, available={list(document.modalities)!r})   # or a bool tensor (batch, modality)",
            "```",
            "",
        ]
    )
