"""Noisy top-k: equations 3 to 10 of 1701.06538 against numbers worked out by hand."""

import math

import torch
from made_rule import BOTH, X, made, put, softmax

from mamol.model.rules.noisy_top_k import chance_kept, squared_variation

ROWS = [[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]]


def test_the_top_k_are_scaled_to_sum_to_one_and_the_rest_is_zero() -> None:
    router = put(made("noisy-top-k", top_k=2), ROWS).eval()
    first, second = softmax(1.0, 0.5)
    torch.testing.assert_close(router(BOTH, X).values[0, 0], torch.tensor([first, 0.0, second]))


def test_noise_comes_in_training_only() -> None:
    router = put(made("noisy-top-k", top_k=2), ROWS)
    assert torch.equal(router.eval()(BOTH, X).values, router(BOTH, X).values)
    router.train()
    assert not torch.equal(router(BOTH, X).values, router(BOTH, X).values)


def test_the_loss_is_the_squared_variation_of_importance_and_load() -> None:
    # One token, k = 1: importance is 1, 0, 0 (mean 1/3, variance 2/9), so its squared variation is 2.
    router = put(made("noisy-top-k", balance=1.0), ROWS).eval()
    found = router(BOTH[:, :1], X[:, :1]).loss
    level = math.log(2.0) + 0.01  # softplus(0), and the least noise

    def phi(z: float) -> float:
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    # Scores 1, 0, 0.5: without its own noise, expert 1 must beat 0.5, the others 1.
    load = [phi((1 - 0.5) / level), phi((0 - 1) / level), phi((0.5 - 1) / level)]
    mean = sum(load) / 3
    variation = sum((v - mean) ** 2 for v in load) / 3 / mean**2
    torch.testing.assert_close(found, torch.tensor(2.0 + variation), atol=1e-4, rtol=1e-4)


def test_chance_kept_looks_at_the_other_experts() -> None:
    scores = torch.tensor([3.0, 2.0, 1.0])
    got = chance_kept(scores, scores, torch.ones(3), 2)
    torch.testing.assert_close(got, torch.special.ndtr(torch.tensor([3 - 1.0, 2 - 1.0, 1 - 2.0])))


def test_equal_use_varies_by_nothing() -> None:
    assert squared_variation(torch.full((4,), 0.3)) == 0
