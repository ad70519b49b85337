import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from mamol.config import MixtureConfig, RouterConfig
from mamol.errors import AllModalitiesMissing, ConfigError, ShapeMismatch, UnknownName, UsageError
from mamol.modality import patterns
from mamol.model import beside
from mamol.model.adapted import Adapted, adapt
from mamol.model.adapter_settings import AdapterSettings, make_settings, ranks_of
from mamol.model.rules import RULES
from vit import Stranger, stranger

SENSORS = ("s1", "s2", "dem")
TARGETS = ("query", "value", "fc1", "fc2")
MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]]).bool()


def inputs(batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(1))


def shaken(adapted: Adapted, seed: int = 0) -> Adapted:
    """Give every expert and router weights that matter, so that a wrong gate shows."""
    random = torch.Generator().manual_seed(seed)
    for module in (adapted.places, adapted.gating):
        for p in module.parameters():
            p.data = torch.randn(p.shape, generator=random) * 0.1
    return adapted


def mixed(layers: int = 3, **kwargs: object) -> Adapted:
    return shaken(adapt(stranger(layers=layers), SENSORS, TARGETS, rank=4, **kwargs))


def alone(adapted: Adapted, x: torch.Tensor, mask: torch.Tensor = MASK) -> torch.Tensor:
    """Run each sample by itself: what a batch must agree with."""
    return torch.cat([adapted(x[i : i + 1], available=mask[i : i + 1]) for i in range(len(x))])


def test_untrained_experts_change_nothing_to_the_bit():
    model, x = stranger(), inputs()
    before = model(x)
    assert torch.equal(adapt(model, SENSORS, TARGETS)(x, available=MASK), before)


def test_gates_follow_the_equation_by_hand():
    model = nn.Sequential(nn.Linear(2, 2))
    adapted = shaken(Adapted(model, AdapterSettings(modalities=("a", "b"), target_modules="0", experts=MixtureConfig(
        shared_rank=1, specific_rank=2, dynamic_rank=0, alpha=6.0))))  # fmt: skip
    x = torch.randn(1, 2)
    bank = adapted.places["/0"].banks[0]
    A, B = bank.A, bank.B
    shared = 6.0 * B[:, :1] @ A[:1]
    b = 3.0 * B[:, 3:5] @ A[3:5]
    torch.testing.assert_close(adapted(x, available=("b",)), x @ (model[0].weight + shared + b).T + model[0].bias)


def test_a_batch_of_mixed_patterns_equals_each_sample_alone():
    adapted, x = mixed(), inputs()
    torch.testing.assert_close(adapted(x, available=MASK), alone(adapted, x))
    with torch.no_grad():
        torch.testing.assert_close(adapted(x, available=MASK), alone(adapted, x))


@pytest.mark.parametrize("pays", [0, 10**9], ids=["a weight per sample", "low-rank"])
def test_long_samples_take_a_weight_of_their_own_pattern(pays: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "GROUPING_PAYS", pays)
    products = []
    monkeypatch.setattr(torch, "baddbmm", lambda *a, old=torch.baddbmm: products.append(a) or old(*a))
    adapted, x = mixed(), inputs()
    with torch.no_grad():
        found = adapted(x, available=MASK)
    assert bool(products) is (pays == 0)
    torch.testing.assert_close(found, alone(adapted, x), atol=1e-5, rtol=1e-5)
    adapted.add_modality("sar")
    for p in adapted.places.parameters():
        p.data += 0.1 * (p.data == 0)
    wide = torch.cat([MASK, torch.zeros(6, 1, dtype=torch.bool)], 1)
    wide[0, 3] = True
    with torch.no_grad():
        new = adapted(x, available=wide)
    assert torch.equal(new[1:], found[1:])
    assert not torch.equal(new[0], found[0])


def test_availability_comes_as_tensor_names_or_mapping():
    adapted, x = mixed(), inputs()
    rows = torch.tensor([[True, False, True]]).expand(6, -1)
    by_tensor = adapted(x, available=rows)
    torch.testing.assert_close(adapted(x, available=("dem", "s1")), by_tensor)
    some = {"s1": torch.ones(6, dtype=torch.bool), "dem": torch.ones(6, dtype=torch.bool)}
    assert torch.equal(adapted(x, available=some), by_tensor)


@pytest.mark.parametrize("input", ["pattern", "pattern+content", "content"])
def test_every_router_input_runs_and_trains(input):
    adapted = mixed(router=RouterConfig(input=input))
    out = adapted(inputs(), available=MASK)
    torch.testing.assert_close(out, alone(adapted, inputs()))
    out.sum().backward()
    missing = [n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if not rule.mixes_tokens])
def test_every_rule_runs_beside_somebodys_model_and_hands_over_its_loss(rule):
    experts = {"table": 7, "flex": 7, "masked": 3}.get(rule, 4)
    settings = AdapterSettings(
        modalities=SENSORS,
        target_modules="all-linear",
        experts=MixtureConfig(n_dynamic=experts, top_k=2, init_b="normal", tied=rule == "dense"),
        router=RouterConfig(rule=rule, input="pattern+content", balance=0.1),
    )
    adapted, losses = Adapted(stranger(), settings), []
    out = adapted.bind(MASK, losses)(inputs())
    assert not torch.allclose(out, adapted.base(inputs()))
    assert len(losses) == (0 if rule == "table" else len(adapted.places))
    (out.sum() + sum(losses)).backward()
    assert not [n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is None]


def test_a_rule_that_must_know_the_padding_is_refused():
    with pytest.raises(ConfigError, match="scene backbone only"):
        adapt(stranger(), modalities=SENSORS, target_modules="all-linear", router=RouterConfig(rule="soft"))


def test_only_the_mixture_trains():
    adapted = mixed()
    adapted(inputs(), available=MASK).sum().backward()
    assert all(p.grad is None for p in adapted.base.parameters())
    trained = {n.split(".")[0] for n, p in adapted.named_parameters() if p.grad is not None}
    assert trained == {"places", "gating"}


@pytest.mark.parametrize("pattern", patterns(SENSORS))
def test_fold_is_the_models_own_class_with_the_same_outputs(pattern):
    adapted, x = mixed(), inputs()
    folded = adapted.fold(pattern)
    assert type(folded) is Stranger
    assert {type(m) for m in folded.modules()} == {type(m) for m in adapted.base.modules()}
    assert all(p.requires_grad for p in folded.parameters())
    torch.testing.assert_close(folded(x), adapted(x, available=pattern), atol=1e-5, rtol=1e-5)
    for p in folded.parameters():
        p.data.zero_()
    assert adapted(x, available=pattern).abs().sum() > 0


def test_fold_of_a_router_that_sees_content_is_refused():
    with pytest.raises(UsageError, match="nothing folds"):
        mixed(router=RouterConfig(input="content")).fold(("s1",))


def test_remove_gives_the_original_back_to_the_bit():
    model = stranger()
    model.embed.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    x = inputs()
    wanted = model(x)
    adapted = shaken(adapt(model, SENSORS, TARGETS))
    adapted(x, available=MASK).sum().backward()
    back = adapted.remove()
    assert back is model
    assert {n: p.requires_grad for n, p in back.named_parameters()} == flags
    assert all(torch.equal(v, before[k]) for k, v in back.state_dict().items())
    assert torch.equal(back(x), wanted)


def test_two_adapted_models_do_not_see_each_other():
    model, x = stranger(), inputs()
    one, two = shaken(adapt(model, SENSORS, TARGETS), 1), shaken(adapt(model, SENSORS, TARGETS), 2)
    first = one(x, available=MASK)
    second = two(x, available=MASK.flip(0))
    assert not torch.allclose(first, second)
    assert torch.equal(one(x, available=MASK), first)
    assert torch.equal(two(x, available=MASK.flip(0)), second)


def test_threads_keep_their_own_gates():
    adapted, x = mixed(), inputs()
    masks = [MASK.roll(i, 0) for i in range(6)] * 10
    wanted = [adapted(x, available=m) for m in masks[:6]]

    def run(i: int) -> bool:
        return torch.equal(adapted(x, available=masks[i]), wanted[i % 6])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(run, range(len(masks))))


def test_gradient_checkpointing_recomputes_with_the_gates_of_its_own_call():
    grads = []
    for checkpointed in (False, True):
        adapted = shaken(adapt(stranger(checkpointed=checkpointed), SENSORS, TARGETS, rank=4)).train()
        loss = adapted(inputs(), available=MASK).square().sum()
        adapted(inputs(), available=MASK.flip(0))  # another call in between must not be what is recomputed
        loss.backward()
        grads.append([p.grad for p in adapted.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_deepcopy_and_pickle_are_independent_and_equal():
    adapted, x = mixed(), inputs()
    wanted = adapted(x, available=MASK)
    for twin in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert torch.equal(twin(x, available=MASK), wanted)
        shaken(twin, 5)
        assert not torch.allclose(twin(x, available=MASK), wanted)
        assert torch.equal(adapted(x, available=MASK), wanted)


def test_replicas_as_data_parallel_makes_them_run_with_their_share():
    adapted, x = mixed(), inputs()

    def replica(module: nn.Module) -> nn.Module:
        twin = module._replicate_for_data_parallel()
        for key, p in module._parameters.items():
            setattr(twin, key, None if p is None else p.detach().clone())
        for key, child in module._modules.items():
            twin._modules[key] = replica(child)
        return twin

    halves = [replica(adapted)(x[s], available=MASK[s]) for s in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(torch.cat(halves), adapted(x, available=MASK))


COMPILED = """
import torch
from test_adapted import MASK, inputs, mixed

adapted, x = mixed(layers=1), inputs()
compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
for mask in (MASK, MASK.flip(0)):
    torch.testing.assert_close(compiled(x, available=mask), adapted(x, available=mask))
compiled(x, available=MASK).sum().backward()
assert all(p.grad is not None for p in adapted.places.parameters())
assert all(m.call is None for m in adapted._compiled[1])
adapted.eval(), adapted.train()
with torch.no_grad():
    torch.testing.assert_close(compiled(x, available=MASK), adapted(x, available=MASK))
"""


@pytest.mark.slow
def test_compile_runs_mixed_patterns_in_one_graph_and_trains():
    # In a process of its own: the run-time type checks of the tests are what dynamo cannot trace.
    here = Path(__file__).resolve().parent
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_export_takes_the_mask_as_an_input():
    class Wrapped(nn.Module):
        def __init__(self, adapted: Adapted) -> None:
            super().__init__()
            self.adapted = adapted

        def forward(self, x: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
            return self.adapted(x, available=available)

    adapted, x = mixed(), inputs()
    program = torch.export.export(Wrapped(adapted), (x, MASK))
    for mask in (MASK, MASK.flip(0)):
        torch.testing.assert_close(program.module()(x, mask), adapted(x, available=mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_backbone_of_another_precision_keeps_it(dtype):
    adapted = shaken(adapt(stranger().to(dtype), SENSORS, TARGETS))
    x = inputs().to(dtype)
    out = adapted(x, available=MASK)
    assert out.dtype == dtype
    assert adapted.fold(("s1",))(x).dtype == dtype
    loose = 5e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(adapted.fold(("s1",))(x), adapted(x, available=("s1",)), atol=loose, rtol=loose)


def test_autocast_runs_and_trains():
    adapted = mixed()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = adapted(inputs(), available=MASK)
    out.float().sum().backward()
    torch.testing.assert_close(out.float(), adapted(inputs(), available=MASK), atol=0.3, rtol=0.1)


def test_one_linear_under_two_names_has_one_mixture():
    model = stranger()
    model.layers[1] = model.layers[0]
    adapted = shaken(adapt(model, SENSORS, ["query"]))
    assert len(adapted.places) == 2
    x = inputs()
    torch.testing.assert_close(adapted.fold(("s1",))(x), adapted(x, available=("s1",)))


def test_modules_to_save_train_in_a_copy():
    model, x = stranger(), inputs()
    head = model.classifier.weight.clone()
    adapted = adapt(model, SENSORS, "all-linear", modules_to_save=["classifier"])
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    adapted(x, available=MASK).sum().backward()
    optimizer.step()
    assert torch.equal(model.classifier.weight, head)
    assert not torch.equal(adapted.saved["/classifier"].weight, head)
    torch.testing.assert_close(adapted.fold(("s1",))(x), adapted(x, available=("s1",)), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="one of the two only"):
        adapt(stranger(), SENSORS, ["classifier"], modules_to_save=["classifier"])
    with pytest.raises(UnknownName, match="modules_to_save"):
        adapt(stranger(), SENSORS, ["query"], modules_to_save=["head"])


def test_a_modality_that_comes_later_leaves_old_patterns_equal_to_the_bit():
    adapted, x = mixed(), inputs()
    old = adapted(x, available=MASK)
    adapted.add_modality("sar")
    trains = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert all(".banks.1." in n or n.endswith(".added.for sar") for n in trains)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.01)
    wide = torch.cat([MASK, torch.ones(6, 1, dtype=torch.bool)], 1)
    for _ in range(2):
        adapted(x, available=wide).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    wide[1:, 3] = False
    new = adapted(x, available=wide)
    assert torch.equal(new[1:], old[1:])
    assert not torch.allclose(new[0], old[0])
    wide[:, 3] = False
    assert torch.equal(adapted(x, available=wide), old)
    torch.testing.assert_close(adapted.fold(("s1", "sar"))(x), adapted(x, available=("s1", "sar")), atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="already"):
        adapted.add_modality("sar")


@pytest.mark.parametrize(
    ("experts", "router"),
    [
        (MixtureConfig(tied=True), RouterConfig()),
        (MixtureConfig(n_dynamic=7), RouterConfig(rule="table")),
        (MixtureConfig(n_dynamic=7), RouterConfig(rule="flex", balance=0.1)),
        (MixtureConfig(n_dynamic=7), RouterConfig(rule="flex", balance=0.1, input="pattern+content")),
        (MixtureConfig(n_dynamic=3), RouterConfig(rule="masked", balance=0.1)),
    ],
)
def test_every_mixture_takes_one_more_modality(experts: MixtureConfig, router: RouterConfig):
    settings = AdapterSettings(modalities=SENSORS, target_modules=TARGETS, experts=experts, router=router)
    adapted, x = shaken(Adapted(stranger(), settings)), inputs()
    old = adapted(x, available=MASK)
    adapted.add_modality("sar")
    wide = torch.cat([MASK, torch.zeros(6, 1, dtype=torch.bool)], 1)
    assert torch.equal(adapted(x, available=wide), old)
    wide[0, 3] = True
    losses: list[torch.Tensor] = []
    adapted.bind(wide, losses)(x).square().sum().backward()
    losses += adapted.gating.balance(wide.float())
    assert len(losses) == (len(adapted.places) if router.input != "pattern" else 3) * (router.balance > 0)
    assert all(p.grad is not None for n, p in adapted.named_parameters() if ".banks.1." in n)


def test_gates_are_told_per_layer_and_expert():
    gates = mixed().gates(MASK)
    assert set(gates) == {"layers.0", "layers.1", "layers.2"}
    assert gates["layers.0"].shape == (6, 6)
    assert torch.equal(gates["layers.0"][:, 1:4], MASK.float())
    assert ((gates["layers.1"][:, 4:] > 0).sum(1) == 1).all()


def test_bind_reaches_other_methods_than_forward():
    class Named(Stranger):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            return self(x) * 2

    torch.manual_seed(0)
    adapted = shaken(adapt(Named(), SENSORS, TARGETS))
    x = inputs()
    torch.testing.assert_close(adapted.bind(MASK).features(x), adapted(x, available=MASK) * 2)


def test_bad_input_is_refused_in_words():
    adapted, x = mixed(), inputs()
    with pytest.raises(AllModalitiesMissing, match="sample 2"):
        adapted(x, available=MASK & (torch.arange(6) != 2)[:, None])
    with pytest.raises(ShapeMismatch, match=r"expected \(batch, 3\)"):
        adapted(x, available=MASK[:, :2])
    with pytest.raises(ShapeMismatch, match="first axis must be the batch"):
        adapted(x, available=MASK[:4])
    with pytest.raises(UnknownName, match="Did you mean 'dem'"):
        adapted(x, available=("dim",))
    with pytest.raises(UnknownName, match="modality"):
        adapted(x, available={"s3": torch.ones(6, dtype=torch.bool)})
    with pytest.raises(ShapeMismatch, match="one length"):
        adapted(x, available={"s1": torch.ones(6).bool(), "s2": torch.ones(5).bool()})
    with pytest.raises(ShapeMismatch, match="first axis must be the batch"), torch.no_grad():
        adapted(x, available=torch.ones(4, 3).bool())  # all alike: still told for four
    for wrong, says in ((None, "NoneType"), (torch.full((6, 3), float("nan")), "nan"), (MASK.int() * 2, "such as 2")):
        with pytest.raises(UsageError, match=says):
            adapted(x, available=wrong)
    assert torch.equal(adapted(x, available=MASK.numpy()), adapted(x, available=MASK.tolist()))
    for names, says in (
        (("a", "a"), "distinct"),
        ((), "distinct"),
        (("a.b",), "dot"),
        (("",), "empty"),
        (None, "None"),
        ([1], "1"),
    ):
        with pytest.raises(ConfigError, match=says):
            make_settings({"modalities": names, "target_modules": "all-linear"})
    with pytest.raises(UsageError, match=r"Write \('image',\)"):
        adapt(stranger(), "image")
    for layers, says in (([], "empty"), (9, "layer 9")):
        with pytest.raises((UsageError, UnknownName), match=says):
            adapt(stranger(), SENSORS, TARGETS, layers=layers)
    with pytest.raises(UsageError, match="adapted already"):
        adapt(adapted, SENSORS)
    with pytest.raises(UsageError, match="adapted already"):
        adapt(adapted.bind(MASK), SENSORS)
    for rank, says in ((0, "every rank is 0"), (5000, "5000"), (2.5, "2.5"), ((1, 2), "one number or three")):
        with pytest.raises(ConfigError, match=says):
            make_settings({"modalities": SENSORS, "target_modules": "all-linear", "experts": ranks_of(rank)})
    for name in ("", "a/b"):
        with pytest.raises(UsageError, match="cannot name"):
            adapted.add_modality(name)
    assert adapted.modalities == SENSORS


def test_one_pattern_folds_and_saved_modules_do_not_nest():
    with pytest.raises(UsageError, match="6 samples"):
        mixed().fold(MASK)
    with pytest.raises(ConfigError, match="lies in another"):
        adapt(stranger(), SENSORS, TARGETS, modules_to_save=["layers.0", "layers.0.norm"])


def test_what_fails_leaves_the_model_as_it_came():
    model = stranger()
    for wrong in ({"target_modules": ["none"]}, {"modules_to_save": ["none"]}, {"layers": [7]}):
        with pytest.raises((UnknownName, UsageError)):
            adapt(model, SENSORS, **wrong)
        assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["type", "values", "keys", "train", "naïve é", "a b", "__init__"])
def test_any_word_names_a_modality_or_a_layer(name: str):
    adapted, x = mixed(), inputs()
    adapted.add_modality(name)
    assert adapted.eval()(x, available=("s1", name)).shape == (6, 3)
    model = nn.Module()
    model.values, model.pop = nn.Linear(8, 8), nn.Linear(8, 8)
    adapted = adapt(model, (name,), ["values"], modules_to_save=["pop"])
    assert len(adapted.places) == len(adapted.saved) == 1


def test_a_forward_replaced_on_the_object_is_refused_and_compile_before_adapt_runs():
    for broken in ("root", "layer"):
        model = stranger()
        part = model if broken == "root" else model.layers[1]
        part.forward = part.forward
        with pytest.raises(UsageError, match="Adapt the plain model"):
            adapt(model, SENSORS, TARGETS)
    with pytest.raises(UsageError, match="Adapt the plain model"):
        adapt(torch.compile(stranger(), backend="eager"), SENSORS, TARGETS)
    model, x = stranger(), inputs()
    model.compile(backend="eager")
    adapted = shaken(adapt(model, SENSORS, TARGETS, rank=4))
    torch.testing.assert_close(adapted(x, available=MASK), mixed()(x, available=MASK))


def test_hooks_that_a_call_sets_do_not_stay_in_the_model():
    class Watching(Stranger):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = []
            for layer in self.layers:
                layer.norm.register_forward_hook(lambda *a: self.seen.append(1))
            out = super().forward(x)
            assert len(self.seen) == 3
            return out

    torch.manual_seed(0)
    model = Watching().eval()
    adapted = adapt(model, SENSORS, TARGETS, layers=[2])
    for _ in range(2):
        adapted(inputs(), available=MASK)
    assert not any(layer.norm._forward_hooks for layer in model.layers)


@pytest.mark.parametrize("kind", ["forward", "pre", "backward"])
def test_hooks_on_an_adapted_layer_run_on_every_path(kind: str):
    model, x, calls = stranger(), inputs(), []
    layer = model.layers[0].query
    if kind == "forward":
        layer.register_forward_hook(lambda m, i, o: calls.append(1) or o * 0)
    elif kind == "pre":
        layer.register_forward_pre_hook(lambda m, i: calls.append(1) or (i[0] * 0,))
    else:
        layer.register_full_backward_hook(lambda m, i, o: calls.append(1))
    adapted = shaken(adapt(model, SENSORS, TARGETS, rank=4))
    out = adapted(x.requires_grad_(), available=("s1",))
    out.sum().backward()
    assert calls
    with torch.no_grad():
        torch.testing.assert_close(adapted(x, available=("s1",)), out, atol=1e-5, rtol=1e-5)


def test_a_subclass_of_linear_with_a_forward_of_its_own_runs_and_does_not_fold():
    class Half(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.5 * super().forward(x)

    adapted = shaken(adapt(nn.Sequential(Half(8, 8)), SENSORS))
    assert adapted(torch.randn(2, 8), available=("s1",)).shape == (2, 8)
    with pytest.raises(UsageError, match="forward of its own"):
        adapted.fold(("s1",))


def test_running_statistics_of_the_model_rest():
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8)).train()
    adapted, before = adapt(model, SENSORS), model[0].running_mean.clone()
    adapted.train()
    adapted(torch.randn(16, 8) + 3, available=SENSORS)
    assert torch.equal(model[0].running_mean, before)
    assert adapted.remove()[0].training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("input", ["pattern", "pattern+content"])
def test_the_whole_may_be_cast(dtype: torch.dtype, input: str):
    adapted = shaken(adapt(stranger(), SENSORS, TARGETS, rank=4, router=RouterConfig(input=input))).to(dtype)
    out = adapted(inputs().to(dtype), available=MASK)
    assert out.dtype == dtype
    if input == "pattern":
        folded = adapted.fold("s2")(inputs().to(dtype))
        torch.testing.assert_close(folded, adapted(inputs().to(dtype), available="s2"), atol=0.05, rtol=0.05)


def test_layers_of_one_number_in_two_towers_have_routers_of_their_own_and_checkpoint_in_the_old_way():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = stranger(), stranger()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.left.embed(x.transpose(1, 2)).transpose(1, 2)
            for layer in (*self.left.layers, *self.right.layers):
                h = torch.utils.checkpoint.checkpoint(layer, h, use_reentrant=True)
            return h

    adapted = shaken(adapt(Two(), SENSORS, TARGETS))
    assert len(adapted.gates(MASK)) == 6
    adapted(inputs().requires_grad_(), available=MASK).sum().backward()
    assert all(p.grad is not None for n, p in adapted.named_parameters() if n.endswith("mlp.2.weight"))


def test_nested_tensors_of_a_transformer_encoder_are_off():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    adapted = adapt(model, SENSORS, layers=[-1])
    hidden = torch.tensor([[False, False, True]] * 4)
    with torch.no_grad():
        out = adapted(torch.randn(4, 3, 8), src_key_padding_mask=hidden, available=SENSORS)
    assert out.shape == (4, 3, 8)


def test_all_linear_leaves_out_what_is_never_called_and_the_output_layer():
    names = set(adapt(nn.TransformerEncoderLayer(8, 2, 16), SENSORS).alias)
    assert names == {"linear1", "linear2"}

    class Language(Stranger):
        def get_output_embeddings(self) -> nn.Module:
            return self.layers[0].mlp["fc2"]

    assert "layers.0.mlp.fc2" not in adapt(Language(), SENSORS).alias
    with pytest.raises(UsageError, match="only Linear layers"):
        adapt(nn.ModuleDict({"lm_head": nn.Linear(3, 3)}), SENSORS)
    with pytest.raises(UsageError, match="LazyLinear"):
        adapt(nn.Sequential(nn.LazyLinear(3)), SENSORS)
