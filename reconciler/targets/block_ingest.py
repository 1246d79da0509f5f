"""A session that sends leaves to a Kubo node, directly or through a cluster, before the root is known.

Leaves are imported as they come, without a pin: there is nothing yet that a pin could name. A garbage
collection of the node in the meantime may remove them. `finish` publishes as for any other DAG: it looks up
every block, sends what is missing again, proves the DAG complete, and pins it. So a collection costs bytes,
never a version. A node whose collections are frequent should run without `--enable-gc` meanwhile.

A part of a version waits longer, for sessions on other machines. `keep` pins a directory of its leaves under
a label of the part, which protects them and tells other machines which leaves there are. `finish` removes
these pins, after that of the whole version is set (docs/decisions/0011-parts-of-a-version.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from threading import Lock

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.part_dag import PartDag, read_part
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.index.label import Label
from reconciler.index.part import Part, is_part_of, part_label, part_of_label
from reconciler.net.response import UploadBody
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, IngestedBlock, Pin, State

_STREAMS = {False: 2, True: 8}  # one does not saturate a node; True: far away
#: publishes under the label of the session; the blocks in the set were read back and verified in it
PublishDag = Callable[[Dag, Progress, Set[Cid]], Delivery]


@dataclass(frozen=True, slots=True)
class PartPins:
    """The pins that keep parts of the version of `label` for sessions with `key`.

    `pins` lists all pins of the target, `read` returns a block that it has, verified, or None, `pin` makes it
    keep a part under a label, and `unpin` removes a label from a root.
    """

    label: Label
    key: str
    pins: Callable[[], Iterable[Pin]]
    read: Callable[[Cid], bytes | None]
    pin: Callable[[PartDag, Label, Progress], Delivery]
    unpin: Callable[[Cid, Label], None]

    def parts(self) -> dict[Part, dict[int, Cid]]:
        """Return the leaves of each part by position; none for what is not a part, or is of another key."""
        found: dict[Part, dict[int, Cid]] = {}
        for pin in self._own():
            part = part_of_label(Label(pin.label))
            try:
                leaves = read_part(pin.root, self.key, self._read)
            except (BlockUnavailableError, DataError):
                continue
            if part is not None and leaves:
                found[part] = leaves
        return found

    def release(self) -> None:
        """Remove the pins of all parts of the version."""
        for pin in self._own():
            self.unpin(pin.root, Label(pin.label))

    def _own(self) -> list[Pin]:
        return [pin for pin in self.pins() if is_part_of(pin.label, self.label)]

    def _read(self, cid: Cid) -> bytes:
        data = self.read(cid)
        if data is None:
            raise BlockUnavailableError(f"block {cid} is missing or damaged")
        return data


def blocks_car(blocks: Sequence[IngestedBlock]) -> UploadBody:
    """Return a CAR with `blocks`, whose header names the first of them."""
    parts = [car.header(blocks[0].cid)]
    for block in blocks:
        parts += [car.section_prefix(block.cid, len(block.data)), bytes(block.data)]

    def chunks() -> Iterator[bytes]:
        return iter(parts)

    return UploadBody(sum(map(len, parts)), chunks, "application/vnd.ipld.car")


class BlockIngest:
    """One session that imports with `send` and publishes with `publish`; `parts` are pins of the version.

    `far` is whether a network is between the node and us.
    """

    def __init__(
        self,
        send: Callable[[UploadBody], object],
        publish: PublishDag,
        parts: PartPins,
        *,
        far: bool = False,
    ) -> None:
        self.streams = _STREAMS[far]
        self._send = send
        self._publish = publish
        self._parts = parts
        self._lock = Lock()
        self._has: set[Cid] = set()
        self._read_back: set[Cid] = set()
        self._sent = self._blocks = 0

    def held(self, position: int, cid: Cid | None) -> bytes | None:  # noqa: ARG002  a node knows CIDs only
        """Implement IngestSession.held."""
        if cid is None:
            return None
        data = self._parts.read(cid)
        if data is not None:
            with self._lock:
                self._has.add(cid)
                self._read_back.add(cid)
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

    def kept(self) -> dict[int, Cid]:
        """Implement IngestSession.kept."""
        return {position: cid for leaves in self._parts.parts().values() for position, cid in leaves.items()}

    def keep(self, dag: PartDag, part: Part, progress: Progress) -> Delivery:
        """Implement IngestSession.keep."""
        return self._counted(self._parts.pin(dag, part_label(self._parts.label, part), progress))

    def finish(self, dag: Dag, progress: Progress) -> Delivery:
        """Implement IngestSession.finish. The parts stay if the version is not pinned."""
        delivery = self._publish(dag, progress, self._read_back)
        if delivery.state in (State.HELD, State.PENDING):
            try:
                self._parts.release()
            except PeerError as error:
                progress.note(f"pins of parts were not removed, and --prune removes them: {error}")
        return self._counted(delivery)

    def _counted(self, delivery: Delivery) -> Delivery:
        return Delivery(
            delivery.state,
            delivery.bytes_sent + self._sent,
            delivery.blocks_sent + self._blocks,
            delivery.detail,
            delivery.pieces,
        )

    def abandon(self) -> None:
        """Implement IngestSession.abandon: the node collects what was sent."""
