"""Scoring any Predictor: all patterns, rates from frozen tables, places without any sensor."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from made import MODALITIES, made_samples, made_scene
from mamol.data.dataset import Dataset
from mamol.data.split import TEST, TRAIN, Split, make_split
from mamol.errors import DataError, UnknownName, UsageError
from mamol.evaluate.score import score
from mamol.evaluate.score import test_part as part_of
from mamol.modality import Batch


@dataclass(frozen=True)
class Sees:
    """Is right where `needs` is available and says class 0 elsewhere; knows the truth by its values."""

    modalities: tuple[str, ...]
    needs: str
    truth: dict[int, np.ndarray]
    classes: tuple[str, ...] = ("bare", "grass", "wood")

    def predict(self, batch: Batch) -> np.ndarray:
        truth = self.truth[
            id(batch.values[self.needs].base if batch.values[self.needs].base is not None else batch.values[self.needs])
        ]
        guess = np.where(batch.available[self.needs][0], np.maximum(truth, 0), 0)
        return np.stack([np.where(guess == k, 0.8, 0.1) for k in range(3)])[None].astype(np.float32)


def knowing(dataset: Dataset, needs: str) -> Sees:
    truth = {id(t.values[needs]): t.labels for t in dataset.tiles}
    return Sees(tuple(m.name for m in MODALITIES), needs, truth)


def test_patterns_in_order_and_right_where_it_sees() -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    result = score(knowing(scene, "hsi"), scene, split)
    assert len(result["patterns"]) == 7
    assert result["patterns"][0]["present"] == ["hsi", "sar", "lidar"]
    with_hsi = [p for p in result["patterns"] if "hsi" in p["present"]]
    assert {p["oa"] for p in with_hsi} == {100.0}
    labels = part_of(scene, split).labels
    sar = next(p for p in result["patterns"] if p["present"] == ["sar"])
    assert sar["oa"] == pytest.approx(100 * np.mean(labels == 0), abs=1e-3)
    assert result["mean_oa"] == pytest.approx(np.mean([p["oa"] for p in result["patterns"]]), abs=1e-3)
    assert result["worst_oa"] == min(p["oa"] for p in result["patterns"])
    lidar = next(p for p in result["patterns"] if p["present"] == ["lidar"])
    assert lidar["n"] + lidar["n_without"] == len(labels)
    json.dumps(result, allow_nan=False)


def test_groups_add_up_to_the_mean() -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    result = score(knowing(scene, "hsi"), scene, split)
    groups, rows = result["groups"], result["patterns"]
    tested = [i for i, r in enumerate(split.roles) if (r == TEST).any()]
    assert groups["id"] == tested, "a tile of its own group each"
    assert sum(groups["n"]) == sum(r["n"] for r in rows)
    assert sum(groups["right"]) == pytest.approx(sum(r["oa"] * r["n"] / 100 for r in rows), abs=0.1)
    first = scene.tiles[tested[0]].labels
    # Four of seven patterns see hsi and are right everywhere; the others say class 0, and lidar is there in some columns only.
    assert groups["right"][0] >= 4 * (first >= 0).sum()


def test_rates_share_and_freeze_their_tables() -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    result = score(knowing(scene, "hsi"), scene, split, "rate")
    rows = {(r["rate"], r["kind"]): r for r in result["rates"]}
    assert set(rows) == {(r, k) for r in (0.0, 0.3, 0.5, 0.7, 0.9) for k in ("hsi", "sar", "lidar", "both")}
    assert rows[0.9, "sar"]["oa"] == 100.0
    assert rows[0.9, "hsi"]["oa"] < rows[0.3, "hsi"]["oa"] < 100.0
    again = score(knowing(scene, "hsi"), scene, split, "rate")
    assert [r["table_hash"] for r in again["rates"]] == [r["table_hash"] for r in result["rates"]]


class Even:
    """Says the same of every sample."""

    modalities, classes = ("optical", "weather", "photo"), ("a", "b", "c")

    def predict(self, batch: Batch) -> np.ndarray:
        return np.full((len(batch), 3), 1 / 3, dtype=np.float32)


@pytest.mark.parametrize("protocol", ["patterns", "rate"])
def test_rows_without_any_sample_to_score_are_left_out_of_the_summary(protocol: str) -> None:
    """Three test samples, all with one sensor only: without it there is nothing to score."""
    dataset = made_samples(60)
    available = {m: a.copy() for m, a in dataset.samples.available.items()}
    roles = np.full(60, TRAIN, dtype=np.int8)
    roles[:3], available["weather"][:3], available["photo"][:3], available["optical"][:3] = TEST, False, False, True
    holed = replace(dataset, samples=Batch(dataset.samples.values, available))
    result = score(Even(), holed, Split("made", 0, [roles], {"patch_px": 8}), protocol)
    rows = result["rates" if protocol == "rate" else "patterns"]
    scored = [r["oa"] for r in rows if r["n"]]
    assert 0 < len(scored) < len(rows)
    assert result["mean_oa"] == pytest.approx(np.mean(scored), abs=1e-3)
    assert result["worst_oa"] == min(scored)


def test_what_cannot_be_scored() -> None:
    scene = made_scene()
    split = make_split(scene, "block", 0, 8)
    with pytest.raises(UnknownName, match="Did you mean 'patterns'"):
        score(knowing(scene, "hsi"), scene, split, "pattern")
    with pytest.raises(UsageError, match="same classes"):
        score(Sees(("hsi",), "hsi", {}, ("a", "b")), scene, split)


def test_the_test_part_is_the_test_part() -> None:
    dataset = made_samples()
    split = make_split(dataset, "block", 0, 8)
    part = part_of(dataset, split)
    assert len(part.labels) == (split.roles[0] == TEST).sum()


def test_data_with_nothing_to_score_say_so() -> None:
    dataset = made_samples(60)
    split = make_split(dataset, "block", 0, 8)
    nothing = Batch(dataset.samples.values, {m: np.zeros_like(a) for m, a in dataset.samples.available.items()})
    with pytest.raises(DataError, match="no labelled place has any of the sensors"):
        score(Even(), replace(dataset, samples=nothing), split)
    blank = replace(dataset, labels=np.full_like(dataset.labels, -1))
    with pytest.raises(DataError, match="has no label to score on"):
        score(Even(), blank, Split("all", 0, [np.full(60, TEST, dtype=np.int8)], {"patch_px": 8}))


def test_one_sensor_alone_has_the_rate_of_zero() -> None:
    dataset = made_samples(60)
    weather = Batch(*({"weather": x["weather"]} for x in (dataset.samples.values, dataset.samples.available)))
    alone = replace(dataset, modalities=dataset.modalities[1:2], samples=weather)
    found = score(Even(), alone, make_split(alone, "block", 0, 8), "rate")
    assert [(r["rate"], r["kind"]) for r in found["rates"]] == [(0.0, "both")]
