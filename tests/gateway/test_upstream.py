from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.gateway.admission import ServeLimits
from reconciler.gateway.app import GatewayApp
from reconciler.gateway.stores import MissingBlockError
from reconciler.gateway.upstream import BlockCache, UpstreamStores
from tests.support.dags import MemoryDag, memory_dag
from tests.support.gateway import keep

BIG = bytes(range(256)) * 12_000
DAG = memory_dag({"config.json": b"{}\n", "weights.bin": BIG})
ROOT = DAG.layout.root
LEAF = next(block.cid for block in DAG.layout if block.cid.codec == RAW)


class Source:
    """A source with the blocks of a DAG, which counts the requests."""

    def __init__(self, dag: MemoryDag | None = DAG, fails: Exception | None = None) -> None:
        self.name = "upstream"
        self.asked: list[Cid] = []
        self._dag = dag
        self._fails = fails

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        del size
        self.asked.append(cid)
        if self._fails:
            raise self._fails
        if self._dag is None or cid not in self._dag.blocks:
            raise BlockUnavailableError(f"no block {cid}")
        return self._dag.blocks[cid]


def ignore(_: str) -> None:
    """Take a line of the log."""


def stores(
    directory: Path, *sources: Source, limit: int | None = None, log: Callable[[str], None] = ignore
) -> UpstreamStores:
    cache = BlockCache(directory / "cache", limit, log=log)
    return UpstreamStores([directory / "store"], sources, cache, lambda root: root == ROOT)


def walk(subject: UpstreamStores) -> None:
    """Read every block, parents first."""
    for block in DAG.layout:
        assert subject.read(block.cid) == DAG.blocks[block.cid]


def test_a_block_is_fetched_once(tmp_path: Path) -> None:
    source = Source()
    for _ in range(2):
        walk(stores(tmp_path, source))
    assert sorted(source.asked) == sorted(DAG.blocks)


def test_what_a_store_has_is_not_fetched(tmp_path: Path) -> None:
    keep(tmp_path / "store", DAG)
    source = Source()
    subject = stores(tmp_path, source)
    subject.refresh()
    walk(subject)
    assert source.asked == []


def test_only_blocks_of_the_index_are_fetched(tmp_path: Path) -> None:
    other = memory_dag({"a": b"of another version"})
    source = Source(other)
    subject = stores(tmp_path, source, Source())
    for cid in (*other.blocks, LEAF):
        with pytest.raises(MissingBlockError):
            subject.read(cid)
    assert source.asked == []
    subject.verify(LEAF)
    assert source.asked == [], "a leaf that no read block links to"
    subject.read(ROOT)
    assert LEAF in DAG.blocks


def test_a_damaged_block_of_the_cache_is_fetched_again(tmp_path: Path) -> None:
    source = Source()
    subject = stores(tmp_path, source)
    walk(subject)
    file = tmp_path / "cache" / str(LEAF)[-2:] / str(LEAF)
    file.write_bytes(b"damaged")
    assert subject.read(LEAF) == DAG.blocks[LEAF]
    assert source.asked.count(LEAF) == 2
    assert file.read_bytes() == DAG.blocks[LEAF]


@pytest.mark.parametrize("failure", [PeerError("is down"), BlockUnavailableError("has sent wrong bytes")])
def test_the_next_source_is_asked_when_one_fails(tmp_path: Path, failure: Exception) -> None:
    failing, good = Source(fails=failure), Source()
    walk(stores(tmp_path, failing, good))
    assert sorted(good.asked) == sorted(DAG.blocks)


def test_a_source_that_is_down_is_another_error_than_one_without_the_block(tmp_path: Path) -> None:
    with pytest.raises(MissingBlockError):
        stores(tmp_path, Source(None)).read(ROOT)
    with pytest.raises(BlockUnavailableError) as caught:
        stores(tmp_path, Source(None), Source(fails=PeerError("is down"))).read(ROOT)
    assert not isinstance(caught.value, MissingBlockError)
    assert "is down" in caught.value.message


def test_concurrent_readers_share_one_request(tmp_path: Path) -> None:
    reached, go = threading.Event(), threading.Event()

    class Slow(Source):
        def read_block(self, cid: Cid, size: int | None) -> bytes:
            reached.set()
            assert go.wait(60)
            return super().read_block(cid, size)

    source = Slow()
    subject = stores(tmp_path, source)
    found: list[bytes] = []
    readers = [threading.Thread(target=lambda: found.append(subject.read(ROOT))) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert reached.wait(60)
    go.set()
    for reader in readers:
        reader.join(60)
    assert found == [DAG.blocks[ROOT]] * 4
    assert len(source.asked) < 4


def test_the_cache_keeps_to_its_limit(tmp_path: Path) -> None:
    subject = stores(tmp_path, Source(), limit=1 << 20)
    walk(subject)
    kept = sum(file.stat().st_size for file in (tmp_path / "cache").glob("??/*"))
    assert 0 < kept <= 1 << 20
    walk(subject)


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"in the way")
    lines: list[str] = []
    walk(stores(tmp_path, Source(), log=lines.append))
    assert any("cannot be kept" in line for line in lines)


def test_an_unknown_block_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingBlockError):
        stores(tmp_path, Source()).read(hash_block(RAW, b"nowhere"))


def test_a_poisoned_cache_sends_nothing_and_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache" / str(LEAF)[-2:] / str(LEAF)
    file.parent.mkdir(parents=True)
    cache = BlockCache(tmp_path / "cache", None, log=ignore)
    with file.open("wb") as huge:
        huge.truncate(1 << 40)
    assert cache.read(LEAF) is None
    file.mkdir()
    assert cache.read(LEAF) is None
    file.rmdir()
    file.symlink_to("/dev/zero")
    assert cache.read(LEAF) is None
    file.write_bytes(b"wrong")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cache.read(LEAF) is None


def test_requests_that_wait_for_an_upstream_leave_threads_for_the_others(tmp_path: Path) -> None:
    gateway = GatewayApp(stores(tmp_path), [], limits=ServeLimits(), log=ignore)
    go = threading.Event()

    def wait() -> None:
        assert go.wait(60)

    for _ in range(16):
        gateway.threads.submit(wait)
    assert gateway.threads.submit(lambda: 1).result(60) == 1
    go.set()
    gateway.close()
