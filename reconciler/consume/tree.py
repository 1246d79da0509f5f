"""The tree blocks of a root from the sources, read ahead, and with them everything there is to know of it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from reconciler.consume.peers import Peers
from reconciler.content import dagpb
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.walk import DagMap, walk

_THREADS = 8
_AHEAD = 16  # blocks read ahead, of 2 MiB at most


def read_tree(root: Cid, peers: Peers) -> DagMap:
    """The map of the DAG under `root`, proven from its tree blocks.

    Raises BlockUnavailable when no source has one of them, DataError when they make no DAG; the sources are
    closed then.
    """
    if root.codec == RAW:
        return walk(root, peers.read_block, raw_size=len(peers.read_block(root)))
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tree")
    try:
        return walk(root, _Ahead(peers, pool).read)
    except BaseException:
        peers.close()  # or what is on its way would have to be waited for
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Ahead:
    """Reads the blocks that a node links to while the node itself is examined."""

    def __init__(self, peers: Peers, pool: ThreadPoolExecutor) -> None:
        self._peers = peers
        self._pool = pool
        self._coming: dict[Cid, Future[bytes]] = {}
        self._asked: set[Cid] = set()

    def read(self, cid: Cid) -> bytes:
        self._asked.add(cid)
        coming = self._coming.pop(cid, None)
        block = coming.result() if coming is not None else self._peers.read_block(cid)
        for link in dagpb.decode(block).links:
            if len(self._coming) >= _AHEAD:
                break
            if link.cid.codec == DAG_PB and link.cid not in self._asked:
                self._asked.add(link.cid)
                self._coming[link.cid] = self._pool.submit(self._peers.read_block, link.cid)
        return block
