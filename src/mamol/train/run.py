"""From a data set to a run folder: split -> normalise -> pretrain and freeze -> train -> calibrate -> save.

RUN/backbone/         written once the pretraining is done
RUN/state.safetensors the resumable state while training, removed when the run is complete
RUN/log.jsonl         one row per evaluation, to be plotted (RUN/tensorboard/ with the extra)
RUN/mamol.json        written last: a folder with it is complete
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from mamol.config import Config, Section
from mamol.data.dataset import UNLABELLED, Dataset, Scene, class_names, grid_sizes, label_arrays
from mamol.data.normalize import Normalizer
from mamol.data.split import TRAIN, Split
from mamol.errors import CheckpointError, ConfigError, DataError, OutputExists, UsageError
from mamol.evaluate.record import environment
from mamol.files import atomic, write_json, write_text
from mamol.model.build import AnyClassifier, build_classifier
from mamol.model.checkpoint import (
    FORMAT,
    BackboneDocument,
    RunDocument,
    load_backbone,
    load_run,
    read_backbone,
    save_backbone,
    save_run,
)
from mamol.model.classifier import Classifier, InputShape
from mamol.model.predictor import MamolPredictor
from mamol.model.pretrained import PretrainedClassifier
from mamol.seed import seed_torch
from mamol.train.feed import Feed
from mamol.train.loop import Progress, fit, silent
from mamol.train.pretrain import pretrain
from mamol.train.validate import Validation

log = logging.getLogger(__name__)
RESUME = "resume=True (--resume on the command line)"
MEASURED = 256
"""Samples on which the features of a pretrained model are measured before training; a quarter of that in windows."""


@dataclass
class Prepared:
    """A data set made ready for one run."""

    dataset: Dataset
    split: Split
    normalizer: Normalizer
    model: AnyClassifier
    feed: Feed
    config: Config
    seed: int
    source: str
    """Catalogue name or absolute path, from which `evaluate` opens the data again; "" if they came from memory."""
    given: str = ""
    """Hash of the backbone that the configuration names; "" if it names none."""


def prepare(dataset: Dataset, split: Split, config: Config, seed: int, source: str = "") -> Prepared:
    """Check, normalise and build; raises DataError if the training labels hold fewer than two classes."""
    check_trainable(dataset, split)
    given = read_backbone(Path(config.backbone.path))[0] if config.backbone.path else None
    if given is not None:
        config = _match(config, given, dataset)
        normalizer = Normalizer.from_json(given.normalizer)
    else:
        normalizer = Normalizer.fit(dataset, split, config.data)
    bands = {m.name: normalizer.bands(m.name) for m in dataset.modalities}
    shape = InputShape(dataset.modalities, bands, len(dataset.classes), isinstance(dataset, Scene), grid_sizes(dataset))
    seed_torch(seed, "start")
    model = build_classifier(shape, config)
    model.stand_in(normalizer)
    feed = Feed(dataset, split, normalizer, config, seed)
    return Prepared(dataset, split, normalizer, model, feed, config, seed, source, given.hash if given else "")


def check_trainable(dataset: Dataset, split: Split) -> None:
    """Raise DataError unless the training part holds labels of two classes or more."""
    pairs = zip(label_arrays(dataset), split.roles, strict=True)
    found = np.unique(np.concatenate([labels[(role == TRAIN) & (labels != UNLABELLED)] for labels, role in pairs]))
    if len(found) < 2:
        names = [class_names(dataset)[k] for k in found]
        raise DataError(
            f"the training part of '{dataset.name}' has {len(found)} class(es) ({', '.join(names) or 'none'}); "
            "at least two are needed. Add labels, or choose another split or seed."
        )


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
    Raises OutputExists if the folder is in use, and ConfigError if the run in it is not this one.
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
    if out.exists() and any(out.iterdir()) and not resume:
        raise OutputExists(f"{out} is not empty; pass {RESUME} to go on with a run that was stopped, or another folder.")
    world.wait_for_everyone()  # every process has looked at the folder before one of them fills it
    prepared.model.to(world.device)
    if world.is_main_process:  # the other processes read what this one wrote
        _same_run(prepared, out)
        _make_backbone(prepared, out, progress)
    world.wait_for_everyone()
    backbone_hash, pretraining = _read_backbone(prepared.model, out)
    prepared.model.stand_in(prepared.normalizer)
    _measure(prepared)
    history = fit(prepared.model, prepared.feed, prepared.config.train, out / "state.safetensors", progress, _Log(out))
    if world.is_main_process:
        validation = Validation(prepared.feed.held_out(), prepared.feed.order, prepared.config.train)
        model = prepared.model.cpu()
        training = asdict(history) | {"seed": prepared.seed, "seconds": round(time.monotonic() - started, 1)}
        training |= {"processes": world.num_processes, "pretraining": pretraining, "environment": environment()}
        save_run(out, model, _document(prepared, validation.temperatures(model), backbone_hash, training))
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
    """Put the run's backbone folder in place: a copy of the given one, or a new one pretrained here."""
    if (out / "backbone").exists() or not isinstance(prepared.model, Classifier):
        return
    given = prepared.config.backbone.path
    if not given:
        pretrain_backbone(prepared, out / "backbone", progress)
        return
    pretraining = load_backbone(prepared.model, Path(given), with_tokenizers=True).pretraining
    with atomic(out / "backbone") as partial:
        partial.mkdir(parents=True)
        save_backbone(partial, prepared.model, prepared.normalizer, pretraining)


def _read_backbone(model: AnyClassifier, out: Path) -> tuple[str, dict[str, object]]:
    """Return the hash of the backbone before training, and the record of its pretraining here."""
    if not isinstance(model, Classifier):
        return model.backbone_hash(), {}
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
        classes=prepared.dataset.classes,
        normalizer=prepared.normalizer.to_json(),
        temperatures=temperatures,
        backbone_hash=backbone_hash,
        split={"kind": split.kind, "seed": split.seed, "hash": split.hash(), "overlap": split.overlap},
        parameters=prepared.model.parameter_counts(),
        training=training,
    )


def _match(config: Config, given: BackboneDocument, dataset: Dataset) -> Config:
    """Take what a given backbone fixes; refuse one of other modalities, or another setting that was asked for by name."""
    if given.modalities != dataset.modalities:
        raise ConfigError(
            f"the backbone was pretrained on {', '.join(m.name for m in given.modalities)} with "
            f"{[m.bands for m in given.modalities]} bands; '{dataset.name}' has "
            f"{', '.join(m.name for m in dataset.modalities)} with {[m.bands for m in dataset.modalities]}."
        )
    backbone = given.config.backbone.model_copy(update={"path": config.backbone.path, "freeze": config.backbone.freeze})
    tokens = given.config.tokens.model_copy(update={"placeholder": config.tokens.placeholder})
    fixed: dict[str, Section] = {"backbone": backbone, "tokens": tokens, "data": given.config.data}
    asked = ((s, k, getattr(getattr(config, s), k)) for s in fixed for k in sorted(getattr(config, s).model_fields_set))
    other = [f"{s}.{k} = {v!r}, it has {has!r}" for s, k, v in asked if v != (has := getattr(fixed[s], k))]
    if other:
        raise ConfigError(
            f"the backbone {config.backbone.path} was pretrained with other settings than asked for: {'; '.join(other)}. "
            "Leave them out to train on this backbone, or pretrain another one."
        )
    return config.model_copy(update={"backbone": backbone, "tokens": tokens, "data": given.config.data})


def _same_run(prepared: Prepared, out: Path) -> None:
    """Write what this run is, or raise ConfigError, naming what differs, if the run in the folder is another one."""
    data = prepared.dataset
    own: dict[str, Any] = {
        "config": prepared.config.model_dump(mode="json"),
        "split": prepared.split.hash(),
        "seed": prepared.seed,
        "dataset": data.name,
        "modalities": [[m.name, m.kind, m.bands] for m in data.modalities],
        "classes": list(class_names(data)),
        # Four digits: the same on every machine.
        "means": {m: [f"{x:.3e}" for x in s.mean] for m, s in prepared.normalizer.statistics.items()},
        "backbone": prepared.given,
        "available": prepared.feed.available_hashes(),
    }
    path = out / "run.json"
    if not path.exists():
        write_json(path, own)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differs = [k for k, v in own.items() if k in found and found[k] != v]  # older folders say less of the data
    if differs:
        said = {"config": f"configuration ({_changed(found['config'], own['config'])})", "dataset": "data set"}
        said |= {"means": "set of values (the bands have other means)"}
        said |= {"backbone": "backbone (other weights)", "available": "availability (other places lack a modality)"}
        said |= {k: f"set of {k}" for k in ("modalities", "classes")}
        causes = [k for k in differs if k != "means"] or differs  # another split has other means
        what = ", ".join(said.get(k, k) for k in causes)
        raise ConfigError(f"{out} was started with another {what}; give the same to resume it, or choose another folder.")


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name the settings that differ between two configurations, as section.key."""
    sections = sorted(old.keys() | new.keys())
    pairs = [(f"{s}.{k}", s, k) for s in sections for k in sorted(old.get(s, {}).keys() | new.get(s, {}).keys())]
    return ", ".join(name for name, s, k in pairs if old.get(s, {}).get(k) != new.get(s, {}).get(k))


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
