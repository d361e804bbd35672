"""Helpers for error messages."""

import pytest

from maskfold.errors import first_line, one_line, short_repr


@pytest.mark.parametrize(
    ("text", "first", "joined"),
    [
        ("no such layer", "no such layer", "no such layer"),
        ("\n  shape mismatch\n  at conv1\n", "shape mismatch", "shape mismatch at conv1"),
        ("", "ValueError", "ValueError"),
        (" \n ", "ValueError", "ValueError"),
    ],
)
def test_another_librarys_exception_is_quoted_on_one_line(text, first, joined):
    assert first_line(ValueError(text)) == first
    assert one_line(ValueError(text)) == joined


def test_a_long_message_is_cut():
    assert one_line(ValueError("ab " * 100), max_length=4) == "ab a"


def test_any_value_fits_into_a_message():
    nested = [1]
    for _ in range(60):
        nested = [nested, nested, nested]
    recursive: list = []
    recursive.append(recursive)
    for value in (nested, recursive, 16**5000, "x" * 10**6, {n: n for n in range(10**5)}, b"x" * 10**6):
        assert len(short_repr(value)) < 5000
    assert short_repr("short") == "'short'"
    assert short_repr([1, {"a": 2.5}]) == "[1, {'a': 2.5}]"
