"""The loss, term by term."""

import pytest
import torch

from made import MODALITIES, tiny_config
from mamol.model.classifier import Classifier, InputShape
from mamol.train.feed import Draw
from mamol.train.losses import batch_loss, labelled

SHAPE = InputShape(MODALITIES, {m.name: m.bands for m in MODALITIES}, 3, True)


def made() -> tuple[Classifier, Draw, Draw]:
    torch.manual_seed(0)
    model = Classifier(SHAPE, tiny_config()).eval()
    values = {m.name: torch.randn(2, m.bands, 8, 8) for m in MODALITIES}
    available = {m.name: torch.ones(2, 8, 8, dtype=torch.bool) for m in MODALITIES}
    draw = Draw(values, available, torch.randint(-1, 3, (2, 8, 8)))
    missing = torch.tensor([[True, False, False], [False, True, True]])
    return model, draw, draw.without(missing, tuple(values))


def test_plain_cross_entropy_of_labelled_pixels() -> None:
    model, draw, subset = made()
    loss = batch_loss(model, draw, subset, torch.ones(3), tiny_config(train={"label_smoothing": 0.0}).train)
    logits, labels = labelled(model(subset.values, subset.available).logits, draw.labels, "dense")
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert torch.allclose(loss.total, expected)
    assert loss.count == (draw.labels >= 0).sum()


def test_more_terms_only_add() -> None:
    model, draw, subset = made()
    plain = batch_loss(model, draw, subset, torch.ones(3), tiny_config().train).total
    for extra in ({"distill": 1.0}, {"more_vs_fewer": 1.0}):
        assert batch_loss(model, draw, subset, torch.ones(3), tiny_config(train=extra).train).total > plain


@pytest.mark.parametrize(("distill", "more_vs_fewer"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25)])
def test_the_formula_with_what_may_be_added(distill: float, more_vs_fewer: float) -> None:
    model, draw, subset = made()
    config = tiny_config(train={"label_smoothing": 0.0, "distill": distill, "more_vs_fewer": more_vs_fewer}).train
    few, labels = labelled(model(subset.values, subset.available).logits, draw.labels, "dense")
    full, _ = labelled(model(draw.values, draw.available).logits, draw.labels, "dense")
    of_few, of_full = (torch.nn.functional.cross_entropy(x, labels, reduction="none") for x in (few, full))
    divergence = (full.softmax(-1) * (full.log_softmax(-1) - few.log_softmax(-1))).sum(-1)
    expected = of_few + of_full + distill * divergence + more_vs_fewer * (of_full - of_few).clamp_min(0)
    torch.testing.assert_close(batch_loss(model, draw, subset, torch.ones(3), config).total, expected.sum())


def test_distillation_is_nothing_between_equals() -> None:
    model, draw, _ = made()
    both = batch_loss(model, draw, draw, torch.ones(3), tiny_config(train={"distill": 5.0}).train).total
    once = batch_loss(model, draw, draw, torch.ones(3), tiny_config().train).total
    assert torch.allclose(both, 2 * once, rtol=1e-5)


def test_labelled_takes_all_three_tasks() -> None:
    labels = torch.tensor([[[0, 1, 2], [-1, 2, 0], [1, 1, 1]]])
    assert labelled(torch.randn(1, 3, 3, 3), labels, "dense")[1].tolist() == [0, 1, 2, 2, 0, 1, 1, 1]
    assert labelled(torch.randn(1, 3), labels, "centre")[1].tolist() == [2]
    assert labelled(torch.randn(2, 3), torch.tensor([1, -1]), "sample")[1].tolist() == [1]
