"""A folder that a training fills: whose it is, and whether it may be filled.

FOLDER/run.json says what it was started with: configuration, split, data, availability. A folder is gone on with, or taken
for finished, only by the same.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from pydantic import ValidationError

from mamol.config import Config
from mamol.data.dataset import class_names
from mamol.data.split import labels_hash
from mamol.errors import CheckpointError, ConfigError, OutputExists
from mamol.files import write_json
from mamol.model.checkpoint import with_scale
from mamol.train.prepare import Prepared

log = logging.getLogger(__name__)
RESUME = "resume=True (--resume on the command line)"
STARTED = "run.json"


def must_be_free(out: Path, last: str, what: str, resume: bool) -> None:
    """Raise OutputExists if a folder may not be filled: a file, or, unless it is gone on with, one that holds anything.

    `last` is the file that is written at the end, `what` the word for such a folder.
    """
    if out.exists() and not out.is_dir():
        raise OutputExists(f"{out} is a file; a {what} is a folder. Choose another name.")
    if not resume and (out / last).exists():
        raise OutputExists(f"{out} holds a finished {what}; choose another folder, or {RESUME} to keep it.")
    if not resume and out.exists() and any(out.iterdir()):
        raise OutputExists(f"{out} is not empty; pass {RESUME} to go on with a {what} that was stopped, or another folder.")


def finished(prepared: Prepared, out: Path, last: str, what: str) -> bool:
    """Tell whether the folder is complete, by this very run, and log it; raises ConfigError if it is by another."""
    if not (out / last).exists():
        return False
    if not (out / STARTED).exists():
        raise CheckpointError(f"{out} has no {STARTED}, so nothing tells whether it is this {what}; choose another folder.")
    same_run(prepared, out)
    if PartialState(cpu=not torch.cuda.is_available()).is_main_process:
        log.warning("%s was finished already, by the same run; nothing was trained", out)
    return True


def same_run(prepared: Prepared, out: Path) -> None:
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
    path = out / STARTED
    if not path.exists():
        write_json(path, own)
        return
    found = _started(path)
    if "available" not in found:  # older than today's thinning of the training pixels: the same values had other means
        found.pop("means", None)
    with suppress(ValidationError):  # keys that came later have the values of before
        found["config"] = Config.model_validate(with_scale(found)["config"]).model_dump(mode="json")
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


def _started(path: Path) -> dict[str, Any]:
    """Read what a folder was started with; raises CheckpointError if the file is none of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}), so nothing tells what was started; take another folder."
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise CheckpointError(f"{path} does not say what was started: it is no file of mamol; take another folder.")
    return found


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name the settings that differ between two configurations: section.key, what it was then and what it is now."""
    sections = sorted(old.keys() | new.keys())
    pairs = [(f"{s}.{k}", s, k) for s in sections for k in sorted(old.get(s, {}).keys() | new.get(s, {}).keys())]
    values = ((name, old.get(s, {}).get(k), new.get(s, {}).get(k)) for name, s, k in pairs)
    return ", ".join(f"{name}: {then!r} then, {now!r} now" for name, then, now in values if then != now)
