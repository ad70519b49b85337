"""A sensor that comes later: what was said without it stays, to the bit, and what it shows is learnt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made import made_samples, made_scene, tiny_config
from mamol.api import TrainOptions, evaluate_run, pretrain_backbone, train_model
from mamol.data.dataset import Dataset, Scene, classes_from, lacking
from mamol.data.split import TRAIN, make_split
from mamol.errors import CheckpointError, ConfigError, DataError, UsageError
from mamol.modality import Batch, patterns
from mamol.model.checkpoint import load_run, read_run
from mamol.model.predictor import MamolPredictor
from mamol.train.extend import prepare_extension
from mamol.train.prepare import prepare
from mamol.train.run import train

MIXTURES: dict[str, dict[str, dict[str, object]]] = {
    "mamol": {},
    "lora": {"experts": {"specific_rank": 0, "n_dynamic": 0}},
    "head": {"experts": {"shared_rank": 0, "specific_rank": 0, "n_dynamic": 0}},
    "content": {"router": {"input": "pattern+content"}},
    "table": {"router": {"rule": "table"}, "experts": {"n_dynamic": 3}},
    "masked": {"router": {"rule": "masked", "input": "content"}},
    "tied": {"router": {"rule": "dense"}, "experts": {"tied": True}},
    "soft": {"router": {"rule": "soft", "input": "content"}},
    "ffn": {"experts": {"targets": ["ffn"]}},
    "projection": {"experts": {"targets": ["ffn"], "projection": True}},
    "whole": {"backbone": {"freeze": False}},
}


def first_run(dataset: Dataset, folder: Path, **sections: dict[str, object]) -> MamolPredictor:
    return train(prepare(dataset, make_split(dataset, "block", 0, 8), tiny_config(**sections), 0), folder)


def extended(dataset: Dataset, folder: Path, run: Path, *settings: str) -> MamolPredictor:
    return train_model(dataset, folder, TrainOptions(extend=run, overrides=settings))


def batch_of(dataset: Dataset) -> Batch:
    return dataset.tiles[0].batch() if isinstance(dataset, Scene) else dataset.samples


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def only_known(batch: Batch, predictor: MamolPredictor) -> Batch:
    """Return a batch without what a model does not know."""
    names = predictor.modalities
    return Batch({m: batch.values[m] for m in names}, {m: batch.available[m] for m in names})


@pytest.mark.parametrize("mixture", MIXTURES)
def test_what_was_said_without_it_stays_to_the_bit(mixture: str, tmp_path: Path) -> None:
    dataset = made_samples()
    before = first_run(lacking(dataset, ["weather"]), tmp_path / "old", **MIXTURES[mixture])
    after = extended(dataset, tmp_path / "new", tmp_path / "old")
    assert after.modalities == ("optical", "photo", "weather")
    for pattern in patterns(before.modalities):
        hidden = batch_of(dataset).only(pattern)
        there = hidden.take(hidden.pattern(pattern).any(axis=1))
        assert same(before.predict(only_known(there, before)), after.predict(there)), pattern
    alone = batch_of(dataset).only(("weather",))
    assert np.isfinite(after.predict(alone.take(alone.pattern(("weather",)).any(axis=1)))).all()
    old, new = before.model.state_dict(), after.model.state_dict()
    assert all(torch.equal(new[k], v) for k, v in old.items())
    moved = {k for k, v in new.items() if k not in old and k.endswith(".B") and v.any()}
    assert bool(moved) == (mixture != "head")


def test_a_scene_in_the_order_of_its_run(tmp_path: Path) -> None:
    dataset = made_scene()
    before = first_run(lacking(dataset, ["sar"]), tmp_path / "old")
    after = extended(dataset, tmp_path / "new", tmp_path / "old")
    document = read_run(tmp_path / "new")
    assert [m.name for m in document.modalities] == ["hsi", "lidar", "sar"]
    assert document.later == ("sar",)
    assert document.training["extends"]["modalities"] == ["sar"]
    for pattern in patterns(before.modalities):
        hidden = batch_of(dataset).only(pattern)
        assert same(before.predict(only_known(hidden, before)), after.predict(hidden))
    full = batch_of(dataset)
    assert not np.allclose(before.predict(only_known(full, before)), after.predict(full))
    assert same(load_run(tmp_path / "new").predict(full), after.predict(full))
    kept = {k: v for k, v in after.temperatures.items() if "sar" not in k}
    assert kept == dict(before.temperatures)
    assert "hsi+lidar+sar" in after.temperatures
    scores = evaluate_run(tmp_path / "new", dataset, baselines=())
    assert len(scores.results["mamol"]["patterns"]) == 7
    assert scores.activation["experts"][-1] == "later sar"
    gates = scores.activation["patterns"]
    assert [np.array(gates[p])[:, -1].tolist() for p in ("hsi", "hsi+sar")] == [[0, 0], [1, 1]]


def test_the_new_sensor_is_learnt(tmp_path: Path) -> None:
    dataset = made_scene()
    longer = ("train.steps=120", "train.eval_every=40", "train.lr=0.01")
    first_run(lacking(dataset, ["lidar"]), tmp_path / "old", train={"steps": 60, "eval_every": 20, "lr": 0.01})
    extended(dataset, tmp_path / "new", tmp_path / "old", *longer)
    rows = evaluate_run(tmp_path / "new", dataset, baselines=()).results["mamol"]["patterns"]
    oa = {"+".join(r["present"]): r["oa"] for r in rows}
    assert oa["hsi+lidar"] > oa["hsi"] + 5  # hsi cannot tell class 1 from class 2


def test_a_second_sensor_after_the_first(tmp_path: Path) -> None:
    dataset = made_scene()
    before = first_run(lacking(dataset, ["sar", "lidar"]), tmp_path / "0")
    middle = extended(lacking(dataset, ["sar"]), tmp_path / "1", tmp_path / "0")
    last = extended(dataset, tmp_path / "2", tmp_path / "1")
    assert read_run(tmp_path / "2").later == ("lidar", "sar")
    for pattern in patterns(("hsi", "lidar")):
        hidden = batch_of(dataset).only(pattern)
        assert same(middle.predict(only_known(hidden, middle)), last.predict(hidden))
    hidden = batch_of(dataset).only(("hsi",))
    assert same(before.predict(only_known(hidden, before)), last.predict(hidden))


def test_folded_for_a_pattern_with_the_new_sensor(tmp_path: Path) -> None:
    dataset = made_samples()
    first_run(lacking(dataset, ["weather"]), tmp_path / "old")
    model = extended(dataset, tmp_path / "new", tmp_path / "old", "train.lr=0.05").model
    values = {m: torch.randn(3, *v.shape[1:]) for m, v in dataset.samples.values.items()}
    for pattern in patterns(("optical", "photo", "weather")):
        there = {m: torch.full(a.shape[1:], m in pattern).expand(3, *a.shape[1:]) for m, a in dataset.samples.available.items()}
        with torch.no_grad():
            expected, got = model(values, there).logits, model.folded(pattern)(values, there, experts=False).logits
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_stopped_extension_goes_on_and_another_run_is_refused(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int, note: str) -> None:
        if what == "train" and done == 4:
            raise KeyboardInterrupt

    dataset = made_samples()
    for name, seed in (("old", 0), ("other", 1)):
        earlier = lacking(dataset, ["weather"])
        train(prepare(earlier, make_split(earlier, "block", 0, 8), tiny_config(), seed), tmp_path / name)
    options = TrainOptions(extend=tmp_path / "old")
    with pytest.raises(KeyboardInterrupt):
        train_model(dataset, tmp_path / "new", options, stop)
    stopped = replace(options, resume=True)
    for other in (replace(stopped, extend=tmp_path / "other"), TrainOptions(resume=True)):
        with pytest.raises(ConfigError, match="was started by extending another run; resume it with the same extend="):
            train_model(dataset, tmp_path / "new", other)
    after = train_model(dataset, tmp_path / "new", stopped)
    whole = train_model(dataset, tmp_path / "whole", options)
    assert same(after.predict(dataset.samples), whole.predict(dataset.samples))


REFUSED: dict[str, dict[str, dict[str, object]]] = {
    'model.fusion = "late"': {"model": {"fusion": "late"}},
    "model.prompts": {"model": {"prompts": 2}, "experts": {"shared_rank": 0, "specific_rank": 0, "n_dynamic": 0}},
    'tokens.placeholder = "ones"': {"tokens": {"placeholder": "ones"}},
    'experts.scope = "own"': {"experts": {"scope": "own"}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_run_that_would_change_is_refused(what: str, tmp_path: Path) -> None:
    dataset = made_samples()
    first_run(lacking(dataset, ["weather"]), tmp_path / "old", **REFUSED[what])
    with pytest.raises(UsageError, match=f"a run with {what} cannot be extended: .*Train anew"):
        extended(dataset, tmp_path / "new", tmp_path / "old")
    assert not (tmp_path / "new").exists()


def test_data_and_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    dataset = made_samples()
    run = tmp_path / "old"
    first_run(lacking(dataset, ["weather"]), run)
    few, bands = replace(dataset, classes=classes_from(["a", "b", "x"])), dict(dataset.samples.values)
    bands["optical"] = bands["optical"][:, :2]
    thin = replace(
        dataset,
        samples=Batch(bands, dataset.samples.available),
        modalities=(replace(dataset.modalities[0], bands=2), *dataset.modalities[1:]),
    )
    for data, said in (
        (lacking(dataset, ["weather"]), "no sensor that the run does not know already: optical, photo"),
        (lacking(dataset, ["photo"]), "lacks 'photo', which the run was trained on; .* counts as a new one: weather"),
        (few, r"the run knows the classes a, b, c; 'made-samples' has a, b, x\. .*train anew"),
        (thin, "'optical' is a series of 2 bands and 6 steps in 'made-samples', the run was trained on a series of 4 bands"),
    ):
        with pytest.raises(UsageError, match=said):
            extended(data, tmp_path / "new", run)
    with pytest.raises(DataError, match=r"its split has hash .* Give the data that the run was trained on, with the new sensor"):
        extended(made_samples(96), tmp_path / "new", run)
    moved = replace(dataset, labels=(dataset.labels + 1) % 3)
    with pytest.raises(DataError, match="the training labels of 'made-samples' are not those"):
        extended(moved, tmp_path / "new", run)
    warm = dict(dataset.samples.values)
    warm["optical"] = warm["optical"] + 273
    with pytest.raises(DataError, match=r"'optical' has other values .*: band 1 has mean 27.* the old unit"):
        extended(replace(dataset, samples=Batch(warm, dataset.samples.available)), tmp_path / "new", run)
    gone = dict(dataset.samples.available)
    gone["photo"] = np.zeros_like(gone["photo"])
    with pytest.raises(DataError, match="'photo' is available nowhere in 'made-samples'"):
        extended(replace(dataset, samples=Batch(dataset.samples.values, gone)), tmp_path / "new", run)
    small = dict(dataset.samples.values), dict(dataset.samples.available)
    small[0]["photo"], small[1]["photo"] = small[0]["photo"][..., :6], small[1]["photo"][..., :6]
    with pytest.raises(UsageError, match="'photo' is a grid of 2 bands of 8 x 6 pixels in"):
        extended(replace(dataset, samples=Batch(*small)), tmp_path / "new", run)
    with pytest.raises(UsageError, match="not by a pretraining"):
        pretrain_backbone(dataset, tmp_path / "new", TrainOptions(extend=run))
    with pytest.raises(ConfigError, match=r"keeps its experts; only train\.\* may be set anew"):
        extended(dataset, tmp_path / "new", run, "experts.shared_rank=2")
    with pytest.raises(UsageError, match="keeps its split and its seed"):
        train_model(dataset, tmp_path / "new", TrainOptions(extend=run, seed=3))
    with pytest.raises(UsageError, match="keeps its configuration"):
        train_model(dataset, tmp_path / "new", TrainOptions("mamol-paper", extend=run))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mixture", ["lora", "content", "table", "head"])
def test_a_sensor_that_few_places_have(mixture: str, tmp_path: Path) -> None:
    dataset = made_samples()
    (training,) = np.nonzero(make_split(dataset, "block", 0, 8).roles[0] == TRAIN)
    seen = dataset.samples.available["weather"]
    seen[np.setdiff1d(np.arange(len(seen)), training[:2])] = False
    seen[training[:2]] = True
    before = first_run(lacking(dataset, ["weather"]), tmp_path / "old", **MIXTURES[mixture])
    after = extended(dataset, tmp_path / "new", tmp_path / "old")
    assert after.temperatures == dict(before.temperatures)  # no label of the validation part has it
    seen[:] = False
    with pytest.raises(DataError, match="'weather' is available nowhere in the training part of 'made-samples'"):
        extended(dataset, tmp_path / "none", tmp_path / "old")


def test_a_raster_that_the_new_sensor_covers_in_part(tmp_path: Path) -> None:
    dataset = made_scene()
    before = first_run(lacking(dataset, ["lidar"]), tmp_path / "old")
    after = extended(dataset, tmp_path / "new", tmp_path / "old", "train.lr=0.05")
    batch = batch_of(dataset)
    half = {**batch.available, "lidar": batch.available["lidar"].copy()}
    half["lidar"][..., 8:] = False  # windows are 8 wide and move by 4
    old, new = before.predict(only_known(batch, before)), after.predict(Batch(batch.values, half))
    np.testing.assert_allclose(old[..., 16:], new[..., 16:], atol=1e-6)
    assert not np.allclose(old[..., :8], new[..., :8], atol=1e-3)


def test_later_ones_are_the_last(tmp_path: Path) -> None:
    dataset = made_scene()
    first_run(lacking(dataset, ["sar", "lidar"]), tmp_path / "0")
    extended(dataset, tmp_path / "1", tmp_path / "0")
    path = tmp_path / "1" / "mamol.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | {"later": tree["later"][::-1]}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="lidar, sar, must be the last ones"):
        load_run(tmp_path / "1")
    taken = replace(dataset, modalities=(*dataset.modalities[:2], replace(dataset.modalities[2], name="setdefault")))
    for tile in taken.tiles:
        tile.values["setdefault"], tile.available["setdefault"] = tile.values["lidar"], tile.available["lidar"]
    with pytest.raises(UsageError, match="'setdefault' cannot name a modality"):
        extended(lacking(taken, ["sar"]), tmp_path / "2", tmp_path / "0")
    first_run(lacking(taken, ["sar", "lidar"]), tmp_path / "3")  # one that was there from the start may have such a name
    extended(lacking(taken, ["lidar"]), tmp_path / "4", tmp_path / "3")


def test_two_at_once_are_shown_alone_and_together(tmp_path: Path) -> None:
    dataset = made_scene()
    first_run(lacking(dataset, ["sar", "lidar"]), tmp_path / "old")
    feed = prepare_extension(dataset, tmp_path / "old", ()).feed
    shown = {
        "+".join(m for m, hidden in zip(feed.order, row, strict=True) if not hidden)
        for step in range(10)
        for row in feed.draw_missing(feed.draw(step, 32), step).tolist()
    }
    assert shown == {"sar", "lidar", "sar+lidar", "hsi+sar", "hsi+lidar", "hsi+sar+lidar"}


def test_the_folder_says_what_was_extended(tmp_path: Path) -> None:
    dataset = made_samples()
    earlier = lacking(dataset, ["weather"])
    train(prepare(earlier, make_split(earlier, "block", 0, 8), tiny_config(), 5), tmp_path / "old")
    train_model(dataset, tmp_path / "new", TrainOptions(extend=str(tmp_path / "old"), overrides=["train.steps=3"]))
    tree = json.loads((tmp_path / "new" / "mamol.json").read_text(encoding="utf-8"))
    assert tree["later"] == ["weather"]
    assert tree["training"]["seed"] == 5
    assert tree["training"]["extends"]["run"] == str(tmp_path / "old")
    assert tree["parameters"]["experts"] > json.loads((tmp_path / "old" / "mamol.json").read_text())["parameters"]["experts"]


def test_a_run_with_a_constant_band_from_before_it_had_a_deviation_of_one_is_extended(tmp_path: Path) -> None:
    dataset = made_samples()
    dataset.samples.values["photo"][:, 1] = 7.0
    run = tmp_path / "old"
    first_run(lacking(dataset, ["weather"]), run)
    document = json.loads((run / "mamol.json").read_text())
    assert document["normalizer"]["photo"]["std"][1] == 1
    document["normalizer"]["photo"]["std"][1] = 1e-6
    (run / "mamol.json").write_text(json.dumps(document))
    assert extended(dataset, tmp_path / "new", run).normalizer.statistics["photo"].std[1] == np.float32(1e-6)
