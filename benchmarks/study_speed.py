"""How much time each paradigm of the study takes, as a ratio to LoRA of equal weights in one run.

    python benchmarks/study_speed.py                  the scene backbone on the embedded scene, one CPU thread

Every round runs each method once, in turn: a training step (forward and backward pass, batch 32, a random pattern per
sample) and a forward pass of a batch of mixed patterns and of one pattern. A ratio is the median over the rounds of a
method's time over LoRA's in the same round, with a 95 % bootstrap interval. The record is benchmarks/speed/study/cpu.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from speed import ratio
from study_cells import HERE, Cell, config_of, names_of, read_method

from mamol.data.catalog import load_dataset
from mamol.data.dataset import Dataset, modality_names
from mamol.data.split import make_split
from mamol.evaluate.record import environment
from mamol.files import write_json
from mamol.train.feed import Draw
from mamol.train.losses import batch_loss
from mamol.train.run import prepare

SET, REFERENCE = "embedded", "lora"
Run = Callable[[], object]


def runs_of(method: str, dataset: Dataset) -> dict[str, Run]:
    """Return what is timed of one method: by name, a call that does it once."""
    config = config_of(Cell(SET, method, 0), modality_names(dataset))
    ready = prepare(dataset, make_split(dataset, "block", 0, config.tokens.window_px), config, 0)
    model, feed = ready.model, ready.feed
    model.freeze()
    whole = feed.draw(0, config.train.batch)
    mixed = whole.without(feed.draw_missing(whole, 0), feed.order)
    one = whole.without(torch.tensor([[False, True, False]]).expand(len(whole), -1), feed.order)
    weight = feed.class_weight()

    def step() -> None:
        model.train()
        loss = batch_loss(model, whole, mixed, weight, config.train)
        (loss.total / loss.count).backward()
        model.zero_grad()

    def forward(draw: Draw) -> Run:
        def run() -> None:
            model.eval()
            with torch.inference_mode():
                model(draw.values, draw.available)

        return run

    return {"training step": step, "mixed patterns": forward(mixed), "one pattern": forward(one)}


def main() -> None:
    """Read the command line, measure, write the record."""
    parser = argparse.ArgumentParser(description="Measure the time of the study's paradigms against LoRA.")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset(SET)
    methods = [m for m in names_of("methods") if not {"baseline", "networks"} & read_method(m).keys()]
    runs = {m: runs_of(m, dataset) for m in methods}
    times: dict[tuple[str, str], list[float]] = {}
    for i in range(options.rounds + 1):
        for method, own in runs.items():
            for what, run in own.items():
                start = time.perf_counter()
                run()
                if i:  # the first round warms up
                    times.setdefault((method, what), []).append(time.perf_counter() - start)
        print(f"round {i}/{options.rounds}", flush=True)
    ratios = {m: {what: ratio(np.array(times[m, what]), np.array(times[REFERENCE, what])) for what in runs[m]} for m in methods}
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
