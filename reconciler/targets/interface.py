"""Our mark on pins that carry a name and free metadata: IPFS Cluster and the Pinning Service API.

The label is written twice, as the name and in the metadata, because services exist that drop or cut either
one.

The one small interface behind which every place that holds bundles stands.

A target is observed in bulk, once a run, and then asked to close single differences. What it cannot do it
says in its `Capabilities`, and the planner plans around that. All byte-carrying calls take a `Dag`, so a
target never asks whether blocks come from a directory, a CAR or another target.

Contract, held by the suite in tests/conformance/:

- `observe` changes nothing and believes nothing it can check: `HELD` means that as much as `check` asks for
  was really looked at. A target that cannot be reached raises PeerError; the loop then treats every root as
  unknown.
- `publish`, `repair`, `pin`, `relabel` and `unpin` are idempotent: the same call again changes nothing.
- Killed at any moment, a target is left as it was or with something that the next `observe` reports truly.
- Pins and files without our mark are never changed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal
from reconciler.index.label import Label
from reconciler.progress import QUIET, Progress
from reconciler.targets.check import Check as Check  # noqa: PLC0414 - a word of this interface

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
    """What a target really holds of one root."""

    HELD = "held"  #: complete, as far as it was checked
    PARTIAL = "partial"  #: there, but blocks are missing or damaged, or too few replicas hold it
    ABSENT = "absent"
    PENDING = "pending"  #: accepted, not there yet; waiting is no failure
    FAILED = "failed"  #: the target itself gave up on it
    UNKNOWN = "unknown"  #: could not be looked at; nothing is done on a guess


@dataclass(frozen=True, slots=True)
class Expected:
    """One root the index wants.

    `labels` are all labels under which the index wants it (several versions may share one root), the
    preferred one first. `blocks` and `size` (bytes of all blocks together) are known from a record, or None.
    `layout` is there when the blocks are known on this machine without asking anyone. `pieces` are the CARs
    as this target splits them, from a record; None when no record has them. Deals that end within
    `renew_before` count as expiring; of each piece `min_deals` with `min_providers` different providers are
    enough. With 0 of `min_deals` nobody wants to know of any.
    """

    root: Cid
    labels: tuple[Label, ...]
    blocks: int | None = None
    size: int | None = None
    layout: DagLayout | None = None
    pieces: ShardedCar | None = None
    renew_before: timedelta = timedelta(days=30)
    min_deals: int = 1
    min_providers: int = 1


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target holds of one root, and how that was found out.

    `labels` are the labels seen on it, ours or foreign. `damaged` are the blocks found missing or wrong, as
    far as they are known (a PARTIAL may have none: see `detail`). `checked` says in words what was looked at,
    `detail` what is wrong or worth knowing; both are shown to people.
    """

    root: Cid
    state: State
    labels: tuple[str, ...] = ()
    damaged: tuple[Cid, ...] = ()
    checked: str = ""
    detail: str = ""
    needs: str = ""  #: the flag without which a repair is refused, such as "--allow-unpin-repair"
    nothing_left: bool = False  #: of a PARTIAL: it has no block of it to give, not even for its own repair
    pieces: tuple[PieceCid, ...] = ()  #: every piece of the root there; () where there are none, or unknown
    deals: tuple[CheckedDeal, ...] = ()  #: the deals of these pieces, as checked


@dataclass(frozen=True, slots=True)
class Pin:
    """One root a target keeps under one label ("" when it has none)."""

    root: Cid
    label: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one `observe` found: each expected root, every pin that carries our mark, and the rest.

    `observations` has an entry for each expected root. `owned` are all pins whose label begins with the mark,
    expected or not; only these may ever be pruned. `foreign` are the other pins, never touched (`adopt` lists
    them). `notes` are warnings about the target as a whole, worded for a user.
    """

    observations: Mapping[Cid, Observation]
    owned: tuple[Pin, ...] = ()
    foreign: tuple[Pin, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a publish, repair or pin did. `state` is HELD, PARTIAL or PENDING as looked at afterwards.

    `pieces` are the CARs that went there, where the target splits any: they go into the version's record.
    """

    state: State
    bytes_sent: int = 0
    blocks_sent: int = 0
    detail: str = ""
    pieces: ShardedCar | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can do; data, so that the planner can plan around it."""

    takes_bytes: bool = True  #: `publish` and `repair` accept our blocks
    pins_by_cid: bool = False  #: `pin` works: the target fetches the blocks itself
    serves_blocks: bool = True  #: `dag` works, so it can heal others
    keeps_labels: bool = True  #: roots there carry labels; without them none is known as ours, or removed
    one_label: bool = False  #: a root carries a single label there, and a second one replaces the first
    sharding: Sharding | None = None  #: how CARs become Filecoin pieces; None: it keeps blocks
    renews_deals: bool = False  #: sending it what it has already leads to new deals


@dataclass(frozen=True, slots=True)
class RunTerms:
    """Settings that all targets of one run share.

    `allow_unpin_repair` permits repairs during which a root is unpinned for a moment. `retries` is one budget
    for all targets, so that many items against a dead peer do not each pay the full backoff; None: each
    target has its own. `cache` is a directory for data that may be deleted at any time; None: nothing is
    cached. `progress` receives a note for each retry of a request.
    """

    allow_unpin_repair: bool = False
    retries: RetryBudget | None = None
    cache: Path | None = None
    progress: Progress = QUIET


class Target(Protocol):
    """A place that holds bundles. Methods are called from one thread per target."""

    name: str  #: as in releases/targets.yaml
    kind: str  #: the implementation: store, kubo, ipfs-cluster, pinning-service
    capabilities: Capabilities

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Look at every expected root in one go, and list what carries `mark` (a label prefix ending in "/").

        Raises PeerError when the target cannot be looked at at all.
        """

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Make the target hold `dag` under `label`, sending only blocks it does not have.

        Raises PeerError (nothing wrong is left behind; call again), SourceChanged, BlockUnavailable.
        """

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """Put back what `observe` found missing or wrong, sending only that. Raises as `publish` does."""

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:
        """Ask the target to fetch and keep `root`; `origins` are addresses that have it.

        Only where capabilities.pins_by_cid. Returns PENDING until the target says that it has everything.
        """

    def relabel(self, root: Cid, label: Label) -> None:
        """Put our `label` on a root that is held under another label of ours, or in our store under none."""

    def adopt(self, pin: Pin, label: Label) -> None:
        """Make a foreign pin ours by putting `label` on it; only ever called on the user's word.

        Where a root carries one label the foreign one is replaced, elsewhere it stays. Raises PeerError when
        the pin is not as `pin` says any more.
        """

    def unpin(self, root: Cid, label: Label) -> None:
        """Take our `label` off `root`; the root goes when nothing else keeps it. No error when it is not
        there.
        """

    def dag(self, root: Cid) -> Dag:
        """The DAG under `root` as this target serves it, for healing others.

        Raises BlockUnavailable when the inner nodes are not all there, PeerError when it cannot be asked.
        """

    def origins(self) -> tuple[str, ...]:
        """Addresses from which others can fetch what it holds (multiaddrs with /p2p/), maybe none."""

    def close(self) -> None:
        """Release connections and files. May be called twice."""


class UnsupportedError(NotImplementedError):
    """A call that the target's capabilities rule out: a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding of `doctor`: what was looked at, whether it is fine, and what to do when not.

    `ok` is None where only trying would tell.
    """

    subject: str
    ok: bool | None
    text: str
    hint: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """A target that `doctor` can examine. Optional: a target without it gets only a reachability check."""

    def diagnose(self) -> Sequence[Diagnosis]:
        """Look at versions, permissions, clock and reachability; changes nothing, raises nothing for a sick
        peer.
        """
