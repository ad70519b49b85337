"""What a trained model is on disk: a folder, small, without pickle, that refuses another backbone.

    RUN/mamol.json              format, config, modalities, classes, normalisation, temperatures, split, training record,
                                backbone hash
    RUN/adapters.safetensors    experts, routers, tokenizers, head
    RUN/backbone/               backbone.json + weights.safetensors: the frozen transformer (a folder made by `pretrain`);
                                not there for a backbone pretrained elsewhere, which mamol.json names and hashes

A backbone folder also holds the tokenizers and the normalisation that it was pretrained with. Everything read is
checked against a schema: a truncated or hostile folder ends in a CheckpointError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mamol.config import Config, Positive
from mamol.data.dataset import ClassInfo
from mamol.data.normalize import Normalizer
from mamol.errors import CheckpointError, FileMissing, MamolError
from mamol.files import must_exist, write_json
from mamol.modality import Modality
from mamol.model.backbone import fingerprint
from mamol.model.build import AnyClassifier, build_classifier
from mamol.model.classifier import Classifier, InputShape
from mamol.model.predictor import MamolPredictor

FORMAT = 1
PLACEHOLDER = ".absent"
"""How the name of a tokenizer's learned placeholder ends."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)

    format: int


D = TypeVar("D", bound=_Document)


class BackboneDocument(_Document):
    """backbone.json."""

    config: Config
    modalities: tuple[Modality, ...]
    bands: dict[str, int]
    is_scene: bool
    normalizer: dict[str, Any]
    hash: str
    pretraining: dict[str, Any]


class RunDocument(_Document):
    """mamol.json."""

    config: Config
    dataset: str
    source: str
    modalities: tuple[Modality, ...]
    bands: dict[str, int]
    is_scene: bool
    pixels: dict[str, tuple[Positive, Positive]] = {}
    later: tuple[str, ...] = ()
    classes: tuple[ClassInfo, ...]
    normalizer: dict[str, Any]
    temperatures: dict[str, float]
    backbone_hash: str
    split: dict[str, Any]
    parameters: dict[str, int]
    training: dict[str, Any]

    def shape(self) -> InputShape:
        """Return what the classifier was built for."""
        return InputShape(self.modalities, self.bands, len(self.classes), self.is_scene, self.pixels, self.later)


def save_backbone(folder: Path, model: Classifier, normalizer: Normalizer, pretraining: Mapping[str, Any]) -> None:
    """Write backbone.json and weights.safetensors into an existing folder."""
    document = BackboneDocument(
        format=FORMAT,
        config=model.config,
        modalities=model.modalities,
        bands=dict(model.shape.bands),
        is_scene=model.shape.is_scene,
        normalizer=normalizer.to_json(),
        hash=fingerprint(model.backbone),
        pretraining=dict(pretraining),
    )
    parts = {"backbone": model.backbone, "tokenizers": model.tokenizers}
    _save(folder / "weights.safetensors", {f"{p}.{k}": v for p, m in parts.items() for k, v in m.state_dict().items()})
    write_json(folder / "backbone.json", document.model_dump(mode="json"))


def read_backbone(folder: Path) -> tuple[BackboneDocument, dict[str, Tensor]]:
    """Read a backbone folder; raises FileMissing and CheckpointError."""
    must_exist(folder, "backbone folder")
    document = _document(folder / "backbone.json", BackboneDocument)
    return document, _load(folder / "weights.safetensors")


def load_backbone(model: Classifier, folder: Path, with_tokenizers: bool) -> BackboneDocument:
    """Fill a model's backbone (and tokenizers) from a folder; raises CheckpointError if the sizes or hash differ.

    Learned placeholders are a choice of the training: one that the folder lacks starts anew, one that is not asked for goes.
    """
    document, tensors = read_backbone(folder)
    _fill(model.backbone, _under(tensors, "backbone."), folder)
    if with_tokenizers:
        own = {k: v for k, v in model.tokenizers.state_dict().items() if k.endswith(PLACEHOLDER)}
        given = _under(tensors, "tokenizers.")
        kept = {k: v for k, v in given.items() if k in own or not k.endswith(PLACEHOLDER)}
        _fill(model.tokenizers, own | kept, folder)
    if fingerprint(model.backbone) != document.hash:
        raise CheckpointError(f"{folder}: the weights do not have the hash that backbone.json names; get the folder anew.")
    return document


def save_run(folder: Path, model: AnyClassifier, document: RunDocument) -> None:
    """Write mamol.json and adapters.safetensors into an existing folder, in which backbone/ is already if it is ours.

    mamol.json comes last: a folder with it is complete.
    """
    _save(folder / "adapters.safetensors", model.own_state())
    write_json(folder / "mamol.json", document.model_dump(mode="json"))


def read_run(folder: Path) -> RunDocument:
    """Read mamol.json; raises FileMissing and CheckpointError."""
    must_exist(folder, "run folder")
    return _document(folder / "mamol.json", RunDocument)


def load_run(folder: Path | str) -> MamolPredictor:
    """Load a trained model, ready to predict. Raises FileMissing, and CheckpointError for a backbone of another hash."""
    folder = Path(folder)
    document = read_run(folder)
    tensors = _load(folder / "adapters.safetensors")
    try:
        normalizer = Normalizer.from_json(document.normalizer)
        if {m.name: normalizer.bands(m.name) for m in document.modalities} != document.bands:
            raise ValueError("the normalisation is not that of the modalities")
        model = _build(document, tensors, folder)
    except (CheckpointError, FileMissing):
        raise
    except (MamolError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{folder / 'mamol.json'} does not describe a model that can be built: {error}") from error
    if isinstance(model, Classifier):
        found, there = load_backbone(model, folder / "backbone", with_tokenizers=False).hash, "the folder holds"
    else:
        found, there = model.backbone_hash(), "the pretrained model found on this machine is"
    if found != document.backbone_hash:
        raise CheckpointError(
            f"{folder}: these adapters were trained on backbone {document.backbone_hash[:12]}, "
            f"{there} {found[:12]}; put the right backbone in its place."
        )
    _fill(model, model.state_dict() | tensors, folder)
    names = tuple(c.name for c in document.classes)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return MamolPredictor(model.eval(), normalizer, names, document.temperatures)


def _build(document: RunDocument, tensors: Mapping[str, Tensor], folder: Path) -> AnyClassifier:
    """Build the model that a document describes, once its sizes are known to be those of the weights."""
    if document.config.backbone.kind == "scene":
        with torch.device("meta"):  # sizes that the weights do not have must not be allocated
            _same_shapes(build_classifier(document.shape(), document.config), tensors, folder)
    model = build_classifier(document.shape(), document.config)
    _same_shapes(model, tensors, folder)
    return model


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, path)


def _load(path: Path) -> dict[str, Tensor]:
    must_exist(path, "weights")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); it may be truncated.") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: weight '{name}' holds NaN or infinity; the file is damaged.")
    return tensors


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: the weights do not fit the configuration beside them: {error}") from error


def _same_shapes(model: AnyClassifier, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse adapters that are not the ones the configuration describes; `model` may be on the meta device."""
    trained = {k: tuple(v.shape) for k, v in model.own_state().items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    for name in sorted(trained.keys() | found.keys()):
        if trained.get(name) != found.get(name):
            raise CheckpointError(
                f"{folder}: weight '{name}' is {found.get(name, 'missing')}, the configuration beside it needs "
                f"{trained.get(name, 'none')}; mamol.json and adapters.safetensors do not belong together."
            )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def with_scale(tree: Any) -> Any:
    """Give a document of before `experts.scale` was a setting what its experts had: alpha / r."""
    experts = tree.get("config", {}).get("experts") if isinstance(tree, dict) and isinstance(tree.get("config"), dict) else None
    if isinstance(experts, dict):
        experts.setdefault("scale", 0.0)
    return tree


def _document(path: Path, kind: type[D]) -> D:
    if path.name == "mamol.json" and not path.exists() and (path.parent / "run.json").exists():
        raise FileMissing(
            f"{path.parent} has no {path.name}: its training is not finished. Go on with it: `mamol train ... --resume`, with "
            "the options that it was started with."
        )
    must_exist(path, f"{path.name} (of a folder made by `mamol train` or `mamol pretrain`)")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree, dict) and tree.get("format") != FORMAT:
            raise CheckpointError(f"{path} has format {tree.get('format')!r}; this version reads format {FORMAT}.")
        return kind.model_validate(with_scale(tree))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); it may be truncated.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}.") from None
