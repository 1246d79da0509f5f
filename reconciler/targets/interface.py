"""The interface of targets: the places that keep bundles.

A target is observed in bulk, once per run, and then called to close single differences. Its `Capabilities`
say what it can do, and the planner works around the rest. All calls that carry bytes take a `Dag`, so a
target does not depend on whether blocks come from a directory, a CAR or another target.

The contract, which the suite in tests/conformance/ checks:

- `observe` changes nothing and relies on no report that it can check: `HELD` means that as much was checked
  as the check level requires. A target that cannot be reached raises PeerError; the loop then treats every
  root as unknown.
- `publish`, `repair`, `pin`, `relabel` and `unpin` are idempotent: the same call again changes nothing.
- After a kill at any moment, a target is unchanged or in a state that the next `observe` reports truthfully.
- Pins and files without our mark are never changed or removed.

A method may read a block of a `Dag` several times, in any order and from several threads, as when it sends a
broken request again; the caller closes the `Dag`. A method retries failed requests itself, within the retry
budget of the run. The caller does not retry: a PeerError is final for this change in this run, and
SourceChangedError or BlockUnavailableError of the `Dag` end the method at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.part_dag import PartDag
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal
from reconciler.index.label import Label
from reconciler.index.part import Part
from reconciler.progress import QUIET, Progress
from reconciler.targets.check import Check as Check  # noqa: PLC0414  part of this interface

if TYPE_CHECKING:
    from reconciler.net.retry import RetryBudget

_MARK_KEY = "reconciler"
_MARK_VALUE = "1"


def pin_metadata(label: Label) -> dict[str, str]:
    """Return the metadata that identifies a pin as ours and repeats its label.

    IPFS Cluster and the Pinning Service API keep a name and free metadata with a pin. Services exist that
    drop or truncate one of the two, so the label is written to both.
    """
    return {_MARK_KEY: _MARK_VALUE, "index": label.owner, "label": label}


def pin_label(name: str, metadata: Mapping[str, str]) -> str:
    """Return the label of a pin with this name and metadata, ours or foreign; "" when it has none."""
    if metadata.get(_MARK_KEY) == _MARK_VALUE and metadata.get("label"):
        return metadata["label"]
    return name


class State(StrEnum):
    """The state of one root on a target."""

    HELD = "held"  #: complete, as far as it was checked
    PARTIAL = "partial"  #: present, but blocks are missing or damaged, or there are too few replicas
    ABSENT = "absent"
    PENDING = "pending"  #: accepted, not complete yet; this is not a failure
    FAILED = "failed"  #: the target itself gave up on it
    UNKNOWN = "unknown"  #: could not be observed; nothing is changed


@dataclass(frozen=True, slots=True)
class Expected:
    """One root that the index requires on a target.

    `labels` are the labels of all versions that share the root, the preferred one first. `layout` is given
    when this machine knows the blocks without a request. `pieces` are the CARs as this target splits them,
    from a record; None when no record has them. `splits` are the CARs as other programs split them, from the
    record: a target may have these instead. Deals that end within `renew_before` count as expiring. Each
    piece requires `min_deals` deals with `min_providers` different providers; with `min_deals` of 0, deals
    are not checked.
    """

    root: Cid
    labels: tuple[Label, ...]
    layout: DagLayout | None = None
    pieces: ShardedCar | None = None
    renew_before: timedelta = timedelta(days=30)
    min_deals: int = 1
    min_providers: int = 1
    splits: tuple[ShardedCar, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of one root on a target, and how it was determined.

    `labels` are its labels there, ours or foreign. `damaged` are the blocks that were found missing or wrong;
    it may be empty in state PARTIAL, when they are not known. `checked` describes what was checked,
    `detail` what is wrong or notable; both are shown to users.
    """

    root: Cid
    state: State
    labels: tuple[str, ...] = ()
    damaged: tuple[Cid, ...] = ()
    checked: str = ""
    detail: str = ""
    takes_own_pin: bool = False  #: of a root under pins of others: `pin` adds one of ours beside them
    nothing_left: bool = False  #: of a PARTIAL: the target has no block of the root, even for its own repair
    pieces: tuple[PieceCid, ...] = ()  #: all pieces of the root; () when there are none, or they are unknown
    deals: tuple[CheckedDeal, ...] = ()  #: the checked deals of these pieces


@dataclass(frozen=True, slots=True)
class Pin:
    """One root that a target keeps under one label; the label is "" when it has none.

    `spelling` is the CID as the target lists it, where that makes it another pin than the one of `root`: Kubo
    and IPFS Cluster keep pins of a CIDv0 apart from those of its CIDv1. It is "" for all other pins.
    """

    root: Cid
    label: str
    spelling: str = ""


def describe_v0_pin(label: str) -> str:
    """Return the detail of a root that is pinned by its CIDv0 only, under `label` ("" for none)."""
    named = f"named {label!r}" if label else "without a name"
    return f"pinned there only by its CIDv0 (a pin {named}), which does not make it ours"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The result of one `observe`: each expected root, every pin with our mark, and all other pins.

    `observations` has an entry for each expected root. `owned` are all pins whose label begins with the mark,
    expected or not; only these may be pruned. `foreign` are the other pins, which are never changed (`adopt`
    lists them). `notes` are warnings about the target as a whole, shown to users.
    """

    observations: Mapping[Cid, Observation]
    owned: tuple[Pin, ...] = ()
    foreign: tuple[Pin, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of a publish, repair or pin. `state` is HELD, PARTIAL or PENDING, as observed afterwards.

    `pieces` are the CARs that were sent, for a target that splits CARs; they are written to the record.
    """

    state: State
    bytes_sent: int = 0
    blocks_sent: int = 0
    detail: str = ""
    pieces: ShardedCar | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The abilities of a target, as data for the planner."""

    takes_bytes: bool = True  #: `publish` and `repair` accept our blocks
    pins_by_cid: bool = False  #: `pin` works: the target fetches the blocks itself
    serves_blocks: bool = True  #: `dag` works, so it can heal other targets
    keeps_parts: bool = False  #: it takes leaves before the root is known, and keeps parts of a version
    keeps_unpinned: bool = False  #: it may have blocks of a root that it does not pin, and `dag` reads them
    keeps_labels: bool = True  #: roots carry labels; without labels no root is ours, and none is removed
    one_label: bool = False  #: a root carries one label, and a second label replaces the first
    sharding: Sharding | None = None  #: how CARs become Filecoin pieces; None: it keeps blocks
    renews_deals: bool = False  #: publishing a root again leads to new deals


@dataclass(frozen=True, slots=True)
class RunTerms:
    """Settings that all targets of one run share.

    `retries` is one budget for all targets, so that requests to a dead peer do not wait for the full backoff
    each time; None: each target has its own. `cache` is a directory for data that may be deleted at any time;
    None: nothing is cached. `progress` receives a note for each retry of a request.
    """

    retries: RetryBudget | None = None
    cache: Path | None = None
    progress: Progress = QUIET

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, at most until the run ends."""
        (time.sleep if self.retries is None else self.retries.pause)(seconds)


class Target(Protocol):
    """A place that keeps bundles. Methods are called from one thread per target."""

    name: str  #: as in releases/targets.yaml
    kind: str  #: the implementation: store, kubo, ipfs-cluster, pinning-service
    capabilities: Capabilities

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Observe all expected roots, and list all pins with `mark` (a label prefix ending in "/").

        Raises PeerError when the target cannot be observed at all.
        """

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Make the target keep `dag` under `label`; send only blocks that it does not have.

        Raises PeerError (the state is valid; call again), SourceChangedError, BlockUnavailableError.
        """

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """Replace the blocks that are missing or wrong, and send no others. Raises as `publish` does."""

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """Make the target fetch and keep `root`; `origins` are addresses of peers that have it.

        Only with capabilities.pins_by_cid. Returns PENDING until the target reports that it is complete.
        """

    def relabel(self, root: Cid, label: Label) -> None:
        """Put `label` on a root that is kept under another label of ours, or in our store without a label."""

    def adopt(self, pin: Pin, label: Label) -> None:
        """Put `label` on a foreign pin, which makes it ours; called only at the request of the user.

        With capabilities.one_label the foreign label is replaced, otherwise it stays. Raises PeerError when
        the pin has changed and no longer equals `pin`.
        """

    def unpin(self, root: Cid, label: Label) -> None:
        """Remove `label` from `root`, and the root when nothing else keeps it.

        Does nothing when `root` does not have it.
        """

    def dag(self, root: Cid) -> Dag:
        """Return the DAG under `root` as this target serves it, for healing other targets.

        Raises BlockUnavailableError when inner nodes are missing, PeerError when it cannot be reached.
        """

    def origins(self) -> tuple[str, ...]:
        """Return addresses from which others can fetch its blocks (multiaddrs with /p2p/); may be none."""

    def close(self) -> None:
        """Release connections and files. May be called twice."""


@dataclass(frozen=True, slots=True)
class PieceCopies:
    """The copies of one piece: `paid` ones that count, and the providers (`unpaid`) that have its bytes in no
    data set of ours.
    """

    paid: int
    unpaid: tuple[str, ...] = ()


@runtime_checkable
class HoldsPieces(Protocol):
    """A target that finds pieces which another program brought there."""

    def copies_of(self, pieces: Sequence[PieceCid]) -> Mapping[PieceCid, PieceCopies]:
        """Return the copies of each piece. Raises PeerError."""


class UnsupportedError(NotImplementedError):
    """A call that the capabilities of the target rule out, which is a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding of `doctor`: what was checked, whether it is fine, and what to do otherwise.

    `ok` is None when only a write would show whether it works.
    """

    subject: str
    ok: bool | None
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class IngestedBlock:
    """One leaf that was just read and hashed; `position` is its place in the provisional layout.

    `data` is valid only during the call that gets the block: its memory is used again.
    """

    position: int
    cid: Cid
    data: bytes | memoryview


class LeafSession(Protocol):
    """A place that takes the leaves of one version before the root is known. Usable from several threads."""

    @property
    def streams(self) -> int:
        """How many calls of `put` at once are of use."""

    def held(self, position: int, cid: Cid | None) -> bytes | None:
        """Return the leaf at `position` that an earlier, interrupted session left, verified; None without it.

        `cid` is what an earlier session found there, None when that is unknown. Raises PeerError.
        """

    def put(self, blocks: Sequence[IngestedBlock]) -> None:
        """Take leaves, in any order. Raises ReconcilerError."""


class IngestSession(LeafSession, Protocol):
    """Leaves of one version that a target receives before the root is known.

    Nothing is pinned or visible until `keep` or `finish`. Exactly one of `keep`, `finish` and `abandon` ends
    the session.
    """

    def kept(self) -> Mapping[int, Cid]:
        """Return the leaves of kept parts by position, as the target claims; `held` verifies them.

        A target that finds leaves by their positions returns none. Raises PeerError.
        """

    def keep(self, dag: PartDag, part: Part, progress: Progress) -> Delivery:
        """Keep what was put as `part` of the version, until a session for the version finishes.

        `dag` names the leaves. Ends the session. Raises as `publish` does.
        """

    def finish(self, dag: Dag, progress: Progress) -> Delivery:
        """Make the target keep `dag`, of which it has the leaves, under the label. Raises as `publish` does.

        `dag` is read for inner nodes, generated files, and whatever the target has lost since. Parts of the
        version are no longer kept afterwards.
        """

    def abandon(self) -> None:
        """End the session. What was put may stay, for a later session or for garbage collection."""


@runtime_checkable
class Ingests(Protocol):
    """A target that takes leaves before the root is known. Optional: others need the root first."""

    def ingest(self, layout: DagLayout, label: Label, key: str) -> IngestSession | None:
        """Begin a session for the version of `label`, with its provisional `layout`; None if it cannot.

        `key` is a hex text; with the same one, a session may take over what an interrupted one left. Raises
        PeerError, LockedError.
        """

    def parts(self, label: Label, key: str) -> frozenset[Part]:
        """Return the parts that it keeps of the version of `label`, from sessions with `key`.

        Raises PeerError, and UsageError when it could keep none.
        """


@runtime_checkable
class Diagnosable(Protocol):
    """A target with checks for `doctor`. Optional: of other targets only the reachability is checked."""

    def diagnose(self) -> Sequence[Diagnosis]:
        """Check versions, permissions, clock and reachability without changing anything.

        Problems of the peer are returned as findings, not raised.
        """
