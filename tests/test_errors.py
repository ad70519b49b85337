"""Errors: how they list names."""

from mamol.errors import repeated, some


def test_of_many_names_the_first_ones_are_said_and_how_many_more_there_are() -> None:
    assert some([]) == ""
    assert some(map(repr, "ab")) == "'a', 'b'"
    assert some("abc", most=3) == "a, b, c"
    assert some("abcde", most=3) == "a, b, c and 2 more"
    assert some(map(str, range(100))).endswith("18, 19 and 80 more")


def test_names_that_come_again_are_said_once_in_their_order() -> None:
    assert repeated(["b", "a", "c", "a", "b", "a"]) == ["b", "a"]
    assert repeated(iter("abc")) == []
