"""Cosignatures: asked for with the right proof, verified, and every other answer is a reason or an alarm."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reconciler.errors import Reason, TrustError
from reconciler.net.auth import Secret
from reconciler.trust.checkpoint import (
    Checkpoint,
    LogKeys,
    checkpoint_text,
    parse_checkpoint,
    verify_checkpoint,
)
from reconciler.trust.log import recompute
from reconciler.trust.merkle import consistency_proof
from reconciler.trust.note import (
    NoteKey,
    NoteKeyType,
    NoteSignature,
    NoteSigner,
    SignedNote,
    is_signed_by,
    with_signatures,
)
from reconciler.trust.tiles import TileHashes, make_tiles
from reconciler.trust.witness import OtherSize, Witness, judge_answer, request_body
from tests.support.http_peer import HttpPeer, Said, http_peer
from tests.support.waiting import wait_until
from tests.support.witness_peer import WitnessPeer

LOG = NoteSigner("example.org/acme", Secret("5e" * 32))
ENTRIES = [b"%d" % number for number in range(700)]


def checkpoint(size: int, entries: list[bytes] = ENTRIES, signer: NoteSigner = LOG) -> Checkpoint:
    log = recompute(entries[:size])
    text = checkpoint_text(signer.key.name, size, (log.roots or {})[size])
    return parse_checkpoint(SignedNote(text, (signer.sign(text),)).encode())


def prove(old: int, new: int, entries: list[bytes] = ENTRIES) -> tuple[bytes, ...]:
    log = recompute(entries[:new])
    return consistency_proof(old, new, TileHashes(new, make_tiles(log.entries, log.hashes).get))


def ask(peer: HttpPeer, key: NoteKey, found: Checkpoint, old: int, entries: list[bytes] = ENTRIES):
    with closing(Witness(key, peer.url)) as witness:
        return witness.cosign(found, old, lambda a, b: prove(a, b, entries))


@pytest.fixture
def witness() -> WitnessPeer:
    return WitnessPeer("witness.example/w1", [LOG.key])


@pytest.fixture
def peer(witness: WitnessPeer) -> Iterator[HttpPeer]:
    with http_peer(witness) as made:
        yield made


def test_the_body_of_a_request() -> None:
    found = checkpoint(700)
    body = request_body(600, prove(600, 700), found).decode()
    head, _, note = body.partition("\n\n")
    assert head.split("\n")[0] == "old 600"
    assert note.encode() == found.note.encode()
    assert request_body(0, (), found).startswith(b"old 0\n\nexample.org/acme\n700\n")


def test_a_witness_cosigns_a_log_that_grows(witness: WitnessPeer, peer: HttpPeer) -> None:
    for old, new in ((0, 600), (600, 700), (700, 700)):
        found = checkpoint(new)
        cosignature = ask(peer, witness.key, found, old)
        assert isinstance(cosignature, NoteSignature)
        note = with_signatures(found.note, [cosignature])
        verify_checkpoint(note.encode(), LogKeys(LOG.key, (witness.key,), 1))
    assert len(peer.asked) == 3


def test_a_witness_that_has_another_size_is_asked_once_more(witness: WitnessPeer, peer: HttpPeer) -> None:
    witness.seen[LOG.key.name] = 600, checkpoint(600).root
    assert isinstance(ask(peer, witness.key, checkpoint(700), 0), NoteSignature)
    assert len(peer.asked) == 2
    witness.says = [Said(409, b"5\n"), Said(409, b"6\n")]
    assert "says twice" in ask(peer, witness.key, checkpoint(700), 0).text


def test_a_forked_and_a_truncated_log_are_alarms(witness: WitnessPeer, peer: HttpPeer) -> None:
    ask(peer, witness.key, checkpoint(600), 0)
    other = ENTRIES[::-1]
    for size in (600, 700):
        with pytest.raises(TrustError, match=r"has cosigned another history of example.org/acme") as caught:
            ask(peer, witness.key, checkpoint(size, other), 600, other)
        assert caught.value.exit_code == 4
    with pytest.raises(TrustError, match=r"has cosigned 600 entries .* and the log here has 500"):
        ask(peer, witness.key, checkpoint(500), 0)


def test_an_unknown_log_and_an_unknown_key_are_reasons(witness: WitnessPeer, peer: HttpPeer) -> None:
    for signer in (
        NoteSigner("example.org/other", Secret("5e" * 32)),
        NoteSigner(LOG.key.name, Secret("5f" * 32)),
    ):
        found = ask(peer, witness.key, checkpoint(9, signer=signer), 0)
        assert isinstance(found, Reason)
        assert "does not know the log, or not its key" in found.text
        assert found.hint == "ask its operator to add them"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", "has no signatures"),
        (200, b"<html>", "malformed signature line"),
        (200, b"\xff", "codec can't decode"),
        (409, b"many", "does not say which size"),
        (409, b"9" * 30, "does not say which size"),
        (400, b"malformed \x1b[31m", r"refused the checkpoint \(HTTP 400\): malformed"),
        (500, b"", "HTTP 500"),
        (302, b"", "HTTP 302"),
    ],
)
def test_other_answers_are_reasons(
    peer: HttpPeer, witness: WitnessPeer, status: int, body: bytes, expected: str
) -> None:
    witness.says = [Said(status, body)] * 9
    found = ask(peer, witness.key, checkpoint(9), 0)
    assert isinstance(found, Reason)
    assert re.search(expected, found.text)
    assert "\x1b" not in found.text
    assert found.text.startswith("the witness witness.example/w1: ")


def test_cosignatures_of_others_or_over_something_else_do_not_count(witness: WitnessPeer) -> None:
    found, name = checkpoint(9), "it"
    stranger = WitnessPeer("witness.example/w1", [], seed=b"x" * 32)
    good = witness.cosign(found.note.text)
    assert (
        judge_answer(
            200, (stranger.cosign(found.note.text).line() + good.line()).encode(), found, witness.key, name
        )
        == good
    )
    for line in (
        stranger.cosign(found.note.text),
        witness.cosign(checkpoint(8).note.text),
        NoteSignature(good.name, good.key_id, good.payload[:-1]),
        NoteSignature(good.name, good.key_id, good.payload[8:]),
        NoteSignature(good.name, good.key_id, bytes(8) + good.payload[8:]),
    ):
        assert isinstance(judge_answer(200, line.line().encode(), found, witness.key, name), Reason)
    assert judge_answer(409, b"5\n", found, witness.key, name) == OtherSize(5)


def test_a_witness_that_cannot_be_reached_is_a_reason(witness: WitnessPeer) -> None:
    with closing(Witness(witness.key, "http://127.0.0.1:1")) as opened:
        found = opened.cosign(checkpoint(9), 0, prove)
    assert isinstance(found, Reason)
    assert "cannot be reached" in found.text


# -- litewitness of filippo.io/torchwood ---------------------------------------------------------------------


@contextmanager
def litewitness(directory: Path) -> Iterator[tuple[str, NoteKey]]:
    """Start litewitness with a new key in an agent, and the log LOG in its database."""
    key, agent, database = directory / "key", directory / "agent", directory / "witness.db"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()[1]
    witness = NoteKey("witness.example/lite", NoteKeyType.COSIGNATURE, base64.b64decode(public)[-32:])
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute(
            "CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)"
        )
        opened.execute("CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL)")
        empty = base64.b64encode((recompute([]).roots or {})[0]).decode()
        opened.execute("INSERT INTO log VALUES (?, 0, ?)", (LOG.key.name, empty))
        opened.execute("INSERT INTO key VALUES (?, ?)", (LOG.key.name, str(LOG.key)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = [subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL)]
    try:
        wait_until("the agent", agent.exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        print_ = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True)
        flags = ["-name", witness.name, "-db", database, "-ssh-agent", agent, "-listen", address]
        command = ["litewitness", *flags, "-key", print_.stdout.split()[1]]
        with (directory / "out").open("w") as out:
            running.append(subprocess.Popen(command, stdout=out, stderr=out))
        wait_until("the witness", lambda: can_connect(address))
        yield f"http://{address}", witness
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def can_connect(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@pytest.mark.litewitness
def test_a_real_witness_cosigns_and_raises_the_alarm(tmp_path: Path) -> None:
    with litewitness(tmp_path) as (url, key), closing(Witness(key, url)) as witness:
        for old, new in ((0, 600), (0, 700), (700, 700)):
            found = checkpoint(new)
            cosignature = witness.cosign(found, old, prove)
            assert isinstance(cosignature, NoteSignature), cosignature
            assert is_signed_by(SignedNote(found.note.text, (cosignature,)), key)
        other = ENTRIES[::-1]
        with pytest.raises(TrustError, match="another history"):
            witness.cosign(checkpoint(700, other), 700, lambda a, b: prove(a, b, other))
        with pytest.raises(TrustError, match="and the log here has 500"):
            witness.cosign(checkpoint(500), 0, prove)
        unknown = checkpoint(9, signer=NoteSigner("example.org/other", Secret("5e" * 32)))
        assert "does not know the log" in witness.cosign(unknown, 0, prove).text
