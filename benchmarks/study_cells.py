"""What a cell of the study is: a set, a method, a protocol and a seed; and its configuration, put together from three files.

    sets/<set>.toml        the data, what all methods share there, the methods that are left out (`without`), what some methods
                           need of their own there (`own.<method>`), the name of earlier records that count (`earlier`), and
                           the set whose forests and boosted trees are its own, too (`trees`): trees know no steps
    methods/<method>.toml  what differs from it; with `base` it starts from a configuration that mamol ships
    ablations/<name>.toml  what differs from MaMOL's defaults, or from another method's (`of`); with `members.count`, the average
                           of so many of its networks
    [budget]               of a method: the rank of the set's own mixture (by default 16 + 4 a modality + 8), shared out over
                           the method's experts in shares `shared`, `specific` and `dynamic`; without one the ranks are the set's

Records: results/study/<set>--<method>--<protocol>--<seed>.json.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from study_labels import SHARES

from mamol.config import Config, MixtureConfig
from mamol.configs import load_config
from mamol.evaluate.score import RATES
from mamol.modality import patterns

HERE = Path(__file__).resolve().parent
SCENES = ("bigearthnet-s1s2", "idtrees", "embedded")
"""Sets of pixels; the others are sets of samples."""
STUDY, RESULTS = HERE / "study", HERE / "results" / "study"
PROTOCOLS = (
    "patterns", "random", "unseen", "pixel", "degraded", *(f"rate-{r:g}" for r in RATES), *(f"labels-{s:g}" for s in SHARES),
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    set_name: str
    method: str
    seed: int
    protocol: str = "patterns"

    @property
    def stem(self) -> str:
        """Return the name of its record."""
        return f"{self.home}--{self.method}--{self.protocol}--{self.seed}"

    @property
    def home(self) -> str:
        """Return the set under whose name it is recorded: of trees, the first of those that share their data."""
        shared = read_set(self.set_name).get("trees") if "baseline" in read_method(self.method) else None
        return str(shared or self.set_name)

    @property
    def record(self) -> Path:
        """Return where its record lies, or will: in results/study/, or where run.py made the same run before."""
        earlier = read_set(self.set_name).get("earlier")
        before = HERE / "results" / f"{earlier}-{self.method}-block-{self.seed}.json"
        return before if earlier and self.protocol == "patterns" and before.exists() else RESULTS / f"{self.stem}.json"

    @property
    def run(self) -> str:
        """Return the name of its trained networks. Protocols that only test share them with `patterns`, and methods that are
        made of networks for one pattern share those with each other.
        """
        method = "alone" if "networks" in read_method(self.method) else self.method
        same = self.protocol in ("patterns", "pixel", "degraded")
        return f"{self.set_name}--{method}--{'patterns' if same else self.protocol}--{self.seed}"

    @property
    def command(self) -> str:
        """Return what makes it again."""
        protocol = "" if self.protocol == "patterns" else f" --protocol {self.protocol}"
        return f"python benchmarks/study.py {self.home}/{self.method} --seed {self.seed}{protocol}"


@cache
def read_set(name: str) -> dict[str, Any]:
    """Read the TOML of a set."""
    return tomllib.loads((STUDY / "sets" / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def read_method(name: str) -> dict[str, Any]:
    """Read the TOML of a method, on top of the shipped configuration that it starts from, or of what an ablation is of."""
    file = next(f for kind in ("methods", "ablations") if (f := STUDY / kind / f"{name}.toml").exists())
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    if "base" in found:  # a shipped configuration: what it says, without the defaults
        method = load_config(found.pop("base")).model_dump(mode="json", exclude_unset=True)
    elif "of" in found:
        method = dict(read_method(found.pop("of")))
    else:
        return found
    _update(method, found)
    return method


def ablated(ablation: str) -> str:
    """Return the method that an ablation changes: MaMOL, or what its file says with `of`."""
    file = STUDY / "ablations" / f"{ablation}.toml"
    return str(tomllib.loads(file.read_text(encoding="utf-8")).get("of", "mamol"))


def one_network(method: str) -> bool:
    """Tell whether a method is one network that trains on every pattern: not trees, networks for one pattern, averages."""
    return not {"baseline", "networks", "members"} & read_method(method).keys()


def about(ablation: str) -> str:
    """Return what an ablation changes: the first line of its file."""
    return (STUDY / "ablations" / f"{ablation}.toml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def names_of(kind: str) -> list[str]:
    """List the sets, the methods or the ablations that have a file."""
    return sorted(f.stem for f in (STUDY / kind).glob("*.toml"))


def budget_of(share: Mapping[str, Any], own: MixtureConfig, modalities: int, tied: bool) -> dict[str, Any]:
    """Share out the rank of the set's own mixture over the experts that a method has, all at its shared expert's scale."""
    total = sum(own.ranks(modalities))
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
        "scale": own.scale or own.alpha / own.shared_rank,
    }


def config_of(cell: Cell, modalities: Sequence[str], overrides: Sequence[str] = ()) -> Config:
    """Put a cell's configuration together: the set's, then the method's, then its ranks, then its own on this set."""
    given, method = read_set(cell.set_name), read_method(cell.method)
    base = read_base(given)
    data = ("dataset", "split", "without", "base", "earlier", "trees", "own")
    _update(base, {k: v for k, v in given.items() if k not in data})
    own = load_config(None, (), base).experts
    if "budget" in method:
        tied = bool(method.get("experts", {}).get("tied", False))
        _update(base, {"experts": budget_of(method["budget"], own, len(modalities), tied)})
    _update(base, {k: v for k, v in method.items() if k not in ("budget", "networks", "members")})
    _update(base, given.get("own", {}).get(cell.method, {}))
    if cell.protocol == "unseen":
        _update(base, {"train": {"held_out": unseen_by(cell.seed, modalities)}})
    if cell.protocol.startswith("rate-"):  # what is missing in training is what the rate's table hides, nothing more
        _update(base, {"train": {"patterns": "none"}})
    return load_config(None, overrides, base)


def read_base(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that a set starts from; {} for the defaults."""
    return {} if "base" not in given else load_config(given["base"]).model_dump(mode="json")


def _update(base: dict[str, Any], more: Mapping[str, Mapping[str, Any]]) -> None:
    """Write sections over those of `base`, key by key; a section that changes is a new one, files are read once."""
    for section, values in more.items():
        base[section] = {**base.get(section, {}), **values}


def unseen_by(seed: int, modalities: Sequence[str]) -> list[str]:
    """Return the patterns that a seed holds out of training: every third one that is not the full one, in turn."""
    few = patterns(modalities)[1:]
    return ["+".join(p) for i, p in enumerate(few) if i % min(3, len(few)) == seed % min(3, len(few))]


def cells(wanted: list[str], seeds: list[int], protocol: str) -> list[Cell]:
    """List the cells of some `set/method`, `set` or `method`; seeds change slowest, so that a grid fills evenly."""
    sets, methods, own = (names_of(kind) for kind in ("sets", "methods", "ablations"))
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
    pairs = [(s, m) for s, m in dict.fromkeys(chosen) if fits(s, m, protocol)]
    return [Cell(s, m, seed, protocol) for seed in seeds for s, m in pairs]


def fits(set_name: str, method: str, protocol: str) -> bool:
    """Tell whether a method is run on a set: holes need pixels, trees and networks for one pattern cannot be kept from a
    pattern, and ablations are written for the scene backbone, but for those that change the training alone.
    """
    given = read_set(set_name)
    scene_backbone = read_base(given).get("backbone", {}).get("kind", "scene") == "scene"
    if protocol in ("pixel", "degraded") and set_name not in SCENES:
        return False
    if protocol == "unseen" and not one_network(method):
        return False
    if protocol.startswith("labels-") and set_name in SCENES:  # a scene's labels come by the crown or patch, not by the pixel
        return False
    training_alone = read_method(method).keys() == {"train"}
    return method not in given.get("without", []) and (scene_backbone or training_alone or method not in names_of("ablations"))


def in_between(run: Callable[[], T]) -> Callable[[], T]:
    """Return the same with the tokens of missing sensors left where they are."""

    def whole() -> T:
        with patch("mamol.model.fusion.packing_of", return_value=None):
            return run()

    return whole
