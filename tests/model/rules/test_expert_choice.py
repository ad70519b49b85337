"""Expert choice: each expert takes its best tokens."""

import torch
from made_rule import BOTH, X, made, put, softmax


def test_every_expert_takes_its_best_tokens() -> None:
    # Three tokens, three experts, k = 1: each expert takes one token.
    gates = put(made("expert-choice"), [[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])(BOTH, X).values[0]
    p = torch.tensor([softmax(2, 0, 0), softmax(0, 2, 0), softmax(2, 2, 0)])
    # Expert 1 is best for token 1, expert 2 for token 2, expert 3 for tokens 1 and 2 alike: the first is taken.
    expected = torch.zeros(3, 3)
    expected[0, 0], expected[1, 1], expected[0, 2] = p[0, 0], p[1, 1], p[0, 2]
    torch.testing.assert_close(gates, expected)


def test_tokens_that_take_no_part_are_never_chosen_and_do_not_count() -> None:
    router = put(made("expert-choice", top_k=3), [[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    weight = torch.tensor([[1.0, 0.0, 1.0]])
    gates = router(BOTH, X, weight).values
    assert bool((gates[0, 1] == 0).all())
    alone = router(BOTH[:, [0, 2]], X[:, [0, 2]]).values
    torch.testing.assert_close(gates[:, [0, 2]], alone)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    router, other = made("expert-choice"), torch.randn(1, 3, 2)
    both = router(BOTH.expand(2, -1, -1), torch.cat([X, other])).values
    torch.testing.assert_close(both[:1], router(BOTH, X).values)
