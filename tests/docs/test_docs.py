"""What the documents say is true: snippets run, named files exist, tables and help are current, every key has a line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mamol.cli.main import app
from mamol.data.catalog import CATALOG
from mamol.data.spec import LabelSpec, ModalitySpec

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    assert len(snippets) == 1
    quicker = re.sub(r"steps=\d+", "steps=2", snippets[0]).replace("size=128", "size=64")  # what it learns is not looked at
    assert (quicker.count("steps=2"), quicker.count("size=64")) == (2, 1)
    monkeypatch.chdir(tmp_path)
    exec(compile(quicker, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "hsi+sar+lidar" in printed
    assert (tmp_path / "runs" / "map.tif").exists()


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_architecture_names_files_that_exist() -> None:
    named = re.findall(r"`((?:src|benchmarks)/[\w/.]+)`", text("ARCHITECTURE.md"))
    assert len(named) > 15
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_every_key_of_scene_toml_has_a_line() -> None:
    page = text("docs/scene.md")
    missing = [k for spec in (ModalitySpec, LabelSpec) for k in spec.model_fields if f"`{k}`" not in page]
    assert missing == []


def test_every_known_data_set_has_a_line() -> None:
    page = text("docs/data.md")
    assert [n for n in CATALOG if f"`{n}`" not in page] == []


@pytest.mark.parametrize("script", ["benchmarks/table.py", "docs/make_pages.py"])
def test_made_pages_are_current(script: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_is_in_the_page() -> None:
    page = text("docs/cli.md")
    names = [c.name for c in app.registered_commands] + [f"scene {n}" for n in ("make", "check")]
    assert [n for n in names if f"## mamol {n}\n" not in page] == []


def test_no_workplace_in_public_files() -> None:
    for page in PAGES:
        assert "/work/" not in page.read_text(encoding="utf-8"), page
