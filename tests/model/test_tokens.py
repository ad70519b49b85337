"""Tokens of grids, series and vectors; what is missing leaves no trace."""

import numpy as np
import pytest
import torch

from made import tiny_config
from mamol.data.normalize import BandStatistics, Normalizer
from mamol.modality import Modality
from mamol.model.tokens import Tokenizer, anywhere, grid_position, sine_cosine

CASES = {
    "grid": (Modality("m", 3, "grid"), (2, 3, 8, 8), 16),
    "series": (Modality("m", 3, "series", length=5), (2, 3, 5), 5),
    "vector": (Modality("m", 3, "vector"), (2, 3), 1),
}


@pytest.mark.parametrize("kind", CASES)
def test_number_of_tokens_and_no_trace_of_missing_values(kind: str) -> None:
    modality, shape, count = CASES[kind]
    tokenizer = Tokenizer(modality, 3, tiny_config())
    values = torch.randn(shape)
    available = torch.ones(shape[:1] + shape[2:], dtype=torch.bool)
    available[1] = False
    tokens = tokenizer(values, available)
    assert tokens.values.shape == (2, count, 16)
    assert tokens.keep[0].all()
    assert not tokens.keep[1].any()
    values[1] = float("nan")
    assert torch.equal(tokenizer(values, available).values, tokens.values)


def test_a_token_is_kept_where_any_of_its_pixels_was_seen() -> None:
    tokenizer = Tokenizer(CASES["grid"][0], 3, tiny_config())
    available = torch.zeros(1, 8, 8, dtype=torch.bool)
    available[0, 3, 5] = True
    keep = tokenizer(torch.randn(1, 3, 8, 8), available).keep.view(4, 4)
    assert keep.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(("height", "width", "cells"), [(7, 9, (4, 5)), (1, 1, (1, 1)), (8, 3, (4, 2))])
def test_a_grid_that_cells_do_not_divide_loses_nothing(height: int, width: int, cells: tuple[int, int]) -> None:
    tokenizer = Tokenizer(CASES["grid"][0], 3, tiny_config())
    values, available = torch.randn(1, 3, height, width), torch.zeros(1, height, width, dtype=torch.bool)
    available[0, -1, -1] = True
    tokens = tokenizer(values, available)
    assert tokens.keep.view(cells).nonzero().tolist() == [[cells[0] - 1, cells[1] - 1]]
    values[0, :, -1, -1] += 5
    changed = (tokenizer(values, available).values != tokens.values).any(-1)
    assert changed[tokens.keep].all()


def test_a_grid_counts_as_one_that_was_made_whole_with_missing_pixels() -> None:
    tokenizer = Tokenizer(CASES["grid"][0], 3, tiny_config())
    values, available = torch.randn(2, 3, 7, 5), torch.rand(2, 7, 5) > 0.2
    larger = torch.full((2, 3, 8, 6), float("nan")), torch.zeros(2, 8, 6, dtype=torch.bool)
    larger[0][..., :7, :5], larger[1][..., :7, :5] = values, available
    cut, whole = tokenizer(values, available), tokenizer(*larger)
    assert torch.equal(cut.values, whole.values)
    assert torch.equal(cut.keep, whole.keep)


def test_position_codes_differ_and_stay_bounded() -> None:
    code = sine_cosine(torch.arange(50).float(), 16)
    assert code.abs().max() <= 1
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 1e-3
    grid = grid_position(3, 4, 16)
    assert len(torch.unique(grid, dim=0)) == 12


@pytest.mark.parametrize(("placeholder", "expected"), [("zeros", -2.0), ("ones", -1.5), ("mean", 0.0)])
def test_a_placeholder_is_the_raw_value_as_the_normalisation_sees_it(placeholder: str, expected: float) -> None:
    tokenizer = Tokenizer(CASES["grid"][0], 3, tiny_config(tokens={"placeholder": placeholder}))
    tokenizer.stand_in(Normalizer({"m": BandStatistics(False, np.full(3, 4.0), np.full(3, 2.0))}), "m")
    assert tokenizer.fill.tolist() == [expected] * 3


def test_a_stand_in_takes_part_but_was_not_seen() -> None:
    modality, shape, _ = CASES["series"]
    available = torch.tensor([[True, False, True, True, False], [False] * 5])
    for placeholder in ("none", "ones", "learned"):
        tokens = Tokenizer(modality, 3, tiny_config(tokens={"placeholder": placeholder}))(torch.randn(shape), available)
        assert torch.equal(tokens.seen, available)
        assert torch.equal(tokens.keep, available | (placeholder != "none"))


def test_anywhere_takes_every_kind() -> None:
    assert anywhere(torch.tensor([True, False])).tolist() == [True, False]
    assert anywhere(torch.tensor([[False, True], [False, False]])).tolist() == [True, False]
    assert anywhere(torch.zeros(2, 3, 3, dtype=torch.bool)).tolist() == [False, False]
