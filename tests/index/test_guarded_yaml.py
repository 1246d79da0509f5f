"""The reader accepts a plain subset of YAML, with a line on every node; tests/hostile has what it refuses."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import InvalidIndexError
from reconciler.index.guarded_yaml import (
    YamlMapping,
    YamlNode,
    YamlScalar,
    YamlSequence,
    decode,
    implicit_type,
    parse,
)

TEXT = """\
# a comment
---
top: plain text
'single': 'it''s'
"double": "a\\u00e9\\x41 \\"q\\""
list:
- one
- [two, {three: 3}]
empty:
multi: first
  second
"""


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with both parsers that PyYAML may have."""
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    if request.param == "python":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    return str(request.param)


def lines(node: YamlNode) -> object:
    if isinstance(node, YamlMapping):
        return {(str(key), key.line): lines(value) for key, value in node.items()}
    if isinstance(node, YamlSequence):
        return [node.line, *(lines(item) for item in node)]
    return (str(node), node.line, node.plain)


def test_every_node_keeps_its_text_and_line(parser: str) -> None:
    assert lines(parse(TEXT, "x")) == {
        ("top", 3): ("plain text", 3, True),
        ("single", 4): ("it's", 4, False),
        ("double", 5): ('aéA "q"', 5, False),
        ("list", 6): [7, ("one", 7, True), [8, ("two", 8, True), {("three", 8): ("3", 8, True)}]],
        ("empty", 9): ("", 9, True),
        ("multi", 10): ("first second", 10, True),
    }


@given(st.text())
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        parse(text, "x")
    except InvalidIndexError as error:
        assert str(error).startswith("x:")
        assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse(decode(data, "x"), "x")
    except InvalidIndexError as error:
        assert "\n" not in str(error)


def test_json_is_read_as_yaml(parser: str) -> None:
    value = {"a": ["b", {"c": "d é ☃"}], "e": ""}
    assert parse(json.dumps(value), "x") == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=1), "x") == value


PROBES = [
    *("~", "null", "Null", "yes", "no", "on", "off", "true", "FALSE", "y", "n", "="),
    *("1", "-1", "+1", "1.10", ".5", "1.", "1e3", "0x1F", "0o17", "0777", "0b1", "1_000", "12:30:00"),
    *(".inf", "-.Inf", ".nan", "2026-05-07", "2026-05-07T00:00:00Z"),
    *("1.2.0", "v1", "a1", "1a", "1.2.0-rc.1", "bafy", "latest", "nul", "nope", "only", "one", "0x", "0xZ"),
    *("-a", ".a", ".", "1.2.3.4"),
]


@pytest.mark.parametrize("text", PROBES)
def test_an_unquoted_scalar_counts_as_text_only_if_other_readers_agree(text: str) -> None:
    """A scalar that PyYAML would convert needs quotes; with quotes it is always text."""
    scalar = YamlScalar(text)
    scalar.line, scalar.plain = 1, True
    try:
        guessed = not isinstance(yaml.safe_load(text), str)
    except (yaml.YAMLError, ValueError):
        guessed = text == "="
    if guessed:
        assert implicit_type(scalar) is not None
    elif text not in ("0o17", "1e3", ".5", "1."):  # numbers of YAML 1.2 that PyYAML does not know
        assert implicit_type(scalar) is None
    scalar.plain = False
    assert implicit_type(scalar) is None


@pytest.mark.parametrize(
    "piece", ["a: ", "- ", "? ", "[", "{", "'", '"', "#", "a: [", "\n", " \n", ": ", "&a ", "*", "!"]
)
def test_repetition_takes_linear_time(piece: str) -> None:
    text = "x: " + piece * 50_000
    begin = time.process_time()
    with pytest.raises(InvalidIndexError):
        parse(text + "\n]", "x")
    assert time.process_time() - begin < 1
