"""A tower puts the configured experts beside its model, or says why it cannot."""

from __future__ import annotations

import pytest

from mamol.configs import build_config
from mamol.errors import UnknownName
from mamol.model.adapted import Adapted
from mamol.model.towers import mixture_of
from vit import stranger


def test_experts_sit_in_the_configured_layers() -> None:
    tree = {"backbone": {"kind": "transformers"}, "experts": {"targets": ["q"], "layers": [-1]}}
    adapted = mixture_of(stranger(), ("a", "b"), build_config(tree), "made")
    assert isinstance(adapted, Adapted)
    assert list(adapted.alias) == ["layers.2.query"]


def test_a_layer_that_the_model_lacks_names_model_and_setting() -> None:
    tree = {"backbone": {"kind": "transformers"}, "experts": {"targets": ["q"], "layers": [-6, -1]}}
    with pytest.raises(
        UnknownName, match=r"'made' of the configuration: layer -6 is not among .* 0\.\.2 of Stranger.*experts\.layers"
    ):
        mixture_of(stranger(), ("a", "b"), build_config(tree), "made")
