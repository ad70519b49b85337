import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_adapted import MASK, SENSORS, inputs, mixed

from conftest import Trained, make_run
from made import made_samples, made_scene
from mamol.api import TrainOptions, train_model
from mamol.config import DataConfig
from mamol.data.dataset import lacking
from mamol.data.normalize import Normalizer
from mamol.data.split import make_split
from mamol.errors import FileMissing, OutputExists, ShapeMismatch, UnknownName, UsageError
from mamol.modality import Batch, patterns
from mamol.model.adapted import adapt
from mamol.model.checkpoint import load_run
from mamol.model.export import export_adapted, export_run

pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")


def session(path: Path) -> "ort.InferenceSession":
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_inputs(run: Trained, batch: int) -> dict[str, torch.Tensor]:
    model, random = run.predictor.model, torch.Generator().manual_seed(3)
    side = model.config.tokens.window_px
    out = {}
    for m in model.modalities:
        rest = {"grid": model.shape.pixels.get(m.name, (side, side)), "series": (m.length,)}.get(m.kind, ())
        out[m.name] = torch.randn(batch, model.shape.bands[m.name], *rest, generator=random)
    return out


def wanted(run: Trained, values: Mapping[str, torch.Tensor], rows: Sequence[Sequence[str]]) -> np.ndarray:
    """What torch says of each sample with its own pattern."""
    available = {}
    for m, v in values.items():
        here = torch.tensor([m in row for row in rows])
        available[m] = here.view(-1, *[1] * (v.dim() - 2)).expand(-1, *v.shape[2:])
    with torch.no_grad():
        return run.predictor.model.eval()(values, available).logits.numpy()


def page() -> dict[str, Any]:
    """What the code in docs/export.md defines."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space: dict[str, Any] = {}
    exec(compile(code, "docs/export.md", "exec"), space)
    return space


def agrees_with_the_page(path: Path, run: Trained, values: Mapping[str, torch.Tensor], mask: np.ndarray) -> None:
    """Check that the page's code makes of raw values what mamol makes of them."""
    raw, available = {m: 3 * v.numpy() - 1 for m, v in values.items()}, {}
    for i, m in enumerate(run.predictor.modalities):
        here = mask[:, i].reshape(-1, *[1] * (raw[m].ndim - 2))
        available[m] = np.broadcast_to(here, raw[m].shape[:1] + raw[m].shape[2:])
    found = page()["probabilities"](path, raw, mask)
    np.testing.assert_allclose(found, run.predictor.predict(Batch(raw, available)), atol=1e-4)


def test_the_page_normalises_spectra_as_mamol_does() -> None:
    scene = made_scene()
    normalizer = Normalizer.fit(scene, make_split(scene, "block", 0, 8), DataConfig(compress=4, unit_spectrum=True))
    spectra = scene.tiles[0].values["hsi"][None]
    found = page()["normalised"](spectra, json.loads(json.dumps(normalizer.to_json()))["hsi"])
    assert found.shape[1] == 4
    np.testing.assert_allclose(found, normalizer.apply(spectra, "hsi"), atol=1e-4)


def test_the_page_maps_by_quantiles_as_mamol_does() -> None:
    scene = made_scene()
    scene.tiles[0].values["lidar"][scene.tiles[0].values["lidar"] < 0] = 0
    normalizer = Normalizer.fit(scene, make_split(scene, "block", 0, 8), DataConfig(quantiles=16))
    for m in ("sar", "lidar"):
        values = scene.tiles[0].values[m][None]
        found = page()["normalised"](values, json.loads(json.dumps(normalizer.to_json()))[m])
        np.testing.assert_allclose(found, normalizer.apply(values, m), atol=1e-4)


@pytest.fixture(scope="module")
def extended_run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that took on a sensor."""
    folder, dataset = tmp_path_factory.mktemp("extended"), made_samples()
    before = make_run(lacking(dataset, ["weather"]), folder / "before")
    predictor = train_model(dataset, folder / "run", TrainOptions(extend=before.run, overrides=["train.lr=0.05"]))
    return replace(before, dataset=dataset, run=folder / "run", predictor=predictor)


@pytest.mark.parametrize("which", ["scene_run", "sample_run", "extended_run"])
def test_with_the_mask_as_an_input_every_pattern_agrees(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run: Trained = request.getfixturevalue(which)
    path = export_run(run.run, tmp_path / "all.onnx")
    names = list(run.predictor.modalities)
    rows = patterns(names)
    values = random_inputs(run, len(rows))
    mask = np.array([[m in row for m in names] for row in rows])
    graph = session(path)
    (found,) = graph.run(["logits"], {m: v.numpy() for m, v in values.items()} | {"available": mask})
    np.testing.assert_allclose(found, wanted(run, values, rows), atol=1e-4)
    (one,) = graph.run(None, {m: v[:1].numpy() for m, v in values.items()} | {"available": mask[:1]})
    np.testing.assert_allclose(one, found[:1], atol=1e-4)
    agrees_with_the_page(path, run, values, mask)
    told = graph.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(run.predictor.classes)
    assert set(json.loads(told["normalisation"])) == set(names)
    assert [m["name"] for m in json.loads(told["modalities"])] == names


@pytest.mark.parametrize("which", ["scene_run", "sample_run", "extended_run"])
def test_folded_for_one_pattern(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run: Trained = request.getfixturevalue(which)
    every = patterns(run.predictor.modalities)
    for i, pattern in enumerate(every[::3] if which == "scene_run" else every[2:3]):  # an export takes seconds
        graph = session(export_run(run.predictor, tmp_path / f"{i}.onnx", pattern))
        assert {x.name for x in graph.get_inputs()} == set(pattern)
        values = random_inputs(run, 4)
        (found,) = graph.run(None, {m: values[m].numpy() for m in pattern})
        np.testing.assert_allclose(found, wanted(run, values, [pattern] * 4), atol=1e-4)
        mask = np.array([[m in pattern for m in run.predictor.modalities]] * 4)
        agrees_with_the_page(tmp_path / f"{i}.onnx", run, values, mask)


def test_grids_of_samples_have_the_size_that_they_were_trained_on(tmp_path: Path) -> None:
    data, n = made_samples(), 120
    photo = np.random.default_rng(1).normal(0, 1, (n, 2, 11, 6)).astype(np.float32)
    values, available = dict(data.samples.values), dict(data.samples.available)
    values["photo"], available["photo"] = photo, np.ones((n, 11, 6), dtype=bool)
    run = make_run(replace(data, samples=Batch(values, available)), tmp_path / "run")
    again = replace(run, predictor=load_run(run.run))
    graph = session(export_run(again.predictor, tmp_path / "all.onnx"))
    assert [x.shape[1:] for x in graph.get_inputs() if x.name == "photo"] == [[2, 11, 6]]
    rows = [("optical", "photo"), ("photo",)]
    inputs = random_inputs(again, 2)
    mask = np.array([[m in row for m in again.predictor.modalities] for row in rows])
    (found,) = graph.run(None, {m: v.numpy() for m, v in inputs.items()} | {"available": mask})
    np.testing.assert_allclose(found, wanted(again, inputs, rows), atol=1e-4)
    # A folder from before sizes were kept loads and predicts; what it does not know is asked for.
    document = json.loads((run.run / "mamol.json").read_text())
    (run.run / "mamol.json").write_text(json.dumps({k: v for k, v in document.items() if k != "pixels"}))
    old = load_run(run.run)
    np.testing.assert_array_equal(old.predict(data.samples), again.predictor.predict(data.samples))
    with pytest.raises(UsageError, match=r'"pixels": \{"photo": \[H, W\]\}'):
        export_run(old, tmp_path / "old.onnx")


def test_an_adapted_module_of_somebody_else(tmp_path: Path) -> None:
    adapted, x = mixed(), inputs()
    graph = session(export_adapted(adapted, {"x": x}, tmp_path / "all.onnx", classes=["a", "b", "c"]))
    (found,) = graph.run(None, {"x": x.numpy(), "available": MASK.numpy()})
    np.testing.assert_allclose(found, adapted(x, available=MASK).detach().numpy(), atol=1e-4)
    assert json.loads(graph.get_modelmeta().custom_metadata_map["classes"]) == ["a", "b", "c"]
    for i, pattern in enumerate(patterns(SENSORS)[::3]):
        graph = session(export_adapted(adapted, {"x": x}, tmp_path / f"{i}.onnx", pattern))
        (found,) = graph.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, adapted(x, available=pattern).detach().numpy(), atol=1e-4)


class Picky(torch.nn.Module):
    """A stranger's module that takes any name, as many do, needs two, and returns several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor | None = None, **more: object) -> dict[str, torch.Tensor]:
        if scale is None:
            raise ValueError("You have to specify a scale")
        out = self.layer(tokens) * scale[:, None]
        return {"hidden": out, "pooled": out.mean(1)}


def test_wrong_inputs_are_named_before_torch_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", None)  # it is not called
    path, x = tmp_path / "a.onnx", inputs()
    with pytest.raises(UsageError, match=r"unknown input of \w+ 'y'; known: x\."):
        export_adapted(mixed(), {"y": x}, path)
    with pytest.raises(UsageError, match=r"tensors by name, .* got a Tensor"):
        inspect.unwrap(export_adapted)(mixed(), x, path)  # without the tests' own check of types
    picky = adapt(Picky(), SENSORS)
    says = r"Picky cannot be called with token: .*tokens.*\. Its forward takes tokens, scale\."
    with pytest.raises(UsageError, match=says):
        export_adapted(picky, {"token": x[:, 0, :4]}, path)
    with pytest.raises(UsageError, match=r"with tokens: You have to specify a scale\. Its forward"):
        export_adapted(picky, {"tokens": x[:, 0, :4]}, path)
    assert not path.exists()


def test_the_first_of_several_outputs_is_kept_and_the_others_are_named(tmp_path: Path) -> None:
    x = {"tokens": torch.randn(3, 4), "scale": torch.rand(3)}
    picky = adapt(Picky(), SENSORS)
    graph = session(export_adapted(picky, x, tmp_path / "a.onnx", ("dem",)))
    (found,) = graph.run(None, {k: v.numpy() for k, v in x.items()})
    np.testing.assert_allclose(found, picky(**x, available=("dem",))["hidden"].detach().numpy(), atol=1e-5)
    told = graph.get_modelmeta().custom_metadata_map
    assert (told["kept"], json.loads(told["left_out"])) == ("hidden", ["pooled"])


def test_what_cannot_be_traced_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*args: object, **kwargs: object) -> None:
        try:
            raise RuntimeError("\x1b[31mno data-dependent branch\x1b[0m\nand much more")
        except RuntimeError as error:
            step = "Failed to export the model. \x1b[96mThis is step 1/3\x1b[0m of exporting. Next steps:\n- Debug"
            raise torch.onnx.errors.OnnxExporterError(step) from error

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(UsageError, match=r"could not trace .* x, available: no data-dependent branch\.$") as refused:
        export_adapted(mixed(), {"x": inputs()}, tmp_path / "a.onnx")
    assert "\n" not in str(refused.value)


def test_bad_requests_are_refused_before_anything_is_written(scene_run: Trained, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(UnknownName, match="modality"):
        export_run(scene_run.predictor, path, ("nothing",))
    with pytest.raises(UsageError, match=r"pattern is a list of texts, such as pattern=\['s1'\]; got 'hsi\+sar'"):
        export_run(scene_run.predictor, path, "hsi+sar")
    with pytest.raises(FileMissing):
        export_run(tmp_path / "nowhere", path)
    with pytest.raises(ShapeMismatch, match="at least two samples"):
        export_adapted(mixed(), {"x": inputs(1)}, path)
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(OutputExists):
        export_run(scene_run.predictor, path)
    assert path.read_text() == "mine"


def test_what_does_not_fold_is_said() -> None:
    from made import tiny_config
    from mamol.modality import Modality
    from mamol.model.classifier import Classifier, InputShape

    shape = InputShape((Modality("a", 2, "vector"),), {"a": 2}, 3, False)
    with pytest.raises(UsageError, match="fold"):
        Classifier(shape, tiny_config(router={"input": "content"})).folded(("a",))
