"""Multiply-adds of methods that are one network, and of those that are several."""

from __future__ import annotations

from study_speed import count


def test_an_ensemble_is_all_its_networks_and_a_network_for_one_pattern_is_one() -> None:
    found = count("embedded", ["full", "networks", "fill-mean", "ensemble", "lora"])
    assert found["networks"] == found["fill-mean"] == found["full"] < found["lora"]
    # Three networks with a head each, and no attention from one sensor to another; the made scene has three sensors.
    assert found["full"] < found["ensemble"] < 1.5 * found["full"]
