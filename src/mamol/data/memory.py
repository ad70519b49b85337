"""What every reader of a scene can do, and the one that reads a scene in memory (catalogue scenes)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mamol.data.dataset import ClassInfo, Georeference, Scene, Tile
from mamol.data.identity import identify_arrays
from mamol.data.values import measured_only
from mamol.errors import unknown
from mamol.modality import Batch, Modality


@runtime_checkable
class Reader(Protocol):
    """A scene that can be read by window."""

    @property
    def name(self) -> str: ...

    @property
    def modalities(self) -> tuple[Modality, ...]: ...

    @property
    def classes(self) -> tuple[ClassInfo, ...]: ...

    @property
    def tile_names(self) -> tuple[str, ...]: ...

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        ...

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        ...

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one; the slices lie inside the tile."""
        ...

    def identity(self, tile: str) -> dict[str, str]:
        """Return, for each modality, a text that changes when what is read of it in a tile does."""
        ...

    def files(self) -> frozenset[Path]:
        """Return the local files that make up the scene, there or not, links followed: nothing may be written there."""
        ...


@dataclass(frozen=True)
class MemoryReader:
    """A Scene that is already in memory."""

    scene: Scene

    @property
    def name(self) -> str:
        """Name of the scene."""
        return self.scene.name

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in order."""
        return self.scene.modalities

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes in order."""
        return self.scene.classes

    @property
    def tile_names(self) -> tuple[str, ...]:
        """Names of the tiles."""
        return tuple(t.name for t in self.scene.tiles)

    def _tile(self, name: str) -> Tile:
        for tile in self.scene.tiles:
            if tile.name == name:
                return tile
        raise unknown("tile", name, self.tile_names)

    def shape(self, tile: str) -> tuple[int, int]:
        """Return (H, W) of a tile."""
        height, width = self._tile(tile).labels.shape
        return height, width

    def georeference(self, tile: str) -> Georeference:
        """Return where a tile lies."""
        return self._tile(tile).georeference

    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        """Return one window as a batch of one, (1, C, h, w); values that no sensor measures are missing (values.py)."""
        t = self._tile(tile)
        values = {m: v[:, rows, columns] for m, v in t.values.items()}
        available = {m: measured_only(v, t.available[m][rows, columns], m, f"'{self.name}'") for m, v in values.items()}
        return Batch({m: v[None] for m, v in values.items()}, {m: a[None] for m, a in available.items()})

    def identity(self, tile: str) -> dict[str, str]:
        """Return a checksum of each modality's arrays in a tile."""
        t = self._tile(tile)
        return {m: identify_arrays(v, t.available[m]) for m, v in t.values.items()}

    def files(self) -> frozenset[Path]:
        """Return no files: it is in memory."""
        return frozenset()
