"""Multiply-adds of methods that are one network, and of those that are several."""

from __future__ import annotations

import torch
from study_cells import in_between
from study_speed import BATCH, count, kept_bytes, ready_to_train

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


def test_tokens_in_between_cost_memory_and_change_nothing_else() -> None:
    _, _, _, loss = ready_to_train("lora", load_dataset("embedded"))
    found: list[torch.Tensor] = []
    saved = {"as it is": 0, "in between": 0}

    def run() -> None:
        torch.manual_seed(0)  # the head's dropout
        found.append(loss().detach())

    for name, call in (("as it is", run), ("in between", in_between(run))):

        def keep(tensor: torch.Tensor, name: str = name) -> torch.Tensor:
            saved[name] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            call()
    torch.testing.assert_close(found[0], found[1])
    assert saved["as it is"] < 0.8 * saved["in between"]
