"""Under which names a table of samples holds what is not a value; a misspelt one would be left out without a word.

labels, groups, official, available_<modality>: `label` and `group`, too. Anything else may lie beside, such as a longitude,
as long as its name is not close to one that is looked for and not there.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path

from mamol.errors import DataError

WITHOUT = {
    "labels": "without labels all samples count as unlabelled",
    "groups": "without groups each sample is a group of its own",
    "official": "without it there is no published split",
    "available": "without it every number counts as a value",
}
"""What follows where a table lacks it."""
FLAGS = ("labeled", "labelled")
"""Names close to `label` that rather say whether there is one."""
MASKS = ("available", "mask", "valid", "missing")
"""available_<modality> may have been meant where a modality's name follows one of these, or a name close to the first."""


def find_columns(there: Collection[str], modalities: Iterable[str], what: str, path: Path) -> dict[str, str]:
    """Return under which name a table holds `labels`, `groups`, `official` and `available_<modality>`, as far as it does.

    `there` are its names without those of the values, `what` is array or column. Raises DataError for two names that mean
    the same, and for a misspelt one.
    """
    endings = ("s", "") if what == "array" else ("", "s")  # first the name that this kind of table usually has
    spelt = {f"{name}s": [name + ending for ending in endings] for name in ("label", "group")} | {"official": ["official"]}
    spelt |= {f"available_{m}": [f"available_{m}"] for m in modalities}
    found = {}
    for name, spellings in spelt.items():
        given = [s for s in spellings if s in there]
        if len(given) > 1:
            raise DataError(
                f"{path} has the {what}s '{given[0]}' and '{given[1]}', which mean the same; leave one out, or rename it."
            )
        if given:
            found[name] = given[0]
    for name, spellings in spelt.items():
        near = [] if name in found else [t for t in there if t not in found.values() and _near(t, name, spellings, there)]
        if near:
            meant = name.partition("_")[0]
            raise DataError(
                f"{path} has the {what} '{near[0]}', but no '{spellings[0]}'. Rename it if it holds that; else give it a name "
                f"that is less like '{spellings[0]}': {WITHOUT[meant]}. Besides values these are read: "
                f"{', '.join(s[0] for s in spelt.values())}."
            )
    return found


def _near(given: str, name: str, spellings: Collection[str], there: Collection[str]) -> bool:
    """Tell whether a name may be a misspelt one of those that are looked for."""
    low = given.lower()
    if name.startswith("available_"):
        modality = name.removeprefix("available_")
        before = low.removesuffix(f"_{modality.lower()}")
        if before != low:
            return before in MASKS or bool(difflib.get_close_matches(before, MASKS[:1], cutoff=0.7))
        other = given.removeprefix("available_")  # of a modality that samples.toml leaves out
        return other not in there and f"values_{other}" not in there and _alike(low, [name])
    if low in FLAGS:
        return False
    return (name == "groups" and low.startswith("group")) or _alike(low, spellings)


def _alike(low: str, names: Iterable[str]) -> bool:
    return bool(difflib.get_close_matches(low, list(names), n=1, cutoff=0.8))
