"""A trained classifier takes on sensors that it did not know; what it says without them stays as it was, to the bit.

    run (s1, s2)  +  data (s1, s2, lidar)  ──►  every old weight, frozen
                                                lidar: tokenizer | an expert beside every place | a step in the routers' psi(a)

Only what belongs to the new modalities trains, on places that have them, under patterns that keep them. Backbone, head,
normalisation and temperatures of before stay. "To the bit" is said of a batch, raster or map that has nothing of the new
sensors: where they cover a part, pixels within a window of it see them through attention, and the rest agrees to rounding.
Source: METHOD.md section 3, "After training".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mamol.config import Config
from mamol.configs import load_config
from mamol.data.dataset import Dataset, Scene, class_names, grid_sizes, lacking, modality_names
from mamol.data.normalize import Normalizer
from mamol.data.split import split_again
from mamol.errors import ConfigError, UsageError
from mamol.modality import Modality, patterns
from mamol.model.backbone import fingerprint
from mamol.model.build import build_classifier
from mamol.model.checkpoint import RunDocument, load_run, read_run
from mamol.model.classifier import Classifier, InputShape
from mamol.model.predictor import MamolPredictor
from mamol.seed import seed_torch
from mamol.train.feed import Feed
from mamol.train.prepare import Extension, Prepared, check_trainable


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
    measured = Normalizer.fit(lacking(data, before.modalities), split, config.data).statistics
    normalizer = Normalizer({**before.normalizer.statistics, **measured})
    bands = {m.name: normalizer.bands(m.name) for m in order}
    later = (*document.later, *new)
    shape = InputShape(order, bands, len(data.classes), isinstance(data, Scene), grid_sizes(data), later)
    seed = int(document.training["seed"])
    seed_torch(seed, "start")
    model = _grown(shape, config, before)
    feed = Feed(data, split, normalizer, config, seed, new)
    extension = Extension(run, new, fingerprint(before.model), _temperatures(before))
    return Prepared(data, split, normalizer, model, feed, config, seed, source, extension.hash, extension)


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
    """Return the modalities that the run does not know; raises UsageError if there are none, or the rest does not fit."""
    if [c.name for c in document.classes] != list(class_names(dataset)):
        raise UsageError(
            f"the run knows the classes {', '.join(c.name for c in document.classes)}; '{dataset.name}' has "
            f"{', '.join(class_names(dataset))}. An extension keeps the classes; train anew for others."
        )
    here = {m.name: m for m in dataset.modalities}
    for m in document.modalities:
        if m.name not in here:
            raise UsageError(f"'{dataset.name}' lacks '{m.name}', which the run was trained on; give the old sensors, too.")
        if (a := _what(here[m.name])) != (b := _what(m)):
            raise UsageError(f"'{m.name}' is {a} in '{dataset.name}', the run was trained on {b}; give the same, or train anew.")
    new = tuple(m for m in modality_names(dataset) if m not in {old.name for old in document.modalities})
    if not new:
        raise UsageError(f"'{dataset.name}' has no sensor that the run does not know already: {', '.join(here)}.")
    return new


def _what(m: Modality) -> str:
    return f"a {m.kind} of {m.bands} bands" + (f" and {m.length} steps" if m.kind == "series" else "")


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
