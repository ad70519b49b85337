"""From prepared data to a run folder: pretrain and freeze -> train -> calibrate -> save.

RUN/run.json          what the run was started with (folder.py)
RUN/backbone/         pretrained here, or a copy of the one given (backbones.py)
RUN/state.safetensors the resumable state while training, removed when the run is complete
RUN/log.jsonl         one row per evaluation, to be plotted (RUN/tensorboard/ with the extra)
RUN/mamol.json        written last: a folder with it is complete
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState

from mamol.data.split import labels_hash
from mamol.evaluate.record import environment
from mamol.files import write_text
from mamol.model.checkpoint import FORMAT, RunDocument, load_run, save_run
from mamol.model.predictor import MamolPredictor
from mamol.model.pretrained import PretrainedClassifier
from mamol.train.backbones import make_backbone, take_backbone
from mamol.train.folder import finished, must_be_free, same_run
from mamol.train.loop import Progress, fit, silent
from mamol.train.prepare import Prepared
from mamol.train.validate import Validation

LAST, WHAT = "mamol.json", "run"
MEASURED = 256
"""Samples on which the features of a pretrained model are measured before training; a quarter of that in windows."""


def train(prepared: Prepared, out: Path, resume: bool = False, progress: Progress = silent) -> MamolPredictor:
    """Train one classifier and fill the folder `out`; return it ready to predict.

    `resume` goes on where a killed run stopped, to the same bits; a finished run is returned as it is, and that is logged.
    Raises OutputExists if the folder is in use, ConfigError if the run in it is not this one, and DataError if the split
    leaves nothing for validation.
    """
    out, world, started = Path(out), PartialState(cpu=not torch.cuda.is_available()), time.monotonic()
    must_be_free(out, LAST, WHAT, resume)
    if finished(prepared, out, LAST, WHAT):
        return load_run(out)
    prepared.feed.held_out_places()  # a split without any is refused before anything is trained
    world.wait_for_everyone()  # every process has looked at the folder before one of them fills it
    prepared.model.to(world.device)
    if world.is_main_process:  # the other processes read what this one wrote
        same_run(prepared, out)
        make_backbone(prepared, out / "backbone", progress)
    world.wait_for_everyone()
    backbone_hash, pretraining = take_backbone(prepared, out / "backbone")
    prepared.model.stand_in(prepared.normalizer)
    _measure(prepared)
    history = fit(prepared.model, prepared.feed, prepared.config.train, out / "state.safetensors", progress, _Log(out))
    if world.is_main_process:
        validation = Validation(prepared.feed.held_out(), prepared.feed.order, prepared.config.train)
        model, extension = prepared.model.cpu(), prepared.extension
        training = asdict(history) | {"seed": prepared.seed, "seconds": round(time.monotonic() - started, 1)}
        training |= {"processes": world.num_processes, "pretraining": pretraining, "environment": environment()}
        temperatures = validation.temperatures(model)
        if extension is not None:
            temperatures |= extension.temperatures
            training["extends"] = {"run": str(extension.run), "hash": extension.hash, "modalities": list(prepared.feed.taught)}
        save_run(out, model, _document(prepared, temperatures, backbone_hash, training))
        (out / "state.safetensors").unlink(missing_ok=True)
    world.wait_for_everyone()
    return load_run(out)


def _measure(prepared: Prepared) -> None:
    """Let a classifier on pretrained models see what they say of some training samples under random patterns."""
    model, feed = prepared.model, prepared.feed
    if isinstance(model, PretrainedClassifier):
        whole = feed.draw(0, MEASURED // 4 if feed.is_scene else MEASURED)
        part = whole.without(feed.draw_missing(whole, 0), feed.order).to(next(model.parameters()).device)
        model.measure(part.values, part.available)


def _document(prepared: Prepared, temperatures: dict[str, float], backbone_hash: str, training: dict[str, object]) -> RunDocument:
    split = prepared.split
    return RunDocument(
        format=FORMAT,
        config=prepared.config,
        dataset=prepared.dataset.name,
        source=prepared.source,
        modalities=prepared.dataset.modalities,
        bands=dict(prepared.model.shape.bands),
        is_scene=prepared.model.shape.is_scene,
        pixels=dict(prepared.model.shape.pixels),
        later=prepared.model.shape.later,
        classes=prepared.dataset.classes,
        normalizer=prepared.normalizer.to_json(),
        temperatures=temperatures,
        backbone_hash=backbone_hash,
        split={
            "kind": split.kind,
            "seed": split.seed,
            "hash": split.hash(),
            "labels": labels_hash(prepared.dataset, split),
            "overlap": split.overlap,
        },
        parameters=prepared.model.parameter_counts(),
        training=training,
    )


class _Log:
    """Appends evaluations to log.jsonl, and to TensorBoard files where the extra is installed."""

    def __init__(self, out: Path) -> None:
        self.path = out / "log.jsonl"
        self.rows: list[str] = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.folder = out / "tensorboard"

    def __call__(self, row: dict[str, float]) -> None:
        kept = [r for r in self.rows if json.loads(r)["step"] < row["step"]]
        self.rows = [*kept, json.dumps(row)]
        write_text(self.path, "\n".join(self.rows) + "\n")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with SummaryWriter(str(self.folder)) as writer:
            for key in ("loss", "lr", "score"):
                writer.add_scalar(key, row[key], int(row["step"]))
