"""The whole method: what an untrained mixture changes (nothing), and what each switch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from made import MODALITIES, made_samples, tiny_config
from mamol.config import Config
from mamol.configs import load_config, shipped_configs
from mamol.errors import AllModalitiesMissing, UsageError
from mamol.modality import Modality, patterns
from mamol.model.classifier import Classifier, InputShape
from mamol.model.experts import LayerGates
from mamol.model.rules import RULES

SCENE = InputShape(MODALITIES, {m.name: m.bands for m in MODALITIES}, 3, True)
SAMPLES = InputShape(made_samples(4).modalities, {m.name: m.bands for m in made_samples(4).modalities}, 3, False)


def build(shape: InputShape, config: Config, trained: bool = False) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(shape, config).eval()
    if trained:  # experts that do something
        for name, p in model.mixture.named_parameters():
            if name.endswith(".B"):
                torch.nn.init.normal_(p, std=0.1)
    return model


def windows(n: int = 3, side: int = 8) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)
    values = {m.name: torch.randn(n, m.bands, side, side) for m in MODALITIES}
    return values, {m.name: torch.rand(n, side, side) > 0.2 for m in MODALITIES}


def samples(n: int = 5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    batch = made_samples(n).samples
    return {m: torch.from_numpy(v) for m, v in batch.values.items()}, {m: torch.from_numpy(a) for m, a in batch.available.items()}


def only(available: dict[str, Tensor], present: tuple[str, ...]) -> dict[str, Tensor]:
    return {m: a if m in present else torch.zeros_like(a) for m, a in available.items()}


@pytest.mark.parametrize("fusion", ["joint", "late"])
@pytest.mark.parametrize("targets", [["q", "v", "fc1"], ["ffn"]])
def test_an_untrained_mixture_is_the_frozen_backbone_to_the_bit(fusion: str, targets: list[str]) -> None:
    model = build(SCENE, tiny_config(model={"fusion": fusion}, experts={"targets": targets}))
    values, available = windows()
    for present in patterns([m.name for m in MODALITIES]):
        with_experts = model(values, only(available, present)).logits
        without = model(values, only(available, present), experts=False).logits
        assert torch.equal(with_experts, without)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fusion", ["joint", "late"])
def test_every_rule_starts_at_the_frozen_backbone_and_trains(rule: str, fusion: str) -> None:
    experts = {"n_dynamic": {"table": 7, "flex": 7, "masked": 3}.get(rule, 4), "top_k": 2}
    router = {"rule": rule, "input": "pattern+content", "balance": 0.01}
    values, available = windows()
    fresh = build(SCENE, tiny_config(model={"fusion": fusion}, experts=experts, router=router))
    assert torch.equal(fresh(values, available).logits, fresh(values, available, experts=False).logits)
    model = build(SCENE, tiny_config(model={"fusion": fusion}, experts=experts, router=router), trained=True).train()
    out = model(values, available)
    assert not torch.allclose(out.logits, model(values, available, experts=False).logits)
    assert out.routing.chosen[0].shape == (3, 1 + 3 + experts["n_dynamic"])
    (out.logits.square().sum() + torch.stack(out.routing.balance).sum()).backward()
    missing = [n for n, p in model.mixture.named_parameters() if p.grad is None]
    assert not missing


@pytest.mark.parametrize("shape", [SCENE, SAMPLES], ids=["scene", "samples"])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_folded_equals_low_rank(shape: InputShape, scope: str) -> None:
    low = build(shape, tiny_config(experts={"path": "low-rank", "scope": scope}), trained=True)
    fold = build(shape, tiny_config(experts={"path": "folded", "scope": scope}), trained=True)
    values, available = windows() if shape is SCENE else samples()
    with torch.no_grad():
        a, b = low(values, available).logits, fold(values, available).logits
        frozen = low(values, available, experts=False).logits
    assert (a - b).abs().max() <= 1e-5 * a.abs().max().clamp_min(1)
    assert (a - frozen).abs().max() > 1e-2, "the experts must do something for this to mean anything"


def test_the_experts_of_a_missing_sensor_have_no_say() -> None:
    model = build(SCENE, tiny_config(), trained=True)
    values, available = windows()
    gone = only(available, ("hsi", "sar"))
    before = model(values, gone).logits
    start = model.mixture.config.shared_rank + 2 * model.mixture.config.specific_rank
    with torch.no_grad():
        for name, p in model.mixture.named_parameters():
            if name.endswith(".A"):  # the rows of the lidar expert
                p[start : start + model.mixture.config.specific_rank] += 5
    assert torch.equal(before, model(values, gone).logits)
    assert not torch.equal(before, model(values, available).logits)


@pytest.mark.parametrize(("task", "shape"), [("dense", (3, 3, 8, 8)), ("centre", (3, 3))])
def test_shapes_of_scenes(task: str, shape: tuple[int, ...]) -> None:
    model = build(SCENE, tiny_config(model={"task": task}))
    assert model(*windows()).logits.shape == shape


def test_shape_of_samples_and_refusal_of_empty_ones() -> None:
    model = build(SAMPLES, tiny_config())
    values, available = samples()
    assert model(values, available).logits.shape == (5, 3)
    available["optical"][2] = available["photo"][2] = False
    available["weather"][2] = False
    with pytest.raises(AllModalitiesMissing, match="sample 2"):
        model(values, available)


@pytest.mark.parametrize("placeholder", ["zeros", "ones", "mean", "learned"])
def test_placeholders_take_part(placeholder: str) -> None:
    stand_in = build(SCENE, tiny_config(tokens={"placeholder": placeholder}))
    values, available = windows()
    gone = only(available, ("hsi",))
    with torch.no_grad():
        before = stand_in(values, gone).logits
        stand_in.tokenizers["lidar"].fill += 3
        absent = stand_in.tokenizers["lidar"].absent
        if absent is not None:
            absent += 3
        after = stand_in(values, gone).logits
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", ["type", "values", "keys", "pop", "half", "training"])
def test_a_name_that_torch_keeps_for_itself_is_refused_before_anything_is_built(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' cannot name a modality of a network.*'{name}_1'"):
        InputShape((Modality("s1", 2), Modality(name, 1)), {"s1": 2, name: 1}, 3, True)


@pytest.mark.parametrize("task", ["dense", "centre"])
@pytest.mark.parametrize("placeholder", ["none", "ones", "learned"])
def test_late_fusion_zeroes_what_was_not_seen_whatever_stands_in(task: str, placeholder: str) -> None:
    model = build(SCENE, tiny_config(model={"fusion": "late", "task": task}, tokens={"placeholder": placeholder}))
    values, available = windows()
    available = {m: torch.ones_like(a) for m, a in available.items()}
    available["lidar"][0] = False
    available["lidar"][1, :4] = False
    given: list[Tensor] = []
    model.head[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model(values, available)
    width = model.config.backbone.width
    lidar = given[0][..., 2 * width : 3 * width]
    assert not lidar[0].any()
    assert lidar[1].any()
    assert given[0][0, ..., : 2 * width].abs().amax(-1).all()
    if task == "dense":  # each cell of the ground for itself; bilinear upsampling reaches into the next one
        assert not lidar[1, :2].any()
        assert lidar[1, 5:].abs().amax(-1).all()


def test_what_trains() -> None:
    model = build(SCENE, tiny_config())
    model.freeze()
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"mixture", "tokenizers", "head"}
    model(*windows()).logits.sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    counts = model.parameter_counts()
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())


def test_experts_and_router_are_a_tenth_of_a_backbone_of_a_million_weights() -> None:
    counts = build(SCENE, load_config("scene-large")).parameter_counts()
    assert counts["frozen"] == 2_669_568
    assert counts["experts"] + counts["router"] == 187_830
    assert counts["experts"] + counts["router"] <= 0.10 * counts["frozen"]


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_builds_and_runs(name: str) -> None:
    config = load_config(name)
    model = build(SCENE, config)
    side = config.tokens.window_px
    logits = model(*windows(2, side)).logits
    assert torch.isfinite(logits).all()


def test_the_papers_own_switches() -> None:
    config = load_config("mamol-paper")
    assert (config.model.fusion, config.model.task, config.tokens.placeholder) == ("late", "centre", "ones")
    assert config.experts.targets == ("ffn",)
    assert config.experts.projection
    model = build(SCENE, config)
    values, available = windows(2, config.tokens.window_px)
    assert not torch.equal(model(values, available).logits, model(values, available, experts=False).logits)


def test_gates_are_reported_per_layer() -> None:
    model = build(SCENE, tiny_config())
    values, available = windows()
    full = {m: torch.ones_like(a) for m, a in available.items()}
    routing = model(values, only(full, ("hsi", "lidar"))).routing
    assert sorted(routing.chosen) == [0, 1]
    names = model.config.experts.names([m.name for m in MODALITIES])
    gates = dict(zip(names, routing.chosen[0].mean(0).tolist(), strict=True))
    assert gates["shared"] == 1
    assert gates["specific hsi"] == 1
    assert gates["specific sar"] == 0


def test_late_fusion_reports_the_gates_of_every_token_that_was_seen() -> None:
    model = build(SAMPLES, tiny_config(model={"fusion": "late"}, experts={"scope": "own"}))
    values, available = samples()
    available = {m: torch.ones_like(a) for m, a in available.items()}
    available["photo"][0], available["optical"][0, 2:] = False, False
    gates = model(values, available).routing.chosen[1][:, :4]  # shared, one per modality
    few, all_tokens = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([6.0, 1.0, 16.0])
    expected = torch.stack([few / few.sum(), *[all_tokens / all_tokens.sum()] * 4])
    torch.testing.assert_close(gates, torch.cat([torch.ones(5, 1), expected], dim=1))


def test_late_fusion_reports_what_a_router_that_sees_content_made_of_each_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(SAMPLES, tiny_config(model={"fusion": "late"}, router={"input": "content"}), trained=True)
    values, available = samples()
    available = {m: torch.ones_like(a) for m, a in available.items()}
    found: list[Tensor] = []
    ask = model.mixture.gates

    def listen(layer: int, *about: Any) -> LayerGates:
        gates = ask(layer, *about)
        found.extend([gates.values] * (layer == 0))
        return gates

    monkeypatch.setattr(model.mixture, "gates", listen)
    chosen = model(values, available).routing.chosen[0]
    assert [g.shape[1] for g in found] == [6, 1, 16]
    torch.testing.assert_close(chosen, torch.cat(found, dim=1).mean(1))


def test_a_backbone_that_trains_counts_as_trained() -> None:
    frozen, whole = (build(SCENE, tiny_config(backbone={"freeze": f})).parameter_counts() for f in (True, False))
    assert (frozen["backbone"], whole["frozen"]) == (0, 0)
    assert whole["backbone"] == frozen["frozen"] > 0
