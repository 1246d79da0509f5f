"""JSON is read strictly: wrong types and repeated names are errors that name the path of the value."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.json_fields import JsonFields, load_json

DOCUMENT: dict[str, Any] = {
    "text": "x", "number": 7, "flag": True, "null": None, "time": "2026-05-07T01:02:03Z",
    "inner": {"list": [{"text": "a"}, {"text": 1}], "words": {"a": "b", "c": 1}},
}  # fmt: skip


class DocumentError(Exception):
    """The error class of the caller."""


FIELDS = JsonFields(DOCUMENT, DocumentError)


@pytest.mark.parametrize("data", [b'{"a": 1, "a": 1}', b'[{"b": {"a": 1, "a": 2}}]', b"{", b"\xff", b"",
                                  b"[" * 100_000])  # fmt: skip
def test_malformed_json_and_repeated_names_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError):
        load_json(data)


def test_a_repeated_name_is_named() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        load_json('{"b": 1, "a": 1, "a": 2}')


def test_values_are_read_by_their_path() -> None:
    assert FIELDS.text("text") == "x"
    assert FIELDS.number("number") == 7
    assert FIELDS.flag("flag") is True
    assert FIELDS.moment("time") == datetime(2026, 5, 7, 1, 2, 3, tzinfo=UTC)
    assert FIELDS.at("inner").words("words") == {"a": "b"}
    assert next(FIELDS.items("inner", "list")).text("text") == "a"
    assert [(name, value.value) for name, value in FIELDS.members("inner", "words")] == [("a", "b"), ("c", 1)]
    assert FIELDS.number_in(7, 7, "number") == 7
    assert FIELDS.mapping("inner")["words"] == {"a": "b", "c": 1}
    assert load_json(json.dumps(DOCUMENT)) == DOCUMENT


def test_missing_and_null_values_have_defaults_where_the_caller_gives_one() -> None:
    for name in ("null", "missing"):
        assert not FIELDS.has(name)
        assert FIELDS.text_or("default", name) == "default"
        assert FIELDS.number_or(3, name) == 3
        assert FIELDS.flag(name) is False
        assert FIELDS.moment(name) is None
        assert list(FIELDS.items_or_none(name)) == []
        assert FIELDS.words(name) == {}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda fields: fields.text("number"), "'number' is not a string"),
        (lambda fields: fields.text("missing", "deeper"), "'missing.deeper' is not a string"),
        (lambda fields: fields.number("flag"), "'flag' is not a whole number"),
        (lambda fields: fields.number_in(8, 9, "number"), "'number' is not a whole number from 8 to 9"),
        (lambda fields: fields.number_in(5, 6, "number"), "'number' is not a whole number from 5 to 6"),
        (lambda fields: fields.flag("text"), "'text' is not true or false"),
        (lambda fields: fields.members("text"), "'text' is not an object"),
        (lambda fields: [value.text() for _, value in fields.members("inner", "words")],
         "'inner.words.c' is not a string"),
        (lambda fields: fields.mapping("text"), "'text' is not an object"),
        (lambda fields: fields.items("inner"), "'inner' is not a list"),
        (lambda fields: [item.text("text") for item in fields.items("inner", "list")],
         r"'inner.list\[1\].text' is not a string"),
        (lambda fields: fields.text(), "the document is not a string"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_the_error_of_the_caller_with_the_path(
    read: Callable[[JsonFields], object], message: str
) -> None:
    with pytest.raises(DocumentError, match=f"^{message}$"):
        read(FIELDS)


def test_a_byte_order_mark_in_a_text_is_named() -> None:
    with pytest.raises(ValueError, match="byte order mark"):
        load_json("\ufeff{}")
