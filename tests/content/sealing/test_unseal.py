from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content.age import header, message
from reconciler.content.age.errors import AgeError, NotForIdentityError
from reconciler.content.age.stream import CHUNK, SEALED_CHUNK
from reconciler.content.scan import scan
from reconciler.content.sealing.sealed_file import HEAD_SIZE, FileSealer
from reconciler.content.sealing.unseal import SealedFile, sealed_cids, unseal_in_place
from reconciler.progress import QUIET
from tests.support.plant import MIB, plant
from tests.support.seals import KEY, WITH_PASSPHRASE, identity, sealed, weights

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, MIB + 9, 33 * CHUNK)


def seal(data: bytes, path: str = "p") -> bytes:
    sealer = FileSealer(KEY, path, hashlib.sha256(data).digest(), len(data))
    return sealer.seal_all(data)


def unseal(path: Path, data: bytes, number: int = 1) -> bytes:
    """Return the digest that unsealing `data` in the file `path` gives."""
    path.write_bytes(data)
    with path.open("r+b") as file, QUIET.task("", None) as task:
        return unseal_in_place(file.fileno(), [identity(number)], task)


def refused(path: Path, data: bytes, number: int = 1) -> AgeError:
    """Return the error that unsealing `data` raises; nothing may be left in the file."""
    with pytest.raises(AgeError) as caught:
        unseal(path, data, number)
    assert path.read_bytes() == b""
    return caught.value


@pytest.mark.parametrize("size", SIZES)
def test_unsealing_in_place_leaves_the_plain_file(tmp_path: Path, size: int) -> None:
    data = weights(size)
    assert unseal(tmp_path / "f", seal(data)) == hashlib.sha256(data).digest()
    assert (tmp_path / "f").read_bytes() == data


def test_every_kind_of_altered_byte_is_refused(tmp_path: Path) -> None:
    # 184 bytes of header and nonce, then bytes and tags of three chunks
    good = seal(weights(2 * CHUNK + 100))
    spots = random.Random(17)
    places = [*range(HEAD_SIZE), *(spots.randrange(HEAD_SIZE, len(good)) for _ in range(300))]
    places += [HEAD_SIZE + number * SEALED_CHUNK - back for number in (1, 2) for back in range(1, 17)]
    assert len(places) > 500
    for place in places:
        altered = bytearray(good)
        altered[place] ^= 1 << spots.randrange(8)
        refused(tmp_path / "f", bytes(altered))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_file_that_is_cut_or_longer_is_refused(tmp_path: Path, size: int) -> None:
    good = seal(weights(size))
    ends = {HEAD_SIZE + number * SEALED_CHUNK for number in range(len(good) // SEALED_CHUNK + 1)}
    ends |= {end + by for end in (*ends, len(good)) for by in (-17, -16, -1, 1, 15, 16, 17)} | {0, 1, 22, 168}
    for end in ends - {len(good)}:
        if end < len(good):
            refused(tmp_path / "f", good[:end])
        else:
            refused(tmp_path / "f", good + bytes(end - len(good)))
    refused(tmp_path / "f", good + good[HEAD_SIZE:])


def chunks_of(data: bytes) -> list[bytes]:
    return [data[at : at + SEALED_CHUNK] for at in range(HEAD_SIZE, len(data), SEALED_CHUNK)]


@pytest.mark.parametrize(
    "order",
    [[1, 0, 2, 3], [0, 1, 3, 2], [0, 2, 3], [0, 1, 2], [1, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2, 3, 3], [3], []],
)
def test_chunks_that_are_swapped_dropped_or_repeated_are_refused(tmp_path: Path, order: list[int]) -> None:
    good = seal(weights(3 * CHUNK + 5))
    chunks = chunks_of(good)
    assert len(chunks) == 4
    refused(tmp_path / "f", good[:HEAD_SIZE] + b"".join(chunks[number] for number in order))


def test_chunks_and_headers_of_another_file_are_refused(tmp_path: Path) -> None:
    data = weights(2 * CHUNK)
    one, other = seal(data, "one"), seal(data, "other")
    mixed = [one[:HEAD_SIZE] + other[HEAD_SIZE:], one[: HEAD_SIZE - 16] + other[HEAD_SIZE - 16 :]]
    mixed.append(one[:HEAD_SIZE] + chunks_of(other)[0] + chunks_of(one)[1])
    for each in mixed:
        refused(tmp_path / "f", each)


def test_file_for_other_keys_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "f", seal(b"data"), number=2)
    assert isinstance(error, NotForIdentityError)
    assert error.message == "is sealed for other keys"


def test_file_with_a_passphrase_is_refused_in_words(tmp_path: Path) -> None:
    assert "passphrase" in refused(tmp_path / "f", WITH_PASSPHRASE).message


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 500, b"age-encryption.org/v2\n", b"age-encryption.org/v1\n" + b"-> X25519 A\n" * 9000],
)
def test_what_is_no_age_file_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path / "f", data)


def test_file_for_several_recipients_made_by_somebody_else_is_opened(tmp_path: Path) -> None:
    pyrage = pytest.importorskip("pyrage")
    recipients = [pyrage.x25519.Identity.from_str(identity(each).text).to_public() for each in (2, 1, 3)]
    data = weights(CHUNK + 1)
    assert unseal(tmp_path / "f", pyrage.encrypt(data, recipients)) == hashlib.sha256(data).digest()


def test_foreign_stanza_beside_ours_is_skipped(tmp_path: Path) -> None:
    key, nonce = bytes(16), bytes(16)
    stanza = identity().recipient.wrap(key)
    from reconciler.content.age.stanza import Stanza
    from reconciler.content.age.stream import payload_cipher, seal_chunks

    grease = Stanza("XYZ-grease", ("abc",), b"")
    data = header.render([grease, stanza], key) + nonce
    body = bytearray(4 + 16)
    seal_chunks(payload_cipher(key, nonce), 0, memoryview(b"data"), memoryview(body), last=0)
    data += body
    assert unseal(tmp_path / "f", data) == hashlib.sha256(b"data").digest()
    assert message.decrypt(data, [identity()]) == b"data"


@settings(max_examples=60)
@given(size=st.sampled_from(SIZES[:-1]), span=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_any_span_is_opened_on_its_own(size: int, span: tuple[float, float]) -> None:
    data = weights(size)
    whole = seal(data)
    found = SealedFile(lambda at, count: whole[at : at + count], len(whole), [identity()])
    start, end = sorted(int(each * (size + 10)) for each in span)
    assert found.plain_size == size
    assert found.read(start, end - start) == data[start:end]


def test_cids_of_plain_files_are_those_of_their_sealed_forms(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", {f"f{size}": weights(size) for size in SIZES})
    listing = scan(root, include_hidden=False)
    with QUIET.task("", None) as task:
        found = sealed_cids(listing, {file.path: file for file in listing.files}, KEY, task)
    known = {file.path: file.cid for file in sealed(root).identity.files}
    assert found == {path: known[f"{path}.age"] for path in found}
    assert len(found) == len(SIZES)


def test_file_stays_empty_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("reconciler.content.sealing.unseal.write_at", full)
    with pytest.raises(OSError, match="No space"):
        unseal(tmp_path / "f", seal(weights(CHUNK)))
    assert (tmp_path / "f").read_bytes() == b""
