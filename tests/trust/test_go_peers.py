"""Notes, tiles and proofs against Go's packages for them (golang.org/x/mod, transparency-dev, torchwood)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.errors import DataError
from reconciler.net.auth import Secret
from reconciler.trust.checkpoint import checkpoint_text, parse_checkpoint
from reconciler.trust.log import prove_entry, recompute
from reconciler.trust.note import (
    NoteKeyType,
    SignedNote,
    is_signed_by,
    new_note_key,
    parse_note,
    parse_note_key,
    parse_note_signer,
    with_signatures,
)
from reconciler.trust.tiles import make_tiles
from tests.support.go_programs import go_program
from tests.support.witness_peer import WitnessPeer

pytestmark = [pytest.mark.go, pytest.mark.slow]

ENTRIES = [b'{"number":%d}' % number for number in range(700)]


@pytest.fixture(scope="module")
def peer() -> Path:
    """Return the program that checks logs in Go."""
    found = go_program("tlog_peer")
    if found is None:
        pytest.skip("its Go modules cannot be had")
    return found


def run(peer: Path, *arguments: str, text: str = "") -> str:
    done = subprocess.run([peer, *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, str, Secret]:
    """Write a signed log; return its directory, its verifier key and its private key."""
    secret, key = new_note_key("example.org/log")
    found = recompute(ENTRIES)
    text = checkpoint_text(key.name, found.size, (found.roots or {})[found.size])
    note = SignedNote(text, (parse_note_signer(secret, "it").sign(text),))
    for path, data in {**make_tiles(found.entries, found.hashes), "checkpoint": note.encode()}.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path, str(key), secret


def test_go_accepts_the_log_every_inclusion_and_every_consistency_proof(peer: Path, log) -> None:
    directory, key, _ = log
    assert run(peer, "log", str(directory), key) == "700\n"


def test_go_accepts_our_witness(peer: Path, log) -> None:
    directory, key, _ = log
    witness = WitnessPeer("witness.example/w", [])
    note = parse_note((directory / "checkpoint").read_bytes())
    (directory / "checkpoint").write_bytes(with_signatures(note, [witness.cosign(note.text)]).encode())
    assert run(peer, "log", str(directory), key, str(witness.key)) == "700\n"
    with pytest.raises(ValueError, match=r"no verifiable signatures|invalid signature"):
        run(peer, "log", str(directory), key, str(WitnessPeer("witness.example/v", []).key))


def test_go_refuses_the_log_with_one_byte_changed(peer: Path, log) -> None:
    directory, key, _ = log
    for path in ("checkpoint", "tile/0/001", "tile/entries/002.p/188", "tile/1/000.p/2"):
        file = directory / path
        data = file.read_bytes()
        file.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        with pytest.raises(ValueError):
            run(peer, "log", str(directory), key)
        file.write_bytes(data)


def test_go_accepts_the_proof_file(peer: Path, log, tmp_path: Path) -> None:
    directory, key, _ = log
    checkpoint = parse_checkpoint((directory / "checkpoint").read_bytes())
    for index in (0, 255, 256, 699):
        read = lambda path: (directory / path).read_bytes()  # noqa: E731
        proof = prove_entry(index, checkpoint, ENTRIES[index], read)
        file = tmp_path / "it.tlog-proof"
        file.write_bytes(proof.encode())
        assert run(peer, "proof", str(file), key) == f'{{"number":{index}}}\n'


def test_a_note_signed_by_go_with_our_key_is_ours_byte_for_byte(peer: Path, log) -> None:
    _, key, secret = log
    text = "example.org/log\n1\nAAAA\n"
    found = run(peer, "sign", secret.reveal(), text=text)
    assert found == str(SignedNote(text, (parse_note_signer(secret, "it").sign(text),)))
    assert is_signed_by(parse_note(found.encode()), parse_note_key(key))


def test_a_cosignature_with_ml_dsa_of_go_is_verified(peer: Path) -> None:
    text = checkpoint_text("example.org/log", 700, bytes(range(32)))
    key, _, note = run(peer, "mldsa", "witness.example", text=text).partition("\n")
    found, parsed = parse_note_key(key), parse_note(note.encode())
    assert found.type is NoteKeyType.ML_DSA_44
    assert is_signed_by(parsed, found)
    with pytest.raises(DataError, match="altered"):
        is_signed_by(SignedNote(parsed.text.replace("700", "701"), parsed.signatures), found)
