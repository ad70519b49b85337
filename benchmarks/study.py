"""The study: every paradigm on one backbone and one budget of weights, one record a run; stop and start as you like.

    python benchmarks/study.py                                     all sets, all methods, seeds 0 to 4, what has no record
    python benchmarks/study.py mfeat/lora --seed 0                 one cell; a set or a method alone will do, too
    python benchmarks/study.py mfeat/ablations --seed 0            every ablation of MaMOL on a set
    python benchmarks/study.py idtrees/lora --protocol pixel       also unseen, degraded, rate-0.5 (trained at that rate), ...
    python benchmarks/study.py mfeat/mamol --seed 0 --validate     print the validation score only, write no record
    python benchmarks/study.py mfeat/mamol --validate --set train.distill=0.5

study/sets/<set>.toml: the data, what all methods share there, and the methods that are left out (`without`).
study/methods/<method>.toml: what differs from it (study/ablations/: from MaMOL's defaults). With a [budget] the rank of the
set's own mixture (by default 16 + 4 a modality + 8) is shared out over a method's experts, in shares `shared`, `specific`
and `dynamic`; without one the ranks are the set's. A pretrained backbone is made once per set and seed and used by every method.
Trained networks stay in work/study/ for other protocols until they are deleted.
Records: results/study/<set>--<method>--<protocol>--<seed>.json. Never tune on the test part: `--validate` does not see it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from mamol.api import TrainOptions, pretrain_backbone, train_model
from mamol.baselines.combined import Ensemble, PerPattern, hidden
from mamol.baselines.fill import Filled, fit_filler
from mamol.baselines.forest import ForestSettings, fit_trees
from mamol.config import Config
from mamol.configs import load_config
from mamol.data.availability import hide_at_rate, table_hash
from mamol.data.catalog import load_dataset
from mamol.data.dataset import Dataset, class_names, modality_names
from mamol.data.split import Split, make_split
from mamol.errors import MamolError
from mamol.evaluate.activation import expert_activation
from mamol.evaluate.record import make_record, write_record
from mamol.evaluate.score import RATES, score, test_part
from mamol.files import write_text
from mamol.modality import Predictor, patterns
from mamol.model.checkpoint import read_run
from mamol.model.predictor import MamolPredictor

HERE = Path(__file__).resolve().parent
STUDY, WORK, RESULTS = HERE / "study", (HERE / "work" / "study").resolve(), HERE / "results" / "study"
MOST_PATTERNS = 15
"""Gates are kept of sets with up to so many patterns."""
PROTOCOLS = ("patterns", "unseen", "pixel", "degraded", *(f"rate-{r:g}" for r in RATES))


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    set_name: str
    method: str
    seed: int
    protocol: str = "patterns"

    @property
    def record(self) -> Path:
        """Return where its record lies."""
        return RESULTS / f"{self.set_name}--{self.method}--{self.protocol}--{self.seed}.json"

    @property
    def run(self) -> str:
        """Return the name of its trained network: protocols that only test share it with `patterns`."""
        same = self.protocol in ("patterns", "pixel", "degraded")
        return f"{self.set_name}--{self.method}--{'patterns' if same else self.protocol}--{self.seed}"

    @property
    def command(self) -> str:
        """Return what makes it again."""
        protocol = "" if self.protocol == "patterns" else f" --protocol {self.protocol}"
        return f"python benchmarks/study.py {self.set_name}/{self.method} --seed {self.seed}{protocol}"


def read_set(name: str) -> dict[str, Any]:
    """Read the TOML of a set."""
    return tomllib.loads((STUDY / "sets" / f"{name}.toml").read_text(encoding="utf-8"))


def read_method(name: str) -> dict[str, Any]:
    """Read the TOML of a method, or of an ablation of MaMOL."""
    file = next(f for kind in ("methods", "ablations") if (f := STUDY / kind / f"{name}.toml").exists())
    return tomllib.loads(file.read_text(encoding="utf-8"))


def budget_of(share: Mapping[str, Any], total: int, modalities: int, tied: bool) -> dict[str, Any]:
    """Share out the rank of the set's own mixture, `total`, over the experts that a method has."""
    counts = {"patterns": 2**modalities - 1, "modalities": modalities}
    n = counts.get(share.get("experts", 0), share.get("experts", 0))
    dynamic = total * share.get("dynamic", 0.0)
    # Tied experts have one A and n B, as many weights as `dynamic` untied ranks where both sides are equally wide.
    each = (2 * dynamic / (1 + n) if tied else dynamic / n) if n else 0
    return {
        "shared_rank": round(total * share.get("shared", 0.0)),
        "specific_rank": round(total * share.get("specific", 0.0) / modalities),
        "dynamic_rank": max(1, round(each)) if n else 0,
        "n_dynamic": n,
        "scale": 1.0,
    }


def config_of(cell: Cell, dataset: Dataset, overrides: list[str]) -> Config:
    """Put a cell's configuration together: the set's, then the method's, then its ranks."""
    own, method = read_set(cell.set_name), read_method(cell.method)
    tree = {k: v for k, v in own.items() if k not in ("dataset", "split", "without")}
    base = {} if "base" not in tree else load_config(tree.pop("base")).model_dump(mode="json")
    for section, values in tree.items():
        base.setdefault(section, {}).update(values)
    modalities = len(modality_names(dataset))
    total = sum(load_config(None, (), base).experts.ranks(modalities))
    for section in method.keys() - {"budget", "networks"}:
        base.setdefault(section, {}).update(method[section])
    if "budget" in method:
        tied = bool(method.get("experts", {}).get("tied", False))
        base.setdefault("experts", {}).update(budget_of(method["budget"], total, modalities, tied))
    if cell.protocol == "unseen":
        base.setdefault("train", {})["held_out"] = unseen_by(cell.seed, modality_names(dataset))
    return load_config(None, overrides, base)


def unseen_by(seed: int, names: tuple[str, ...]) -> list[str]:
    """Return the patterns that a seed holds out of training: every third one that is not the full one, in turn."""
    few = patterns(names)[1:]
    return ["+".join(p) for i, p in enumerate(few) if i % min(3, len(few)) == seed % min(3, len(few))]


def backbone_of(cell: Cell, dataset: Dataset, config: Config, split: str) -> Path:
    """Return the pretrained backbone of a set and seed, made where it is not there."""
    shared = config.model_copy(update={"tokens": config.tokens.model_copy(update={"placeholder": "none"})})
    key = {"data": dataset.provenance, "tokens": shared.tokens, "pretrain": shared.pretrain, "backbone": shared.backbone}
    text = json.dumps(key, default=lambda o: o.model_dump(mode="json"), sort_keys=True)
    folder = WORK / "backbones" / f"{cell.set_name}-{cell.seed}"
    made = folder.with_suffix(".key")
    if folder.exists() and made.exists() and made.read_text(encoding="utf-8") == text:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    pretrain_backbone(dataset, folder, TrainOptions(shared, split=split, seed=cell.seed))
    write_text(made, text)
    return folder


def train_one(cell: Cell, dataset: Dataset, config: Config, kind: str, name: str) -> tuple[MamolPredictor, dict[str, Any]]:
    """Train (or resume) one network in a folder of work/ called `name`; return it and what its run says of itself."""
    work = WORK / name.replace("/", "_")
    predictor = train_model(dataset, work, TrainOptions(config, split=kind, seed=cell.seed, resume=work.exists()))
    document = read_run(work)
    kept = ("best_score", "best_step", "rows", "seconds")
    return predictor, {"parameters": document.parameters, "training": {k: document.training[k] for k in kept}}


def train_cell(cell: Cell, dataset: Dataset, kind: str, config: Config) -> tuple[Predictor, dict[str, Any]]:
    """Train what a method is made of: one network, or several side by side."""
    networks = read_method(cell.method).get("networks", "")
    order, stem = modality_names(dataset), cell.run
    if networks not in ("per-pattern", "ensemble"):
        predictor, about = train_one(cell, dataset, config, kind, stem)
        if networks.startswith("fill-"):
            split = make_split(dataset, kind, cell.seed, config.tokens.window_px)
            return Filled(predictor, fit_filler(dataset, split, networks.removeprefix("fill-"), cell.seed)), about
        return predictor, about
    wanted = patterns(order) if networks == "per-pattern" else [(m,) for m in order]
    models: dict[tuple[str, ...], Predictor] = {}
    total: dict[str, int] = {}
    for pattern in wanted:
        models[pattern], about = train_one(cell, hidden(dataset, pattern), config, kind, f"{stem} {'+'.join(pattern)}")
        total = {k: total.get(k, 0) + v for k, v in about["parameters"].items()}
    about = {"parameters": total, "networks": len(wanted)}
    if networks == "ensemble":
        return Ensemble({p[0]: m for p, m in models.items()}, class_names(dataset)), about
    return PerPattern(models, order, class_names(dataset)), about


def trained_config(cell: Cell, dataset: Dataset, kind: str, overrides: list[str]) -> Config:
    """Return a cell's configuration with the backbone that all methods of its set and seed share."""
    config = config_of(cell, dataset, overrides)
    if config.backbone.kind != "scene":
        return config
    frozen = config.model_copy(update={"backbone": config.backbone.model_copy(update={"freeze": True})})
    folder = backbone_of(cell, dataset, frozen, kind)
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"path": str(folder)})})


def validate_cell(cell: Cell, overrides: list[str]) -> None:
    """Train one network and print its validation score; the test part is not looked at."""
    own = read_set(cell.set_name)
    dataset, kind = load_dataset(own["dataset"]), str(own["split"])
    config, name = trained_config(cell, dataset, kind, overrides), " ".join(["validate", cell.record.stem, *overrides])
    _, about = train_one(cell, dataset, config, kind, name)
    shutil.rmtree(WORK / name.replace("/", "_"))
    training = about["training"]
    print(
        f"{cell.set_name}/{cell.method} {cell.seed} {' '.join(overrides)}: {training['best_score']:.2f} at "
        f"{training['best_step']}, {training['seconds']} s",
        flush=True,
    )


def multiply_adds(predictor: Predictor, dataset: Dataset, split: Split) -> int:
    """Return the multiply-adds of one sample, or one pixel of a scene, with every modality there; 0 for trees."""
    part = test_part(dataset, split)
    batch = part.batches[0].take(slice(0, 8))
    with FlopCounterMode(display=False) as counter:
        predictor.predict(batch)
    places = len(batch) if part.where[0].shape[1] == 1 else len(batch) * batch.available[batch.names()[0]][0].size
    return round(counter.get_total_flops() / 2 / places)


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out the matrices of every pattern, nine tenths of a record; the command in it makes them again."""
    left_out = ("reliability", "confusion")
    rows = {
        k: [{c: v for c, v in row.items() if c not in left_out} for row in result[k]]
        for k in ("patterns", "rates", "rows")
        if k in result
    }
    return {**result, **rows}


def run_cell(cell: Cell) -> None:
    """Run one cell: train, score on the test part, write the record."""
    own, method = read_set(cell.set_name), read_method(cell.method)
    dataset, kind = load_dataset(own["dataset"]), str(own["split"])
    made = None if "baseline" in method else trained_config(cell, dataset, kind, [])
    split = make_split(dataset, kind, cell.seed, 16 if made is None else made.tokens.window_px)
    seen, more = dataset, {}
    if cell.protocol.startswith("rate-"):
        seen, table = hide_at_rate(dataset, split, float(cell.protocol.removeprefix("rate-")), cell.seed)
        more["train_table_hash"] = table_hash(table)
    if cell.protocol == "unseen":
        more["held_out"] = unseen_by(cell.seed, modality_names(dataset))
    started = time.monotonic()
    predictor: Predictor
    if made is None:
        settings = ForestSettings(**method["baseline"], seed=cell.seed)
        predictor, config = fit_trees(seen, split, settings), asdict(settings)
    else:
        predictor, about = train_cell(cell, seen, kind, made)
        more |= about
        config = made.model_dump(mode="json")
        config["backbone"]["path"] = ""  # made by the same command
    seconds = time.monotonic() - started
    tested = "patterns" if cell.protocol == "unseen" else cell.protocol.partition("-")[0]
    result = slim(score(predictor, dataset, split, tested)) | more | {"multiply_adds": multiply_adds(predictor, dataset, split)}
    if isinstance(predictor, MamolPredictor) and tested == "patterns" and len(result["patterns"]) <= MOST_PATTERNS:
        result["activation"] = expert_activation(predictor, dataset, split)
    write_record(cell.record, make_record(cell.method, config, result, dataset.provenance, seconds, cell.command))
    print(f"{cell.record.stem}: " + ", ".join(f"{k} {result[k]:.1f}" for k in ("mean_oa", "mean_aa", "worst_oa")), flush=True)


def cells(wanted: list[str], seeds: list[int], protocol: str) -> list[Cell]:
    """List the cells of some `set/method`, `set` or `method`; seeds change slowest, so that a grid fills evenly."""
    sets, methods, own = ([f.stem for f in sorted((STUDY / kind).glob("*.toml"))] for kind in ("sets", "methods", "ablations"))
    # A set alone means its methods; ablations are asked for by name, or all of them as SET/ablations.
    methods_of = {"": methods, "ablations": own} | {m: [m] for m in (*methods, *own)}
    chosen: list[tuple[str, str]] = []
    for word in wanted or sets:
        left, _, right = word.partition("/")
        some = [(left, m) for m in methods_of.get(right, [])] if left in sets else []
        some = some or [(s, m) for s in sets for m in methods_of.get(left, []) if left and not right]
        if not some:
            known = f"sets {', '.join(sets)}; methods {', '.join(methods)}; ablations {', '.join(own)}"
            sys.exit(f"no such set or method: {word}; {known}")
        chosen += some
    left_out = {s: read_set(s).get("without", []) for s in sets}
    return [Cell(s, m, seed, protocol) for seed in seeds for s, m in dict.fromkeys(chosen) if m not in left_out[s]]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Run the cells of the study that have no record yet.")
    parser.add_argument("cell", nargs="*", help="<set>/<method>, <set> or <method>; default: all")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; default: 0 to 4")
    parser.add_argument("--protocol", default="patterns", choices=PROTOCOLS)
    parser.add_argument("--validate", action="store_true", help="print the validation score, write no record")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value, with --validate only")
    options = parser.parse_args()
    if options.overrides and not options.validate:
        parser.error("--set is for --validate; a record has its configuration from the study's files")
    failed = []
    for cell in cells(options.cell, options.seed or list(range(5)), options.protocol):
        if options.validate:
            validate_cell(cell, options.overrides)
        elif not cell.record.exists():
            try:
                run_cell(cell)
            except MamolError as error:  # a long grid goes on with the next cell
                failed.append(f"{cell.command}: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
