"""Tree baselines learn, under every regime; the contract tests do the rest."""

from __future__ import annotations

import pytest

from made import made_samples, made_scene
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.data.dataset import Dataset
from mamol.data.split import make_split
from mamol.errors import UnknownName
from mamol.evaluate.score import score


@pytest.mark.parametrize("dataset", [made_scene(), made_samples()], ids=["scene", "samples"])
@pytest.mark.parametrize("kind", ["forest", "boosted"])
def test_better_than_chance_with_every_sensor_and_one_regime_for_all_patterns(dataset: Dataset, kind: str) -> None:
    split = make_split(dataset, "block", 0, 8)
    result = score(fit_trees(dataset, split, ForestSettings(kind, trees=40, jobs=1)), dataset, split)
    assert result["patterns"][0]["oa"] > 60
    complete = score(fit_trees(dataset, split, ForestSettings(kind, "complete", trees=40, jobs=1)), dataset, split)
    assert result["mean_oa"] > complete["mean_oa"] - 3


def test_unknown_choices() -> None:
    dataset = made_scene(4)
    split = make_split(dataset, "block", 0, 8)
    with pytest.raises(UnknownName, match="Did you mean 'forest'"):
        fit_trees(dataset, split, ForestSettings("forrest"))
    with pytest.raises(UnknownName, match="regime"):
        fit_trees(dataset, split, ForestSettings(regime="all"))
