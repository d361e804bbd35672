"""Helpers for error messages."""

import pytest

from maskfold.errors import first_line, one_line


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
