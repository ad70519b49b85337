"""Write docs/cli.md from the help of every command, or check that it is current (--check)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}

from typer.testing import CliRunner

from mamol.cli.main import app

FILE = Path(__file__).resolve().parent / "cli.md"
COMMANDS = ("", "demo", "scene make", "scene check", "pretrain", "train", "evaluate", "map", "export")


def page() -> str:
    """Return the whole page."""
    codes = "Exit codes: 0 done, 1 failed, 2 wrong use, 143 ended by SIGTERM."
    parts = ["# The command line", "", f"Made from `--help` by `make docs`. {codes}", ""]
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mamol", terminal_width=100)
        if result.exit_code:
            sys.exit(f"mamol {command} --help failed: {result.output}")
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts += [f"## mamol {command}".rstrip(), "", "```text", text, "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    new = page()
    if "--check" in sys.argv:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != new:
            sys.exit("docs/cli.md is not current; run `make docs`.")
    else:
        FILE.write_text(new, encoding="utf-8")
