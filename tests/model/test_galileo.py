"""The encoder: equal to the authors' outputs where the weights are, and lawful at any size with random weights."""

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mamol.errors import AllModalitiesMissing, ConfigError, DataError, ShapeMismatch
from mamol.model.galileo import (
    SPACE_BANDS,
    SPACE_GROUPS,
    SPACE_TIME_BANDS,
    SPACE_TIME_GROUPS,
    STATIC_BANDS,
    STATIC_GROUPS,
    TIME_BANDS,
    TIME_GROUPS,
    Galileo,
    GalileoConfig,
    GalileoInput,
    GalileoTokens,
    carry_over,
    place_code,
)
from mamol.model.galileo_weights import load_galileo

FOLDER = Path(os.environ.get("MAMOL_WEIGHTS") or "/nonexistent") / "galileo-nano"
needs_weights = pytest.mark.skipif(not FOLDER.is_dir(), reason="MAMOL_WEIGHTS has no 'galileo-nano/'")
CASES = pytest.mark.parametrize(("case", "patch_px"), [("pixel", 1), ("patch", 4), ("odd", 2)])
TINY = GalileoConfig(embedding_size=32, depth=2, num_heads=4, mlp_ratio=2, max_sequence_length=6, max_patch_size=4)
PARTS = ("space_time", "space", "time", "static")
GROUPS = {"space_time": SPACE_TIME_GROUPS, "space": SPACE_GROUPS, "time": TIME_GROUPS, "static": STATIC_GROUPS}


def tiny(seed: int = 0) -> Galileo:
    torch.manual_seed(seed)
    return Galileo(TINY).eval()


def made(batch: int = 3, side: int = 4, steps: int = 3, patch: int = 2, seen: float = 0.5) -> GalileoInput:
    """Draw values, months and, token by token, what is seen; something of every sample."""
    random = torch.Generator().manual_seed(7)

    def keep(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random) < seen

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    cells = (batch, side // patch, side // patch)
    out = GalileoInput(
        space_time=values(batch, side, side, steps, 13),
        space=values(batch, side, side, 16),
        time=values(batch, steps, 6),
        static=values(batch, 18),
        months=torch.randint(12, (batch, steps), generator=random),
        keep_space_time=keep(*cells, steps, 7),
        keep_space=keep(*cells, 3),
        keep_time=keep(batch, steps, 3),
        keep_static=keep(batch, 4),
    )
    out.keep_space_time[:, 0, 0, 0, 0] = True
    return out


def keep_only(inputs: GalileoInput, **groups: list[int]) -> GalileoInput:
    """Hide every token that is not of the groups named, by part."""
    kept = {}
    for part in PARTS:
        some = torch.zeros(len(GROUPS[part]), dtype=torch.bool)
        some[groups.get(part, [])] = True
        kept[f"keep_{part}"] = some.expand_as(getattr(inputs, f"keep_{part}")).clone()
    return replace(inputs, **kept)


def sample(inputs: GalileoInput, i: int) -> GalileoInput:
    return GalileoInput(**{f.name: getattr(inputs, f.name)[i : i + 1] for f in fields(inputs)})


def spoiled(inputs: GalileoInput, patch: int, value: float = float("nan")) -> GalileoInput:
    """Fill every value of an unseen token, pixel by pixel."""
    out = {}
    for part in PARTS:
        x, keep = getattr(inputs, part).clone(), getattr(inputs, f"keep_{part}")
        if part in ("space_time", "space"):
            keep = keep.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
        for g, bands in enumerate(GROUPS[part].values()):
            for band in bands:
                x[..., band] = x[..., band].masked_fill(~keep[..., g], value)
        out[part] = x
    return replace(inputs, **out)


def assert_same(a: GalileoTokens, b: GalileoTokens, atol: float) -> None:
    for part in PARTS:
        torch.testing.assert_close(getattr(a, part), getattr(b, part), atol=atol, rtol=0)


def reference(case: str, patch_px: int) -> tuple[GalileoInput, torch.Tensor, torch.Tensor]:
    """Return a worked case of the authors: the input, the mean token, the space-time tokens."""
    with np.load(FOLDER / "reference.npz") as file:
        x = {k.removeprefix(f"{case}_"): torch.from_numpy(file[k]) for k in file if k.startswith(case)}
    keep = {part: x[f"{part}_mask"] == 0 for part in PARTS}
    inputs = GalileoInput(
        **{part: x[part] for part in PARTS},
        months=x["months"],
        keep_space_time=keep["space_time"][:, ::patch_px, ::patch_px],
        keep_space=keep["space"][:, ::patch_px, ::patch_px],
        keep_time=keep["time"],
        keep_static=keep["static"],
    )
    return inputs, x["mean_token"], x["space_time_tokens"]


@needs_weights
@CASES
@torch.no_grad()
def test_equals_the_authors_outputs(case: str, patch_px: int) -> None:
    inputs, mean, tokens = reference(case, patch_px)
    out = load_galileo(FOLDER)(inputs, patch_px)
    torch.testing.assert_close(out.mean(), mean, atol=1e-5, rtol=0)
    keep = inputs.keep_space_time
    torch.testing.assert_close(out.space_time[keep], tokens[keep], atol=1e-4, rtol=0)


@needs_weights
@CASES
@torch.no_grad()
def test_published_weights_never_read_what_is_not_seen(case: str, patch_px: int) -> None:
    inputs, _, _ = reference(case, patch_px)
    model = load_galileo(FOLDER)
    assert_same(model(spoiled(inputs, patch_px), patch_px), model(spoiled(inputs, patch_px, 1e30), patch_px), 0)


@needs_weights
@CASES
@torch.no_grad()
def test_published_weights_give_each_sample_what_it_has_alone(case: str, patch_px: int) -> None:
    inputs, mean, _ = reference(case, patch_px)
    model = load_galileo(FOLDER)
    alone = torch.cat([model(sample(inputs, i), patch_px).mean() for i in range(len(mean))])
    torch.testing.assert_close(alone, model(inputs, patch_px).mean(), atol=1e-5, rtol=0)


def test_bands_and_groups_cover_each_part_in_order():
    for bands, groups in (
        (SPACE_TIME_BANDS, SPACE_TIME_GROUPS), (SPACE_BANDS, SPACE_GROUPS),
        (TIME_BANDS, TIME_GROUPS), (STATIC_BANDS, STATIC_GROUPS),
    ):  # fmt: skip
        assert [i for group in groups.values() for i in group] == list(range(len(bands)))
        assert len(set(bands)) == len(bands)
    assert [len(b) for b in (SPACE_TIME_BANDS, SPACE_BANDS, TIME_BANDS, STATIC_BANDS)] == [13, 16, 6, 18]


@pytest.mark.parametrize("patch", [1, 2, 4])
@torch.no_grad()
def test_unseen_values_change_nothing_to_the_bit(patch: int) -> None:
    model, inputs = tiny(), made(patch=patch)
    before = model(inputs, patch)
    for value in (float("nan"), float("inf"), 1e30):
        after = model(spoiled(inputs, patch, value), patch)
        assert_same(before, after, 0)
        assert torch.equal(before.mean(), after.mean())
        assert torch.equal(before.grid_mean(), after.grid_mean())


@torch.no_grad()
def test_seen_values_do_change_the_output():
    model, inputs = tiny(), made()
    before = model(inputs, 2).mean()
    for part in PARTS:
        changed = replace(inputs, **{part: getattr(inputs, part) + 1})
        assert (model(changed, 2).mean() - before).abs().amax(1).gt(1e-6).any(), part


@torch.no_grad()
def test_a_batch_of_different_groups_equals_each_sample_alone():
    model, inputs = tiny(), made(batch=4)
    radar, optical = keep_only(inputs, space_time=[0]), keep_only(inputs, space_time=[1, 2, 3, 4, 5], time=[0])
    for f in fields(inputs):
        if f.name.startswith("keep"):
            getattr(inputs, f.name)[1] = getattr(radar, f.name)[1]
            getattr(inputs, f.name)[2] = getattr(optical, f.name)[2]
    together = model(inputs, 2)
    for i in range(4):
        alone = model(sample(inputs, i), 2)
        torch.testing.assert_close(alone.mean()[0], together.mean()[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.grid_mean()[0], together.grid_mean()[i], atol=1e-5, rtol=0)
        for part in PARTS:
            torch.testing.assert_close(getattr(alone, part)[0], getattr(together, part)[i], atol=1e-5, rtol=0)


class Sizes(nn.Module):
    """Stands before a block and writes down what comes by."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.seen = block, []

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        self.seen.append((tuple(x.shape[:2]), keep is not None))
        return self.block(x, keep)


@torch.no_grad()
def test_what_nobody_has_is_not_computed():
    model, inputs = tiny(), made(side=4, steps=3, patch=2)
    counter = Sizes(model.blocks[0])
    model.blocks[0] = counter
    everything = keep_only(inputs, **{part: list(range(len(GROUPS[part]))) for part in PARTS})
    model(everything, 2)
    assert counter.seen.pop() == ((3, 4 * 3 * 7 + 4 * 3 + 3 * 3 + 4), False)
    model(keep_only(inputs, space_time=[0, 6]), 2)
    assert counter.seen.pop() == ((3, 4 * 3 * 2), False)
    one_month = keep_only(inputs, space_time=[0])
    one_month.keep_space_time[:, :, :, 1:] = False
    model(one_month, 2)
    assert counter.seen.pop() == ((3, 4), False)
    one_month.keep_space_time[1, 0, 0, 2, 3] = True
    model(one_month, 2)
    assert counter.seen.pop() == ((3, 5), True)


@torch.no_grad()
def test_unseen_tokens_are_zeros_and_seen_ones_are_not():
    inputs = made()
    out = tiny()(inputs, 2)
    for part in PARTS:
        filled = getattr(out, part).abs().sum(-1) > 0
        assert torch.equal(filled, getattr(inputs, f"keep_{part}")), part


@torch.no_grad()
def test_means_by_hand():
    inputs = made()
    inputs.keep_space_time[1, 1, 1], inputs.keep_space[1, 1, 1] = False, False
    out = tiny()(inputs, 2)
    seen = [getattr(out, part)[1][getattr(inputs, f"keep_{part}")[1]] for part in PARTS]
    torch.testing.assert_close(out.mean()[1], torch.cat(seen).mean(0))
    own = [out.space_time[1, 0, 1][inputs.keep_space_time[1, 0, 1]], out.space[1, 0, 1][inputs.keep_space[1, 0, 1]]]
    torch.testing.assert_close(out.grid_mean()[1, 0, 1], torch.cat(own).mean(0))
    torch.testing.assert_close(out.grid_mean()[1, 1, 1], torch.cat(seen[2:]).mean(0))


@torch.no_grad()
def test_a_cell_without_anything_is_zeros():
    inputs = keep_only(made(), space_time=[0])
    inputs.keep_space_time[:, 1] = False
    out = tiny()(inputs, 2).grid_mean()
    assert (out[:, 1] == 0).all()
    assert (out[:, 0].abs().sum(-1) > 0).all()


def test_gradients_reach_every_weight_and_pass_by_what_is_not_seen():
    model, inputs = tiny(), spoiled(made(seen=0.6), 2)
    inputs.space_time.requires_grad_(True)
    out = model(inputs, 2)
    (out.mean().square().sum() + out.grid_mean().square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert inputs.space_time.grad is not None
    assert bool(inputs.space_time.grad.isfinite().all())
    assert bool((inputs.space_time.grad[inputs.space_time.isnan()] == 0).all())


def test_the_input_is_left_as_it_was():
    inputs = made()
    before = replace(inputs, **{f.name: getattr(inputs, f.name).clone() for f in fields(inputs)})
    tiny()(inputs, 2)
    assert all(torch.equal(getattr(inputs, f.name), getattr(before, f.name)) for f in fields(inputs))


def test_linear_layers_are_modules_that_are_called():
    model, called = tiny(), set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("blocks."):
            module.register_forward_hook(lambda *_, name=name: called.add(name))
    model(made(), 2)
    parts = ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert called == {f"blocks.{i}.{part}" for i in range(2) for part in parts}


class Flat(nn.Module):
    """The encoder with tensors in and out, as exporting wants it."""

    def __init__(self, model: Galileo) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out = self.model(GalileoInput(*tensors), 2)
        return out.mean(), out.grid_mean(), out.space_time


@torch.no_grad()
def test_the_exported_model_computes_all_under_a_mask_and_gives_the_same():
    model, inputs = Flat(tiny()), made()
    program = torch.export.export(model, tuple(getattr(inputs, f.name) for f in fields(inputs))).module()
    for changed in (
        inputs,
        made(seen=0.9),
        keep_only(inputs, space_time=[0]),
        spoiled(keep_only(inputs, time=[0], space=[0]), 2),
    ):
        tensors = tuple(getattr(changed, f.name) for f in fields(changed))
        for exported, eager in zip(program(*tensors), model(*tensors), strict=True):
            torch.testing.assert_close(exported, eager, atol=1e-5, rtol=0)
    nothing = keep_only(inputs)
    assert all((x == 0).all() for x in program(*(getattr(nothing, f.name) for f in fields(nothing))))


@pytest.mark.parametrize("new", [1, 2, 3, 5, 7])
def test_carried_kernel_answers_like_resizing_up_and_down(new: int) -> None:
    """What lies in the range of the resizing is kept: R times its pseudo-inverse is the identity when shrinking."""
    unit = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    resize = nn.functional.interpolate(unit, size=(new, new), mode="bicubic", antialias=True, align_corners=False).flatten(1).T
    torch.testing.assert_close(resize.float() @ carry_over(8, new), torch.eye(new**2), atol=1e-5, rtol=0)
    torch.testing.assert_close(carry_over(8, 8), torch.eye(64), atol=1e-6, rtol=0)


@torch.no_grad()
def test_full_patches_are_a_plain_convolution():
    model, inputs = tiny(), made(side=8, patch=4)
    embed = model.space_embed["SRTM"]
    x = inputs.space[..., :2].permute(0, 3, 1, 2)
    patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
    by_hand = embed.proj(x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(patches, carry_over(4, 4)), by_hand, atol=1e-5, rtol=1e-5)


def test_place_is_measured_on_the_ground():
    assert torch.equal(place_code(6, 2.0, 16)[:3], place_code(3, 2.0, 16))
    torch.testing.assert_close(place_code(5, 1.0, 16)[::2], place_code(3, 2.0, 16))
    assert place_code(2, 1.0, 4)[1].tolist() == pytest.approx(
        [np.sin(1), np.sin(10_000 ** (-1 / 8)), np.cos(1), np.cos(10_000 ** (-1 / 8))]
    )


@torch.no_grad()
def test_ground_distance_and_month_matter():
    model, inputs = tiny(), keep_only(made(), space_time=[0])
    before = model(inputs, 2).mean()
    assert not torch.allclose(before, model(inputs, 2, gsd_m=60.0).mean(), atol=1e-6)
    assert not torch.allclose(before, model(replace(inputs, months=(inputs.months + 6) % 12), 2).mean(), atol=1e-6)


@pytest.mark.parametrize("name", ["space", "time", "static", "months", *(f"keep_{part}" for part in PARTS)])
def test_shapes_that_do_not_go_together_are_refused(name: str) -> None:
    inputs = made()
    setattr(inputs, name, getattr(inputs, name)[..., :-1])
    with pytest.raises(ShapeMismatch, match=rf"{name} has shape \(.*must be \("):
        tiny()(inputs, 2)


def test_wrong_windows_patches_steps_and_months_are_refused():
    model = tiny()
    with pytest.raises(ShapeMismatch, match="4 x 4 px cannot be cut into patches of 3 px"):
        model(made(), 3)
    for patch in (0, -1, 5):
        with pytest.raises(ShapeMismatch, match=f"patch_px is {patch}.*1 to 4 px"):
            model(made(), patch)
    with pytest.raises(ShapeMismatch, match=r"7 time steps came.*at most 6"):
        model(made(steps=7), 2)
    with pytest.raises(ShapeMismatch, match="keep_space_time has shape"):
        model(made(patch=1), 2)
    late = made()
    late.months = late.months + 1
    late.months[0, 0] = 12
    with pytest.raises(DataError, match=r"\.\.12; expected 0"):
        model(late, 2)
    swapped = made()
    swapped.space_time = swapped.space_time.movedim(-1, 1)
    with pytest.raises(ShapeMismatch, match=r"expected \(B, H, W, T, 13\)"):
        model(swapped, 2)


def test_a_sample_of_which_nothing_is_seen_is_refused():
    inputs = made()
    for part in PARTS:
        getattr(inputs, f"keep_{part}")[1] = False
    with pytest.raises(AllModalitiesMissing, match="sample 1 of the batch"):
        tiny()(inputs, 2)
    with pytest.raises(AllModalitiesMissing, match="sample 0"):
        tiny()(keep_only(inputs), 2)


@pytest.mark.parametrize("wrong", [{"embedding_size": 24}, {"num_heads": 3}, {"depth": 0}, {"max_patch_size": -8}])
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="embedding_size must divide by 16"):
        replace(TINY, **wrong)
