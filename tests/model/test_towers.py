"""A tower puts the configured experts beside its model, or says why it cannot."""

from __future__ import annotations

import pytest
import torch

from made import made_scene
from mamol.config import DataConfig
from mamol.configs import build_config
from mamol.data.normalize import Normalizer
from mamol.data.split import make_split
from mamol.errors import UnknownName, UsageError
from mamol.model.adapted import Adapted
from mamol.model.towers import ImageTower, Raw, mixture_of
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


def test_raw_values_come_back_only_if_they_were_standardised_alone() -> None:
    scene = made_scene(4)
    split = make_split(scene, "block", 0, 8)
    values, raw = scene.tiles[0].values["hsi"][None], Raw(6)
    normalizer = Normalizer.fit(scene, split, DataConfig())
    raw.fill(normalizer, "hsi")
    torch.testing.assert_close(raw(torch.from_numpy(normalizer.apply(values, "hsi"))), torch.from_numpy(values))
    for config, key in ((DataConfig(compress=3), "compress"), (DataConfig(quantiles=8), "quantiles")):
        with pytest.raises(UsageError, match=rf"'hsi' as they are; set data\.{key} = 0"):
            raw.fill(Normalizer.fit(scene, split, config), "hsi")


@pytest.mark.parametrize(
    ("mean", "std", "warns"), [(0.45, 0.28, False), (0.5, 0.5, False), (120.0, 70.0, True), (0.0, 1.0, True), (3000.0, 0.1, True)]
)
def test_images_that_are_no_rgb_of_zero_to_one_are_told_of(
    mean: float, std: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tower = ImageTower.__new__(ImageTower)
    torch.nn.Module.__init__(tower)
    tower.names, tower.raw = ("photo",), Raw(3)
    tower.raw.mean.fill_(mean)
    tower.raw.std.fill_(std)
    tower.warn_of_units()
    assert ("most values of 'photo' lie in" in caplog.text) == warns
