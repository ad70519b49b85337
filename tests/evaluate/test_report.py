"""Reports and plots of a real evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Trained
from mamol.api import Evaluation, evaluate_run
from mamol.data.dataset import Scene
from mamol.data.split import make_split
from mamol.errors import DataError, UsageError
from mamol.evaluate.plots import PLOTS, draw_all
from mamol.evaluate.report import as_markdown, as_text
from mamol.files import must_not_exist


@pytest.fixture(scope="module", params=["patterns", "rate"])
def scores(request: pytest.FixtureRequest, scene_run: Trained) -> Evaluation:
    return evaluate_run(scene_run.run, scene_run.dataset, request.param, ("forest",))


def test_table_and_markdown(scores: Evaluation) -> None:
    text = as_text(scores.results)
    assert text.header[:4] == [
        "present" if scores.results["mamol"]["protocol"] == "patterns" else "missing",
        "n",
        "mamol OA",
        "mamol AA",
    ]
    assert "forest OA" in text.header
    assert all(len(r) == len(text.header) for r in text.rows)
    assert text.rows[-2][2] == f"{scores.results['mamol']['mean_oa']:.1f}"
    assert "0 of their patches" in text.notes[0]
    markdown = as_markdown(scores.results)
    assert markdown.count("|") > 50


def test_plots(scores: Evaluation, tmp_path: Path) -> None:
    drawn = draw_all(scores.results, scores.activation, tmp_path / "plots")
    names = {p.stem for p in drawn}
    protocol = scores.results["mamol"]["protocol"]
    assert names == ({"accuracy", "confusion", "reliability", "experts"} if protocol == "patterns" else {"rates", "experts"})
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in drawn)
    must_not_exist(tmp_path / "plots", overwrite=True, ours=PLOTS)  # so it may be drawn anew


def test_json_has_what_the_contract_names(scores: Evaluation) -> None:
    tree = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert {"dataset", "split", "seed", "classes", "mean_oa", "worst_oa", "parameters"} <= set(tree)
    assert set(tree["parameters"]) == {"experts", "router", "tokenizers", "head", "backbone", "frozen"}
    assert set(tree["baselines"]) == {"forest"}
    if tree["protocol"] == "patterns":
        assert {"present", "n", "oa", "aa", "kappa", "ece"} <= set(tree["patterns"][0])


def test_other_data_is_tested_wholly_and_changed_data_is_refused(scene_run: Trained) -> None:
    from made import made_scene

    other = made_scene(seed=5)
    with pytest.raises(DataError, match="not what it was"):
        evaluate_run(scene_run.run, other, baselines=())
    renamed = type(other)("elsewhere", other.modalities, other.classes, other.tiles)
    result = evaluate_run(scene_run.run, renamed).results
    assert list(result) == ["mamol"]
    assert result["mamol"]["split"] == "all"
    assert "all of other data than trained on" in as_markdown(result)
    assert result["mamol"]["patterns"][0]["n"] == sum(int((t.labels >= 0).sum()) for t in other.tiles)
    with pytest.raises(UsageError, match="from memory"):
        evaluate_run(scene_run.run)
    assert make_split(scene_run.dataset, "block", 0, 8).hash() == scene_run.split.hash()


def test_other_data_of_few_tiles_is_tested_in_squares_of_the_window(scene_run: Trained) -> None:
    from made import made_scene

    result = evaluate_run(scene_run.run, replace(made_scene(2, 40), name="elsewhere")).results["mamol"]
    assert result["overlap"] == {"patch_px": 8, "test": result["patterns"][0]["n"], "overlapping": 0, "percent": 0.0}
    assert len(result["groups"]["id"]) > 2


def test_swapped_labels_under_the_same_split_are_refused(scene_run: Trained) -> None:
    scene = scene_run.dataset
    assert isinstance(scene, Scene)
    swapped = [np.select([t.labels == 1, t.labels == 2], [2, 1], t.labels).astype(np.int16) for t in scene.tiles]
    other = replace(scene, tiles=tuple(replace(t, labels=a) for t, a in zip(scene.tiles, swapped, strict=True)))
    assert make_split(other, "block", 0, 8).hash() == scene_run.split.hash()
    with pytest.raises(DataError, match="the training labels of 'made' are not those"):
        evaluate_run(scene_run.run, other, baselines=())
