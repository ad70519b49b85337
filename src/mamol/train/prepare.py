"""A data set made ready for one run: checked, normalised, its model built, its batches to be drawn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamol.config import Config, Section
from mamol.data.dataset import Dataset, Scene, class_names, grid_sizes
from mamol.data.normalize import Normalizer
from mamol.data.split import Split, labelled_counts
from mamol.errors import ConfigError, DataError, UsageError, some
from mamol.modality import Modality
from mamol.model.build import AnyClassifier, build_classifier
from mamol.model.checkpoint import BackboneDocument, read_backbone
from mamol.model.classifier import InputShape
from mamol.seed import seed_torch
from mamol.train.feed import Feed

log = logging.getLogger(__name__)
SHOWN = 5
"""Classes that a warning names."""


@dataclass(frozen=True)
class Extension:
    """The run that is extended: its folder, the `hash` of its weights, its temperatures; what is new says `Feed.taught`."""

    run: Path
    hash: str
    temperatures: Mapping[str, float]


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
    extension: Extension | None = None


def prepare(dataset: Dataset, split: Split, config: Config, seed: int, source: str = "") -> Prepared:
    """Check, normalise and build; an `unlabelled_split` is not asked for labels: it is for pretraining.

    Raises DataError if the training labels hold fewer than two classes, ConfigError for a backbone that does not fit, and
    UsageError for a split of a scene that keeps windows of another size apart.
    """
    if split.kind != "unlabelled":
        check_trainable(dataset, split)
    given = read_backbone(Path(config.backbone.path))[0] if config.backbone.path else None
    if given is not None:
        config = _match(config, given, dataset)
    _must_keep_apart(split, config.tokens.window_px, dataset)
    if given is not None:
        _warn_of_other_split(given, split, dataset)
        normalizer = Normalizer.from_json(given.normalizer)
    else:
        normalizer = Normalizer.fit(dataset, split, config.data)
    bands = {m.name: normalizer.bands(m.name) for m in dataset.modalities}
    shape = InputShape(dataset.modalities, bands, max(1, len(dataset.classes)), isinstance(dataset, Scene), grid_sizes(dataset))
    seed_torch(seed, "start")
    model = build_classifier(shape, config)
    model.stand_in(normalizer)
    feed = Feed(dataset, split, normalizer, config, seed)
    return Prepared(dataset, split, normalizer, model, feed, config, seed, source, given.hash if given else "")


def check_trainable(dataset: Dataset, split: Split) -> None:
    """Raise DataError unless the training part holds labels of two classes or more; log the classes that it has none of."""
    counts = dict(labelled_counts(dataset, split))
    found = np.flatnonzero(counts["train"])
    if len(found) < 2:
        names = [class_names(dataset)[k] for k in found]
        raise DataError(
            f"the training part of '{dataset.name}' has {len(found)} class(es) ({', '.join(names) or 'none'}); "
            "at least two are needed. Add labels, or choose another split or seed."
        )
    there = np.sum(list(counts.values()), axis=0)
    for role, what, level in (("train", "train", logging.WARNING), ("val", "validate", logging.INFO)):
        absent = [c for c, here, n in zip(class_names(dataset), counts[role], there, strict=True) if n and not here]
        if absent:
            log.log(
                level, "the %s split (seed %d) leaves no label to %s %s of '%s' on; more labels, other tiles or another seed may "
                "help", split.kind, split.seed, what, some(absent, SHOWN), dataset.name,
            )  # fmt: skip


def on_backbone(config: Config, dataset: Dataset) -> Config:
    """Return the configuration with what the backbone that it names fixes, such as the windows that a split keeps apart.

    Raises FileMissing, CheckpointError, and ConfigError for a backbone of other modalities or settings.
    """
    return _match(config, read_backbone(Path(config.backbone.path))[0], dataset) if config.backbone.path else config


def _must_keep_apart(split: Split, window_px: int, dataset: Dataset) -> None:
    """Raise UsageError for a scene's split that was made for other windows: its test part may be near training pixels."""
    made = int(split.overlap.get("patch_px", 0))
    if isinstance(dataset, Scene) and split.kind != "unlabelled" and made != window_px:
        raise UsageError(
            f"the {split.kind} split was made for windows of {made} pixels, and the model has windows of {window_px}; "
            f"make the split with patch_px={window_px}."
        )


def _warn_of_other_split(given: BackboneDocument, split: Split, dataset: Dataset) -> None:
    """Log that a backbone was pretrained outside the test part of another split than this one of the same data."""
    made = given.pretraining
    while made:
        if made.get("steps") and made.get("dataset") == dataset.name and made.get("split_hash") != split.hash():
            log.warning(
                "the backbone was pretrained on '%s' with another split (%s, seed %s): it may have seen, without labels, places "
                "that are tested on with this one (%s, seed %d); for honest scores pretrain one with the same split, seed and "
                "labels", dataset.name, made.get("split"), made.get("seed"), split.kind, split.seed,
            )  # fmt: skip
        made = made.get("after", {})


def _match(config: Config, given: BackboneDocument, dataset: Dataset) -> Config:
    """Take what a given backbone fixes; refuse one of other modalities, or another setting that was asked for by name."""
    known, here = ([_said(m) for m in modalities] for modalities in (given.modalities, dataset.modalities))
    if known != here:
        raise ConfigError(f"the backbone was pretrained on {', '.join(known)}; '{dataset.name}' has {', '.join(here)}.")
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


def _said(m: Modality) -> str:
    """Say what a backbone must know of a modality; unit and pixel size are not among it."""
    steps = f", {m.length} steps" if m.kind == "series" else ""
    return f"{m.name} ({m.kind}, {m.bands} band{'s' if m.bands > 1 else ''}{steps})"
