"""Ids of git objects are those that git itself gives."""

from __future__ import annotations

import pytest

from reconciler.content.git_objects import object_hash, object_id


@pytest.mark.parametrize(
    ("kind", "data", "oid"),
    [
        ("blob", b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ("blob", b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
        ("tree", b"", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
    ],
)
def test_the_id_is_that_of_git(kind: str, data: bytes, oid: str) -> None:
    assert object_id(kind, data).hex() == oid
    running = object_hash(kind, len(data))
    running.update(data)
    assert running.hexdigest() == oid
