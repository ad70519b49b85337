"""A figure in prose comes from a record; one without is refused."""

from __future__ import annotations

import pytest
from study_prose import loose_numbers, with_values

from study_made import made_study


def test_figures_in_prose_come_from_records() -> None:
    study = made_study()
    text = "ahead by <!-- value mfeat mamol--lora worst_oa -->?<!-- end --> points"
    assert with_values(text, study) == "ahead by <!-- value mfeat mamol--lora worst_oa -->+2.0 (1 seed)<!-- end --> points"
    with pytest.raises(SystemExit, match="names mfeat mamol--full worst_oa; there is no record"):
        with_values(text.replace("lora", "full"), study)
    for run, score in ((study["mfeat", "mamol", "patterns"][1], 50.0), (study["mfeat", "lora", "patterns"][1], 51.5)):
        run["training"] = {"best_score": score}
    on_validation = text.replace("worst_oa", "training.best_score")
    assert "-1.5 (1 seed)" in with_values(on_validation, study)
    for seed, gain in ((2, 0.0), (3, 1.0)):  # and 2.0: plain 1 +- 2.48, wider by the root of 1 + 3 * 5 / 12
        for method, worst in (("mamol", 50.0 + gain), ("lora", 50.0)):
            study["mfeat", method, "patterns"][seed] = {"worst_oa": worst}
    assert ">+1.0 [-1.5, +3.5]<" in with_values(text, study)
    assert ">+1.0 [-2.7, +4.7]<" in with_values(text.replace("worst_oa", "worst_oa:resampled"), study)
    with pytest.raises(SystemExit, match="worst_oa:other; there is no record"):
        with_values(text.replace("worst_oa", "worst_oa:other"), study)
    study["idtrees", "lora", "patterns"] = {2: {"worst_oa": 47.5}}
    assert ">+2.5 (1 seed)<" in with_values(text.replace("--lora", "--lora@idtrees"), study)
    assert loose_numbers(f"{text}, `1.5` of 2405.00361, and 7.3 more") == ["7.3"]
