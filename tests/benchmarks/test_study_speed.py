"""Multiply-adds of methods that are one network, and of those that are several."""

from __future__ import annotations

from study_speed import BATCH, count, kept_bytes

from mamol.data.catalog import load_dataset


def test_an_ensemble_is_all_its_networks_and_a_network_for_one_pattern_is_one() -> None:
    found = count("embedded", ["full", "networks", "fill-mean", "ensemble", "lora"])
    assert found["networks"] == found["fill-mean"] == found["full"] < found["lora"]
    # Three networks with a head each, and no attention from one sensor to another; the made scene has three sensors.
    assert found["full"] < found["ensemble"] < 1.5 * found["full"]


def test_a_step_keeps_less_where_less_is_learnt_and_the_same_every_time() -> None:
    dataset = load_dataset("embedded")
    kept = {m: kept_bytes(m, dataset) for m in ("head", "lora", "hydra")}
    assert kept["head"] < kept["lora"] < kept["hydra"]
    assert kept["lora"] == kept_bytes("lora", dataset)
    # One float of every token at every linear layer of the four blocks is a lower bound for what a LoRA must keep.
    tokens = BATCH * 3 * (16 // 2) ** 2
    assert kept["lora"] > 4 * tokens * 4 * (96 + 96 + 96 + 4 * 96)
