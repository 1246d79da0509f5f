"""The values of plan and report: changes, plans, outcomes, refusals. All are frozen dataclasses.

A plan is a tuple of changes in order. Changes are made by the functions at the end of this module and by
`ChangeBuilder`, which fill in what follows from the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypedDict

from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.content.lint.finding import Finding
from reconciler.forges.interface import ProposalResult
from reconciler.index.label import Label
from reconciler.index.model import Version
from reconciler.loop.mismatch import Mismatch
from reconciler.loop.settings import RunOptions
from reconciler.loop.upstream_finding import UpstreamFinding
from reconciler.targets.pricing import PayingAccount, Quote

DIRECTORY = "directory"  #: the `source` of bytes that come from the version's own path
SOURCE = "source"  #: the `source` of bytes that come from the version's own remote source


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference to close. `target` is None for changes to the repository itself.

    `reason` is an explanation for people. `drift` is true for a version that was published before (the index
    had its CID), and false for a new one.
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
    """A change of one root on one target, under one label of ours."""

    target: str
    root: Cid
    label: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver(OnTarget):
    """A change that sends blocks to the target.

    `sources` are where the blocks are read from: DIRECTORY, SOURCE, or the names of targets that hold the
    root.
    `cost` is what a target charges for it that is paid for what it keeps.
    """

    sources: tuple[str, ...]
    cost: Quote | None = None

    @property
    def from_own_bytes(self) -> bool:
        """Whether the bytes are the version's own, and not those that a target holds."""
        return self.sources in ((DIRECTORY,), (SOURCE,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Deliver):
    """Sending of a whole bundle. `size` is that of the CAR in bytes, None when only another target has it."""

    kind: ClassVar[str] = "publish"
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamVersion(Change):
    """Reading of a version from its remote `source`, for the first time: its root is known afterwards.

    `targets` are those that keep it. The ones that take leaves before the root is known receive them in the
    same pass. `files` and `size` in bytes are as the source lists them. `divisible`: a target keeps parts.
    """

    kind: ClassVar[str] = "stream"
    source: str
    targets: tuple[str, ...]
    files: int
    size: int
    divisible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRoot(OnTarget):
    """Pinning of a root that the target fetches itself, from the addresses of the targets `sources`."""

    kind: ClassVar[str] = "pin"
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair(Deliver):
    """Sending of missing or damaged blocks.

    `damaged` are the known ones; empty when only the target knows.
    """

    kind: ClassVar[str] = "repair"
    damaged: tuple[Cid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabel(OnTarget):
    """Labelling of a root that is held under `old`, a label that no version of this index has there.

    Where a root carries several labels, the old one may stay beside ours.
    """

    kind: ClassVar[str] = "relabel"
    old: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpin(OnTarget):
    """Removal of a pin that carries our mark and that the index no longer wants."""

    kind: ClassVar[str] = "unpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack(Change):
    """A change of the repository. `held`: a target holds the root already, so nothing is sent first."""

    root: Cid
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveCid(WriteBack):
    """Writing of a version's CID, found by identifying its bytes, into the index."""

    kind: ClassVar[str] = "resolve-cid"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRecord(WriteBack):
    """Writing of a version's record. `size` is that of all files in bytes.

    `shardings` are those whose pieces are added to the record. `replaces` is the CID in an existing record
    that was never released, None when there is none.
    """

    kind: ClassVar[str] = "write-record"
    path: str
    size: int
    shardings: tuple[Sharding, ...] = ()
    replaces: Cid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Change):
    """A root that the target is still working on: neither a failure nor something to do."""

    kind: ClassVar[str] = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Change):
    """A difference that cannot be closed; `reason` says why, and `hint` what would help.

    `unknown` marks a target that could not be observed, which is not the same as an absent root. `mismatch`
    is what differs in a directory that no longer gives the published CID.
    """

    kind: ClassVar[str] = "blocked"
    hint: str = ""
    unknown: bool = False
    mismatch: Mismatch | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One safety rule that stops the run, and the exact override ("" when there is none)."""

    rule: str
    message: str
    override: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences of one run.

    The digests identify the index and the targets file it was made from (SHA-256 in hex). `options`, `only`
    and `exclude` are what it was made with. `in_sync` counts the pairs of version and target that need no
    change. `refusals` stop the run after the plan is shown. `findings` are those about the files of versions
    that are not published yet, by `model@version`. `suspended` are the selected versions that the index
    suspends. `accounts` pay for targets that charge for what they keep, by target name, as they were before
    the run. `upstream` are findings about sources, which are asked only on request; they change nothing.
    """

    index_id: str
    index_digest: str
    targets_digest: str
    options: RunOptions
    changes: tuple[Change, ...]
    in_sync: int = 0
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    accounts: Mapping[str, PayingAccount] = field(default_factory=dict)
    upstream: tuple[UpstreamFinding, ...] = ()

    @property
    def costs(self) -> dict[str, Quote]:
        """The sums of the costs of all changes, by target name."""
        return _sums(self.changes)

    @property
    def warnings(self) -> Iterator[tuple[str, Finding]]:
        """The findings that do not refuse a publication, each with its `model@version`."""
        for ref, found in self.findings.items():
            yield from ((ref, each) for each in found if not each.refuses)

    @property
    def pending(self) -> bool:
        """Whether a run would change anything."""
        return any(not isinstance(change, (Wait, Blocked)) for change in self.changes)

    @property
    def blocked(self) -> bool:
        """Whether at least one change is blocked."""
        return any(isinstance(change, Blocked) for change in self.changes)


@dataclass(frozen=True, slots=True)
class Proposed:
    """Where write-backs went, for people. `waits`: nothing was written, a person has to decide."""

    detail: str
    waits: bool = False


class OutcomeState(StrEnum):
    """The result of one change."""

    APPLIED = "applied"
    WAITING = "waiting"  #: accepted by the target, which is still working on it
    FAILED = "failed"
    SKIPPED = "skipped"  #: not attempted, because something else failed or the run was interrupted
    BLOCKED = "blocked"  #: nothing could be done
    UNKNOWN = "unknown"  #: the target could not be observed
    REPORTED = "reported"  #: drift, which `--drift report` only shows

    @property
    def is_failure(self) -> bool:
        """Whether a run with this outcome has failed."""
        return self in _FAILURES


_FAILURES = frozenset({OutcomeState.FAILED, OutcomeState.SKIPPED, OutcomeState.BLOCKED, OutcomeState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one change; `detail` and `hint` are for people."""

    change: Change
    state: OutcomeState
    detail: str = ""
    hint: str = ""
    bytes_sent: int = 0
    blocks_sent: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A plan and the outcome of each change, in the plan's order.

    `interrupted`: a signal stopped the run. `proposal` is the pull request that the run made or found.
    """

    plan: Plan
    outcomes: tuple[Outcome, ...]
    interrupted: bool = False
    proposal: ProposalResult | None = None

    @property
    def failed(self) -> bool:
        """Whether at least one change failed, was skipped or was blocked."""
        return any(outcome.state.is_failure for outcome in self.outcomes)

    @property
    def costs(self) -> dict[str, Quote]:
        """The sums of the costs of all changes that were made, by target name, as planned."""
        made = (OutcomeState.APPLIED, OutcomeState.WAITING)
        return _sums(outcome.change for outcome in self.outcomes if outcome.state in made)


def _sums(changes: Iterable[Change]) -> dict[str, Quote]:
    found: dict[str, Quote] = {}
    for change in changes:
        if isinstance(change, Deliver) and change.cost is not None:
            known = found.get(change.target)
            found[change.target] = change.cost if known is None else known + change.cost
    return found


class _Common(TypedDict):
    model: str
    version: str
    target: str
    root: Cid
    reason: str
    drift: bool


@dataclass(frozen=True, slots=True)
class ChangeBuilder:
    """The changes of one version on one target: `root` under `label`."""

    version: Version
    target: str
    root: Cid
    label: Label

    def publish(self, reason: str, sources: tuple[str, ...], size: int | None) -> Publish:
        """Return a Publish; `size` is the size of the CAR in bytes, None when it is unknown."""
        return Publish(**self._common(reason), label=self.label, sources=sources, size=size)

    def repair(self, reason: str, sources: tuple[str, ...], damaged: tuple[Cid, ...]) -> Repair:
        """Return a Repair."""
        return Repair(**self._common(reason), label=self.label, sources=sources, damaged=damaged)

    def pin(self, reason: str, sources: tuple[str, ...], *, drift: bool | None = None) -> PinRoot:
        """Return a PinRoot; `drift` replaces what follows from the version."""
        return PinRoot(**self._common(reason, drift=drift), label=self.label, sources=sources)

    def relabel(self, old: str) -> Relabel:
        """Return a Relabel, which is not drift: the bytes are complete."""
        common = self._common(f"held under {old}", drift=False)
        return Relabel(**common, label=self.label, old=old)

    def wait(self, reason: str) -> Wait:
        """Return a Wait, which is not drift."""
        return Wait(**self._common(reason, drift=False))

    def blocked(self, reason: str, hint: str = "", *, unknown: bool = False) -> Blocked:
        """Return a Blocked; with `unknown` it is not drift."""
        return blocked(self.version, reason, hint, target=self.target, root=self.root, unknown=unknown)

    def _common(self, reason: str, *, drift: bool | None = None) -> _Common:
        return {
            "model": self.version.model,
            "version": self.version.version,
            "target": self.target,
            "root": self.root,
            "reason": reason,
            "drift": is_drift(self.version) if drift is None else drift,
        }


def is_drift(version: Version) -> bool:
    """Return whether differences of `version` are drift: the index has its CID, so it was published."""
    return version.cid is not None


def blocked(
    version: Version,
    reason: str,
    hint: str = "",
    *,
    target: str | None = None,
    root: Cid | None = None,
    unknown: bool = False,
    mismatch: Mismatch | None = None,
) -> Blocked:
    """Return a Blocked for a version, on all its targets or on one; with `unknown` it is not drift."""
    return Blocked(
        model=version.model,
        version=version.version,
        target=target,
        root=root,
        reason=reason,
        hint=hint,
        unknown=unknown,
        mismatch=mismatch,
        drift=is_drift(version) and not unknown,
    )


def unpin(label: Label, target: str, root: Cid, reason: str) -> Unpin:
    """Return an Unpin; the label names model and version, which may no longer be in the index."""
    model, version = label.version
    return Unpin(model=model, version=version, target=target, root=root, label=label, reason=reason)


def resolve_cid(version: Version, root: Cid, *, held: bool) -> ResolveCid:
    """Return a ResolveCid."""
    return ResolveCid(
        model=version.model, version=version.version, root=root, held=held, reason="not in the index yet"
    )


def write_record(
    version: Version,
    root: Cid,
    size: int,
    shardings: tuple[Sharding, ...],
    *,
    recorded: bool,
    held: bool,
    replaces: Cid | None = None,
) -> WriteRecord:
    """Return a WriteRecord; with `recorded`, a record exists and only lacks the pieces of `shardings`."""
    reason = "its pieces are not recorded yet" if recorded else ""
    if replaces is not None:
        reason = f"replaces the record of {replaces}, which was never released"
    return WriteRecord(
        model=version.model,
        version=version.version,
        root=root,
        held=held,
        drift=is_drift(version) and not held,
        reason=reason,
        path=f"records/{version.model}/{version.version}.json",
        size=size,
        shardings=shardings,
        replaces=replaces,
    )
