"""What the proposal writes back: CIDs, and records with the pieces that targets need. Pure functions.

Resolved CIDs and records back to git: into the working tree, onto a branch, or as a pull request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from reconciler.content import profile
from reconciler.content.car import ShardedCar
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import BundleIdentity
from reconciler.errors import ReconcilerError, UsageError
from reconciler.forges.interface import BranchOutcome, ProposalResult
from reconciler.index.edits import set_cids, write_edit
from reconciler.index.model import Record, Version
from reconciler.index.recorded import records_directory
from reconciler.index.records import joined, load_record, record_path, render_record, write_record
from reconciler.loop.changes import Change, ResolveCid, WriteBack, WriteRecord
from reconciler.loop.select import Selection
from reconciler.loop.settings import PROPOSAL_BRANCH, ProposeMode, Settings
from reconciler.loop.world import World
from reconciler.targets.interface import State

if TYPE_CHECKING:
    from reconciler.forges.open import OpenForge


def unrecorded(selection: Selection, world: World) -> Iterator[Version]:
    """Versions whose pieces some target holds although no record names them: nothing can be said of their
    deals until they are computed, which needs the bytes.
    """
    for version in selection.kept:
        root = world.root(version)
        for target in version.targets if root is not None and version.ref in world.uncut else ():
            seen = world.observation(target, root) if root is not None else None
            sharding = world.capabilities[target].sharding
            if seen is not None and seen.state is State.HELD and sharding is not None:
                yield version
                break


def will_be_recorded(version: Version, world: World) -> bool:
    """Whether a proposal brings the pieces of a version into its record, as far as none are there."""
    known = version.ref in world.facts and version.ref not in world.problems
    return known and bool(world.uncut.get(version.ref))


def write_back(version: Version, root: Cid, world: World, *, held: bool) -> Iterator[Change]:
    """What the proposal writes for a version whose bytes were identified in this run."""
    facts = world.facts.get(version.ref)
    if version.cid is None:
        yield ResolveCid(
            model=version.model, version=version.version, root=root, held=held, reason="not in the index yet"
        )
    if facts is None or version.ref in world.problems:
        return
    cuts = world.uncut.get(version.ref, ())
    if version.ref not in world.recorded or cuts:
        yield WriteRecord(
            model=version.model,
            version=version.version,
            root=root,
            held=held,
            drift=version.cid is not None and not held,
            reason="its pieces are not recorded yet" if version.ref in world.recorded else "",
            path=f"records/{version.model}/{version.version}.json",
            size=facts.size,
            cuts=cuts,
        )


def make_record(
    model: str, version: str, identity: BundleIdentity, pieces: tuple[ShardedCar, ...] = ()
) -> Record:
    """The record of a version as it was identified, with its `pieces` where a target needs them."""
    return Record(
        model=model,
        version=version,
        cid=identity.root,
        size=identity.size,
        files=len(identity.files),
        blocks=identity.blocks,
        block_bytes=identity.block_bytes,
        car_size=identity.car_size,
        dirhash=identity.dirhash or "",
        profile=profile.NAME,
        pieces=pieces,
    )


@dataclass(frozen=True, slots=True)
class PullRequests:
    """Where pull requests go, and how they are worded: `describe` makes title and body of the versions (with
    their CIDs), their records, and the records' directory in the repository.
    """

    open_forge: Callable[[], OpenForge]
    describe: Callable[[Sequence[tuple[str, str]], Sequence[Record], str], tuple[str, str]]
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    draft: bool = False


class Proposer:
    """Writes back what a run found out. `text` is the index as the run loaded it; if the file differs from it
    by then, nothing is written and the error says so. `pieces` are those that a record is to name."""

    def __init__(
        self,
        settings: Settings,
        text: bytes,
        identities: Callable[[], Mapping[str, BundleIdentity]],
        pull_requests: PullRequests | None = None,
        pieces: Callable[[WriteRecord], tuple[ShardedCar, ...]] = lambda _change: (),
    ) -> None:
        self._settings = settings
        self._text = text
        self._identities = identities
        self._pieces = pieces
        self._pull_requests = pull_requests
        self.result: ProposalResult | None = None  #: the pull request, once there was one

    def check(self) -> None:
        """Raise UserError now for what would make the proposal impossible later, so that nothing is
        published.
        """
        if self._settings.propose is ProposeMode.PULL_REQUEST:
            self._name_in_repository()
            self._opened().forge.close()
            return
        if self._settings.propose is not ProposeMode.BRANCH:
            return
        from reconciler.forges.branch import is_committed

        layout = self._settings.layout
        name = self._name_in_repository()
        if not is_committed(layout.root, {name: self._text}):
            raise UsageError(
                f"{name} has changes that are not committed, and a branch must not carry them along",
                hint="commit them first, or use --propose write",
            )

    def is_proposed(self, changes: Sequence[WriteBack]) -> bool:
        """Whether the proposal branch holds just `changes` already, on the commit at hand."""
        from reconciler.forges.branch import is_proposed

        try:
            return is_proposed(
                self._settings.layout.root, self._files(*self._contents(changes)), PROPOSAL_BRANCH
            )
        except ReconcilerError:
            return False  # what stands in the way is told when the proposal is made

    def _name_in_repository(self) -> str:
        layout = self._settings.layout
        try:
            return layout.index_file.resolve().relative_to(layout.root.resolve()).as_posix()
        except ValueError:
            raise UsageError(
                f"{str(layout.index_file)!r} is not in the repository {str(layout.root)!r}",
                hint="a branch can only propose to an index of its own repository; use --propose write",
            ) from None

    def __call__(self, changes: Sequence[WriteBack]) -> str:
        """Write back `changes` in one go; says in words where. Raises ReconcilerError or OSError."""
        layout = self._settings.layout
        text, records = self._contents(changes)
        if self._settings.propose is ProposeMode.BRANCH:
            return self._to_branch(text, records, changes)
        if self._settings.propose is ProposeMode.PULL_REQUEST:
            return self._to_forge(text, records, changes)
        directory = records_directory(layout.index_file)
        for record in records:  # before the index: a record alone claims nothing
            write_record(directory, record)
        if text != self._text:
            write_edit(layout.index_file, self._text.decode("utf-8"), text.decode("utf-8"))
        return "written to the working tree"

    def _contents(self, changes: Sequence[WriteBack]) -> tuple[bytes, list[Record]]:
        """The index with the CIDs of `changes` in it, and their records."""
        cids = {(c.model, c.version): c.root for c in changes if isinstance(c, ResolveCid)}
        text = set_cids(self._text.decode("utf-8"), cids).encode("utf-8") if cids else self._text
        return text, [self._record(change) for change in changes if isinstance(change, WriteRecord)]

    def _record(self, change: WriteRecord) -> Record:
        """The record to write: what is recorded already, and what `change` adds."""
        directory = records_directory(self._settings.layout.index_file)
        identity = self._identities()[change.ref]
        found = make_record(change.model, change.version, identity, self._pieces(change))
        there = load_record(directory, change.model, change.version)
        if there is None:
            return found
        return joined(there, found, str(record_path(directory, change.model, change.version)))

    def _files(self, text: bytes, records: Sequence[Record]) -> dict[str, bytes]:
        """What a branch changes, by path in the repository."""
        name = self._name_in_repository()
        beside = PurePosixPath(name).with_name("records")
        files = {name: text} if text != self._text else {}
        for record in records:
            files[f"{beside}/{record.model}/{record.version}.json"] = render_record(record).encode()
        return files

    def _to_branch(self, text: bytes, records: Sequence[Record], changes: Sequence[WriteBack]) -> str:
        from reconciler.forges.branch import commit_to_branch

        root, files = self._settings.layout.root, self._files(text, records)
        result = commit_to_branch(root, files, PROPOSAL_BRANCH, _message(changes))
        if result.outcome is BranchOutcome.HUMAN_EDITED:
            raise ReconcilerError(result.detail, hint="merge or delete that branch, then run again")
        return f"branch {result.branch} {result.outcome.value}"

    def tidy(self) -> None:
        """Close a pull request of ours that is still open although nothing is left to propose."""
        if self._settings.propose is ProposeMode.PULL_REQUEST:
            self._to_forge(self._text, (), ())

    def _to_forge(self, text: bytes, records: Sequence[Record], changes: Sequence[WriteBack]) -> str:
        from reconciler.forges.interface import Proposal
        from reconciler.forges.propose import propose

        assert self._pull_requests is not None  # noqa: S101 - `_opened` was asked before anything was applied
        cids = list(dict.fromkeys((change.ref, str(change.root)) for change in changes))
        name = self._name_in_repository()
        title, body = "", ""
        if cids:
            title, body = self._pull_requests.describe(
                cids, records, str(PurePosixPath(name).with_name("records"))
            )
        opened = self._opened()
        try:
            branch, self.result = propose(
                opened.forge,
                self._files(text, records) or {name: text},
                _message(changes),
                Proposal(
                    title,
                    body,
                    opened.base,
                    labels=self._pull_requests.labels,
                    reviewers=self._pull_requests.reviewers,
                    draft=self._pull_requests.draft,
                ),
                planned=opened.planned,
                close_comment="Nothing is left to propose: the index has every CID.",
            )
        finally:
            opened.forge.close()
        if branch.outcome in (BranchOutcome.HUMAN_EDITED, BranchOutcome.BASE_MOVED):
            raise ReconcilerError(
                branch.detail, hint="merge or delete that branch, or run on the newest commit"
            )
        return f"pull request {self.result.url or ''} {self.result.outcome.value}"

    def _opened(self) -> OpenForge:
        if self._pull_requests is None:
            raise UsageError("this run has no forge to propose to")
        return self._pull_requests.open_forge()


def _message(changes: Sequence[WriteBack]) -> str:
    """What the commit says: one line a version."""
    lines = dict.fromkeys(f"- {change.ref}: {change.root}" for change in changes)
    return "\n".join(["Record resolved CIDs", "", *lines]).rstrip() + "\n"
