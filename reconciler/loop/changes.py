"""The differences a run can close. Each is a frozen dataclass; a plan is a tuple of them, in order.

The changes that the comparison makes in more than one place, filled in from the version they are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.index.label import Label
from reconciler.index.model import Version

DIRECTORY = "directory"  #: the `source` of bytes that come from the version's own path


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference to close. `target` is None for changes to the repository itself.

    `reason` says in words why, for people. `drift` tells a version that was published before (the index had
    its CID) from one that is new.
    """

    kind: ClassVar[str]
    model: str
    version: str
    target: str | None = None
    root: Cid | None = None
    reason: str = ""
    drift: bool = False

    @property
    def ref(self) -> str:
        """`model@version`."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTarget(Change):
    """A change that is made on one target, to one root, under one label of ours."""

    target: str
    root: Cid
    label: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver(OnTarget):
    """Blocks go to the target. `sources` say where from: DIRECTORY, or the names of targets that hold the
    root.
    """

    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Deliver):
    """The target lacks the bundle. `size` is bytes of the CAR, None when only a donor knows."""

    kind: ClassVar[str] = "publish"
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRoot(OnTarget):
    """The target can fetch the root itself; `sources` are the targets whose addresses it is given."""

    kind: ClassVar[str] = "pin"
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair(Deliver):
    """Blocks are missing or damaged. `damaged` are the known ones; empty when only the target can tell."""

    kind: ClassVar[str] = "repair"
    damaged: tuple[Cid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabel(OnTarget):
    """The root is held under a label that no version of this index asks for; where a root carries several
    labels, the old one may stay beside ours.
    """

    kind: ClassVar[str] = "relabel"
    old: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpin(OnTarget):
    """The index no longer wants what carries our mark."""

    kind: ClassVar[str] = "unpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack(Change):
    """A change to the repository. `held`: a target held the root already, so nothing needs to be applied
    first.
    """

    root: Cid
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveCid(WriteBack):
    """The version's CID was found out; the proposal writes it into the index."""

    kind: ClassVar[str] = "resolve-cid"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRecord(WriteBack):
    """The facts found at publishing are written beside the index. `size` is bytes of all files, `cuts` are
    the ways of cutting whose pieces the record is to have besides those it has.
    """

    kind: ClassVar[str] = "write-record"
    path: str
    size: int
    cuts: tuple[Sharding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Change):
    """Something is on its way; no failure, and nothing to do."""

    kind: ClassVar[str] = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Change):
    """Nothing can be done; `reason` says why and `hint` what would help.

    `unknown` marks a target that could not be looked at, so that nobody reads it as absent.
    """

    kind: ClassVar[str] = "blocked"
    hint: str = ""
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """One safety rule that stops the run, and the exact way round it ("" when there is none)."""

    rule: str
    message: str
    override: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences of one run. The digests say which index and targets file it was made from (sha256,
    hex).

    `in_sync` counts the version-on-target pairs that need nothing. `refusals` stop the run after the plan is
    shown.
    """

    index_id: str
    index_digest: str
    targets_digest: str
    check: str
    changes: tuple[Change, ...]
    in_sync: int = 0
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether a run would change anything."""
        return any(not isinstance(change, (Wait, Blocked)) for change in self.changes)

    @property
    def blocked(self) -> bool:
        """Whether something cannot be done."""
        return any(isinstance(change, Blocked) for change in self.changes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change: `state` is applied, waiting, failed, skipped, blocked or unknown."""

    change: Change
    state: str
    detail: str = ""
    hint: str = ""
    bytes_sent: int = 0
    blocks_sent: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A plan and what became of each change, in the plan's order. `interrupted`: stopped by a signal."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything failed, was skipped or could not be done."""
        return any(outcome.state in {"failed", "skipped", "blocked", "unknown"} for outcome in self.outcomes)


def publish(
    version: Version,
    target: str,
    root: Cid,
    reason: str,
    *,
    label: Label,
    sources: tuple[str, ...],
    size: int | None,
) -> Publish:
    """The whole bundle goes to `target`; `size` is bytes of its CAR, None when only a donor knows."""
    return Publish(
        model=version.model,
        version=version.version,
        target=target,
        root=root,
        reason=reason,
        drift=version.cid is not None,
        label=label,
        sources=sources,
        size=size,
    )


def wait(version: Version, target: str, root: Cid, reason: str) -> Wait:
    """Something is on its way to `target`."""
    return Wait(model=version.model, version=version.version, target=target, root=root, reason=reason)


def blocked(
    version: Version,
    reason: str,
    hint: str = "",
    *,
    target: str | None = None,
    root: Cid | None = None,
    unknown: bool = False,
) -> Blocked:
    """Nothing can be done. What could not be looked at (`unknown`) is not called drift."""
    return Blocked(
        model=version.model,
        version=version.version,
        target=target,
        root=root,
        reason=reason,
        hint=hint,
        unknown=unknown,
        drift=version.cid is not None and not unknown,
    )
