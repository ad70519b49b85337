"""One block of a map: read it with a rim around it, predict, keep what lies inside the rim.

    block  = block_px x block_px, its corner on a multiple of the predictor's stride
    rim    = one window of the model on every side, cut off at the scene's border

Block and rim are multiples of the stride, so a pixel is covered by the same model windows as in a scene read whole:
the map does not depend on the block's size. Any scene size works, also smaller than one window. A job can be pickled:
it is what travels to another process or machine, once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mamol.data.area import Area, area_mask
from mamol.data.dataset import Georeference
from mamol.data.memory import Reader
from mamol.data.raster import Grid
from mamol.errors import DataError, MamolError
from mamol.mapping.layers import Block, Layer, make_layers, pattern_bits
from mamol.modality import Batch, Predictor
from mamol.model.predictor import MamolPredictor

log = logging.getLogger(__name__)
Corner = tuple[int, int]
Arrays = dict[str, np.ndarray]
"""One block's layers, (bands, h, w) each."""


@dataclass(frozen=True)
class Job:
    """Everything that computing a block needs.

    `kept`: the modalities that are used; `rim_px`: the model's window; `region`: top, left, bottom and right pixel of what
    is mapped, its corner on a multiple of the rim.
    """

    predictor: Predictor
    reader: Reader
    tile: str
    kept: tuple[str, ...]
    layers: tuple[str, ...]
    rim_px: int
    block_px: int
    region: tuple[int, int, int, int]
    area: Area | None = None

    @property
    def out_shape(self) -> tuple[int, int]:
        """Height and width of the map, pixels."""
        top, left, bottom, right = self.region
        return bottom - top, right - left

    def place(self) -> Georeference:
        """Return where the map lies."""
        whole = self.reader.georeference(self.tile)
        a, b, c, d, e, f = whole.transform
        top, left = self.region[:2]
        return Georeference(whole.crs, (a, b, c + a * left + b * top, d, e, f + d * left + e * top))

    def corners(self) -> Iterator[Corner]:
        """Yield the upper left pixel of every block in the tile, row by row."""
        top, left, bottom, right = self.region
        return ((y, x) for y in range(top, bottom, self.block_px) for x in range(left, right, self.block_px))

    def count(self) -> int:
        """Return the number of blocks."""
        height, width = self.out_shape
        return -(-height // self.block_px) * -(-width // self.block_px)

    def made(self) -> dict[str, Layer]:
        """Return the layers of this job's map."""
        return make_layers(self.layers, len(self.predictor.classes), len(self.predictor.modalities))

    def around(self, corner: Corner) -> tuple[slice, slice]:
        """Return rows and columns of a block with its rim."""
        (y, x), (height, width) = self._end(corner), self.reader.shape(self.tile)
        rows = slice(max(corner[0] - self.rim_px, 0), min(y + self.rim_px, height))
        return rows, slice(max(corner[1] - self.rim_px, 0), min(x + self.rim_px, width))

    def inside(self, corner: Corner) -> tuple[slice, slice]:
        """Return rows and columns of a block without its rim, counted from the rim's corner."""
        (rows, columns), (y, x) = self.around(corner), self._end(corner)
        return slice(corner[0] - rows.start, y - rows.start), slice(corner[1] - columns.start, x - columns.start)

    def _end(self, corner: Corner) -> Corner:
        return min(corner[0] + self.block_px, self.region[2]), min(corner[1] + self.block_px, self.region[3])

    def read(self, corner: Corner) -> Batch:
        """Read a block with its rim, also outside the area; what the model does not know and what is left out is absent.

        Raises what the reader raises, with the block's place in the tile in the text.
        """
        rows, columns = self.around(corner)
        where = f"tile '{self.tile}', rows {rows.start}..{rows.stop}, columns {columns.start}..{columns.stop}"
        try:
            batch = self.reader.read(self.tile, rows, columns)
        except MamolError as error:
            raise type(error)(f"{error} (at {where})") from error
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error}") from error
        names = [m for m in batch.names() if m in self.predictor.modalities]
        known = Batch({m: batch.values[m] for m in names}, {m: batch.available[m] for m in names})
        return known.only([m for m in self.kept if m in names])

    def finish(self, corner: Corner, batch: Batch) -> Arrays:
        """Predict a block that was read and return its layers without the rim."""
        rows, columns = self.inside(corner)
        order = self.predictor.modalities
        bits = pattern_bits(batch, order)[rows, columns]
        if self.area is not None:
            grid = Grid(*self.reader.shape(self.tile), self.reader.georeference(self.tile))
            inside = area_mask(self.area, grid, *self.around(corner))
            bits = np.where(inside[rows, columns], bits, 0).astype(bits.dtype)
        if bits.any():
            probability = self.predictor.predict(batch)[0][:, rows, columns]
            if lost := int(((bits > 0) & ~np.isfinite(probability).all(0)).sum()):
                log.warning(
                    "tile '%s', block at row %d, column %d: the model has no finite probability for %d pixels; they have no data",
                    self.tile, *corner, lost,
                )  # fmt: skip
        else:
            probability = np.full((len(self.predictor.classes), *bits.shape), np.nan, dtype=np.float32)
        block = Block(probability, bits, self._experts(bits) if "expert" in self.layers else None)
        return {name: layer.compute(block) for name, layer in self.made().items()}

    def run(self, corner: Corner) -> Arrays:
        """Read and predict one block."""
        return self.finish(corner, self.read(corner))

    def _experts(self, bits: np.ndarray) -> np.ndarray:
        """Return the dynamic expert of every pixel's pattern, 1..E, 0 where there is none."""
        if not isinstance(self.predictor, MamolPredictor):
            return np.zeros(bits.shape, dtype=np.uint8)
        codes, index = np.unique(bits, return_inverse=True)
        chosen = [self.predictor.chosen_expert(names_of(int(c), self.predictor.modalities)) if c else 0 for c in codes]
        return np.array(chosen, dtype=np.uint8)[index].reshape(bits.shape)


def names_of(bits: int, order: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities behind a pattern's bits."""
    return tuple(m for i, m in enumerate(order) if bits >> i & 1)
