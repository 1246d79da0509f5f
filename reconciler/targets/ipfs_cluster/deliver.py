"""Bring one root into a cluster, back into it, under another label, and out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.net.errors import UnexpectedResponseError
from reconciler.net.response import UploadBody
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, Pin, State
from reconciler.targets.ipfs_cluster.judge import ReplicationVerdict, Rules, judge
from reconciler.targets.ipfs_cluster.nodes import Healed, Nodes
from reconciler.targets.ipfs_cluster.rest import ClusterRest, PinOptions
from reconciler.targets.ipfs_cluster.wire import ClusterPin

_EMPTY = hash_block(RAW, b"")
_FOREIGN = "held under a pin that is not ours, which is not touched"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: how long a pin may be on its way, and how long a bad state may last, before it is said."""

    pending: float = 60.0
    bad: float = 3.0
    pause: float = 0.2


class Deliverer:
    """Acts on one root at a time. Every method looks first, so that calling it again changes nothing."""

    def __init__(
        self,
        rest: ClusterRest,
        nodes: Nodes,
        rules: Rules,
        expire_in: str,
        *,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._nodes = nodes
        self._rules = rules
        self._expire_in = expire_in
        self._patience = patience or Patience()
        self._sleep = sleep
        self._clock = clock

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Make the cluster hold `dag` under `label`."""
        root = dag.layout.root
        entry = self._rest.entry(root)
        if entry is None:
            return self._send(dag, label, progress)
        if not _ours(entry, label):
            return self._beside(entry, dag, progress)
        verdict = self._verdict(entry, ours=True)
        if verdict.state is State.PARTIAL:
            return self.repair(dag, (), label, progress)
        self.relabel(root, label)
        return self._settle(root, label)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """Heal the nodes, free a stuck pin, make lost pins again, replace peers that are gone."""
        root = dag.layout.root
        entry = self._rest.entry(root)
        if entry is None:
            return self._send(dag, label, progress)
        healed = self._nodes.heal(dag, damaged, label, label.mark, progress)
        if not _ours(entry, label):
            return _with(self._beside(entry, dag, progress), healed)
        verdict = self._verdict(entry, ours=True)
        if verdict.stuck:
            # Nothing but taking it out of the pinset ends the hanging fetch; a complete DAG does not.
            self._rest.unpin(root)
            return _with(self._send(dag, label, progress), healed)
        if verdict.lost:
            self._rest.recover(root)
            verdict = self._wait(root, label)
        if verdict.state is State.PARTIAL and verdict.lost:
            healed = _plus(healed, self._put(dag, label, progress))
            self._rest.recover(root)
            verdict = self._wait(root, label)
        if verdict.state is State.PARTIAL:
            self._spread_empty(dag.layout, progress)
            self._rest.pin(root, self._options(label, entry))
        self.relabel(root, label)
        return _with(self._settle(root, label), healed)

    def fetch(self, root: Cid, label: Label, origins: tuple[str, ...]) -> Delivery:
        """Have the cluster get `root` by itself: from `origins`, or from those of its peers that have it.

        Raises PeerError when there is nobody to get it from: such a pin would hang, and with it the garbage
        collection of the Kubo that waits for it.
        """
        entry = self._rest.entry(root)
        if entry is not None and not _ours(entry, label):
            verdict = self._verdict(entry, ours=False)
            return Delivery(verdict.state, detail="; ".join(filter(None, (_FOREIGN, verdict.detail))))
        known = None if entry is None else self._verdict(entry, ours=True)
        if known is not None and known.stuck:
            self._rest.unpin(root)
        if not origins and (known is None or not (known.holders or known.lost)):
            raise PeerError(
                f"{self._name} has nobody to fetch {root} from",
                hint="run where the bytes are, or keep the version on another target that serves them",
            )
        if known is not None and known.lost:
            self._rest.recover(root)
        if known is None or known.stuck or known.state is State.PARTIAL:
            self._rest.pin(root, self._options(label, entry, origins))
        self.relabel(root, label)
        return self._settle(root, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """Put `label` on somebody else's pin. Raises PeerError when it is not as `pin` says any more."""
        entry = self._rest.entry(pin.root)
        if entry is None or entry.label != pin.label:
            raise PeerError(
                f"{self._name}: {pin.root} is no longer pinned as {pin.label!r}", hint="run again to see how"
            )
        self._rest.pin(pin.root, self._options(label, entry))

    def relabel(self, root: Cid, label: Label) -> None:
        """Put `label` on a root of ours. Raises PeerError when it is absent, SafetyError when not ours."""
        entry = self._rest.entry(root)
        if entry is None:
            raise PeerError(
                f"{self._name} does not have {root}", hint="run again; it has to be published first"
            )
        if not _ours(entry, label):
            raise SafetyError(f"{self._name}: {root} is {_FOREIGN}", hint="`reconcile adopt` takes it over")
        if entry.label != label:
            self._rest.pin(root, self._options(label, entry))

    def unpin(self, root: Cid, label: Label) -> None:
        """Take `root` out of the pinset when it carries `label`."""
        entry = self._rest.entry(root)
        if entry is not None and entry.label == label:
            self._rest.unpin(root)

    @property
    def _name(self) -> str:
        return self._rest.http.name

    def _send(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Send what is lacking and pin it, through a peer that is then one of its holders."""
        positions = self._lacking(dag.layout, progress)
        self._spread_empty(dag.layout, progress)
        try:
            sent = self._add(dag, positions, label, self._options(label, None), progress)
        except UnexpectedResponseError:
            # Pinning what is not all there hangs, and a hanging pin blocks the garbage collection of its
            # Kubo.
            self._rest.unpin(dag.layout.root)
            raise
        return _with(self._settle(dag.layout.root, label), sent)

    def _add(
        self, dag: Dag, positions: Sequence[int], title: str, options: PinOptions | None, progress: Progress
    ) -> Healed:
        """Send the blocks at `positions`. Without `options` no pin is touched."""
        layout = dag.layout
        size = sum(layout.block_size(position) for position in positions)
        added = self._rest.add(_upload(dag, positions, f"{self._name}: {title}", progress), options)
        if added.size != size or (options is not None and added.cid != str(layout.root)):
            raise UnexpectedResponseError(
                self._name,
                f"took in {added.size} bytes of blocks where {size} were sent",
                hint="look for a proxy in between that changes or cuts request bodies",
            )
        return Healed(size, len(positions))

    def _put(self, dag: Dag, title: str, progress: Progress) -> Healed:
        return self._add(dag, self._lacking(dag.layout, progress), title, None, progress)

    def _lacking(self, layout: DagLayout, progress: Progress) -> Sequence[int]:
        """What the Kubo behind this peer has to be sent: everything, where that is not known."""
        if not len(self._nodes):
            return range(len(layout))
        lacking = self._nodes.lacking(self._rest.own().ipfs, layout, progress)
        # Few or without any bytes, and the root among them, which the pin is for: sent in any case.
        always = (0, *layout.tree_positions(), *(() if (empty := layout.find(_EMPTY)) is None else (empty,)))
        return sorted({*always, *lacking})

    def _spread_empty(self, layout: DagLayout, progress: Progress) -> None:
        """Give every peer the block of no bytes that an empty file is: bitswap never brings it.

        A peer without it would hang in `pinning` for ever. When it cannot be given now, the pin may hang, and
        a later run frees it.
        """
        if layout.find(_EMPTY) is None:
            return
        body = car.header(_EMPTY) + car.section_prefix(_EMPTY, 0)
        try:
            self._rest.spread(UploadBody(len(body), lambda: iter((body,))))
        except PeerError as error:
            progress.note(f"{error.message}; its peers may have to wait for an empty file")

    def _beside(self, entry: ClusterPin, dag: Dag, progress: Progress) -> Delivery:
        """Complete the blocks under somebody else's pin, and leave that pin alone."""
        verdict = self._verdict(entry, ours=False)
        sent = Healed()
        if verdict.lost or verdict.stuck:
            sent = self._put(dag, entry.label or str(entry.cid), progress)
            verdict = self._verdict(entry, ours=False)
        words = "; ".join(part for part in (_FOREIGN, verdict.detail) if part)
        return _with(Delivery(verdict.state, detail=words), sent)

    def _options(self, label: Label, entry: ClusterPin | None, origins: tuple[str, ...] = ()) -> PinOptions:
        """Our rules, or the entry's: a pin that is set again without factors falls back to the default."""
        low, high = self._rules.factor_min, self._rules.factor_max
        if not low and entry is not None:
            low, high = entry.factor_min, entry.factor_max
        return PinOptions(label, low, high, self._expire_in, origins)

    def _verdict(self, entry: ClusterPin, *, ours: bool) -> ReplicationVerdict:
        status, now = self._rest.status(entry.cid)
        return judge(entry, status, now, self._rules, ours=ours, names={})

    def _settle(self, root: Cid, label: Label) -> Delivery:
        verdict = self._wait(root, label)
        return Delivery(verdict.state, detail=verdict.detail)

    def _wait(self, root: Cid, label: Label) -> ReplicationVerdict:
        """The verdict when it is good, or has been bad or pending for long enough."""
        begin = self._clock()
        while True:
            entry = self._rest.entry(root)
            if entry is None:
                raise PeerError(
                    f"{self._name}: {root} was taken out of the pinset meanwhile", hint="run again"
                )
            verdict = self._verdict(entry, ours=_ours(entry, label))
            spent = self._clock() - begin
            limit = self._patience.pending if verdict.state is State.PENDING else self._patience.bad
            if verdict.state is State.HELD or spent >= limit:
                return verdict
            self._sleep(self._patience.pause)


def _ours(entry: ClusterPin, label: Label) -> bool:
    return entry.label.startswith(label.mark)


def _upload(dag: Dag, positions: Sequence[int], title: str, progress: Progress) -> UploadBody:
    size = car.partial_size(dag.layout, positions)

    def pieces() -> Iterator[bytes]:
        with progress.task(title, size) as task:
            for piece in car.stream_partial(dag, positions):
                yield piece
                task.advance(len(piece))

    return UploadBody(size, pieces, "application/vnd.ipld.car")


def _plus(one: Healed, other: Healed) -> Healed:
    return Healed(
        one.bytes_sent + other.bytes_sent,
        one.blocks_sent + other.blocks_sent,
        one.complaints + other.complaints,
    )


def _with(delivery: Delivery, sent: Healed) -> Delivery:
    """`delivery` with what was sent; complaints of nodes make it PARTIAL."""
    state = State.PARTIAL if sent.complaints and delivery.state is State.HELD else delivery.state
    return Delivery(
        state,
        delivery.bytes_sent + sent.bytes_sent,
        delivery.blocks_sent + sent.blocks_sent,
        "; ".join(part for part in (delivery.detail, *sent.complaints) if part),
    )
