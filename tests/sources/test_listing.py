"""A listing has only paths that a bundle may have, each once, with sizes that files have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.sources.interface import ListedFile, SourceProtocolError
from reconciler.sources.listing import MAX_SIZE, make_listing

HOSTILE_PATHS = {
    "parent": "../weights.bin",
    "parent inside": "a/../../weights.bin",
    "current": "./weights.bin",
    "absolute": "/etc/passwd",
    "empty": "",
    "empty part": "a//b",
    "directory": "a/",
    "control character": "a\nb",
    "null": "a\0b",
    "surrogate": "a\udcffb",
    "long name": "x" * 256,
    "deep": "/".join("d" * 40),
}


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS)
def test_a_hostile_path_is_refused(path):
    with pytest.raises(SourceProtocolError) as caught:
        make_listing("hub:a/b", "a/b", "1", [ListedFile("ok", 1), ListedFile(path, 1)])
    assert str(caught.value).startswith("hub:a/b: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(SourceProtocolError, match="'w' is listed with"):
        make_listing("hub:a/b", "a/b", "1", [ListedFile("w", size)])


@pytest.mark.parametrize(
    ("paths", "message"),
    [(("a", "a"), "'a' is listed twice"), (("a/b", "a"), "as a file and as a directory")],
)
def test_two_files_at_one_path_are_refused(paths, message):
    with pytest.raises(SourceProtocolError, match=message):
        make_listing("hub:a/b", "a/b", "1", [ListedFile(path, 1) for path in paths])


@given(st.permutations([ListedFile(path, 1) for path in ("a", "B", "a.b", "é", "d/x", "d.x", "\U00010000")]))
def test_the_order_of_the_answer_does_not_matter(files):
    found = make_listing("hub:a/b", "a/b", "1", files)
    assert [file.path for file in found.files] == ["B", "a", "a.b", "d.x", "d/x", "é", "\U00010000"]
    assert found.size == 7
