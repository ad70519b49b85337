"""A folder that may not be looked into, also where the tests run as root, who may look anywhere."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def lock(monkeypatch: pytest.MonkeyPatch, *locked: Path) -> None:
    """Refuse to stat and to open the files in some folders, and to open some files, as the system does without permission."""

    def refusing(call: Callable[..., Any], folders_only: bool) -> Callable[..., Any]:
        def called(path: Any, *args: Any, **kwargs: Any) -> Any:
            text = os.fspath(path) if isinstance(path, str | Path) else ""
            if any(text.startswith(f"{p}{os.sep}") or (text == str(p) and not folders_only) for p in locked):
                raise PermissionError(errno.EACCES, "Permission denied", text)
            return call(path, *args, **kwargs)

        return called

    monkeypatch.setattr(os, "stat", refusing(os.stat, True))
    monkeypatch.setattr(io, "open", refusing(io.open, False))
    monkeypatch.setattr(builtins, "open", refusing(builtins.open, False))
