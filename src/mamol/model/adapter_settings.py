"""What an adapter is made of: its modalities, where its experts sit, and which experts there are.

Checked here, once, whether the words come from a call of `adapt`, from a file, or from a modality that is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field, ValidationError, model_validator

from mamol.config import MixtureConfig, RouterConfig, Section
from mamol.errors import ConfigError
from mamol.modality import name_fault
from mamol.model.rules import refuse_mixing

MOST_MODALITIES = 256


class AdapterSettings(Section):
    """What an adapter is: where it sits and which experts it has. Stored beside its weights."""

    modalities: tuple[str, ...] = Field(max_length=MOST_MODALITIES)
    target_modules: str | tuple[str, ...]
    layers: tuple[int, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    experts: MixtureConfig = MixtureConfig()
    router: RouterConfig = RouterConfig()
    added: tuple[str, ...] = ()
    """Modalities that were added after the first training, in order; the last ones of `modalities`."""

    @model_validator(mode="after")
    def _consistent(self) -> AdapterSettings:
        names = self.modalities
        for name in names:
            refuse_name(name)
        first = len(names) - len(self.added)
        if len(set(names)) != len(names) or first < 1 or names[first:] != self.added:
            raise ValueError(
                f"modalities must be distinct names, at least one; got {list(names)}, of which added {list(self.added)}"
            )
        for name in self.modules_to_save:
            if any(name.startswith(other + ".") for other in self.modules_to_save):
                raise ValueError(f"'{name}' in modules_to_save lies in another of them; name the outer one only")
        if not self.experts.ranks(first):
            raise ValueError("every rank is 0, so there is no expert; give shared_rank, specific_rank or dynamic_rank")
        refuse_mixing(self.experts, self.router)
        return self


def refuse_name(name: str) -> None:
    """Raise ValueError for what cannot name a modality."""
    if fault := name_fault(name):
        raise ValueError(fault)


def make_settings(given: Mapping[str, object]) -> AdapterSettings:
    """Check what `adapt` was called with; raises ConfigError that names the argument, what came and what is expected."""
    try:
        return AdapterSettings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        came = f"; got {first['input']!r}" if where else ""
        raise ConfigError(f"adapt: {where}{': ' if where else ''}{first['msg']}{came}.") from None


def ranks_of(rank: object) -> dict[str, object]:
    """Spell out one rank for every kind of expert, or three; raises ConfigError for another number of them."""
    ranks = tuple(rank) if isinstance(rank, Sequence) and not isinstance(rank, str) else (rank,) * 3
    if len(ranks) != 3:
        raise ConfigError(f"rank must be one number or three (shared, specific, dynamic); got {rank}.")
    return {f"{kind}_rank": r for kind, r in zip(("shared", "specific", "dynamic"), ranks, strict=True)}
