"""Signed notes, checkpoints and proof files, against the worked example and bad input."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import DataError, ReconcilerError, TrustError, UsageError
from reconciler.net.auth import Secret
from reconciler.trust.checkpoint import (
    LogKeys,
    LogProof,
    checkpoint_text,
    parse_checkpoint,
    parse_proof,
    verify_checkpoint,
    verify_proof,
)
from reconciler.trust.log import prove_entry, recompute
from reconciler.trust.note import (
    MAX_NOTE,
    NoteKey,
    NoteKeyType,
    NoteSignature,
    NoteSigner,
    SignedNote,
    is_signed_by,
    new_note_key,
    parse_note,
    parse_note_key,
    parse_note_signer,
    signers_among,
    with_signatures,
)
from reconciler.trust.tiles import make_tiles

ORIGIN = "example.org/acme-models/log"
ENTRIES = [
    b'{"model":"acme/llm","record":"%s","version":"1.%d.0"}'
    % (hashlib.sha256(b"%d" % number).hexdigest().encode(), number)
    for number in range(700)
]
LOG = recompute(ENTRIES)
TILES = make_tiles(LOG.entries, LOG.hashes)
SIGNER = NoteSigner(ORIGIN, Secret(hashlib.sha256(b"log seed").hexdigest()))
#: made by another implementation, with the time 1796022000
EXAMPLE = """\
example.org/acme-models/log
700
poO/0QeAnxYh25zQXEhqoRmcfJkRqouHHcoZM9fDI4E=

— example.org/acme-models/log 4aydA7Bt9fwrYw+3U8NWXdcV7NyPLDFrAe3Y0l5Bb+bEykvkGem27NatI/GYZVzGWNbxmmM80P3j4iB+AK8C8l8IpAI=
— witness.example/w1 BnatQgAAAABrDR7wCtDEwKyZI/Bpheb5dz+7LzEPUMKPzhJzDJHbsA/wsmM1r1jazs++mUn3904/aakuAnJQi0oZs15CDRUx7YpWBQ==
"""  # noqa: E501
LOG_KEY = parse_note_key("example.org/acme-models/log+e1ac9d03+AdPgSH/KWo1eEN1qvW/iMdtrMFviaDgjoj/M3xYpcYNH")
WITNESS = parse_note_key("witness.example/w1+0676ad42+BFLd/e8LvCuvM1TPjy29lj2jnmKFBCkEd+7vi2yC3ih8")
STRANGER = NoteSigner("stranger.example", Secret("11" * 32))
KEYS = LogKeys(LOG_KEY, (WITNESS,), 1)


def signed(size: int = 700, root: bytes = b"", *, signer: NoteSigner = SIGNER, origin: str = ORIGIN) -> bytes:
    text = checkpoint_text(origin, size, root or (LOG.roots or {})[700])
    return SignedNote(text, (signer.sign(text),)).encode()


def test_the_worked_example_is_verified_and_made_again() -> None:
    found = verify_checkpoint(EXAMPLE.encode(), KEYS)
    assert (found.size, found.root) == (700, (LOG.roots or {})[700])
    assert SIGNER.key == LOG_KEY
    assert str(SIGNER.key).endswith("+AdPgSH/KWo1eEN1qvW/iMdtrMFviaDgjoj/M3xYpcYNH")
    assert EXAMPLE.encode().startswith(signed())
    assert int.from_bytes(found.note.signatures[1].payload[:8], "big") == 1796022000


def test_the_tiles_of_the_worked_example_have_its_sizes() -> None:
    assert {path: len(data) for path, data in TILES.items()} == {
        "tile/0/000": 8192,
        "tile/0/001": 8192,
        "tile/0/002.p/188": 6016,
        "tile/1/000.p/2": 64,
        "tile/entries/000": 30098,
        "tile/entries/001": 30208,
        "tile/entries/002.p/188": 22184,
    }


def test_a_proof_file_is_small_and_verified_offline() -> None:
    checkpoint = parse_checkpoint(EXAMPLE.encode())
    proof = prove_entry(123, checkpoint, ENTRIES[123], TILES.get)
    without_entry = LogProof(proof.index, proof.hashes, proof.checkpoint).encode()
    assert len(without_entry) == 815
    again = parse_proof(proof.encode())
    assert again == proof
    assert verify_proof(again, again.extra, KEYS).size == 700


def test_a_proof_in_a_log_of_100_000_leaves_has_at_most_one_kibibyte() -> None:
    hashes = tuple(bytes([level]) * 32 for level in range(17))  # 2^17 is more than 100,000
    assert len(LogProof(99_999, hashes, signed(100_000)).encode()) <= 1024


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda proof: proof.replace(b"index 123", b"index 124"), "does not lead"),
        (lambda proof: proof.replace(b"index 123", b"index 700"), "leaf 700 of a log of 700"),
        (lambda proof: proof.replace(b"index 123", b"index 0123"), "which entry"),
        (lambda proof: proof.replace(b"index 123\n", b""), "which entry"),
        (lambda proof: proof.replace(b"\n700\n", b"\n701\n"), "altered after it was signed"),
        (lambda proof: proof[proof.index(b"\n\n") + 2 :], "not a proof"),
        (lambda proof: proof[: proof.index(b"\n\n") + 2], "not a signed note"),
        (lambda proof: proof.replace(b"extra ", b"extra !"), "not base64"),
        (lambda proof: proof[: proof.rindex(b"=\n\n") - 20] + proof[proof.rindex(b"=\n\n") - 19 :], "hash"),
        (lambda proof: proof + bytes(1 << 18), "at most"),
    ],
)
def test_an_altered_proof_is_refused(change, expected: str) -> None:
    checkpoint = parse_checkpoint(EXAMPLE.encode())
    data = change(prove_entry(123, checkpoint, ENTRIES[123], TILES.get).encode())
    with pytest.raises(ReconcilerError, match=expected):
        proof = parse_proof(data)
        verify_proof(proof, proof.extra, KEYS)


def test_the_entry_of_a_proof_cannot_be_replaced() -> None:
    proof = prove_entry(5, parse_checkpoint(EXAMPLE.encode()), ENTRIES[5], TILES.get)
    with pytest.raises(DataError, match="does not lead"):
        verify_proof(proof, ENTRIES[6], KEYS)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not a signed note"),
        (b"text\n", "not a signed note"),
        (b"a\n1\nx\n\n", "not a signed note"),
        (signed().replace("— ".encode(), b"- "), "malformed signature line"),
        (signed()[:-1], "not a signed note"),
        (signed().replace(b"\n700\n", b"\r\n700\n"), "not a signed note"),
        (b"\xff" + signed(), "not UTF-8"),
        (bytes(MAX_NOTE + 1), "at most"),
        (signed() + signed().split(b"\n\n")[1] * 70, "65 signatures"),
        (signed().replace(b"\n700\n", b"\n0700\n"), "number of entries"),
        (signed().replace(b"\n700\n", b"\n-7\n"), "number of entries"),
        (signed().replace(b"poO/", b"poO"), "not a hash"),
    ],
)
def test_malformed_checkpoints_are_refused(data: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        parse_checkpoint(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (signed(signer=STRANGER), "not signed by the key e1ac9d03.*but by stranger.example"),
        (signed(origin="example.org/other"), "is of the log 'example.org/other'"),
        (signed(701, (LOG.roots or {})[700]).replace(b"\n701\n", b"\n700\n"), "altered after it was signed"),
        (signed(), "cosignatures of 0 of 1 witnesses, and 1 are required"),
        (EXAMPLE.replace("w1 BnatQgAAAAB", "w1 BnatQgAAAAC").encode(), "witness.example/w1 is wrong"),
        (EXAMPLE.replace("witness.example/w1", "witness.example/w2").encode(), "cosignatures of 0 of 1"),
    ],
)
def test_checkpoints_with_other_signatures_are_not_trusted(data: bytes, expected: str) -> None:
    with pytest.raises(TrustError, match=expected):
        verify_checkpoint(data, KEYS)


def test_signatures_of_unknown_keys_are_ignored_and_one_key_counts_once() -> None:
    note = parse_note(EXAMPLE.encode())
    more = SignedNote(note.text, (STRANGER.sign(note.text), *note.signatures, *note.signatures))
    assert verify_checkpoint(more.encode(), KEYS).size == 700
    assert signers_among(more, (LOG_KEY, LOG_KEY, WITNESS)) == (LOG_KEY, WITNESS)
    assert not is_signed_by(note, STRANGER.key)
    two = LogKeys(LOG_KEY, (WITNESS, WITNESS), 2)
    with pytest.raises(TrustError, match="1 of 2 witnesses"):
        verify_checkpoint(more.encode(), two)


def test_a_new_cosignature_replaces_the_old_one_of_the_same_key() -> None:
    note = parse_note(EXAMPLE.encode())
    newer = NoteSignature(WITNESS.name, WITNESS.id, bytes(72))
    assert with_signatures(note, [newer]).signatures == (note.signatures[0], newer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AQ==",
        str(LOG_KEY).replace("e1ac9d03", "e1ac9d04"),
        str(LOG_KEY) + "=",
        str(LOG_KEY).replace("example.org", "exa mple.org"),
        "PRIVATE+KEY+x+00000000+AQ==",
        str(NoteKey("a", NoteKeyType.ED25519, bytes(31))),
    ],
)
def test_malformed_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_note_key(text)


@pytest.mark.parametrize("text", ["", "x", "PRIVATE+KEY+a+00000000+" + "A" * 44, str(LOG_KEY)])
def test_what_is_no_private_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_note_signer(Secret(text), "the environment variable 'KEY'")
    assert "'KEY' is not a private key of a log" in str(caught.value)
    assert len(text) < 2 or text not in str(caught.value)


def test_a_new_key_signs_and_hides_itself() -> None:
    secret, key = new_note_key("example.org/models")
    signer = parse_note_signer(secret, "it")
    assert signer.key == key == parse_note_key(str(key))
    text = "anything\n"
    assert is_signed_by(SignedNote(text, (signer.sign(text),)), key)
    assert secret.reveal()[-20:] not in f"{signer!r} {secret!r}"
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    with pytest.raises(UsageError, match="cannot name a log"):
        new_note_key("two words")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parsers_raise_anything_else(data: bytes) -> None:
    for parse in (parse_note, parse_checkpoint, parse_proof):
        for each in (data, EXAMPLE.encode()[: len(data)] + data):
            with contextlib.suppress(DataError):
                parse(each)


def test_nothing_but_a_signature_loads_the_library_for_signatures() -> None:
    code = (
        "import sys, reconciler, reconciler.cli.app, reconciler.loop.run, reconciler.loop.audit_log\n"
        "import reconciler.loop.log_sequence, reconciler.consume.remote_index, reconciler.trust.witness\n"
        "print(sorted({'cryptography', 'eth_account', 'sigstore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_the_hint_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(UsageError, match="need the extra `sign`") as caught:
        verify_checkpoint(EXAMPLE.encode(), KEYS)
    assert caught.value.hint == "pip install 'model-reconciler[sign]'"
