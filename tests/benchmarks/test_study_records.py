"""Every record of the study is what its command makes today, and methods are compared over the seeds that they share."""

from __future__ import annotations

from typing import Any

from study_cells import RESULTS, Cell, config_of, names_of, read_method
from study_records import METHODS, SETS, by_pattern, difference, mean_rates

from mamol.baselines.forest import ForestSettings
from mamol.config import Config, ExpertConfig
from mamol.evaluate.record import read_record
from study_made import made_study


def modalities(result: dict[str, Any]) -> list[str]:
    if "patterns" in result:
        return list(result["patterns"][0]["present"])
    if "rows" in result:
        return list(dict.fromkeys(row["modality"] for row in result["rows"]))
    return [kind for kind in dict.fromkeys(row["kind"] for row in result["rates"]) if kind != "both"]


def comparable(config: Config) -> dict[str, Any]:
    """Leave out what has no effect: where the backbone lay, and how experts would be if there were any."""
    tree = config.model_dump(mode="json")
    tree["backbone"]["path"] = ""
    if not config.experts.ranks(2):
        tree["experts"] = ExpertConfig(shared_rank=0, specific_rank=0, n_dynamic=0).model_dump(mode="json")
    return tree


def test_records_have_the_settings_of_their_cells() -> None:
    wrong = []
    for path in sorted(RESULTS.glob("*.json")):
        name, method, protocol, seed = path.stem.split("--")
        record, cell = read_record(path), Cell(name, method, int(seed), protocol)
        if "baseline" in read_method(method):
            same = ForestSettings(**record["config"]) == ForestSettings(**read_method(method)["baseline"], seed=cell.seed)
        else:
            had, wanted = (
                comparable(c) for c in (Config.model_validate(record["config"]), config_of(cell, modalities(record["result"])))
            )
            same = had == wanted
        if not same or record["command"] != cell.command:
            wrong.append(path.name)
    assert wrong == [], "made with other settings than their cells have now: take them out and run them again"


def test_every_set_and_method_has_its_place() -> None:
    assert sorted(SETS) == names_of("sets")
    assert sorted(METHODS) == sorted(names_of("methods"))


def test_differences_are_over_shared_seeds() -> None:
    study = made_study()
    found = difference(study, "mfeat", "mamol", "lora", "mean_oa")
    assert found is not None
    assert (found.mean, found.n) == (2.0, 1)
    assert difference(study, "mfeat", "mamol", "full", "mean_oa") is None


def test_heat_maps_are_over_shared_seeds() -> None:
    study = made_study()
    labels, rows = by_pattern(study, "mfeat", ["mamol", "lora"])
    assert labels == ["s1+s2", "s1", "s2"]
    assert rows == [[70.0, 71.0, 72.0], [-2.0, -2.0, -2.0]]


def test_rates_average_the_seeds_of_one_rate_of_training() -> None:
    def run(oa: float) -> dict[str, Any]:
        kinds = [{"kind": kind, "rate": rate, "oa": oa - rate} for kind in ("s1", "both") for rate in (0.0, 0.5)]
        return {"rates": [*kinds[:2], *({**k, "oa": k["oa"] + 10} for k in kinds[2:])]}

    found = mean_rates({("mfeat", "lora", "rate-0.3"): {0: run(60.0), 1: run(62.0)}}, "mfeat")
    assert found == {("lora", "0.3"): [(0.0, 71.0), (0.5, 70.5)]}
