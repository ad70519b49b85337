"""Where the real data are, and the mark of a test that needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("MAMOL_DATA") or "/nonexistent")


def here(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (ROOT / name).is_dir(), reason=f"MAMOL_DATA has no '{name}/' (docs/data.md)")
