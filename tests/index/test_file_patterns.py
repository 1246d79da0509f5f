"""The keys `include` and `exclude`: inheritance, and an error with its line for an invalid pattern."""

from __future__ import annotations

import pytest

from reconciler.content.patterns import FilePatterns
from reconciler.errors import InvalidIndexError
from reconciler.index import schemas
from tests.index.samples import index_of

INDEX = """\
schema: 1
id: acme
defaults: {{targets: [store]{defaults}}}
models:
  m:
    {model}
    versions: {{"1.0.0": {{path: a{version}}}}}
"""


def patterns(defaults: str = "", model: str = "", version: str = "") -> FilePatterns:
    (found,) = index_of(INDEX.format(defaults=defaults, model=model, version=version)).versions()
    return found.patterns


def test_each_list_is_inherited_on_its_own_and_replaced_as_a_whole() -> None:
    defaults, model = ', exclude: ["*.log"], include: ["a*"]', 'exclude: ["*.bin", "onnx/"]'
    assert patterns() == FilePatterns()
    assert patterns(defaults) == FilePatterns(("a*",), ("*.log",))
    assert patterns(defaults, model) == FilePatterns(("a*",), ("*.bin", "onnx/"))
    assert patterns(defaults, model, ', include: ["!a", b]') == FilePatterns(("!a", "b"), ("*.bin", "onnx/"))
    assert patterns(defaults, model, ", include: [], exclude: []") == FilePatterns()


BAD = [
    ("exclude:", "must be a list"),
    ("exclude: x", "must be a list"),
    ("exclude: {a: b}", "must be a list"),
    ("exclude: [[a]]", ""),
    ('exclude: [""]', "empty"),
    ('include: ["#x"]', "'#x' is a comment in gitignore syntax"),
    ('include: ["../x"]', "'../x' matches nothing"),
    ('include: ["a", "[b"]', "include pattern '[b' has a '[' that is not closed"),
    ('exclude: ["a/", "x\\\\"]', "ends in a backslash"),
    (f'exclude: ["{"a" * 1025}"]', "1024"),
    (f"exclude: [{', '.join(['a'] * 1001)}]", "more than 1000"),
]


@pytest.mark.parametrize("skip_schema", [False, True])
@pytest.mark.parametrize(("text", "says"), BAD, ids=[text[:40] for text, _ in BAD])
def test_an_invalid_pattern_is_an_error_with_its_line(
    monkeypatch: pytest.MonkeyPatch, text: str, says: str, skip_schema: bool
) -> None:
    if skip_schema:
        monkeypatch.setattr(schemas, "problems", lambda name, tree: [])
    with pytest.raises(InvalidIndexError) as caught:
        patterns(model=text)
    message = str(caught.value)
    assert message.startswith("releases/index.yaml:6: ")
    assert skip_schema or says in message


def test_a_pattern_that_looks_like_a_number_needs_quotes() -> None:
    with pytest.raises(InvalidIndexError, match=r"1\.10' without quotes"):
        patterns(model="exclude: [1.10]")


@pytest.mark.parametrize(("text", "sign"), [("[*.log]", "'*'"), ("[!keep.log]", "'!'"), ("[&a]", "'&'")])
def test_a_pattern_that_needs_quotes_is_an_error_that_says_so(text: str, sign: str) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        patterns(model=f"exclude: {text}")
    assert f"text that begins with {sign} needs quotes" in (caught.value.hint or "")
