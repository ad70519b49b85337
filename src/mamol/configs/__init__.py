"""Read a configuration from a TOML file or by the name of one that lies beside this file.

    base = "galileo-nano"     a shipped name or a file to start from; the rest is what differs
    [train]
    steps = 600

Unknown keys are errors that name the nearest known one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mamol.config import Config
from mamol.errors import ConfigError, FileMissing, unknown

MOST_BASES = 8


def load_config(file: Path | str | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration: defaults, then `base`, then the TOML `file` (a path or a shipped name), then overrides.

    A file's `base` names the file or shipped configuration that it starts from. `overrides` are "section.key=value"
    with a TOML value (a bare word counts as a string). Raises ConfigError, UnknownName and FileMissing.
    """
    tree: dict[str, Any] = {s: dict(v) for s, v in (base or {}).items()}
    if file is not None:
        _merge(tree, _with_bases(file))
    for item in overrides:
        key, equals, text = item.partition("=")
        parts = key.strip().split(".")
        if not equals or len(parts) != 2:
            raise ConfigError(f"--set takes section.key=value, for example train.steps=500; got '{item}'.")
        _merge(tree, {parts[0]: {parts[1]: _toml_value(text.strip())}})
    return build_config(tree)


def build_config(tree: Mapping[str, Any]) -> Config:
    """Validate a nested mapping into a Config; raises UnknownName on an unknown key, ConfigError on a bad value."""
    sections: dict[str, Any] = dict(Config.model_fields)
    for section, values in tree.items():
        if section not in sections:
            raise unknown("section", section, sections)
        if not isinstance(values, Mapping):
            raise ConfigError(f"[{section}] must be a table of settings; got {values!r}.")
        known = sections[section].annotation.model_fields
        for key in values:
            if key not in known:
                raise unknown(f"key in [{section}]", key, known)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "configuration"
        raise ConfigError(f"{where}: {first['msg']}; got {first['input']!r}.") from None


def shipped_configs() -> list[str]:
    """List the configurations that come with the package, such as "mamol-paper"."""
    folder = resources.files(__name__)
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def _with_bases(file: Path | str) -> dict[str, Any]:
    """Read a file over the file that its `base` names, and so on; a name that is no file there is a shipped one."""
    chain = [_read_toml(file)]
    here = Path(file).parent
    while (base := chain[-1].pop("base", None)) is not None:
        if not isinstance(base, str) or len(chain) > MOST_BASES:
            raise ConfigError(f"{file}: base must be one name or file, at most {MOST_BASES} in a row; got {base!r}.")
        beside = here / base
        chain.append(_read_toml(beside if beside.is_file() else base))
        here = beside.parent if beside.is_file() else here
    tree: dict[str, Any] = {}
    for part in reversed(chain):
        _merge(tree, part)
    return tree


def _read_toml(file: Path | str) -> dict[str, Any]:
    path = Path(file)
    if not path.exists() and path.suffix == "" and path.name in shipped_configs():
        data = (resources.files(__name__) / f"{path.name}.toml").read_bytes()
    elif path.is_file():
        data = path.read_bytes()
    else:
        raise FileMissing(f"configuration not found: {path}. Give a TOML file or one of: {', '.join(shipped_configs())}.")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for section, values in more.items():
        if isinstance(values, Mapping) and isinstance(tree.get(section, {}), dict):
            tree.setdefault(section, {}).update(values)
        else:
            tree[section] = values
