"""JSON objects are checked by the classes that describe them."""

from pathlib import Path

import pytest

from maskfold.errors import UserError
from maskfold.json_record import Count, Interval, JsonRecord, check_record


class Inner(JsonRecord):
    ids: list[str]


class Example(JsonRecord):
    name: str
    count: Count
    score: float
    bounds: Interval | None
    inner: Inner


VALID = {"name": "a", "count": 3, "score": 1, "bounds": None, "inner": {"ids": ["x"]}, "more": object()}


def test_valid_content_and_other_keys_are_accepted():
    check_record(Path("a.json"), VALID, Example, "fix it")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 5}, "name: .*string, not 5"),
        ({"count": "3"}, "count: .*integer, not '3'"),
        ({"count": True}, "count: .*integer, not True"),
        ({"count": -1}, "count: .*0, not -1"),
        ({"count": 10**400}, "count: .*not an integer of 1329 bits"),
        ({"score": float("nan")}, "score: .*finite"),
        ({"score": float("inf")}, "score: .*finite"),
        ({"score": 10**400}, "score: .*not an integer of 1329 bits"),
        ({"score": None}, "score: .*not None"),
        ({"bounds": [1, 2, 3]}, "bounds.*at most 2"),
        ({"inner": []}, "inner: .*not \\[\\]"),
        ({"inner": {"ids": ["x", 1]}}, r"inner\.ids\.1: .*not 1"),
        ({"inner": {}}, r"inner\.ids is missing"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(change, words):
    with pytest.raises(UserError, match=rf"^a\.json: {words}.*; fix it$"):
        check_record(Path("a.json"), VALID | change, Example, "fix it")


@pytest.mark.parametrize("content", [None, [], 5, "x"])
def test_content_that_is_no_object_is_an_error(content):
    with pytest.raises(UserError, match=r"^a\.json: the content: .*; fix it$"):
        check_record(Path("a.json"), content, Example, "fix it")
