"""How fast maps are made, as ratios in one run, on an embedded scene of 2,048 x 2,048 px with 144 + 2 + 1 bands.

    python benchmarks/maps.py                      writes benchmarks/speed/maps/*.json (half an hour when idle)
    python benchmarks/maps.py --scene DIR          a scene of that size which is there already (`mamol scene make`)

One model of the default configuration is trained on another embedded scene, another of the same size classifies the middle
of a patch (the literature's way, through a DataLoader). All rates are of one thread, on parts of the scene that are stated;
variants that are compared run in turn, `rounds` times, and a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from mamol.api import TrainOptions, pretrain_backbone, train_model
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.data.reader import open_scene
from mamol.data.split import TEST, make_split
from mamol.data.synthetic import make_scene, write_scene
from mamol.evaluate.record import environment
from mamol.files import write_json
from mamol.mapping.blocks import Job
from mamol.mapping.engines import processes
from mamol.mapping.layers import DEFAULT
from mamol.mapping.predict import MapRequest, map_tile, plan
from mamol.modality import Batch
from mamol.model.build import AnyClassifier
from mamol.model.checkpoint import load_run
from mamol.model.classifier import Output
from mamol.model.predictor import MamolPredictor, tensors
from mamol.model.raster_windows import Folds

HERE = Path(__file__).resolve().parent
SIZE, BANDS, SIDE = 2048, 144, 16
QUICK = ("train.steps=300", "train.eval_every=150", "pretrain.steps=300")
PART = (512, 512)
"""Height and width of the part on which variants take turns."""


def prepared(work: Path, scene: Path | None) -> tuple[Path, dict[str, Path]]:
    """Return the scene's folder and the two runs, made where they are not there."""
    folder = scene or work / "scene"
    if not folder.exists():
        write_scene(folder, SIZE, 0, False, BANDS)
    taught, backbone = make_scene(256, 7, BANDS), work / "backbone"
    if not backbone.exists():
        pretrain_backbone(taught, backbone, TrainOptions(overrides=QUICK))
    runs = {task: work / task for task in ("dense", "centre")}
    for task, run in runs.items():
        if not (run / "mamol.json").exists():
            words = [*QUICK, f"model.task={task}", f"backbone.path={backbone}"]
            train_model(taught, run, TrainOptions(overrides=words, resume=run.exists()))
    return folder, runs


class Patches(Dataset[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]):
    """The patch around each of some pixels, cut when asked for."""

    def __init__(self, batch: Batch, predictor: MamolPredictor, places: np.ndarray) -> None:
        self.values, self.available = tensors(batch, predictor.normalizer)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        y, x = (int(v) - SIDE // 2 for v in self.places[i])
        rows, columns = slice(y, y + SIDE), slice(x, x + SIDE)
        return (
            {m: v[0, :, rows, columns] for m, v in self.values.items()},
            {m: a[0, rows, columns] for m, a in self.available.items()},
        )


@dataclass
class Frozen(Folds):
    """Runs every group of windows through the frozen backbone alone: what the mixture's time is held against."""

    def get(self, model: AnyClassifier, pattern: tuple[str, ...]) -> AnyClassifier:
        return _Frozen(model)  # type: ignore[return-value]


class _Frozen:
    def __init__(self, model: AnyClassifier) -> None:
        self.model = model

    def __call__(self, values: dict[str, torch.Tensor], available: dict[str, torch.Tensor]) -> Output:
        return self.model(values, available, experts=False)


def turns(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run every variant once a round and return the seconds of each round; the first round is a warm-up."""
    times: dict[str, list[float]] = {k: [] for k in variants}
    for i in range(rounds + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if i:
                times[name].append(time.perf_counter() - start)
        print(f"  round {i}/{rounds}: {', '.join(f'{k} {v[-1]:.1f} s' for k, v in times.items() if v)}", flush=True)
    return times


def ratio(a: list[float], b: list[float]) -> dict[str, float]:
    """Return the median over the rounds of a / b, and the least and the largest."""
    found = np.array(a) / np.array(b)
    return {
        "median": round(float(np.median(found)), 3),
        "low": round(float(found.min()), 3),
        "high": round(float(found.max()), 3),
    }


def part_of(job: Job, height: int, width: int) -> Job:
    """Return the job for a part in the scene's middle."""
    top, left = (n // 2 // 256 * 256 - d // 2 // 256 * 256 for n, d in zip(job.out_shape, (height, width), strict=True))
    return replace(job, region=(top, left, top + height, left + width))


def accuracy(predictor: MamolPredictor, most: int = 1500) -> dict[str, float]:
    """Return OA and AA on the held-out blocks of the training scene, as observed, at most `most` labels drawn at random."""
    scene = make_scene(256, 7, BANDS)
    tile, split = scene.tiles[0], make_split(scene, "block", 0, SIDE)
    test = np.argwhere((split.roles[0] == TEST) & (tile.labels >= 0))
    test = test[np.random.default_rng(0).permutation(len(test))[:most]]
    truth = tile.labels[tuple(test.T)]
    if predictor.model.task == "centre":
        found = centre(predictor, pad(tile.batch()), test + SIDE // 2)
    else:
        found = np.nan_to_num(predictor.predict(tile.batch())[0]).argmax(0)[tuple(test.T)]
    right = found == truth
    recall = [right[truth == k].mean() for k in np.unique(truth)]
    return {"oa": round(100 * float(right.mean()), 2), "aa": round(100 * float(np.mean(recall)), 2), "labels": len(test)}


def pad(batch: Batch) -> Batch:
    """Surround a raster with half a patch that nothing observed."""
    around = ((SIDE // 2, SIDE // 2), (SIDE // 2, SIDE // 2))
    return Batch(
        {m: np.pad(v, ((0, 0), (0, 0), *around)) for m, v in batch.values.items()},
        {m: np.pad(a, ((0, 0), *around)) for m, a in batch.available.items()},
    )


def centre(predictor: MamolPredictor, batch: Batch, places: np.ndarray) -> np.ndarray:
    """Classify pixels as the middle of their patches, batch by batch from a DataLoader."""
    out = []
    with torch.no_grad():
        for values, available in DataLoader(Patches(batch, predictor, places), batch_size=128):
            out.append(predictor.model.eval()(values, available).logits.argmax(1).numpy())
    return np.concatenate(out)


def rates(folder: Path, runs: dict[str, Path], rounds: int, work: Path) -> dict[str, object]:
    """Time the whole way, the computing alone, the frozen backbone alone, patch centres and a forest."""
    reader, dense, patches = open_scene(folder), load_run(runs["dense"]), load_run(runs["centre"])
    request = MapRequest(reader.tile_names[0], reader.classes, rim_px=SIDE, layers=DEFAULT)
    part = _Part(part_of(plan(dense, reader, request), *PART))
    job = plan(dense, part, request)
    blocks = [(c, job.read(c)) for c in job.corners()]
    frozen = replace(job, predictor=replace(dense, folds=Frozen()))
    quick = replace(job, predictor=replace(dense, stride_px=SIDE))
    pixels = PART[0] * PART[1]
    rng = np.random.default_rng(0)
    some = blocks[0][1]
    places = rng.integers(SIDE, 256, (1500, 2))
    taught = make_scene(256, 7, BANDS)
    trees = fit_trees(taught, make_split(taught, "block", 0, SIDE), ForestSettings(jobs=1))
    rows = slice(0, 128)
    strip = Batch({m: v[..., rows, :] for m, v in some.values.items()}, {m: a[..., rows, :] for m, a in some.available.items()})

    def end_to_end() -> None:
        with tempfile.TemporaryDirectory(dir=work) as out:
            map_tile(dense, part, request, Path(out) / "map.tif")

    times = turns(
        {
            "whole way": end_to_end,
            "computing": lambda: [job.finish(c, b) for c, b in blocks],
            "frozen": lambda: [frozen.finish(c, b) for c, b in blocks],
            "no overlap": lambda: [quick.finish(c, b) for c, b in blocks],
            "patch centre": lambda: centre(patches, some, places),
            "forest": lambda: trees.predict(strip),
            "reading": lambda: [job.read(c) for c, _ in blocks],
        },
        rounds,
    )
    area = {"patch centre": len(places), "forest": strip.available["hsi"].size}
    with FlopCounterMode(display=False) as counter:
        frozen.finish(*blocks[0])
    per_pixel = counter.get_total_flops() / 2 / 256**2
    return {
        "px_per_second": {k: round(area.get(k, pixels) / float(np.median(v)), 1) for k, v in times.items()},
        "ratios": {
            "whole way / computing": ratio(times["whole way"], times["computing"]),
            "computing / frozen backbone": ratio(times["computing"], times["frozen"]),
            "computing, four-fold overlap / none": ratio(times["computing"], times["no overlap"]),
            "pixels a second, whole way / patch centre": ratio(
                [pixels / t for t in times["whole way"]], [len(places) / t for t in times["patch centre"]]
            ),
            "pixels a second, whole way / forest": ratio(
                [pixels / t for t in times["whole way"]], [area["forest"] / t for t in times["forest"]]
            ),
            "reading / computing": ratio(times["reading"], times["computing"]),
        },
        "floor": {
            "multiply_adds_per_px": round(per_pixel),
            "matrix_multiply_adds_per_second": matrix_speed(),
            "bytes_read_per_px": 2 * BANDS + 4 * 3,
        },
    }


class _Part:
    """A part of a scene as a scene of its own."""

    def __init__(self, job: Job) -> None:
        self.inner, self.job = job.reader, job
        self.name, self.modalities, self.classes, self.tile_names = "part", job.reader.modalities, job.reader.classes, (job.tile,)

    def shape(self, tile: str) -> tuple[int, int]:
        return self.job.out_shape

    def georeference(self, tile: str) -> object:
        return self.job.place()

    def identity(self, tile: str) -> object:
        return self.inner.identity(tile)

    def files(self) -> object:
        return self.inner.files()

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        top, left = self.job.region[:2]
        return self.inner.read(tile, slice(rows.start + top, rows.stop + top), slice(columns.start + left, columns.stop + left))


class _Tall(_Part):
    """A part of a scene, repeated downwards."""

    def __init__(self, job: Job, times: int) -> None:
        super().__init__(job)
        self.times = times

    def shape(self, tile: str) -> tuple[int, int]:
        height, width = self.job.out_shape
        return height * self.times, width

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        height, pieces, row = self.job.out_shape[0], [], rows.start
        while row < rows.stop:
            end = min(rows.stop, (row // height + 1) * height)
            pieces.append(super().read(tile, slice(row % height, (end - 1) % height + 1), columns))
            row = end
        return Batch(
            {m: np.concatenate([p.values[m] for p in pieces], axis=2) for m in pieces[0].names()},
            {m: np.concatenate([p.available[m] for p in pieces], axis=1) for m in pieces[0].names()},
        )


def matrix_speed() -> float:
    """Return the multiply-adds a second that one thread reaches on the backbone's widest product."""
    a, b = torch.randn(6144, 96), torch.randn(96, 384)
    a @ b
    start, n = time.perf_counter(), 50
    for _ in range(n):
        a @ b
    return round(n * 6144 * 96 * 384 / (time.perf_counter() - start))


def workers(folder: Path, run: Path, rounds: int) -> dict[str, float]:
    """Return the time of one worker process over that of two, one thread each, on the whole scene, start-up included."""
    reader, dense = open_scene(folder), replace(load_run(run), stride_px=SIDE)
    job = part_of(plan(dense, reader, MapRequest(reader.tile_names[0], reader.classes, rim_px=SIDE)), SIZE, SIZE)
    times = turns({str(n): lambda n=n: sum(1 for _ in processes(n)(job, job.corners())) for n in (1, 2)}, rounds)
    return ratio(times["1"], times["2"])


def variants(run: Path, rounds: int) -> dict[str, object]:
    """Time other ways to run the folded model on 32 windows that see every sensor, as ratios to the plain one."""
    model = load_run(run).model.eval()
    names, plain = [m.name for m in model.modalities], model.folded([m.name for m in model.modalities])
    random = torch.Generator().manual_seed(0)
    values = {m: torch.randn(32, model.shape.bands[m], SIDE, SIDE, generator=random) for m in names}
    last = {m: v.to(memory_format=torch.channels_last) for m, v in values.items()}
    there = {m: torch.ones(32, SIDE, SIDE, dtype=torch.bool) for m in names}
    others = {
        "plain": (plain, values),
        "channels-last": (copy.deepcopy(plain).to(memory_format=torch.channels_last), last),
        "torch.compile": (torch.compile(copy.deepcopy(plain)), values),
        "int8, dynamic": (torch.ao.quantization.quantize_dynamic(copy.deepcopy(plain), {torch.nn.Linear}), values),
    }
    with torch.no_grad():
        said = {k: m(v, there).logits for k, (m, v) in others.items()}  # the first call compiles
        times = turns({k: lambda m=m, v=v: m(v, there) for k, (m, v) in others.items()}, rounds)
    same = {k: round(100 * float((x.argmax(1) == said["plain"].argmax(1)).float().mean()), 2) for k, x in said.items()}
    return {"ratios": {k: ratio(t, times["plain"]) for k, t in times.items() if k != "plain"}, "same_class_percent": same}


def memory(scene: Path, run: Path) -> dict[str, object]:
    """Return the peak memory of mapping 1,024 x 512 px and eight times as many rows, each in a process of its own, bytes."""
    peaks = {}
    for times in (1, 8):
        words = [sys.executable, __file__, "--scene", str(scene), "--peak", str(times), "--run", str(run)]
        peaks[times] = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])
    return {"peak_bytes": peaks, "ratio": round(peaks[8] / peaks[1], 3)}


def peak(scene: Path, run: Path, times: int) -> int:
    """Map a part of the scene, repeated downwards, and return the highest resident set of this process, bytes."""
    reader, dense = open_scene(scene), replace(load_run(run), stride_px=SIDE)
    request = MapRequest(reader.tile_names[0], reader.classes, rim_px=SIDE)
    tall = _Tall(part_of(plan(dense, reader, request), 1024, 512), times)
    with tempfile.TemporaryDirectory() as out:
        map_tile(dense, tall, request, Path(out) / "map.tif")
    # Not ru_maxrss: it counts what the process that started this one held.
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Read the command line, measure, write the record."""
    parser = argparse.ArgumentParser(description="Measure how fast maps are made, as ratios.")
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure memory only")
    parser.add_argument("--variants", action="store_true", help="measure channels-last, torch.compile and int8 only")
    parser.add_argument("--workers", action="store_true", help="measure two workers against one only")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.scene, options.run, options.peak))
        return
    work = HERE / "work" / "maps"
    work.mkdir(parents=True, exist_ok=True)
    folder, runs = prepared(work, options.scene)
    if options.memory:
        remember(folder, runs["dense"])
    if options.workers:
        count_workers(folder, runs["dense"], options.rounds)
    if options.variants:
        found = variants(runs["dense"], 20) | {"environment": environment(), "command": "python benchmarks/maps.py --variants"}
        write_json(HERE / "speed" / "maps" / "variants.json", found)
        print(json.dumps(found, indent=2))
    if options.memory or options.workers or options.variants:
        return
    result = {
        "scene": {"size_px": SIZE, "bands": [BANDS, 2, 1], "part_px": list(PART), "threads": 1},
        "accuracy": {task: accuracy(load_run(run)) for task, run in runs.items()},
        **rates(folder, runs, options.rounds, work),
        "rounds": options.rounds,
        "environment": environment(),
        "command": f"python benchmarks/maps.py --rounds {options.rounds}",
    }
    write_json(HERE / "speed" / "maps" / "cpu.json", result)
    print(json.dumps(result, indent=2))
    remember(folder, runs["dense"])
    count_workers(folder, runs["dense"], options.rounds)


def count_workers(folder: Path, run: Path, rounds: int) -> None:
    """Hold two workers against one and write the record."""
    found = {"one worker / two, seconds": workers(folder, run, rounds), "rounds": rounds, "part_px": [SIZE, SIZE]}
    write_json(
        HERE / "speed" / "maps" / "workers.json",
        found | {"environment": environment(), "command": "python benchmarks/maps.py --workers"},
    )
    print(json.dumps(found, indent=2))


def remember(folder: Path, run: Path) -> None:
    """Measure memory and write its record."""
    result = memory(folder, run) | {"environment": environment(), "command": "python benchmarks/maps.py --memory"}
    write_json(HERE / "speed" / "maps" / "memory.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
