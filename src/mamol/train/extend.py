"""A trained classifier takes on sensors that it did not know; what it says without them stays as it was, to the bit.

    run (s1, s2)  +  data (s1, s2, lidar)  ──►  every old weight, frozen
                                                lidar: tokenizer | an expert beside every place | a step in the routers' psi(a)

Only what belongs to the new modalities trains, on places that have them, under patterns that keep them. Backbone, head,
normalisation and temperatures of before stay. "To the bit" is said of a batch, raster or map that has nothing of the new
sensors: where they cover a part, pixels within a window of it see them through attention, and the rest agrees to rounding.
Source: METHOD.md section 3, "After training".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mamol.config import Config, DataConfig
from mamol.configs import load_config
from mamol.data.dataset import Dataset, Scene, class_names, grid_sizes
from mamol.data.normalize import Normalizer, training_rows
from mamol.data.split import Split, split_again
from mamol.errors import ConfigError, DataError, UsageError
from mamol.modality import Modality, patterns
from mamol.model.backbone import fingerprint
from mamol.model.build import build_classifier
from mamol.model.checkpoint import RunDocument, load_run, read_run
from mamol.model.classifier import Classifier, InputShape
from mamol.model.predictor import MamolPredictor
from mamol.seed import seed_torch
from mamol.train.feed import Feed
from mamol.train.prepare import Extension, Prepared, check_trainable

BEFORE_CONSTANT = 1.1e-6
"""Runs of before a constant band had a deviation of 1 gave it 1e-6."""
MOVED = 0.1
"""How far a band's mean may move, in its deviations, before it counts as another one; its deviation by twice as much."""


def prepare_extension(dataset: Dataset, run: Path, overrides: Sequence[str], source: str = "") -> Prepared:
    """Make a data set with more modalities than a run knows ready to teach it the new ones, on the run's own split.

    `overrides` may change settings of training alone. Raises UsageError and ConfigError for a run that cannot be extended or
    data that do not fit it, DataError for another split, and as `load_run`.
    """
    document = read_run(run)
    config, new = _config(document, overrides), _new(document, dataset)
    before = load_run(run)
    known = {m.name: m for m in dataset.modalities}
    order = (*document.modalities, *(known[m] for m in new))
    data: Dataset = replace(dataset, modalities=order)
    advice = "Give the data that the run was trained on, with the new sensor beside the old ones."
    split = split_again(data, document.split, config.tokens.window_px, advice)
    check_trainable(data, split)
    normalizer = _normalizer(data, split, before.normalizer, config.data)
    bands = {m.name: normalizer.bands(m.name) for m in order}
    later = (*document.later, *new)
    shape = InputShape(order, bands, len(data.classes), isinstance(data, Scene), grid_sizes(data), later)
    seed = int(document.training["seed"])
    seed_torch(seed, "start")
    model = _grown(shape, config, before)
    feed = Feed(data, split, normalizer, config, seed, new)
    extension = Extension(run.resolve(), fingerprint(before.model), _temperatures(before))
    return Prepared(data, split, normalizer, model, feed, config, seed, source, "", extension)


def _config(document: RunDocument, overrides: Sequence[str]) -> Config:
    """Return the run's configuration with other settings of training; raises ConfigError for what cannot be extended."""
    before = document.config
    config = load_config(None, overrides, before.model_dump(mode="json"))
    changed = [s for s in Config.model_fields if s != "train" and getattr(config, s) != getattr(before, s)]
    if changed:
        raise ConfigError(f"a run that is extended keeps its {', '.join(changed)}; only train.* may be set anew.")
    if before.backbone.kind != "scene":
        raise UsageError(
            f'a run on backbone.kind = "{before.backbone.kind}" cannot be extended; train anew, or adapt the model yourself '
            "(mamol.adapt) and use add_modality."
        )
    placeholder = f'tokens.placeholder = "{before.tokens.placeholder}"'
    hindrances = (
        (before.model.fusion == "late", 'model.fusion = "late"', "its head has no room for another sensor"),
        (before.model.prompts > 0, "model.prompts", "its prompts are of the patterns that it knows"),
        (before.tokens.placeholder != "none", placeholder, "something would stand in for the new sensor where it is missing"),
        (before.experts.scope == "own", 'experts.scope = "own"', "its gates have no place for another sensor's tokens"),
    )
    for there, setting, reason in hindrances:
        if there:
            raise UsageError(f"a run with {setting} cannot be extended: {reason}. Train anew.")
    return config


def _new(document: RunDocument, dataset: Dataset) -> tuple[str, ...]:
    """Return the modalities that the run does not know; raises UsageError if there are none, or the old ones do not fit.

    And DataError for an old one that is nowhere: what it is cannot be told then.
    """
    if [c.name for c in document.classes] != list(class_names(dataset)):
        raise UsageError(
            f"the run knows the classes {', '.join(c.name for c in document.classes)}; '{dataset.name}' has "
            f"{', '.join(class_names(dataset))}. An extension keeps the classes; train anew for others."
        )
    here, pixels = {m.name: m for m in dataset.modalities}, grid_sizes(dataset)
    new = tuple(m for m in here if m not in {old.name for old in document.modalities})
    for m in document.modalities:
        if m.name not in here:
            renamed = f" A sensor of another name counts as a new one: {', '.join(new)}." if new else ""
            raise UsageError(
                f"'{dataset.name}' lacks '{m.name}', which the run was trained on; give the old sensors, too.{renamed}"
            )
        if not _anywhere(dataset, m.name):
            raise DataError(
                f"'{m.name}' is available nowhere in '{dataset.name}', but the run was trained on it; is its file there?"
            )
        a, b = _what(here[m.name], pixels), _what(m, document.pixels or pixels)
        if a != b:
            raise UsageError(f"'{m.name}' is {a} in '{dataset.name}', the run was trained on {b}; give the same, or train anew.")
    if not new:
        raise UsageError(f"'{dataset.name}' has no sensor that the run does not know already: {', '.join(here)}.")
    return new


def _anywhere(dataset: Dataset, name: str) -> bool:
    pieces = [t.available for t in dataset.tiles] if isinstance(dataset, Scene) else [dataset.samples.available]
    return any(bool(available[name].any()) for available in pieces)


def _what(m: Modality, pixels: Mapping[str, tuple[int, int]]) -> str:
    size = f" and {m.length} steps" if m.kind == "series" else ""
    if m.name in pixels:
        size = " of {} x {} pixels".format(*pixels[m.name])
    return f"a {m.kind} of {m.bands} bands{size}"


def _normalizer(data: Dataset, split: Split, before: Normalizer, config: DataConfig) -> Normalizer:
    """Return the run's normalisation, and that of the new modalities beside it.

    Raises DataError for a new one that training never has, and for an old one whose values are not those that the run was
    trained on: another unit, another product.
    """
    for m in (m.name for m in data.modalities if m.name not in before.statistics):
        if not len(training_rows(data, split, m)[0]):
            raise DataError(
                f"'{m}' is available nowhere in the training part of '{data.name}' ({split.kind} split, seed {split.seed}), so "
                "there is nothing to learn it from. Give data in which it is."
            )
    measured = Normalizer.fit(data, split, config).statistics
    for m, old in before.statistics.items():
        now = measured[m]
        constant = (old.std <= BEFORE_CONSTANT) & (now.std == 1)
        moved = (np.abs(now.mean - old.mean) > MOVED * old.std) | (np.abs(now.std / old.std - 1) > 2 * MOVED) & ~constant
        if moved.any():
            k = int(moved.argmax())
            raise DataError(
                f"'{m}' has other values in '{data.name}' than the run was trained on: band {k + 1} has mean {now.mean[k]:.3g}, "
                f"deviation {now.std[k]:.3g}, it had {old.mean[k]:.3g} and {old.std[k]:.3g}. Give the old data, in the old unit."
            )
    return Normalizer({**measured, **before.statistics})


def _grown(shape: InputShape, config: Config, before: MamolPredictor) -> Classifier:
    """Build the larger classifier with all weights of the smaller one."""
    model = build_classifier(shape, config)
    if not isinstance(model, Classifier):  # the configuration has said so already
        raise TypeError(f"{type(model).__name__} does not grow")
    model.load_state_dict(model.state_dict() | {k: v.cpu() for k, v in before.model.state_dict().items()})
    return model


def _temperatures(before: MamolPredictor) -> dict[str, float]:
    """Return the temperature of every pattern of the old modalities, that of those without one of their own, too."""
    names = ("+".join(p) for p in patterns(before.modalities))
    return {name: before.temperatures.get(name, before.default_temperature) for name in names}
