"""Windows of one raster: with a model that is its own answer, every size, stride and hole gives what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import Trained
from made import made_scene
from mamol.configs import build_config
from mamol.data.windows import starts
from mamol.modality import Modality
from mamol.model.classifier import Classifier, InputShape, Output
from mamol.model.raster_windows import Folds, RasterWindows
from mamol.model.routing import Routing

WINDOW = 8


class Identity(Classifier):
    """Says with near certainty that a pixel's class is its value, and counts its windows."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = build_config({"tokens": {"window_px": WINDOW, "token_px": 2}})
        self.modalities = (Modality("x", 1), Modality("y", 1))
        self.shape = InputShape(self.modalities, {"x": 1, "y": 1}, 3, True)
        self.windows: list[int] = []

    def forward(self, values: Mapping[str, Tensor], available: Mapping[str, Tensor], experts: bool = True) -> Output:
        value = torch.where(available["x"], values["x"][:, 0], values["y"][:, 0])
        assert all(v.shape[-2:] == (WINDOW, WINDOW) for v in values.values())
        self.windows.append(len(value))
        logits = 30.0 * torch.stack([value == k for k in range(3)], dim=1).float()
        return Output(logits, Routing(torch.zeros(1, 2), None, torch.zeros(1, 1, dtype=torch.long)))

    def folded(self, pattern: Sequence[str]) -> Classifier:
        return self


@pytest.mark.parametrize("stride", [1, 2, WINDOW // 2, 5, WINDOW - 1, WINDOW])
@pytest.mark.parametrize("height", [1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5])
@pytest.mark.parametrize("width", [1, WINDOW, 2 * WINDOW + 3])
def test_exact_for_every_size_and_stride(height: int, width: int, stride: int) -> None:
    rng = np.random.default_rng(height * 100 + width)
    truth = torch.from_numpy(rng.integers(0, 3, (height, width)).astype(np.float32))
    there = {m: torch.from_numpy(rng.random((1, height, width)) > 0.3) for m in ("x", "y")}
    there["x"][0, : height // 2] = True
    values = {m: torch.where(there[m], truth, 7.0)[None] for m in there}
    seen = (there["x"] | there["y"])[0].numpy()
    model = Identity()
    out = RasterWindows(values, there, torch.ones(height, width), model).dense(stride, Folds())
    assert out.shape == (3, height, width)
    np.testing.assert_allclose(out[:, seen].sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(out.argmax(0)[seen], truth.numpy()[seen])
    assert out[:, seen].max(0).min() > 0.999
    most = len(starts(height, WINDOW, stride)) * len(starts(width, WINDOW, stride))
    assert sum(model.windows) <= most  # a window that holds nothing does not run


def test_windows_of_a_pattern_run_together_and_the_chunk_does_not_matter(
    scene_run: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = made_scene(1, 40).tiles[0].batch()
    batch.available["hsi"][:, 9:23, 12:] = False
    whole = scene_run.predictor.predict(batch)
    monkeypatch.setattr("mamol.model.raster_windows.CHUNK", 5)
    np.testing.assert_allclose(scene_run.predictor.predict(batch), whole, atol=1e-5)


def test_folded_copies_stay_behind_when_a_predictor_travels(scene_run: Trained) -> None:
    import pickle

    folds = Folds()
    folds.get(scene_run.predictor.model, ("hsi",))
    assert set(folds.models) == {("hsi",)}
    assert pickle.loads(pickle.dumps(folds)).models == {}


def test_windows_of_a_sensor_that_covers_little_are_found_on_a_large_raster(scene_run: Trained) -> None:
    """They were thinned to 128 before the empty ones were dropped, and then none was left."""
    model, side = scene_run.predictor.model, 144  # 324 windows of 8 pixels
    values = {m.name: torch.zeros(1, model.shape.bands[m.name], side, side) for m in model.modalities}
    available = {m: torch.zeros(1, side, side, dtype=torch.bool) for m in values}
    available["lidar"][0, 8:16, 8:16] = True
    found, there = RasterWindows(values, available, torch.ones(side, side), model).some()
    assert len(found["lidar"]) == 1
    assert there["lidar"].all()
