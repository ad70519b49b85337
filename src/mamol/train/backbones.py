"""The backbone folder of a run, or one of its own: a copy of a given one, or one that is pretrained here.

FOLDER/pretraining.safetensors   the resumable state while pretraining, gone when it is done
FOLDER/backbone.json             written last: a folder with it is complete
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
from accelerate import PartialState

from mamol.errors import UsageError
from mamol.files import atomic
from mamol.model.checkpoint import load_backbone, read_backbone, save_backbone
from mamol.model.classifier import Classifier
from mamol.train.folder import finished, must_be_free, same_run
from mamol.train.loop import Progress, silent
from mamol.train.prepare import Prepared
from mamol.train.pretrain import pretrain

STATE = "pretraining.safetensors"
LAST, WHAT = "backbone.json", "backbone"


def pretrain_backbone(prepared: Prepared, out: Path, resume: bool = False, progress: Progress = silent) -> None:
    """Pretrain without labels and write a backbone folder, from a random start or from the weights of backbone.path.

    `resume` goes on where a killed pretraining stopped, to the same bits; a finished one is kept as it is, and that is logged.
    Raises UsageError for a backbone that is pretrained already, OutputExists if the folder is in use, and ConfigError if what
    is in it is not this pretraining.
    """
    _classifier(prepared)
    must_be_free(out, LAST, WHAT, resume)
    if not finished(prepared, out, LAST, WHAT):
        same_run(prepared, out)
        prepared.model.to(PartialState(cpu=not torch.cuda.is_available()).device)
        _pretrain(prepared, out, progress)


def make_backbone(prepared: Prepared, folder: Path, progress: Progress) -> None:
    """Put a run's backbone folder in place, if it is not: a copy of the given one or of the extended run's, or a new one."""
    if (folder / LAST).exists() or not isinstance(prepared.model, Classifier):
        return
    if prepared.extension is not None:
        with atomic(folder) as partial:
            partial.mkdir(parents=True)
            for file in (prepared.extension.run / "backbone").iterdir():
                shutil.copyfile(file, partial / file.name)  # not its mode: a run that is kept read-only has writable ones
        return
    given = prepared.config.backbone.path
    if not given:
        _pretrain(prepared, folder, progress)
        return
    pretraining = load_backbone(prepared.model, Path(given), with_tokenizers=True).pretraining
    with atomic(folder) as partial:
        partial.mkdir(parents=True)
        save_backbone(partial, prepared.model, prepared.normalizer, pretraining)


def take_backbone(prepared: Prepared, folder: Path) -> tuple[str, dict[str, object]]:
    """Fill the model from a run's backbone folder; return the backbone's hash and the record of its pretraining."""
    model = prepared.model
    if not isinstance(model, Classifier):
        return model.backbone_hash(), {}
    if prepared.extension is not None:
        document, _ = read_backbone(folder)
        return document.hash, document.pretraining
    document = load_backbone(model, folder, with_tokenizers=True)
    return document.hash, document.pretraining


def _pretrain(prepared: Prepared, folder: Path, progress: Progress) -> None:
    """Pretrain, from the folder's state on if it has one, and put the backbone in its place."""
    model, started, before = _classifier(prepared), time.monotonic(), {}
    if prepared.config.backbone.path:
        before = {"after": load_backbone(model, Path(prepared.config.backbone.path), with_tokenizers=True).pretraining}
    losses = pretrain(model, prepared.feed, prepared.config, folder / STATE, progress)
    record = {
        "dataset": prepared.dataset.name,
        "split": prepared.split.kind,
        "split_hash": prepared.split.hash(),
        "seed": prepared.seed,
        "steps": prepared.config.pretrain.steps,
        "losses": losses,
        "seconds": round(time.monotonic() - started, 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_backbone(folder, model, prepared.normalizer, record | before)
    for left in (folder / STATE, *folder.glob(f".{Path(STATE).stem}.*")):  # those of a kill while it was written, too
        left.unlink(missing_ok=True)


def _classifier(prepared: Prepared) -> Classifier:
    if not isinstance(prepared.model, Classifier):
        kind = prepared.config.backbone.kind
        raise UsageError(f'backbone.kind = "{kind}" is pretrained already; only the scene backbone is pretrained here.')
    return prepared.model
