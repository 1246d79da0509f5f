"""An index elsewhere: read once, revalidated, usable offline, and never rolled back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.consume.local import Blocks
from reconciler.consume.remote_index import open_remote
from reconciler.errors import InvalidIndexError, PeerError, SafetyError, UsageError
from reconciler.targets.healing import DagBlocks
from tests.support.dags import Blocks as Packer
from tests.support.dags import MemoryDag
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

CID_A = "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"
CID_B = "bafybeihmoglmxezqm6bqoiauzrvzwg3c46fp22wrm2b2of6jwewj5j2tdq"


def text(**versions: str) -> bytes:
    lines = [f'      "{version[1:]}.0.0": {{cid: {cid}}}\n' for version, cid in versions.items()]
    return ("schema: 1\nid: acme\nmodels:\n  llm:\n    versions:\n" + "".join(lines)).encode()


class Host:
    """Serves `body` with an ETag, or fails with `status`."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = 200
        self.tags = True

    def __call__(self, asked: Asked) -> Said:
        tag = f'"{hash(self.body)}"' if self.tags else ""
        if asked.headers.get("if-none-match") == tag:
            return Said(304, b"")
        return Said(self.status, self.body, {"ETag": tag})


def where(peer: HttpPeer) -> str:
    return f"{peer.url}/acme/models/main/releases/index.yaml"


def test_it_is_read_once_and_then_only_asked_for_again(tmp_path: Path) -> None:
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        file = open_remote(where(peer), tmp_path).file
        assert file.read_bytes() == host.body
        open_remote(where(peer), tmp_path)
        assert [bool(asked.headers.get("if-none-match")) for asked in peer.asked] == [False, True]
        host.body = text(v1=CID_A, v2=CID_B)
        assert open_remote(where(peer), tmp_path).file.read_bytes() == host.body
    assert open_remote(where(peer), tmp_path, offline=True).file.read_bytes() == host.body
    with pytest.raises(PeerError, match="cannot be reached"):
        open_remote(where(peer), tmp_path)


def test_offline_what_was_never_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was never read on this machine"):
        open_remote("https://example.com/index.yaml", tmp_path, offline=True)


@pytest.mark.parametrize(
    ("older", "said"),
    [(text(v1=CID_A), "no longer knows llm@2.0.0"), (text(v1=CID_B, v2=CID_B), "said bafybeif7z.* before")],
)
def test_a_rollback_is_refused_and_the_newer_one_stays(tmp_path: Path, older: bytes, said: str) -> None:
    newer = text(v1=CID_A, v2=CID_B)
    host = Host(newer)
    with http_peer(host) as peer:
        open_remote(where(peer), tmp_path)
        host.body = older
        for _ in range(2):
            with pytest.raises(SafetyError, match=said):
                open_remote(where(peer), tmp_path)
        assert open_remote(where(peer), tmp_path, offline=True).file.read_bytes() == newer
        host.body = newer
        open_remote(where(peer), tmp_path)


@pytest.mark.parametrize("body", [b"<html>", b"models: [", bytes(10), b"schema: 1\n"])
def test_what_is_no_index_is_not_kept(tmp_path: Path, body: bytes) -> None:
    host = Host(body)
    with http_peer(host) as peer:
        with pytest.raises(InvalidIndexError):
            open_remote(where(peer), tmp_path)
        with pytest.raises(UsageError):
            open_remote(where(peer), tmp_path, offline=True)
        host.body = text(v1=CID_A)
        open_remote(where(peer), tmp_path)


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_an_answer_that_is_no_index_is_the_hosts_error(tmp_path: Path, status: int) -> None:
    host = Host(text(v1=CID_A))
    host.status = status
    with http_peer(host) as peer, pytest.raises(PeerError):
        open_remote(where(peer), tmp_path)


def test_an_index_under_a_cid_is_read_from_verified_blocks(tmp_path: Path) -> None:
    packer = Packer()
    root = packer.pack({"releases": {"index.yaml": text(v1=CID_A)}}).cid
    source = Blocks("memory", DagBlocks(MemoryDag(root, packer.blocks)))
    place = f"ipfs://{root}/releases/index.yaml"
    assert open_remote(place, tmp_path, sources=[source]).file.read_bytes() == text(v1=CID_A)
    assert open_remote(place, tmp_path).file.read_bytes() == text(v1=CID_A), (
        "it cannot change, so nobody is asked"
    )


@pytest.mark.parametrize("place", ["ftp://host/index.yaml", "git://host/repo"])
def test_other_places_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot read an index from"):
        open_remote(place, tmp_path)


def test_many_readers_at_once_do_not_meet(tmp_path: Path) -> None:
    """As when a machine starts eight workers: each gets the index."""
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: open_remote(where(peer), tmp_path).file.read_bytes(), range(8))
        assert set(found) == {host.body}


@pytest.mark.parametrize("tags", [True, False])
def test_who_read_the_older_one_while_another_kept_the_newer_is_no_rollback(
    tmp_path: Path, tags: bool
) -> None:
    older, newer = text(v1=CID_A), text(v1=CID_A, v2=CID_B)
    host = Host(older)
    host.tags = tags
    inner = False

    def slow(asked: Asked) -> Said:
        nonlocal inner
        said = host(asked)
        if not inner:
            inner = True
            host.body = newer
            assert open_remote(where(peer), tmp_path).file.read_bytes() == newer
        return said

    with http_peer(slow) as peer:
        assert open_remote(where(peer), tmp_path).file.read_bytes() == newer


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"null"])
def test_a_memory_that_does_not_hold_is_said_and_never_taken_for_none(tmp_path: Path, damage: bytes) -> None:
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        memory = open_remote(where(peer), tmp_path).file.with_name("seen.json")
        memory.write_bytes(damage)
        host.body = text(v1=CID_A, v2=CID_B)
        with pytest.raises(UsageError, match="does not hold, so that a rollback could not be seen"):
            open_remote(where(peer), tmp_path)
        memory.unlink()
        open_remote(where(peer), tmp_path)


def test_a_copy_that_was_damaged_is_read_again(tmp_path: Path) -> None:
    """Its tag says nothing about bytes that are no longer those it came with."""
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        file = open_remote(where(peer), tmp_path).file
        file.write_bytes(b"")
        assert open_remote(where(peer), tmp_path).file.read_bytes() == host.body
