"""Remote indexes: cached, revalidated, usable offline, and never rolled back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.consume.local_sources import NamedSource
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


def test_an_index_is_read_once_and_then_revalidated(tmp_path: Path) -> None:
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        file = open_remote(where(peer), tmp_path).file
        assert file.read_bytes() == host.body
        open_remote(where(peer), tmp_path)
        asked_for = [
            (asked.target.rpartition("/")[2], bool(asked.headers.get("if-none-match")))
            for asked in peer.asked
        ]
        assert asked_for == [("index.yaml", False), ("checkpoint", False), ("index.yaml", True)]
        host.body = text(v1=CID_A, v2=CID_B)
        assert open_remote(where(peer), tmp_path).file.read_bytes() == host.body
    assert open_remote(where(peer), tmp_path, offline=True).file.read_bytes() == host.body
    with pytest.raises(PeerError, match="cannot be reached"):
        open_remote(where(peer), tmp_path)


def test_offline_an_index_that_is_not_cached_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not cached on this machine"):
        open_remote("https://example.com/index.yaml", tmp_path, offline=True)


@pytest.mark.parametrize(
    ("older", "message"),
    [(text(v1=CID_A), "no longer contains llm@2.0.0"), (text(v1=CID_B, v2=CID_B), "had bafybeif7z.* before")],
)
def test_a_rollback_is_refused_and_the_newer_index_stays(tmp_path: Path, older: bytes, message: str) -> None:
    newer = text(v1=CID_A, v2=CID_B)
    host = Host(newer)
    with http_peer(host) as peer:
        open_remote(where(peer), tmp_path)
        host.body = older
        for _ in range(2):
            with pytest.raises(SafetyError, match=message):
                open_remote(where(peer), tmp_path)
        assert open_remote(where(peer), tmp_path, offline=True).file.read_bytes() == newer
        host.body = newer
        open_remote(where(peer), tmp_path)


@pytest.mark.parametrize("body", [b"<html>", b"models: [", bytes(10), b"schema: 1\n"])
def test_an_invalid_index_is_not_cached(tmp_path: Path, body: bytes) -> None:
    host = Host(body)
    with http_peer(host) as peer:
        with pytest.raises(InvalidIndexError):
            open_remote(where(peer), tmp_path)
        with pytest.raises(UsageError):
            open_remote(where(peer), tmp_path, offline=True)
        host.body = text(v1=CID_A)
        open_remote(where(peer), tmp_path)


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_an_error_status_is_a_peer_error(tmp_path: Path, status: int) -> None:
    host = Host(text(v1=CID_A))
    host.status = status
    with http_peer(host) as peer, pytest.raises(PeerError):
        open_remote(where(peer), tmp_path)


def test_an_index_under_a_cid_is_read_from_verified_blocks(tmp_path: Path) -> None:
    packer = Packer()
    root = packer.pack({"releases": {"index.yaml": text(v1=CID_A)}}).cid
    source = NamedSource("memory", DagBlocks(MemoryDag(root, packer.blocks)))
    place = f"ipfs://{root}/releases/index.yaml"
    assert open_remote(place, tmp_path, sources=[source]).file.read_bytes() == text(v1=CID_A)
    assert open_remote(place, tmp_path).file.read_bytes() == text(v1=CID_A), (
        "it cannot change, so it is read from the cache"
    )


@pytest.mark.parametrize("place", ["ftp://host/index.yaml", "git://host/repo"])
def test_unknown_schemes_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot read an index from"):
        open_remote(place, tmp_path)


def test_concurrent_readers_all_get_the_index(tmp_path: Path) -> None:
    """As when a machine starts eight workers."""
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: open_remote(where(peer), tmp_path).file.read_bytes(), range(8))
        assert set(found) == {host.body}


@pytest.mark.parametrize("tags", [True, False])
def test_a_slow_reader_of_an_older_index_does_not_replace_a_newer_one(tmp_path: Path, tags: bool) -> None:
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
def test_a_damaged_memory_of_versions_is_an_error(tmp_path: Path, damage: bytes) -> None:
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        memory = open_remote(where(peer), tmp_path).file.with_name("seen.json")
        memory.write_bytes(damage)
        host.body = text(v1=CID_A, v2=CID_B)
        with pytest.raises(UsageError, match="is damaged, so a rollback of the index could not be detected"):
            open_remote(where(peer), tmp_path)
        memory.unlink()
        open_remote(where(peer), tmp_path)


def test_a_damaged_cached_index_is_read_again(tmp_path: Path) -> None:
    """The tag is not used, since the cached bytes are not those that it belongs to."""
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        file = open_remote(where(peer), tmp_path).file
        file.write_bytes(b"")
        assert open_remote(where(peer), tmp_path).file.read_bytes() == host.body


def test_an_index_is_read_where_nothing_can_be_cached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    host = Host(text(v1=CID_A))
    with http_peer(host) as peer:
        for _ in range(2):
            found = open_remote(where(peer), tmp_path / "file" / "cache")
            assert found.file.read_bytes() == host.body
    assert (tmp_path / "file").read_text() == ""


def test_a_rollback_is_refused_where_the_cache_became_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(text(v1=CID_A, v2=CID_B))
    with http_peer(host) as peer:
        kept = open_remote(where(peer), tmp_path).file
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != kept.parent and real(path, mode))
        host.body = text(v1=CID_A)
        with pytest.raises(SafetyError, match=r"no longer contains llm@2\.0\.0"):
            open_remote(where(peer), tmp_path)
        host.body = text(v1=CID_A, v2=CID_B, v3=CID_A)
        assert open_remote(where(peer), tmp_path).file.parent != kept.parent
