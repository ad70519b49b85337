"""Trained tiny models, made once and shared; one thread, so that parallel test workers do not fight."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whether MKL gives the same bits twice depends on where arrays lie in memory, on some processors, unless it is told to.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
os.environ["COLUMNS"] = "200"  # read once, when the command line is first imported

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from made import made_samples, made_scene, tiny_config
from mamol.data.dataset import Dataset
from mamol.data.split import Split, make_split
from mamol.model.predictor import MamolPredictor
from mamol.train.prepare import prepare
from mamol.train.run import train

torch.set_num_threads(1)


@dataclass(frozen=True)
class Trained:
    """A data set, its split, a run folder and the model in it."""

    dataset: Dataset
    split: Split
    run: Path
    predictor: MamolPredictor


def make_run(dataset: Dataset, folder: Path, **sections: dict[str, object]) -> Trained:
    """Train the tiny configuration on a data set."""
    split = make_split(dataset, "block", 0, 8)
    predictor = train(prepare(dataset, split, tiny_config(**sections), 0), folder)
    return Trained(dataset, split, folder, predictor)


@pytest.fixture(scope="session")
def scene_run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_run(made_scene(), tmp_path_factory.mktemp("scene") / "run")


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_run(made_samples(), tmp_path_factory.mktemp("samples") / "run", backbone={"width": 16})
