"""A target in memory that counts its calls and fails on demand.

It passes the conformance suite of all targets (tests/targets/memory/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.progress import QUIET, Progress
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Expected,
    Inventory,
    Observation,
    Pin,
    State,
    UnsupportedError,
)


@dataclass
class Held:
    """One root on the target: the blocks that it should have, those that it has, and its labels."""

    layout: DagLayout
    blocks: dict[Cid, bytes] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)


class MemoryTarget:
    """A target that keeps whole DAGs in a dictionary.

    `calls` counts the calls of each method. `faults` maps a method, or (method, root), to an exception to
    raise or a function to call first. `network` holds the DAGs that `pin` can fetch; `pending` are roots
    that stay pending after a publish or pin.
    """

    kind = "memory"

    def __init__(
        self, name: str, capabilities: Capabilities | None = None, network: dict[Cid, Dag] | None = None
    ) -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities()
        self.network = network if network is not None else {}
        self.held: dict[Cid, Held] = {}
        self.pending: set[Cid] = set()
        self.notes: tuple[str, ...] = ()
        self.calls: Counter[str] = Counter()
        self.faults: dict[object, Exception | Callable[[], None]] = {}

    # -- the interface ---------------------------------------------------------------------------------------

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        self._called("observe")
        pins = [Pin(root, label) for root, held in self.held.items() for label in held.labels]
        return Inventory(
            {each.root: self._look(each.root, check) for each in expected},
            owned=tuple(pin for pin in pins if pin.label.startswith(mark)),
            foreign=tuple(pin for pin in pins if not pin.label.startswith(mark)),
            notes=self.notes,
        )

    def publish(self, dag: Dag, label: str, progress: Progress) -> Delivery:
        if not self.capabilities.takes_bytes:
            raise UnsupportedError("takes no bytes")
        self._called("publish", dag.layout.root)
        held = self.held.get(dag.layout.root)
        if held is not None and held.labels and self._look(dag.layout.root, Check.QUICK).state is State.HELD:
            self._label(held, label)
            return Delivery(State.HELD)
        return self._deliver(dag, label, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: str, progress: Progress) -> Delivery:
        if not self.capabilities.takes_bytes:
            raise UnsupportedError("takes no bytes")
        self._called("repair", dag.layout.root)
        return self._deliver(dag, label, progress)

    def pin(self, root: Cid, label: str, origins: Sequence[str]) -> Delivery:
        if not self.capabilities.pins_by_cid:
            raise UnsupportedError("does not fetch")
        self._called("pin", root)
        if root in self.held and self._look(root, Check.QUICK).state is State.HELD:
            self._label(self.held[root], label)
            return Delivery(State.HELD)
        if root not in self.network:
            return Delivery(State.PENDING, detail="nobody offers it")
        return self._deliver(self.network[root], label, QUIET)

    def relabel(self, root: Cid, label: str) -> None:
        self._called("relabel", root)
        if root not in self.held:
            raise BlockUnavailableError(f"{root} is not here")
        held = self.held[root]
        held.labels = [label] if self.capabilities.one_label else sorted({*held.labels, label})

    def adopt(self, pin: Pin, label: str) -> None:
        self._called("adopt", pin.root)
        held = self.held.get(pin.root)
        if held is None or not {pin.label, label}.intersection(held.labels):
            raise PeerError(f"{pin.root} is not labelled {pin.label!r} any more")
        held.labels = [label] if self.capabilities.one_label else sorted({*held.labels, label})

    def unpin(self, root: Cid, label: str) -> None:
        self._called("unpin", root)
        held = self.held.get(root)
        if held is not None and label in held.labels:
            held.labels.remove(label)
            if not held.labels:
                del self.held[root]

    def dag(self, root: Cid) -> Dag:
        if not self.capabilities.serves_blocks:
            raise UnsupportedError("serves no blocks")
        self._called("dag", root)
        held = self.held.get(root)
        if held is None or any(
            not self._good(held, held.layout.cid(p)) for p in held.layout.tree_positions()
        ):
            raise BlockUnavailableError(f"{root} is not whole in {self.name}")
        return Served(held)

    def origins(self) -> tuple[str, ...]:
        return (f"/memory/{self.name}/p2p/{self.name}",)

    def close(self) -> None:
        self.calls["close"] += 1

    # -- actions of tests ------------------------------------------------------------------------------------

    def lose(self, root: Cid, *lost: Cid) -> None:
        """Lose the given blocks, by default all of them; keep the labels."""
        held = self.held[root]
        for cid in lost or list(held.blocks):
            held.blocks.pop(cid, None)

    def corrupt(self, root: Cid, cid: Cid) -> None:
        """Flip a bit of a block; add a byte to an empty block."""
        data = self.held[root].blocks[cid]
        self.held[root].blocks[cid] = bytes([data[0] ^ 1]) + data[1:] if data else b"\0"

    def writes(self) -> int:
        """Return the number of calls that change something."""
        return sum(self.calls[name] for name in ("publish", "repair", "pin", "relabel", "adopt", "unpin"))

    def snapshot(self) -> object:
        """Return everything that the target keeps, for comparison."""
        return {root: (dict(held.blocks), tuple(held.labels)) for root, held in self.held.items()}

    # -- internals -------------------------------------------------------------------------------------------

    def _called(self, method: str, root: Cid | None = None) -> None:
        self.calls[method] += 1
        fault = self.faults.get((method, root), self.faults.get(method))
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            fault()

    def _look(self, root: Cid, check: Check) -> Observation:
        held = self.held.get(root)
        if root in self.pending:
            return Observation(root, State.PENDING, detail="on its way")
        if held is None:
            return Observation(root, State.ABSENT)
        lost = [block.cid for block in held.layout if len(held.blocks.get(block.cid, b"")) != block.size]
        lost += [cid for cid in _empty(held.layout) if cid not in held.blocks]
        if check is not Check.QUICK:
            lost = [block.cid for block in held.layout if not self._good(held, block.cid)]
        labels, said = tuple(held.labels), check.value
        if lost:
            return Observation(root, State.PARTIAL, labels, tuple(lost), said, f"{len(lost)} blocks are bad")
        return Observation(root, State.HELD, labels, (), said)

    def _good(self, held: Held, cid: Cid) -> bool:
        data = held.blocks.get(cid)
        return data is not None and cids.hash_block(cid.codec, data) == cid

    def _deliver(self, dag: Dag, label: str, progress: Progress) -> Delivery:
        root = dag.layout.root
        known = self.held.get(root)
        blocks = dict(known.blocks) if known else {}
        sent = count = 0
        missing = False
        with progress.task("delivering", dag.layout.size) as task:
            for position, block in enumerate(dag.layout):
                if known and self._good(known, block.cid):
                    continue
                try:
                    blocks[block.cid] = dag.read(position)
                except BlockUnavailableError:
                    missing = True
                    continue
                task.advance(block.size)
                sent, count = sent + block.size, count + 1
        held = Held(dag.layout, blocks, known.labels if known else [])
        self._label(held, label)
        self.held[root] = held
        if root in self.pending:
            return Delivery(State.PENDING, sent, count, "on its way")
        return Delivery(State.PARTIAL if missing else State.HELD, sent, count)

    def _label(self, held: Held, label: str) -> None:
        if not self.capabilities.one_label or not held.labels:
            held.labels = sorted({*held.labels, label})
        elif held.labels[0].startswith(label.mark):
            held.labels = [label]


class Served:
    """A Dag over the blocks of a target; every block is verified when it is read."""

    def __init__(self, held: Held) -> None:
        self._held = held

    @property
    def layout(self) -> DagLayout:
        return self._held.layout

    def read(self, position: int) -> bytes:
        cid = self.layout.cid(position)
        data = self._held.blocks.get(cid)
        if data is None or cids.hash_block(cid.codec, data) != cid:
            raise BlockUnavailableError(f"block {cid} is bad")
        return data

    def close(self) -> None:
        pass


def down(name: str) -> PeerError:
    """Return the error of a target that is down."""
    return PeerError(f"cannot reach {name}", hint="check that it is running")


def _empty(layout: DagLayout) -> list[Cid]:
    return [block.cid for block in layout if block.size == 0]
