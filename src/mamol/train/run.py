"""From prepared data to a run folder: pretrain and freeze -> train -> calibrate -> save.

RUN/backbone/         written once the pretraining is done
RUN/state.safetensors the resumable state while training, removed when the run is complete
RUN/log.jsonl         one row per evaluation, to be plotted (RUN/tensorboard/ with the extra)
RUN/mamol.json        written last: a folder with it is complete
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from pydantic import ValidationError

from mamol.config import Config
from mamol.data.dataset import class_names
from mamol.data.split import labels_hash
from mamol.errors import CheckpointError, ConfigError, OutputExists, UsageError
from mamol.evaluate.record import environment
from mamol.files import atomic, write_json, write_text
from mamol.model.checkpoint import FORMAT, RunDocument, load_backbone, load_run, read_backbone, save_backbone, save_run
from mamol.model.classifier import Classifier
from mamol.model.predictor import MamolPredictor
from mamol.model.pretrained import PretrainedClassifier
from mamol.train.loop import Progress, fit, silent
from mamol.train.prepare import Prepared
from mamol.train.pretrain import pretrain
from mamol.train.validate import Validation

log = logging.getLogger(__name__)
RESUME = "resume=True (--resume on the command line)"
MEASURED = 256
"""Samples on which the features of a pretrained model are measured before training; a quarter of that in windows."""


def pretrain_backbone(prepared: Prepared, out: Path, progress: Progress = silent) -> None:
    """Pretrain without labels and write a backbone folder; the pretrained weights stay in `prepared.model`."""
    if not isinstance(prepared.model, Classifier):
        kind = prepared.config.backbone.kind
        raise UsageError(f'backbone.kind = "{kind}" is pretrained already; only the scene backbone is pretrained here.')
    started = time.monotonic()
    losses = pretrain(prepared.model, prepared.feed, prepared.config, progress)
    record = {
        "dataset": prepared.dataset.name,
        "split": prepared.split.kind,
        "split_hash": prepared.split.hash(),
        "seed": prepared.seed,
        "steps": prepared.config.pretrain.steps,
        "losses": losses,
        "seconds": round(time.monotonic() - started, 1),
    }
    with atomic(out) as partial:
        partial.mkdir(parents=True)
        save_backbone(partial, prepared.model, prepared.normalizer, record)


def train(prepared: Prepared, out: Path, resume: bool = False, progress: Progress = silent) -> MamolPredictor:
    """Train one classifier and fill the folder `out`; return it ready to predict.

    `resume` goes on where a killed run stopped, to the same bits; a finished run is returned as it is, and that is logged.
    Raises OutputExists if the folder is in use, ConfigError if the run in it is not this one, and DataError if the split
    leaves nothing for validation.
    """
    out, world, started = Path(out), PartialState(cpu=not torch.cuda.is_available()), time.monotonic()
    if (out / "mamol.json").exists():
        if not resume:
            raise OutputExists(f"{out} holds a finished run; choose another folder, or {RESUME} to keep it.")
        if not (out / "run.json").exists():
            raise CheckpointError(f"{out} has no run.json, so nothing tells whether it is this run; choose another folder.")
        _same_run(prepared, out)
        if world.is_main_process:
            log.warning("%s was finished already, by the same run; nothing was trained", out)
        return load_run(out)
    if out.exists() and not out.is_dir():
        raise OutputExists(f"{out} is a file; a run is a folder. Choose another name.")
    if out.exists() and any(out.iterdir()) and not resume:
        raise OutputExists(f"{out} is not empty; pass {RESUME} to go on with a run that was stopped, or another folder.")
    prepared.feed.held_out_places()  # a split without any is refused before anything is trained
    world.wait_for_everyone()  # every process has looked at the folder before one of them fills it
    prepared.model.to(world.device)
    if world.is_main_process:  # the other processes read what this one wrote
        _same_run(prepared, out)
        _make_backbone(prepared, out, progress)
    world.wait_for_everyone()
    backbone_hash, pretraining = _read_backbone(prepared, out)
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


def _make_backbone(prepared: Prepared, out: Path, progress: Progress) -> None:
    """Put the run's backbone folder in place: a copy of the given one or of the extended run's, or one pretrained here."""
    if (out / "backbone").exists() or not isinstance(prepared.model, Classifier):
        return
    if prepared.extension is not None:
        with atomic(out / "backbone") as partial:
            partial.mkdir(parents=True)
            for file in (prepared.extension.run / "backbone").iterdir():
                shutil.copyfile(file, partial / file.name)  # not its mode: a run that is kept read-only has writable ones
        return
    given = prepared.config.backbone.path
    if not given:
        pretrain_backbone(prepared, out / "backbone", progress)
        return
    pretraining = load_backbone(prepared.model, Path(given), with_tokenizers=True).pretraining
    with atomic(out / "backbone") as partial:
        partial.mkdir(parents=True)
        save_backbone(partial, prepared.model, prepared.normalizer, pretraining)


def _read_backbone(prepared: Prepared, out: Path) -> tuple[str, dict[str, object]]:
    """Return the hash of the backbone before training, and the record of its pretraining here."""
    model = prepared.model
    if not isinstance(model, Classifier):
        return model.backbone_hash(), {}
    if prepared.extension is not None:
        document, _ = read_backbone(out / "backbone")
        return document.hash, document.pretraining
    document = load_backbone(model, out / "backbone", with_tokenizers=True)
    return document.hash, document.pretraining


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


def _same_run(prepared: Prepared, out: Path) -> None:
    """Write what this run is, or raise ConfigError, naming what differs, if the run in the folder is another one."""
    data = prepared.dataset
    own: dict[str, Any] = {
        "config": prepared.config.model_dump(mode="json"),
        "split": prepared.split.hash(),
        "labels": labels_hash(data, prepared.split),
        "seed": prepared.seed,
        "dataset": data.name,
        "modalities": [[m.name, m.kind, m.bands] for m in data.modalities],
        "classes": list(class_names(data)),
        # Four digits: the same on every machine.
        "means": {m: [f"{x:.3e}" for x in s.mean] for m, s in prepared.normalizer.statistics.items()},
        "backbone": prepared.given,
        "extends": prepared.extension.hash if prepared.extension is not None else "",
        "available": prepared.feed.available_hashes(),
    }
    path = out / "run.json"
    if not path.exists():
        write_json(path, own)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if "available" not in found:  # older than today's thinning of the training pixels: the same values had other means
        found.pop("means", None)
    with suppress(ValidationError):  # keys that came later have the values of before
        found["config"] = Config.model_validate(found["config"]).model_dump(mode="json")
    differs = [k for k, v in own.items() if k in found and found[k] != v]  # older folders say less of the data
    if differs:
        if "extends" in differs:
            before = "by extending another run" if found["extends"] else "without extending a run"
            raise ConfigError(f"{out} was started {before}; resume it with the same extend= (--extend), or take another folder.")
        said = {"config": f"configuration ({_changed(found['config'], own['config'])})", "dataset": "data set"}
        said |= {"means": "set of values (the bands have other means)"}
        said |= {"backbone": "backbone (other weights)", "available": "availability (other places lack a modality)"}
        said |= {k: f"set of {k}" for k in ("labels", "modalities", "classes")}
        follow = ("means", "labels") if "split" in differs else ("means",)  # another split has other means, and labels
        causes = [k for k in differs if k not in follow] or differs
        what = ", ".join(said.get(k, k) for k in causes)
        raise ConfigError(f"{out} was started with another {what}; give the same to resume it, or choose another folder.")


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name the settings that differ between two configurations: section.key, what it was then and what it is now."""
    sections = sorted(old.keys() | new.keys())
    pairs = [(f"{s}.{k}", s, k) for s in sections for k in sorted(old.get(s, {}).keys() | new.get(s, {}).keys())]
    values = ((name, old.get(s, {}).get(k), new.get(s, {}).get(k)) for name, s, k in pairs)
    return ", ".join(f"{name}: {then!r} then, {now!r} now" for name, then, now in values if then != now)


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
