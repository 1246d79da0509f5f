from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import checksums
from tests.support.plant import plant

NAMES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and not name.startswith("./"))


@given(st.dictionaries(NAMES, st.binary(min_size=32, max_size=32)))
def test_what_is_rendered_is_parsed_again(digests: dict[str, bytes]) -> None:
    parsed = checksums.parse(checksums.render(digests.items()))
    assert {checksum.path: checksum.digest for checksum in parsed} == digests
    assert [checksum.path for checksum in parsed] == sorted(digests, key=str.encode)
    assert [checksum.line for checksum in parsed] == list(range(1, len(digests) + 1))


def test_rendered_bytes_are_those_of_sha256sum(tmp_path: Path) -> None:
    contents = {"b": b"1", "a b": b"2", "back\\slash": b"3", "d/e": b"4", "é": b"", "line\nbreak": b"5"}
    plant(tmp_path, contents)
    names = sorted(contents, key=str.encode)
    theirs = subprocess.run(["sha256sum", "--", *names], cwd=tmp_path, check=True, capture_output=True).stdout
    assert checksums.render((name, hashlib.sha256(contents[name]).digest()) for name in contents) == theirs


def test_the_forms_that_sha256sum_accepts_are_accepted() -> None:
    digest = "AB" * 32
    lines = ["# a comment", "D *binary", "D  ./dotted/x", "\\D  with\\\\slash", "D  last"]
    text = "\n".join(lines).replace("D", digest, 4).replace(digest, digest.lower(), 1)
    parsed = checksums.parse(text.encode())
    assert [(each.path, each.line) for each in parsed] == [
        ("binary", 2),
        ("dotted/x", 3),
        ("with\\slash", 4),
        ("last", 5),
    ]
    assert {each.digest for each in parsed} == {bytes.fromhex(digest)}


def test_a_name_that_begins_with_a_space_is_kept() -> None:
    (checksum,) = checksums.parse(f"{'0' * 64}    two blanks\n".encode())
    assert checksum.path == "  two blanks"
