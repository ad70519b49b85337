"""What is said when a configuration and a data set do not go together, before any model is loaded."""

from __future__ import annotations

import pytest

from mamol.configs import build_config, load_config
from mamol.errors import ConfigError, UnknownName
from mamol.modality import Modality
from mamol.model.build import build_classifier
from mamol.model.classifier import InputShape

SHAPE = InputShape((Modality("note", 32, "text"), Modality("rad", 2, "vector")), {"note": 32, "rad": 2}, 3, False)


def test_text_names_the_configuration_to_start_from() -> None:
    for config in (build_config({}), build_config({"backbone": {"kind": "galileo-nano"}})):
        with pytest.raises(ConfigError, match=r"'note' is text.*--config fashion-products .*note = \"minilm\""):
            build_classifier(SHAPE, config)


def test_a_modality_that_only_the_configuration_has() -> None:
    with pytest.raises(UnknownName, match=r"backbone.models names 'image', .* data set are: note, rad.*\{note = \"minilm\"\}"):
        build_classifier(SHAPE, load_config("fashion-products"))
    config = load_config("fashion-products", ['backbone.models={note = "minilm"}'])
    with pytest.raises(UnknownName, match=r"backbone.depths names 'image', .* data set are: note, rad.*backbone.depths=\{\}"):
        build_classifier(SHAPE, config)
