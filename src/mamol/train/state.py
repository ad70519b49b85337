"""What a killed training goes on from: one safetensors file of tensors and a few words, no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mamol.errors import CheckpointError
from mamol.files import atomic


def write_state(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors and words, wholly or not at all."""
    with atomic(path) as partial:
        save_file({k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()}, partial, dict(about))


@contextmanager
def reading_state(path: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Yield a state's tensors and words; raises CheckpointError if the file, or what is done with it, does not fit."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no dict)
        yield tensors, about
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be resumed from ({error}); delete it to start afresh.") from error
