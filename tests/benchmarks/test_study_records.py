"""Every record of the study is what its command makes today: its settings are those of its cell."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from study_cells import RESULTS, Cell, config_of, read_method

from mamol.baselines.forest import ForestSettings
from mamol.config import Config, ExpertConfig
from mamol.evaluate.record import read_record


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
            same = record["config"] == asdict(ForestSettings(**read_method(method)["baseline"], seed=cell.seed))
        else:
            had, wanted = (
                comparable(c) for c in (Config.model_validate(record["config"]), config_of(cell, modalities(record["result"])))
            )
            same = had == wanted
        if not same or record["command"] != cell.command:
            wrong.append(path.name)
    assert wrong == [], "made with other settings than their cells have now: take them out and run them again"
