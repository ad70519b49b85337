"""Tokens that take part, one sample after the other in one row, so that what is missing costs nothing in any sample.

    keep    1 1 0 0 | 1 1 1 1 | 0 0 1 1        three samples of four tokens, eight of them there
    row     a a c c   b b b b                  sorted by length: two of two tokens, one of four

Everything that works token by token (products, norms, experts) takes the row as a batch of one; attention looks within each
sample, samples of equal length together. With more than `MOST_LENGTHS` lengths they are rounded up, and a few tokens that are
missing come along, hidden from attention as they always were. The same sums, but for the order of floating point numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

MOST_LENGTHS = 8
WORTH = 0.9
"""The share of all tokens that a row may have at most to be worth making."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of queries, keys and values (B, S, heads, d), to the same shape."""


def attend_to(keep: Bool[Tensor, "B S"] | None) -> Attend:
    """Return attention within each sample of a batch; `keep` False hides a token, None hides none."""
    seen = None if keep is None else keep[:, None, None, :]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)

    return attend


@dataclass(frozen=True)
class Packing:
    """Where the T tokens of a row are in a batch of `shape` (B, S): their `place` in it flattened, and which take part.

    `groups` lists the row's parts, each of samples of one length: how many samples, how many tokens each.
    """

    shape: tuple[int, int]
    place: Int[Tensor, " T"]
    keep: Bool[Tensor, "1 T"]
    groups: tuple[tuple[int, int], ...]

    @property
    def sample(self) -> Int[Tensor, " T"]:
        """Return which sample each token belongs to."""
        return self.place // self.shape[1]

    def pack(self, x: Shaped[Tensor, "B S *rest"]) -> Shaped[Tensor, "1 T *rest"]:
        """Return what belongs to the tokens of the row."""
        return x.flatten(0, 1).index_select(0, self.place)[None]

    def unpack(self, row: Float[Tensor, "1 T D"]) -> Float[Tensor, "B S D"]:
        """Return the row's tokens at their places, zeros at all others."""
        every = row.new_zeros(self.shape[0] * self.shape[1], row.shape[-1])
        return every.index_copy(0, self.place, row[0]).unflatten(0, self.shape)

    def attend(self) -> Attend:
        """Return attention within each sample of the row."""
        sizes = [samples * length for samples, length in self.groups]
        kept = [k.view(shape) for k, shape in zip(self.keep[0].split(sizes), self.groups, strict=True)]
        within = [attend_to(None if bool(k.all()) else k) for k in kept]

        def attend(*qkv: Tensor) -> Tensor:
            parts = zip(*(x[0].split(sizes) for x in qkv), strict=True)
            found = [
                one(*(x.unflatten(0, shape) for x in part)).flatten(0, 1)
                for one, shape, part in zip(within, self.groups, parts, strict=True)
            ]
            return torch.cat(found)[None]

        return attend


def packing_of(keep: Bool[Tensor, "B S"]) -> Packing | None:
    """Return the row of the tokens that take part; None if it would hardly be shorter than the batch."""
    length = _rounded(keep.sum(1), keep.shape[1])
    if int(length.sum()) > WORTH * keep.numel():
        return None
    kept_first = keep.int().argsort(dim=1, descending=True, stable=True)
    place = kept_first + torch.arange(len(keep), device=keep.device)[:, None] * keep.shape[1]
    found, groups = [], []
    for n in length.unique().tolist():
        rows = place[length == n, :n]
        found.append(rows.flatten())
        groups.append((len(rows), n))
    where = torch.cat(found)
    return Packing((keep.shape[0], keep.shape[1]), where, keep.flatten()[where][None], tuple(groups))


def _rounded(length: Int[Tensor, " B"], longest: int) -> Int[Tensor, " B"]:
    """Return lengths of which there are MOST_LENGTHS at most: as they are, or rounded up to as many steps."""
    if len(length.unique()) <= MOST_LENGTHS:
        return length
    step = -(-longest // MOST_LENGTHS)
    return (-(-length // step) * step).clamp_max(longest)
