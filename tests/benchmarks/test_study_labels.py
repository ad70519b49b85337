"""Fewer labels are a part of the labels; what trains and validates may change, the test part does not."""

from __future__ import annotations

import numpy as np
import pytest
from study_labels import counted, thinned, with_test

from made import made_samples, made_scene
from mamol.data.dataset import UNLABELLED, Dataset, SampleSet
from mamol.data.split import TEST, TRAIN, UNUSED, VAL, Split, make_split


@pytest.fixture
def whole() -> tuple[SampleSet, Split]:
    dataset = made_samples(400)
    return dataset, make_split(dataset, "block", 1)


def test_a_share_of_every_class_is_kept_and_the_fewer_are_within_the_more(whole: tuple[SampleSet, Split]) -> None:
    dataset, split = whole
    ours = split.roles[0] != TEST
    few, more = (thinned(dataset, split, share, 1).labels for share in (0.1, 0.3))
    for labels, share in ((few, 0.1), (more, 0.3)):
        for k in range(3):
            assert ((labels == k) & ours).sum() == round(share * ((dataset.labels == k) & ours).sum())
    assert (more[few != UNLABELLED] == few[few != UNLABELLED]).all()
    assert not np.array_equal(few, thinned(dataset, split, 0.1, 2).labels)


def test_a_rare_class_keeps_one_label(whole: tuple[SampleSet, Split]) -> None:
    dataset, split = whole
    assert counted(kept := thinned(dataset, split, 0.0, 0), split).keys() == {"train", "validation"}
    assert sorted(kept.labels[(kept.labels != UNLABELLED) & (split.roles[0] != TEST)]) == [0, 1, 2]


def test_the_test_part_is_that_of_the_whole_set(whole: tuple[SampleSet, Split]) -> None:
    dataset, split = whole
    few = thinned(dataset, split, 0.3, 1)
    learnt = make_split(few, "official", 1)
    assert np.array_equal(learnt.roles[0] == TEST, split.roles[0] == TEST)
    assert np.array_equal(few.labels[learnt.roles[0] == TEST], dataset.labels[split.roles[0] == TEST])
    counts = counted(few, learnt)
    assert min(counts.values()) > 0
    assert sum(counts.values()) == ((few.labels != UNLABELLED) & (learnt.roles[0] != TEST)).sum()
    # What the trick is for: a block split of the thinned set is another one.
    assert not np.array_equal(make_split(few, "block", 1).roles[0] == TEST, split.roles[0] == TEST)


@pytest.mark.parametrize("dataset", [made_samples(400), made_scene()])
def test_another_validation_part_leaves_the_test_part_as_it_was(dataset: Dataset) -> None:
    split = make_split(dataset, "block", 0, 8)
    again = make_split(with_test(dataset, split), "official", 1000, 8)
    for before, after in zip(split.roles, again.roles, strict=True):
        assert np.array_equal(after == TEST, before == TEST)
        assert (after[before == UNUSED] == UNUSED).all()
    moved = [(b == TRAIN) & (a == VAL) for b, a in zip(split.roles, again.roles, strict=True)]
    assert any(m.any() for m in moved)
