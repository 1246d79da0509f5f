"""A session that sends leaves to a Kubo node, directly or through a cluster, before the root is known.

Leaves are imported as they come, without a pin: there is nothing yet that a pin could name. A garbage
collection of the node in the meantime may remove them. No temporary pins are set against that: each would be
a stranger's pin to other programs, and a leak after a kill. `finish` publishes as for any other DAG: it looks
up every block, sends what is missing again, proves the DAG complete, and pins it. So a collection costs
bytes, never a version. A node whose collections are frequent should run without `--enable-gc` meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.net.response import UploadBody
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, IngestedBlock

#: publishes under the label of the session
PublishDag = Callable[[Dag, Progress], Delivery]


def blocks_car(blocks: Sequence[IngestedBlock]) -> UploadBody:
    """Return a CAR with `blocks`, whose header names the first of them."""
    parts = [car.header(blocks[0].cid)]
    for block in blocks:
        parts += [car.section_prefix(block.cid, len(block.data)), block.data]

    def chunks() -> Iterator[bytes]:
        return iter(parts)

    return UploadBody(sum(map(len, parts)), chunks, "application/vnd.ipld.car")


class BlockIngest:
    """One session that imports with `send` and publishes with `publish`.

    `read` returns a block that the target has, verified, or None.
    """

    def __init__(
        self,
        send: Callable[[UploadBody], object],
        read: Callable[[Cid], bytes | None],
        publish: PublishDag,
    ) -> None:
        self._send = send
        self._read = read
        self._publish = publish
        self._lock = Lock()
        self._has: set[Cid] = set()
        self._sent = self._blocks = 0

    def held(self, position: int, cid: Cid | None) -> bytes | None:  # noqa: ARG002  a node knows CIDs only
        """Implement IngestSession.held."""
        if cid is None:
            return None
        data = self._read(cid)
        if data is not None:
            with self._lock:
                self._has.add(cid)
        return data

    def put(self, blocks: Sequence[IngestedBlock]) -> None:
        """Implement IngestSession.put."""
        with self._lock:
            new = list({block.cid: block for block in blocks if block.cid not in self._has}.values())
        if not new:
            return
        self._send(blocks_car(new))
        with self._lock:
            self._has.update(block.cid for block in new)
            self._sent += sum(len(block.data) for block in new)
            self._blocks += len(new)

    def finish(self, dag: Dag, progress: Progress) -> Delivery:
        """Implement IngestSession.finish."""
        delivery = self._publish(dag, progress)
        return Delivery(
            delivery.state,
            delivery.bytes_sent + self._sent,
            delivery.blocks_sent + self._blocks,
            delivery.detail,
            delivery.pieces,
        )

    def abandon(self) -> None:
        """Implement IngestSession.abandon: the node collects what was sent."""
