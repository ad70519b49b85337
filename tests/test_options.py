"""Options that Python callers give: what cannot be meant is told at once."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import Trained
from made import made_samples
from mamol.api import evaluate_run, map_scene, pretrain_backbone, train_model
from mamol.errors import UsageError
from mamol.options import MapOptions, TrainOptions


@pytest.mark.parametrize("seed", [-1, "1", None, 1.5, True])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(UsageError, match="seed must be a whole number from 0; got"):
        TrainOptions(seed=seed)  # type: ignore[arg-type]
    assert type(TrainOptions(seed=np.int64(3)).seed) is int  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "such"), [("without", "s1"), ("tiles", "tile_1"), ("layers", "entropy")])
def test_names_are_a_list(what: str, such: str) -> None:
    for given in ("s1", None):
        with pytest.raises(UsageError, match=rf"{what} is a list of texts, such as {what}=\['{such}'\]; got"):
            MapOptions(**{what: given})  # type: ignore[arg-type]


def test_overrides_and_baselines_are_lists() -> None:
    with pytest.raises(UsageError, match=r"overrides is a list of texts, such as overrides=\['train.steps=300'\]"):
        TrainOptions(overrides="train.steps=3")
    with pytest.raises(UsageError, match="baselines is a list of texts"):
        evaluate_run("nowhere", baselines="forest")


def test_options_are_of_their_class() -> None:
    for call in (train_model, pretrain_backbone):
        with pytest.raises(UsageError, match=r"options is a mamol\.TrainOptions\(\.\.\.\) .*; got \{'seed': 1\}"):
            call("nowhere", "out", {"seed": 1})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"options is a mamol\.MapOptions"):
        map_scene("nowhere", "nowhere", "map.tif", TrainOptions())  # type: ignore[arg-type]


def test_a_config_is_a_file_a_name_or_a_config_and_choices_are_names() -> None:
    with pytest.raises(UsageError, match=r"config is a file, .* or a mamol\.config\.Config; got \{'train'"):
        TrainOptions(config={"train": {"steps": 2}})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown split 'None'"):
        train_model(made_samples(), "nowhere", TrainOptions(split=None))  # type: ignore[arg-type]


def test_baselines_are_known_before_anything_is_scored(sample_run: Trained) -> None:
    with pytest.raises(UsageError, match=r"unknown tree baseline 'boosting'; known: boosted, forest"):
        evaluate_run(sample_run.run, sample_run.dataset, baselines=["boosting"], progress=_never)


def _never(what: str, done: int, total: int, note: str) -> None:
    raise AssertionError(f"{what} was begun")
