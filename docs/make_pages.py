"""Write the pages that are made from the code, or check that they are current (--check).

docs/cli.md        the help of every command
docs/settings.md   every setting of a run, with its default and what it means
"""

from __future__ import annotations

import json
import os
import sys
import typing
from pathlib import Path

os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}

from pydantic import BaseModel
from typer.testing import CliRunner

from mamol.cli.main import app
from mamol.config import Config

DOCS = Path(__file__).resolve().parent
COMMANDS = ("", "demo", "scene make", "scene check", "pretrain", "train", "evaluate", "map", "classify", "export")


def commands_page() -> str:
    """Return the page of the command line."""
    codes = "Exit codes: 0 done, 1 failed, 2 wrong use, 143 ended by SIGTERM."
    parts = ["# The command line", "", f"Made from `--help` by `make docs`. {codes}", ""]
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mamol", terminal_width=100)
        if result.exit_code:
            sys.exit(f"mamol {command} --help failed: {result.output}")
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts += [f"## mamol {command}".rstrip(), "", "```text", text, "```", ""]
    return "\n".join(parts)


def settings_page() -> str:
    """Return the page of the settings: a table a section of the configuration."""
    parts = [
        "# The settings of a run",
        "",
        "Made from `src/mamol/config.py` by `make docs`. Set them with `--set section.key=value` on the command line, with",
        "`overrides=[...]` in Python, or in a TOML file (`--config`) that says what differs:",
        "",
        "```toml",
        'base = "galileo-nano"             # optional: a shipped configuration or a file to start from',
        "",
        "[train]",
        "steps = 600",
        "```",
        "",
    ]
    for name, field in Config.model_fields.items():
        section = typing.cast("type[BaseModel]", field.annotation)
        about = " ".join((section.__doc__ or "").split("\n\n")[0].split())
        parts += [f"## [{name}]", "", about, "", "| key | default | meaning |", "|---|---|---|"]
        for key, setting in section.model_fields.items():
            meaning = " ".join((setting.description or "").split()).replace("|", "\\|")
            named = ", ".join(f"`{c}`" for c in _choices(setting.annotation))
            choices = f"One of {named}." if named else ""
            default = json.dumps(setting.default, ensure_ascii=False)
            parts.append(f"| `{key}` | `{default}` | {' '.join(x for x in (meaning, choices) if x)} |")
        parts.append("")
    return "\n".join(parts)


def _choices(annotation: object) -> list[str]:
    """Return the values that a setting may have, where they are named."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(c) for c in typing.get_args(annotation)]
    parts = [_choices(part) for part in typing.get_args(annotation) if part is not ...]
    return parts[0] if len(parts) == 1 else []  # of several kinds of values the meaning must tell


PAGES = {"cli.md": commands_page, "settings.md": settings_page}

if __name__ == "__main__":
    stale = []
    for file, page in PAGES.items():
        path, new = DOCS / file, page()
        if "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != new:
            stale.append(f"docs/{file}")
    if stale:
        sys.exit(f"{', '.join(stale)}: not current; run `make docs`.")
