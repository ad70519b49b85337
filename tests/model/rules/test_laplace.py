"""Laplace: the nearest experts."""

import torch
from made_rule import BOTH, X, made, softmax


def test_the_nearest_two_share_by_their_distance() -> None:
    router = made("laplace", top_k=2)
    with torch.no_grad():
        router.centre.copy_(torch.tensor([[1.0, 0.0], [4.0, 4.0], [1.0, 3.0]]))
    # Token (1, 1): distances 1, sqrt(18), 2.
    first, second = softmax(-1.0, -2.0)
    torch.testing.assert_close(router(BOTH, X).values[0, 2], torch.tensor([first, 0.0, second]), atol=1e-5, rtol=1e-5)


def test_the_gradient_is_finite_on_a_centre() -> None:
    router = made("laplace", top_k=2)
    with torch.no_grad():
        router.centre[0].copy_(X[0, 0])
    router(BOTH, X).values.square().sum().backward()
    assert bool(router.centre.grad.isfinite().all())
