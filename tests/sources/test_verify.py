"""A stream is accepted exactly if it has the length and the digests that its source committed to."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.sources.interface import KnownDigests, ListedFile, SourceMismatchError
from reconciler.sources.verify import ContentVerifier


def blob_id(data: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).digest()


DIGESTS = {
    "sha256": lambda data: KnownDigests(sha256=hashlib.sha256(data).digest()),
    "git_blob": lambda data: KnownDigests(git_blob=blob_id(data)),
    "md5": lambda data: KnownDigests(md5=hashlib.md5(data).digest()),
    "both": lambda data: KnownDigests(sha256=hashlib.sha256(data).digest(), git_blob=blob_id(data)),
}


def check(verifier: ContentVerifier, pieces: list[bytes]) -> None:
    for piece in pieces:
        verifier.update(piece)
    verifier.finish()


@pytest.mark.parametrize("known", DIGESTS.values(), ids=DIGESTS)
@given(pieces=st.lists(st.binary(max_size=9), max_size=5), at=st.integers(0, 44))
def test_any_changed_byte_is_found(known, pieces, at):
    data = b"".join(pieces)
    file = ListedFile("w.bin", len(data), known(data))
    check(ContentVerifier("hub:a/b", file), pieces)
    if at < len(data):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(SourceMismatchError, match=r"hub:a/b: 'w.bin' does not have its"):
            check(ContentVerifier("hub:a/b", file), [changed])


@pytest.mark.parametrize(("data", "message"), [(b"abcd", "more than its 3"), (b"ab", "2 bytes instead of 3")])
def test_another_length_is_found_without_digests(data, message):
    verifier = ContentVerifier("hub:a/b", ListedFile("w", 3))
    assert not verifier.proves
    with pytest.raises(SourceMismatchError, match=message):
        check(verifier, [data])


def test_a_given_sha256_is_compared_and_not_computed():
    file = ListedFile("w", 1, KnownDigests(sha256=hashlib.sha256(b"x").digest()))
    verifier = ContentVerifier("hub:a/b", file, given_sha256=True)
    verifier.update(b"y")  # its digest is not computed, so the given one decides
    verifier.finish(hashlib.sha256(b"x").digest())
    assert verifier.proves
    with pytest.raises(SourceMismatchError):
        verifier.finish(hashlib.sha256(b"y").digest())
    with pytest.raises(ValueError, match="to be given"):
        verifier.finish()
