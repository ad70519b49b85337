"""How much the mixture costs, as ratios in one run: against the frozen model, PEFT's LoRA and a loop over experts.

    python benchmarks/speed.py                      the three backbones, on the CPU with two threads
    python benchmarks/speed.py vit-s14 --rounds 20
    python benchmarks/speed.py vit-s14 vit-b --device cuda      bf16, batch 256

Every round runs each variant once, in turn; a ratio is the median over the rounds of the variant's time over its
reference's time in the same round, with a 95 % bootstrap interval of that median. Peak memory is a process of its own
per variant: the highest resident set during training steps, less what it was before them. One record per backbone and
device lies in benchmarks/speed/; it is replaced by a new run.

Mixture: 1 shared + 3 specific + 2 dynamic experts, rank 8; PEFT's LoRA has their total rank, 48, beside the same layers.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mamol import adapt
from mamol.config import BackboneConfig
from mamol.errors import FileMissing
from mamol.evaluate.record import environment
from mamol.files import write_json
from mamol.modality import patterns
from mamol.model.adapted import Adapted
from mamol.model.backbone import Backbone
from mamol.model.foreign import load_foreign
from mamol.model.galileo import Galileo, GalileoInput
from mamol.model.galileo_weights import load_galileo

HERE = Path(__file__).resolve().parent
SENSORS = ("a", "b", "c")
RANK, EXPERTS = 8, 6
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One backbone with one batch: how to call a model, and where the experts sit."""

    model: nn.Module
    call: Callable[..., Tensor]
    targets: tuple[str, ...]
    layers: tuple[int, ...] | None
    batch: int


class LoopLinear(nn.Module):
    """The straightforward mixture: one pair of products per expert, in a loop. Only here, to be measured against."""

    def __init__(self, frozen: nn.Linear, gates: Tensor) -> None:
        super().__init__()
        self.frozen, self.gates = frozen, gates
        self.A = nn.ParameterList(nn.Parameter(torch.randn(RANK, frozen.in_features) * 0.02) for _ in range(EXPERTS))
        self.B = nn.ParameterList(nn.Parameter(torch.randn(frozen.out_features, RANK) * 0.02) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        y = self.frozen(x)
        for e in range(EXPERTS):
            gate = self.gates[:, e].to(x.dtype).view(-1, *[1] * (x.dim() - 1))
            y = y + gate * 2.0 * nn.functional.linear(nn.functional.linear(x, self.A[e]), self.B[e])
        return y


def make_case(name: str, device: str) -> Case:
    """Build a backbone and its batch."""
    gpu, torch_device = device != "cpu", torch.device(device)
    torch.manual_seed(0)
    if name in ("vit-s14", "vit-b"):
        model = _vit(name)
        batch, side = (256, 224) if gpu else (16, 112)
        x = torch.randn(batch, 3, side, side, device=torch_device)
        names = ("q_proj", "v_proj", "fc1", "fc2")
        return Case(model, lambda m, **k: m(pixel_values=x, **k).last_hidden_state, names, tuple(range(6, 12)), batch)
    if name == "galileo-nano":
        batch = 256 if gpu else 32
        inputs = _series(batch, torch_device)
        return Case(_galileo(), lambda m, **k: m(inputs, 1, **k).mean(), ("q", "v", "fc1", "fc2"), None, batch)
    batch, config = 256 if gpu else 32, BackboneConfig()
    x = torch.randn(batch, 192, config.width, device=torch_device)
    return Case(Backbone(config), lambda m, **k: m(x, **k), ("q", "v", "fc1", "fc2"), None, batch)


def _vit(name: str) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    if name == "vit-b":
        return Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).eval()
    try:
        return load_foreign("vit-s14", "grid").model
    except FileMissing:
        return Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)).eval()


def _galileo() -> nn.Module:
    try:
        return load_galileo()
    except FileMissing:
        return Galileo().eval()


def _series(batch: int, device: torch.device) -> GalileoInput:
    """Make a year of Sentinel-1, Sentinel-2, weather and terrain at one pixel, all of it seen."""
    seen = {"space_time": (1, 1, 12, 7), "space": (1, 1, 3), "time": (12, 3), "static": (4,)}
    keep = {k: torch.zeros(batch, *s, dtype=torch.bool, device=device) for k, s in seen.items()}
    keep["space_time"][:] = True
    keep["space"][..., 0] = True
    keep["time"][..., 0] = True
    return GalileoInput(
        torch.randn(batch, 1, 1, 12, 13, device=device), torch.randn(batch, 1, 1, 16, device=device),
        torch.randn(batch, 12, 6, device=device), torch.randn(batch, 18, device=device),
        torch.arange(12, device=device).expand(batch, -1),
        keep["space_time"], keep["space"], keep["time"], keep["static"],
    )  # fmt: skip


def mask_of(batch: int, device: str) -> Tensor:
    """Return the seven patterns in turn, shuffled, bool (B, 3)."""
    every = torch.tensor([[s in p for s in SENSORS] for p in patterns(SENSORS)])
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(1))
    return every[order % len(every)].to(device)


def ours(case: Case, device: str) -> Adapted:
    """Return the adapted model with experts that are not zero."""
    adapted = adapt(copy.deepcopy(case.model), SENSORS, case.targets, layers=case.layers, rank=RANK).to(device)
    for p in adapted.places.parameters():
        nn.init.normal_(p, std=0.02)
    return adapted.eval()


def theirs(case: Case, device: str) -> nn.Module:
    """Return PEFT's LoRA of the same total rank beside the same layers."""
    from peft import LoraConfig, inject_adapter_in_model

    model = copy.deepcopy(case.model).requires_grad_(False)
    layers = None if case.layers is None else list(case.layers)
    config = LoraConfig(
        r=RANK * EXPERTS, lora_alpha=RANK * EXPERTS, target_modules=list(case.targets), layers_to_transform=layers,
        init_lora_weights=False,
    )  # fmt: skip
    return inject_adapter_in_model(config, model).to(device).eval()


def loop(case: Case, device: str) -> nn.Module:
    """Return the loop over experts beside the same layers."""
    adapted = ours(case, device)
    gates = next(iter(adapted.gates(mask_of(case.batch, device)).values())).detach()
    model = copy.deepcopy(case.model).requires_grad_(False).to(device)
    for name in adapted.alias:
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], LoopLinear(model.get_submodule(name), gates))
    return model.to(device).eval()


def training(case: Case, model: nn.Module, device: str, mask: Tensor | None) -> Run:
    """Return one forward and backward pass; gradients of the trained weights only."""
    weights = [p for p in model.parameters() if p.requires_grad]
    extra = {} if mask is None else {"available": mask}

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu"):
            out = case.call(model, **extra)
        out.float().square().mean().backward()
        for p in weights:
            p.grad = None

    return step


def inference(case: Case, model: nn.Module, device: str, **extra: object) -> Run:
    """Return one forward pass without gradients."""

    def run() -> None:
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu"):
            case.call(model, **extra)

    return run


def variants(case: Case, device: str) -> dict[str, Run]:
    """Return everything that is timed, by name."""
    adapted, mask = ours(case, device), mask_of(case.batch, device)
    frozen = copy.deepcopy(case.model).requires_grad_(False).to(device)
    return {
        "train mamol": training(case, adapted, device, mask),
        "train peft": training(case, theirs(case, device), device, None),
        "train loop": training(case, loop(case, device), device, None),
        "frozen": inference(case, frozen, device),
        "folded": inference(case, adapted.fold(("a", "b")).to(device), device),
        "one pattern": inference(case, adapted, device, available=("a", "b")),
        "mixed": inference(case, adapted, device, available=mask),
        "peft": inference(case, theirs(case, device), device),
    }


RATIOS = {
    "training step / PEFT LoRA": ("train mamol", "train peft"),
    "loop over experts / training step": ("train loop", "train mamol"),
    "folded / frozen": ("folded", "frozen"),
    "one known pattern, not folded / frozen": ("one pattern", "frozen"),
    "mixed patterns / frozen": ("mixed", "frozen"),
    "PEFT LoRA, not merged / frozen": ("peft", "frozen"),
}


def measure(name: str, device: str, rounds: int) -> dict[str, object]:
    """Time every variant in turn for `rounds` rounds; return ratios with intervals, and milliseconds."""
    case = make_case(name, device)
    runs = variants(case, device)
    times: dict[str, list[float]] = {k: [] for k in runs}
    for i in range(rounds + 2):
        for key, run in runs.items():
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            if i >= 2:  # the first two rounds warm up
                times[key].append(time.perf_counter() - start)
        print(f"  {name} round {i + 1}/{rounds + 2}", flush=True)
    ratios = {title: ratio(np.array(times[a]), np.array(times[b])) for title, (a, b) in RATIOS.items()}
    peaks = {k: _peak(name, device, k) for k in ("mamol", "peft")}
    trained = sum(p.numel() for p in ours(case, "cpu").parameters() if p.requires_grad)
    return {
        "backbone": name,
        "device": torch.cuda.get_device_name() if device != "cpu" else f"cpu, {torch.get_num_threads()} threads",
        "batch": case.batch,
        "trained_weights": trained,
        "rounds": rounds,
        "ratios": ratios | {"peak memory of training / PEFT LoRA": {"median": round(peaks["mamol"] / peaks["peft"], 4)}},
        "milliseconds": {k: round(1000 * float(np.median(v)), 2) for k, v in times.items()},
        "peak_bytes": peaks,
        "environment": environment(),
        "command": f"python benchmarks/speed.py {name} --device {device} --rounds {rounds}",
    }


def ratio(own: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return the median over the rounds of own / reference, with a 95 % bootstrap interval of that median."""
    each, rng = own / reference, np.random.default_rng(0)
    again = np.median(each[rng.integers(len(each), size=(2000, len(each)))], axis=1)
    low, high = np.percentile(again, [2.5, 97.5])
    return {"median": round(float(np.median(each)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _peak(name: str, device: str, which: str) -> int:
    """Return the bytes that training steps take at their peak, measured in a fresh process."""
    words = [sys.executable, __file__, name, "--device", device, "--peak", which]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak(name: str, device: str, which: str) -> int:
    """Run three training steps and return their peak over what was there before, bytes."""
    case = make_case(name, device)
    model = ours(case, device) if which == "mamol" else theirs(case, device)
    step = training(case, model, device, mask_of(case.batch, device) if which == "mamol" else None)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            step()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: start the highest resident set anew
    before = _resident("VmRSS")
    for _ in range(3):
        step()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    """Return a figure of this process's memory, bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Read the command line, measure, write records."""
    parser = argparse.ArgumentParser(description="Measure what the mixture costs, as ratios.")
    parser.add_argument("backbone", nargs="*", default=["vit-s14", "galileo-nano", "scene"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", choices=("mamol", "peft"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.backbone:
        if options.peak:
            print(peak(name, options.device, options.peak))
            return
        result = measure(name, options.device, options.rounds)
        write_json(HERE / "speed" / f"{name}-{options.device}.json", result)
        print(json.dumps(result["ratios"], indent=2))


if __name__ == "__main__":
    main()
