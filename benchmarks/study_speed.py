"""What each paradigm of the study costs: time and memory, as ratios to LoRA of equal weights, and multiply-adds.

    python benchmarks/study_speed.py                  times: the scene backbone on the embedded scene, one CPU thread
    python benchmarks/study_speed.py --memory         what a training step keeps for its backward pass, the same set and batch
    python benchmarks/study_speed.py --count          multiply-adds: every set and method, untrained networks

Every round runs each method once, in turn: a training step (forward and backward pass, batch 32, a random pattern per
sample) and a forward pass of a batch of mixed patterns and of one pattern. A ratio is the median over the rounds of a
method's time over LoRA's in the same round, with a 95 % bootstrap interval. `IN_BETWEEN` is MaMOL without packing.py: tokens
of missing sensors stay where they are, hidden from attention. Memory is that of the tensors that a training
step of the same kind keeps until its backward pass, without the weights: most of its peak, and the same at every run.

Multiply-adds are those of one sample (or one pixel of a scene) with every sensor there in a batch of mixed patterns, so with
experts beside the frozen layers; folded for a known pattern, whatever a router that sees the pattern alone chose, they are
those of the backbone without experts (`head`). Of an ensemble they are those of all its networks, of networks for one
pattern those of the one for every sensor; what fills in is not counted.
The records are benchmarks/speed/study/cpu.json, memory.json and multiply-adds.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from speed import ratio
from study_cells import HERE, Cell, config_of, fits, in_between, names_of, read_method, read_set
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mamol.data.catalog import load_dataset
from mamol.data.dataset import Dataset, modality_names
from mamol.data.split import make_split
from mamol.evaluate.record import environment
from mamol.files import write_json
from mamol.model.tokens import anywhere
from mamol.train.feed import Draw, Feed
from mamol.train.losses import batch_loss
from mamol.train.prepare import Prepared, prepare

SET, REFERENCE, BATCH = "embedded", "lora", 32
IN_BETWEEN = "mamol, missing tokens in between"
Run = Callable[[], object]


def ready_to_train(method: str, dataset: Dataset) -> tuple[Prepared, Draw, Draw, Callable[[], Tensor]]:
    """Return an untrained method, a batch of it, the same under a random pattern per sample, and a call for its loss."""
    config = config_of(Cell(SET, method, 0), modality_names(dataset))
    ready = prepare(dataset, make_split(dataset, "block", 0, config.tokens.window_px), config, 0)
    ready.model.freeze()
    whole = ready.feed.draw(0, BATCH)
    mixed = whole.without(ready.feed.draw_missing(whole, 0), ready.feed.order)
    weight = ready.feed.class_weight()

    def loss() -> Tensor:
        ready.model.train()
        found = batch_loss(ready.model, whole, mixed, weight, config.train)
        return found.total / found.count

    return ready, whole, mixed, loss


def runs_of(method: str, dataset: Dataset) -> dict[str, Run]:
    """Return what is timed of one method: by name, a call that does it once."""
    ready, whole, mixed, loss = ready_to_train(method, dataset)
    model, order = ready.model, ready.feed.order
    one = whole.without(torch.tensor([[False, True, False]]).expand(len(whole), -1), order)

    def step() -> None:
        torch.autograd.backward(loss())
        model.zero_grad()

    def forward(draw: Draw) -> Run:
        def run() -> None:
            model.eval()
            with torch.inference_mode():
                model(draw.values, draw.available)

        return run

    return {"training step": step, "mixed patterns": forward(mixed), "one pattern": forward(one)}


def networks() -> list[str]:
    """List the methods that are one network."""
    return [m for m in names_of("methods") if not {"baseline", "networks"} & read_method(m).keys()]


def kept_bytes(method: str, dataset: Dataset) -> int:
    """Return the bytes that a training step keeps for its backward pass, without weights and what the batch itself holds."""
    ready, whole, mixed, loss = ready_to_train(method, dataset)
    there = [*ready.model.parameters(), *ready.model.buffers(), *whole.values.values(), *mixed.values.values()]
    known = {t.untyped_storage().data_ptr() for t in there}
    kept: dict[int, Tensor] = {}  # by place in memory: views of one tensor are kept once

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss()
    del result  # alive until here, so that no place was used twice
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in known)


def weigh_all() -> None:
    """Write the record of what every method keeps, over what LoRA keeps."""
    dataset = load_dataset(SET)
    kept = {m: kept_bytes(m, dataset) for m in networks()}
    ratios = {m: round(b / kept[REFERENCE], 3) for m, b in kept.items()}
    record = {"kept": ratios, "reference_bytes": kept[REFERENCE], "environment": environment()}
    write_json(HERE / "speed" / "study" / "memory.json", record | {"command": "python benchmarks/study_speed.py --memory"})
    print(json.dumps(ratios, indent=2))


def complete(feed: Feed, size: int) -> Draw:
    """Draw a batch whose samples have every sensor."""
    drawn = feed.draw(0, 8 * size)
    whole = torch.stack([anywhere(drawn.available[m]) for m in feed.order]).all(0).nonzero()[:size, 0]
    return drawn.part(whole)


def count(set_name: str, methods: Sequence[str] = ()) -> dict[str, int]:
    """Return the multiply-adds of the methods that are networks, all or some, on a set."""
    dataset, out = load_dataset(read_set(set_name)["dataset"]), {}
    order = modality_names(dataset)
    for method in methods or [m for m in names_of("methods") if "baseline" not in read_method(m)]:
        if fits(set_name, method, "patterns"):
            config = config_of(Cell(set_name, method, 0), order)
            split = make_split(dataset, read_set(set_name)["split"], 0, config.tokens.window_px)
            ready = prepare(dataset, split, config, 0)
            draw = complete(ready.feed, 8)
            places = draw.labels.numel() if ready.model.task == "dense" else len(draw)
            alone = read_method(method).get("networks") == "ensemble"
            with FlopCounterMode(display=False) as counter:  # with gradients, so that nothing folds
                for pattern in [(m,) for m in order] if alone else [order]:
                    part = draw.without(torch.tensor([[m not in pattern for m in order]]).expand(len(draw), -1), order)
                    ready.model.eval()(part.values, part.available)
            out[method] = round(counter.get_total_flops() / 2 / places)
    return out


def count_all(wanted: list[str]) -> None:
    """Count some sets, or all, and write the record; what was counted of other sets stays in it."""
    path = HERE / "speed" / "study" / "multiply-adds.json"
    found = json.loads(path.read_text(encoding="utf-8"))["multiply_adds"] if wanted and path.exists() else {}
    for name in wanted or names_of("sets"):
        found[name] = count(name)
        print(name, found[name], flush=True)
    record = {"multiply_adds": found, "environment": environment(), "command": "python benchmarks/study_speed.py --count"}
    write_json(path, record)


def main() -> None:
    """Read the command line, measure, write the record."""
    parser = argparse.ArgumentParser(description="Measure the time of the study's paradigms against LoRA.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", nargs="*", metavar="SET", help="count multiply-adds instead, of all sets or of these")
    parser.add_argument("--memory", action="store_true", help="weigh what a training step keeps instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        return weigh_all()
    if options.count is not None:
        return count_all(options.count)
    dataset = load_dataset(SET)
    runs = {m: runs_of(m, dataset) for m in networks()}
    runs[IN_BETWEEN] = {what: in_between(run) for what, run in runs["mamol"].items()}
    times: dict[tuple[str, str], list[float]] = {}
    for i in range(options.rounds + 1):
        for method, own in runs.items():
            for what, run in own.items():
                start = time.perf_counter()
                run()
                if i:  # the first round warms up
                    times.setdefault((method, what), []).append(time.perf_counter() - start)
        print(f"round {i}/{options.rounds}", flush=True)
    ratios = {m: {what: ratio(np.array(times[m, what]), np.array(times[REFERENCE, what])) for what in runs[m]} for m in runs}
    result = {
        "ratios": ratios,
        "reference_ms": {w: round(1000 * float(np.median(times[REFERENCE, w])), 1) for w in runs[REFERENCE]},
        "rounds": options.rounds,
        "environment": environment(),
        "command": f"python benchmarks/study_speed.py --rounds {options.rounds}",
    }
    write_json(HERE / "speed" / "study" / "cpu.json", result)
    print(json.dumps(ratios, indent=2))


if __name__ == "__main__":
    main()
