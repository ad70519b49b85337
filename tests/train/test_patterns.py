"""How modalities go missing in training."""

import numpy as np
import pytest

from mamol.errors import UnknownName
from mamol.train.patterns import draw_training_patterns, held_out_patterns


def draw(kind: str, observed: np.ndarray, rate: float = 0.5) -> np.ndarray:
    return draw_training_patterns(observed, kind, rate, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["none", "dropout", "uniform"])
def test_only_what_was_observed_is_kept_and_never_nothing(kind: str) -> None:
    observed = np.random.default_rng(1).random((2000, 3)) < 0.6
    kept = draw(kind, observed, 0.9)
    assert not (kept & ~observed).any()
    np.testing.assert_array_equal(kept.any(1), observed.any(1))


def test_uniform_over_the_seven_patterns() -> None:
    kept = draw("uniform", np.ones((14_000, 3), dtype=bool))
    counts = np.bincount(kept @ [1, 2, 4], minlength=8)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 2000, rtol=0.08)


def test_one_of_what_is_needed_is_kept_and_the_patterns_with_it_are_uniform() -> None:
    observed = np.ones((9000, 3), dtype=bool)
    observed[6000:, 1:] = False
    needed, rng = np.array([False, True, True]), np.random.default_rng(0)
    kept = draw_training_patterns(observed, "uniform", 0.5, rng, needed=needed)
    counts = np.bincount(kept[:6000] @ [1, 2, 4], minlength=8)
    assert counts[0] == counts[1] == 0
    np.testing.assert_allclose(counts[2:], 1000, rtol=0.1)
    assert kept[6000:, 0].all()
    dropped = draw_training_patterns(observed, "dropout", 0.9, rng, needed=needed)
    assert dropped[:6000, 1:].any(1).all()
    held = held_out_patterns(["a+c"], ["a", "b", "c"])
    assert not (draw_training_patterns(observed, "uniform", 0.5, rng, held, needed) == held[0]).all(1).any()


def test_dropout_rate() -> None:
    kept = draw("dropout", np.ones((20_000, 4), dtype=bool), 0.3)
    np.testing.assert_allclose(kept.mean(0), 0.7, atol=0.02)
    assert draw("none", np.ones((5, 2), dtype=bool)).all()


def test_unknown_kind() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'uniform'"):
        draw("unifrom", np.ones((2, 2), dtype=bool))


@pytest.mark.parametrize("kind", ["none", "dropout", "uniform"])
def test_held_out_patterns_never_come_up_where_there_is_another(kind: str) -> None:
    observed = np.ones((400, 3), dtype=bool)
    observed[::4] = [True, True, False]
    unseen = held_out_patterns(["a+b+c", "b", "a+b"], "abc")
    kept = draw_training_patterns(observed, kind, 0.4, np.random.default_rng(0), unseen)
    assert not (kept[:, None] == unseen).all(2).any()
    assert kept.any(1).all()
    assert not (kept & ~observed).any()


def test_a_sample_that_has_nothing_else_keeps_it() -> None:
    observed = np.array([[False, True]])
    unseen = held_out_patterns(["b"], "ab")
    assert draw_training_patterns(observed, "uniform", 0.5, np.random.default_rng(0), unseen).tolist() == [[False, True]]


def test_held_out_names_are_checked() -> None:
    assert held_out_patterns([], "ab").shape == (0, 2)
    with pytest.raises(UnknownName, match=r"train\.held_out"):
        held_out_patterns(["a+x"], "ab")
