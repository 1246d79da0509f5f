"""The target: observing, publishing, repairing, relabelling and unpinning one root at a time.

Every method reads the current state first, so calling it again changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.index.part import Part
from reconciler.net.client import HttpClient
from reconciler.net.errors import UnexpectedResponseError
from reconciler.net.multiaddr import names_peer
from reconciler.net.response import UploadBody
from reconciler.progress import Progress
from reconciler.targets.block_ingest import BlockIngest, PartPins
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    Pin,
    State,
    UnsupportedError,
)
from reconciler.targets.ipfs_cluster.diagnose import diagnose_cluster
from reconciler.targets.ipfs_cluster.judge import ReplicationRules, ReplicationVerdict, judge_replication
from reconciler.targets.ipfs_cluster.nodes import ClusterNodes, HealingResult
from reconciler.targets.ipfs_cluster.observe import build_inventory, read_cluster
from reconciler.targets.ipfs_cluster.options import ClusterOptions
from reconciler.targets.ipfs_cluster.rest import ClusterRest, PinOptions
from reconciler.targets.ipfs_cluster.send import send_blocks
from reconciler.targets.ipfs_cluster.wire import ClusterPin
from reconciler.targets.upload_streams import is_far

_EMPTY_BLOCK = hash_block(RAW, b"")
_FOREIGN = "held by a pin that is not ours, which is left unchanged"


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Limits of the wait for a pin, in seconds: while it is pending, or bad; `pause` is between requests."""

    pending: float = 60.0
    bad: float = 3.0
    pause: float = 0.2


class ClusterTarget:
    """An IPFS Cluster behind one of its peers, with the configured Kubo daemons behind it.

    `http` must use `rest.is_command_error`; `rules` and `limits` replace those of `options` and the defaults.
    """

    kind = "ipfs-cluster"

    def __init__(
        self,
        name: str,
        http: HttpClient,
        options: ClusterOptions,
        nodes: ClusterNodes,
        *,
        rules: ReplicationRules | None = None,
        limits: WaitLimits | None = None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            pins_by_cid=True,
            serves_blocks=len(nodes) > 0,
            one_label=True,
            keeps_unpinned=len(nodes) > 0,
            keeps_parts=len(nodes) > 0,
        )
        self._http = http
        self._options = options
        self._nodes = nodes
        self._rest = ClusterRest(http)
        self._rules = rules or ReplicationRules(
            options.factor_min, options.factor_max, options.expire_seconds
        )
        self._limits = limits or WaitLimits()

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Observe with four requests to the cluster, and `check` on each node behind it."""
        cluster = read_cluster(self._rest)
        return build_inventory(
            cluster, expected, check, mark, rules=self._rules, nodes=self._nodes, progress=progress
        )

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Make the cluster hold `dag` under `label`."""
        root = dag.layout.root
        entry = self._rest.entry(root)
        if entry is None:
            return self._send_and_pin(dag, label, progress)
        if not _is_ours(entry, label):
            return self._complete_foreign(entry, dag, progress)
        verdict = self._judge(entry, ours=True)
        if verdict.state is State.PARTIAL:
            return self.repair(dag, (), label, progress)
        self._nodes.replace_damaged(dag, progress)
        self.relabel(root, label)
        return self._wait_for_delivery(root, label)

    def ingest(self, layout: DagLayout, label: Label, key: str) -> BlockIngest | None:  # noqa: ARG002
        """Implement Ingests.ingest: leaves are added to the Kubo behind this peer, without a pin.

        Without configured nodes nothing tells afterwards what that Kubo still lacks, so it gets everything
        once the root is known.
        """
        if not len(self._nodes):
            return None
        return BlockIngest(
            lambda upload: self._rest.add(upload, None),
            lambda dag, progress, _: self.publish(dag, label, progress),
            self._part_pins(label, key),
            far=is_far(self._http),
        )

    def parts(self, label: Label, key: str) -> frozenset[Part]:
        """Implement Ingests.parts, from the pinset."""
        return frozenset(self._part_pins(label, key).parts()) if len(self._nodes) else frozenset()

    def _part_pins(self, label: Label, key: str) -> PartPins:
        def pins() -> list[Pin]:
            return [Pin(root, entry.label) for root, entry in self._rest.entries().items()]

        return PartPins(label, key, pins, self._nodes.read_intact, self.publish, self.unpin)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """Repair the nodes, release a stuck pin, restore lost pins, replace missing peers."""
        root = dag.layout.root
        entry = self._rest.entry(root)
        if entry is None:
            return self._send_and_pin(dag, label, progress)
        sent = self._nodes.repair(dag, damaged, label, label.mark, progress)
        if not _is_ours(entry, label):
            return _with_sent(self._complete_foreign(entry, dag, progress), sent)
        verdict = self._judge(entry, ours=True)
        if verdict.stuck:
            # Only removing the pin ends the hanging fetch; a complete DAG does not.
            self._rest.unpin(root)
            return _with_sent(self._send_and_pin(dag, label, progress), sent)
        if verdict.lost:
            self._rest.recover(root)
            verdict = self._wait(root, label)
        if verdict.state is State.PARTIAL and verdict.lost:
            sent += self._add_missing(dag, label, progress)
            self._rest.recover(root)
            verdict = self._wait(root, label)
        if verdict.state is State.PARTIAL:
            self._add_empty_block(dag.layout, progress)
            self._rest.pin(root, self._pin_options(label, entry))
        self.relabel(root, label)
        return _with_sent(self._wait_for_delivery(root, label), sent)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """Make the cluster fetch `root` from `origins`, or from those of its peers that have it.

        Without sending bytes, this also renews a pin and replaces missing peers. Raises PeerError when there
        is not a source to fetch from: such a pin would hang, and block the garbage collection of its Kubo.
        """
        entry = self._rest.entry(root)
        if entry is not None and not _is_ours(entry, label):
            verdict = self._judge(entry, ours=False)
            return Delivery(verdict.state, detail="; ".join(filter(None, (_FOREIGN, verdict.detail))))
        known = None if entry is None else self._judge(entry, ours=True)
        if known is not None and known.stuck:
            self._rest.unpin(root)
        has_blocks = known is None and self._rest.entry(root, v0=True) is not None
        if not (origins or has_blocks) and (known is None or not (known.holders or known.lost)):
            raise PeerError(
                f"{self.name} has no source to fetch {root} from",
                hint="run it on a machine with the files, or add a target that serves blocks to the version",
            )
        if known is not None and known.lost:
            self._rest.recover(root)
        if known is None or known.stuck or known.state is State.PARTIAL:
            self._rest.pin(root, self._pin_options(label, entry, tuple(origins)))
        self.relabel(root, label)
        return self._wait_for_delivery(root, label)

    def relabel(self, root: Cid, label: Label) -> None:
        """Put `label` on a root of ours. Raises PeerError when it is absent, SafetyError when not ours."""
        entry = self._rest.entry(root)
        if entry is None:
            raise PeerError(f"{self.name} does not have {root}", hint="run again to publish it first")
        if not _is_ours(entry, label):
            raise SafetyError(f"{self.name}: {root} is {_FOREIGN}", hint="`reconcile adopt` takes it over")
        if entry.label != label:
            self._rest.pin(root, self._pin_options(label, entry))

    def adopt(self, pin: Pin, label: Label) -> None:
        """Put `label` on a foreign pin. Raises PeerError when it no longer matches `pin`.

        A pin of a CIDv0 stays, and the CIDv1 is pinned under `label` in addition.
        """
        entry = self._rest.entry(pin.root, v0=bool(pin.spelling))
        if entry is None or entry.label != pin.label:
            raise PeerError(
                f"{self.name}: {pin.root} is no longer pinned as {pin.label!r}",
                hint="run again to list its current labels",
            )
        self._rest.pin(pin.root, self._pin_options(label, entry))

    def unpin(self, root: Cid, label: Label) -> None:
        """Remove `root` from the pinset when it carries `label`, also a pin of its CIDv0."""
        for v0 in (False, True):
            entry = self._rest.entry(root, v0=v0)
            if entry is not None and entry.label == label:
                self._rest.unpin(root, v0=v0)

    def dag(self, root: Cid) -> Dag:
        """Return the DAG as the nodes serve it; the API of the cluster serves no blocks."""
        if not len(self._nodes):
            raise UnsupportedError("a cluster without configured nodes serves no blocks")
        return self._nodes.dag(root)

    def origins(self) -> tuple[str, ...]:
        """Return the swarm addresses of the Kubo daemons behind the peers of the cluster."""
        found = [address for peer in self._rest.peers() for address in peer.ipfs_addresses]
        return tuple(address for address in dict.fromkeys(found) if names_peer(address))

    def diagnose(self) -> Sequence[Diagnosis]:
        """See `diagnose_cluster`."""
        return diagnose_cluster(self._rest, self._options)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._nodes.close()

    # --- sending blocks

    def _send_and_pin(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Send the missing blocks and pin the root, through a peer that is then one of its holders."""
        positions = self._missing_positions(dag, progress)
        self._add_empty_block(dag.layout, progress)
        try:
            sent = self._add(dag, positions, label, self._pin_options(label, None), progress)
        except UnexpectedResponseError:
            # A pin on an incomplete DAG hangs, and a hanging pin blocks the garbage collection of its Kubo.
            self._rest.unpin(dag.layout.root)
            raise
        return _with_sent(self._wait_for_delivery(dag.layout.root, label), sent)

    def _add_missing(self, dag: Dag, title: str, progress: Progress) -> HealingResult:
        """Send the missing blocks without changing a pin."""
        return self._add(dag, self._missing_positions(dag, progress), title, None, progress)

    def _add(
        self, dag: Dag, positions: Sequence[int], title: str, options: PinOptions | None, progress: Progress
    ) -> HealingResult:
        """Send the blocks at `positions`, and pin the root unless `options` is None."""
        size = send_blocks(self._rest, dag, positions, options, progress, f"{self.name}: {title}")
        return HealingResult(size, len(positions))

    def _missing_positions(self, dag: Dag, progress: Progress) -> Sequence[int]:
        """Return the blocks that the Kubo behind this peer needs: all, when that is unknown.

        Damaged blocks on the nodes are overwritten first: neither the cluster nor Bitswap would replace them.
        """
        layout = dag.layout
        by_peer = self._nodes.replace_damaged(dag, progress)
        missing = by_peer.get(self._rest.own().ipfs) if by_peer else None
        if missing is None:
            return range(len(layout))
        # The few inner nodes, which include the root that is pinned, and the empty block are always sent.
        empty = layout.find(_EMPTY_BLOCK)
        always = (0, *layout.tree_positions(), *(() if empty is None else (empty,)))
        return sorted({*always, *missing})

    def _add_empty_block(self, layout: DagLayout, progress: Progress) -> None:
        """Add the block of an empty file to every peer: Bitswap never transfers it.

        A peer without it would stay in `pinning` forever. If it cannot be added now, the pin may hang, and a
        later run releases it.
        """
        if layout.find(_EMPTY_BLOCK) is None:
            return
        body = car.header(_EMPTY_BLOCK) + car.section_prefix(_EMPTY_BLOCK, 0)
        try:
            self._rest.add_everywhere(UploadBody(len(body), lambda: iter((body,))))
        except PeerError as error:
            progress.note(f"{error.message}; its peers may have to wait for an empty file")

    def _complete_foreign(self, entry: ClusterPin, dag: Dag, progress: Progress) -> Delivery:
        """Replace damaged blocks below a foreign pin and send missing ones, without changing the pin."""
        verdict = self._judge(entry, ours=False)
        sent = HealingResult()
        if not (verdict.lost or verdict.stuck):
            self._nodes.replace_damaged(dag, progress)
        else:
            sent = self._add_missing(dag, entry.label or str(entry.cid), progress)
            verdict = self._judge(entry, ours=False)
        detail = "; ".join(part for part in (_FOREIGN, verdict.detail) if part)
        return _with_sent(Delivery(verdict.state, detail=detail), sent)

    # --- pins

    def _pin_options(
        self, label: Label, entry: ClusterPin | None, origins: tuple[str, ...] = ()
    ) -> PinOptions:
        """Return our options, with the factors of `entry` when none are configured.

        A pin that is set again without factors falls back to the default of the cluster.
        """
        low, high = self._rules.factor_min, self._rules.factor_max
        if not low and entry is not None:
            low, high = entry.factor_min, entry.factor_max
        return PinOptions(label, low, high, self._options.expire_in, origins)

    def _judge(self, entry: ClusterPin, *, ours: bool) -> ReplicationVerdict:
        status, now = self._rest.status(entry.cid)
        return judge_replication(entry, status, now, self._rules, ours=ours, names={})

    def _wait_for_delivery(self, root: Cid, label: Label) -> Delivery:
        verdict = self._wait(root, label)
        return Delivery(verdict.state, detail=verdict.detail)

    def _wait(self, root: Cid, label: Label) -> ReplicationVerdict:
        """Return the verdict once it is HELD, or when the limit for a pending or bad state has passed."""
        begin = time.monotonic()
        while True:
            entry = self._rest.entry(root)
            if entry is None:
                raise PeerError(f"{self.name}: {root} was unpinned by another program", hint="run again")
            verdict = self._judge(entry, ours=_is_ours(entry, label))
            spent = time.monotonic() - begin
            limit = self._limits.pending if verdict.state is State.PENDING else self._limits.bad
            if verdict.state is State.HELD or spent >= limit:
                return verdict
            self._http.pause(self._limits.pause)


def _is_ours(entry: ClusterPin, label: Label) -> bool:
    return entry.label.startswith(label.mark)


def _with_sent(delivery: Delivery, sent: HealingResult) -> Delivery:
    """Return `delivery` with what was sent; failures of nodes make it PARTIAL."""
    state = State.PARTIAL if sent.failures and delivery.state is State.HELD else delivery.state
    return Delivery(
        state,
        delivery.bytes_sent + sent.bytes_sent,
        delivery.blocks_sent + sent.blocks_sent,
        "; ".join(part for part in (delivery.detail, *sent.failures) if part),
    )
