"""Which classifier a configuration asks for: on our own scene backbone, or on one pretrained elsewhere."""

from __future__ import annotations

from mamol.config import Config
from mamol.errors import ConfigError
from mamol.model.classifier import Classifier, InputShape
from mamol.model.pretrained import PretrainedClassifier

AnyClassifier = Classifier | PretrainedClassifier
"""Both take (values, available), return an Output, and know `shape`, `modalities`, `config`, `task`."""


def build_classifier(shape: InputShape, config: Config) -> AnyClassifier:
    """Build an untrained classifier; raises ConfigError for settings that do not fit the data, FileMissing for weights."""
    if config.backbone.kind != "scene":
        return PretrainedClassifier(shape, config)
    for m in shape.modalities:
        if m.kind == "text":
            raise ConfigError(
                f"'{m.name}' is text, which the scene backbone cannot read; start from --config fashion-products with "
                f"--set 'backbone.models={{{m.name} = \"minilm\"}}' --set 'backbone.depths={{}}'."
            )
    return Classifier(shape, config)
