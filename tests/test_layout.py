"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "mamol"
PASSED_ON = {("adapted.py", "forward"), ("catalog.py", "_reader")}  # what a stranger's model takes is not ours to name
FILES = sorted(SOURCE.rglob("*.py"))


def functions(path: Path) -> list[tuple[ast.FunctionDef, bool]]:
    """List the functions of a file, and whether each is public: not private, not nested, not of a private class."""
    found: list[tuple[ast.FunctionDef, bool]] = []

    def visit(node: ast.AST, public: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                found.append((child, public and not child.name.startswith("_")))
                visit(child, False)
            elif isinstance(child, ast.ClassDef):
                visit(child, public and not child.name.startswith("_") and "Protocol" not in ast.dump(ast.Tuple(child.bases)))

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_sizes_heads_and_signatures(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the head of a file says what it is"
    for f, public in functions(path):
        assert (f.end_lineno or 0) - f.lineno < 50, f.name
        assert f.args.kwarg is None or (path.name, f.name) in PASSED_ON, f.name
        names = [a.arg for a in (*f.args.args, *f.args.kwonlyargs) if a.arg not in ("self", "cls")]
        assert len(names) <= 7 or path.parent.name == "cli", f.name  # a command takes its options
        assert f.returns is not None, f.name
        assert not public or ast.get_docstring(f), f"{f.name} has no docstring"


def test_importing_mamol_is_light_and_silent() -> None:
    code = "import sys, mamol; print([m for m in ('torch', 'rasterio', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    import mamol

    for name in mamol.__all__:
        assert getattr(mamol, name) is not None
    assert set(dir(mamol)) == set(mamol.__all__)
    with pytest.raises(AttributeError, match="trian"):
        mamol.trian  # noqa: B018
