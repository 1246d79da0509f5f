"""A Kubo node as a target: the methods of the interface."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import BlockUnavailableError, PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.index.part import MAX_PARTS, Part, part_label
from reconciler.net.client import HttpClient
from reconciler.net.multiaddr import names_peer
from reconciler.progress import Progress
from reconciler.targets.block_ingest import BlockIngest, PartPins
from reconciler.targets.healing import BlockSource
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    Pin,
    UnsupportedError,
)
from reconciler.targets.kubo import diagnose
from reconciler.targets.kubo.dag import KuboBlocks, KuboDag
from reconciler.targets.kubo.heal import BlockReplacer
from reconciler.targets.kubo.observe import observe
from reconciler.targets.kubo.probe import Prober, check_not_stuck
from reconciler.targets.kubo.publish import Publisher, check_label, foreign, repair
from reconciler.targets.kubo.rpc import KuboRpc, WrongBytesError
from reconciler.targets.upload_streams import is_far


class KuboTarget:
    """A Kubo daemon behind `http`, a client created with `rpc.is_command_error`.

    `pin_seconds` is the time limit of one pin. With `nocopy`, the node, on this machine, keeps references to
    the files of a published directory in place of a copy. `random` chooses the leaves of a sample.
    """

    kind = "kubo"
    capabilities = Capabilities(one_label=True, keeps_unpinned=True, keeps_parts=True)

    def __init__(
        self,
        name: str,
        http: HttpClient,
        *,
        pin_seconds: int = 120,
        nocopy: bool = False,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self._http = http
        self._rpc = KuboRpc(http)
        self._prober = Prober(self._rpc)
        replacer = BlockReplacer(self._rpc, self._prober)
        self._publisher = Publisher(self._rpc, self._prober, replacer, pin_seconds, nocopy)
        self._random = random or Random()  # noqa: S311  a sample, not a secret

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Implement Target.observe. QUICK makes two requests, however many versions there are."""
        return observe(
            self._rpc,
            self._prober,
            expected,
            check,
            mark,
            random=self._random,
            progress=progress,
        )

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Implement Target.publish. Under a pin that is not ours, only blocks are added or replaced."""
        return self._publisher.publish(dag, label, progress)

    def repair(
        self,
        dag: Dag,
        damaged: Sequence[Cid],  # noqa: ARG002  every block is checked, because these may not be all
        label: Label,
        progress: Progress,
    ) -> Delivery:
        """Implement Target.repair."""
        return repair(self._publisher, dag, label, progress)

    def ingest(self, layout: DagLayout, label: Label, key: str) -> BlockIngest:  # noqa: ARG002
        """Implement Ingests.ingest: leaves are imported without a pin."""
        check_label(label)
        check_not_stuck(self._rpc)
        return BlockIngest(
            self._rpc.dag_import,
            lambda dag, progress, intact: self._publisher.publish(dag, label, progress, intact),
            self._part_pins(label, key),
            far=is_far(self._http),
        )

    def parts(self, label: Label, key: str) -> frozenset[Part]:
        """Implement Ingests.parts, from the pins of the node."""
        check_label(part_label(label, Part(MAX_PARTS, MAX_PARTS)))
        return frozenset(self._part_pins(label, key).parts())

    def _part_pins(self, label: Label, key: str) -> PartPins:
        def pins() -> list[Pin]:
            return [Pin(pin.root, pin.name) for pin in self._rpc.pins() if pin.root is not None]

        return PartPins(label, key, pins, self.read_intact, self._publisher.keep_part, self.unpin)

    def read_intact(self, cid: Cid) -> bytes | None:
        """Return a block of the node, pinned or not, verified; None when it is missing or damaged."""
        try:
            return self._rpc.block_get(cid)
        except (PeerError, WrongBytesError):
            return None

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError: a pin that waits for blocks would block garbage collection."""
        raise UnsupportedError("a Kubo target receives blocks and does not fetch them")

    def relabel(self, root: Cid, label: Label) -> None:
        """Implement Target.relabel, after a check of every block: Kubo drops a pin before it renames it.

        Raises BlockUnavailableError when `root` is not pinned or not complete, SafetyError when the pin is
        not ours.
        """
        check_label(label)
        name = self._rpc.pin_name(root)
        if name == label:
            return
        if name is not None and not name.startswith(label.mark):
            raise SafetyError(
                f"{self.name}: {root} is {foreign(name)}", hint="`reconcile adopt` takes it over"
            )
        self._rename_pin(root, name, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """Implement Target.adopt. Raises BlockUnavailableError as `relabel` does.

        A pin on a CIDv0 stays, and the CIDv1 is pinned under `label` in addition.
        """
        check_label(label)
        name = self._rpc.pin_name(pin.root)
        if name == label:
            return
        theirs = self._rpc.pin_name(pin.root, v0=True) if pin.spelling else name
        if theirs != pin.label or (pin.spelling and name is not None):
            state = "not pinned" if theirs is None else f"named {name or theirs!r}"
            raise PeerError(
                f"{self.name}: {pin.root} is now {state}", hint="list the pins again with `reconcile adopt`"
            )
        self._rename_pin(pin.root, theirs, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """Implement Target.unpin: remove the pin, also on the CIDv0, if its name is exactly `label`."""
        for v0 in (False, True):
            if self._rpc.pin_name(root, v0=v0) == label:
                self._rpc.pin_rm(root, v0=v0)

    def dag(self, root: Cid) -> Dag:
        """Implement Target.dag, from pinned and unpinned blocks."""
        return KuboDag(self._rpc, root)

    def blocks(self, root: Cid) -> BlockSource:
        """Return the blocks of `root`, even when inner nodes are missing (see targets/healing.py)."""
        if self._rpc.pin_name(root) is None and self._rpc.block_size(root) is None:
            raise BlockUnavailableError(f"{root} is not on {self.name}")
        return KuboBlocks(self._rpc)

    def peer_id(self) -> str:
        """Return the peer id of the node."""
        return self._rpc.identity().peer_id

    def replace_damaged(self, dag: Dag, progress: Progress) -> frozenset[int]:
        """Overwrite the blocks that are damaged on the node; return the positions of missing ones.

        No pin is set or changed. Raises PeerError, and what reading `dag` raises.
        """
        return self._publisher.replace_damaged(dag, self.name, progress)

    def origins(self) -> tuple[str, ...]:
        """Return the swarm addresses of the node; none while it is offline."""
        return tuple(address for address in self._rpc.identity().addresses if names_peer(address))

    def diagnose(self) -> Sequence[Diagnosis]:
        """Implement Diagnosable.diagnose."""
        return diagnose.diagnose_node(self._rpc)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _rename_pin(self, root: Cid, name: str | None, label: Label) -> None:
        if name is None:
            raise BlockUnavailableError(f"{root} is not pinned on {self.name}", hint="publish it first")
        layout = KuboDag(self._rpc, root).layout
        stat = self._rpc.dag_stat(root, layout.size)
        if stat is None or (stat.blocks, stat.size) != (len(layout), layout.size):
            raise BlockUnavailableError(
                f"{root} is not complete on {self.name}, so its pin is unchanged",
                hint="run `reconcile` to repair it first",
            )
        if not self._publisher.pin(root, name, label):
            raise BlockUnavailableError(f"{root} has just lost a block on {self.name}", hint="run again")
