"""The proposal: resolved CIDs and records, written to the working tree, a branch, or a pull request."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from reconciler.content import profile
from reconciler.content.car import ShardedCar
from reconciler.content.directory_dag import BundleIdentity
from reconciler.errors import FileChangedError, ReconcilerError, UsageError, UserError, Where
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, ProposalResult
from reconciler.index import guarded_yaml
from reconciler.index.edits import set_cids, write_edit
from reconciler.index.model import Record
from reconciler.index.record_bundle import is_listed
from reconciler.index.records import (
    load_record,
    merge_records,
    record_path,
    records_directory,
    records_written,
    render_record,
)
from reconciler.loop.changes import ResolveCid, WriteBack, WriteRecord
from reconciler.loop.settings import ProposeMode
from reconciler.loop.workspace import Workspace

if TYPE_CHECKING:
    from reconciler.forges.open import OpenForge


@dataclass(frozen=True, slots=True)
class PullRequests:
    """The forge for pull requests, and their wording.

    `describe` makes title and body from the versions (each with its CID), their records, and the records'
    directory in the repository.
    """

    open_forge: Callable[[], OpenForge]
    describe: Callable[[Sequence[tuple[str, str]], Sequence[Record], str], tuple[str, str]]
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    draft: bool = False


class Proposer:
    """The writer of the write-backs of one run, to the place that `mode` names.

    When the index file has changed since the workspace read it, nothing is written.
    """

    def __init__(
        self, workspace: Workspace, mode: ProposeMode, pull_requests: PullRequests | None = None
    ) -> None:
        self._layout = workspace.layout
        self._index_bytes = workspace.index_bytes
        self._sources = workspace.sources
        self._mode = mode
        self._pull_requests = pull_requests
        self.result: ProposalResult | None = None  #: the pull request, once one was made or found

    def check(self) -> None:
        """Raise UserError when the proposal will be impossible, so that nothing is published before."""
        if self._mode is ProposeMode.PULL_REQUEST:
            self._index_path()
            self._open_forge().forge.close()
            return
        if self._mode is ProposeMode.WRITE and not os.access(self._layout.index_file.parent, os.W_OK):
            raise UserError(
                "cannot be written, so the resolved CIDs could not be either; nothing was published",
                hint="use --propose pull-request, or --propose none to only publish",
                where=Where(str(self._layout.index_file.parent)),
            )
        if self._mode is not ProposeMode.BRANCH:
            return
        from reconciler.forges.branch import is_committed

        name = self._index_path()
        if not is_committed(self._layout.root, {name: self._index_bytes}):
            raise UsageError(
                f"{name} has uncommitted changes, which a proposal on a branch must not include",
                hint="commit them first, or use --propose write",
            )

    def is_proposed(self, changes: Sequence[WriteBack]) -> bool:
        """Return whether the proposal branch contains exactly `changes`, on top of the current commit."""
        from reconciler.forges.branch import is_proposed

        try:
            return is_proposed(self._layout.root, self._files(*self._contents(changes)), PROPOSAL_BRANCH)
        except ReconcilerError:
            return False  # the error is raised again when the proposal is made

    def propose(self, changes: Sequence[WriteBack]) -> str:
        """Write all `changes` or none; return a text that says where. Raises ReconcilerError or OSError."""
        text, records = self._contents(changes)
        if self._mode is ProposeMode.BRANCH:
            return self._to_branch(text, records, changes)
        if self._mode is ProposeMode.PULL_REQUEST:
            return self._to_forge(text, records, changes)
        self._to_working_tree(text, records, changes)
        return "written to the working tree"

    def _to_working_tree(self, text: bytes, records: Sequence[Record], changes: Sequence[WriteBack]) -> None:
        """Write index and records, both or neither. Raises FileChangedError when the index was edited."""
        index_file = self._layout.index_file
        if guarded_yaml.read(index_file) != self._index_bytes:
            raise FileChangedError(index_file)
        replaced = [change.replaces for change in changes if isinstance(change, WriteRecord)]
        # Records come first: a run that is killed in between leaves records that claim nothing.
        with records_written(
            records_directory(index_file), records, [cid for cid in replaced if cid is not None]
        ):
            if text != self._index_bytes:
                write_edit(index_file, self._index_bytes.decode("utf-8"), text.decode("utf-8"))
            elif guarded_yaml.read(index_file) != self._index_bytes:
                raise FileChangedError(index_file)

    def close_finished(self) -> None:
        """Close a pull request of ours that is still open although nothing is left to propose."""
        if self._mode is ProposeMode.PULL_REQUEST:
            self._to_forge(self._index_bytes, (), ())

    def _index_path(self) -> str:
        """Return the path of the index in the repository. Raises UsageError when it is outside."""
        layout = self._layout
        try:
            return layout.index_file.resolve().relative_to(layout.root.resolve()).as_posix()
        except ValueError:
            raise UsageError(
                f"{str(layout.index_file)!r} is not in the repository {str(layout.root)!r}",
                hint="a branch can only propose to an index of its own repository; use --propose write",
            ) from None

    def _contents(self, changes: Sequence[WriteBack]) -> tuple[bytes, list[Record]]:
        """Return the index with the CIDs of `changes` in it, and their records."""
        cids = {(c.model, c.version): c.root for c in changes if isinstance(c, ResolveCid)}
        text = self._index_bytes
        if cids:
            text = set_cids(text.decode("utf-8"), cids).encode("utf-8")
        return text, [self._record(change) for change in changes if isinstance(change, WriteRecord)]

    def _record(self, change: WriteRecord) -> Record:
        """Return the record to write: the existing one, and what `change` adds."""
        directory = records_directory(self._layout.index_file)
        identity = self._sources.identities()[change.ref]
        pieces = tuple(self._sources.pieces(change.ref, sharding) for sharding in change.shardings)
        found = make_record(change.model, change.version, identity, pieces)
        found = replace(found, inputs=self._sources.inputs(change.ref))
        dag = self._sources.identified(change.ref)
        if is_listed(dag.contents):
            found = replace(found, contents=dag.contents)
        existing = load_record(directory, change.model, change.version)
        if existing is None or existing.cid == change.replaces:
            return found
        return merge_records(existing, found, str(record_path(directory, change.model, change.version)))

    def _files(self, text: bytes, records: Sequence[Record]) -> dict[str, bytes]:
        """Return the files that a branch changes, by path in the repository."""
        name = self._index_path()
        directory = PurePosixPath(name).with_name("records")
        files = {name: text} if text != self._index_bytes else {}
        for record in records:
            files[f"{directory}/{record.model}/{record.version}.json"] = render_record(record).encode()
        return files

    def _to_branch(self, text: bytes, records: Sequence[Record], changes: Sequence[WriteBack]) -> str:
        from reconciler.forges.branch import commit_to_branch

        files = self._files(text, records)
        result = commit_to_branch(self._layout.root, files, PROPOSAL_BRANCH, _commit_message(changes))
        if result.outcome is BranchOutcome.HUMAN_EDITED:
            raise ReconcilerError(result.detail, hint="merge or delete that branch, then run again")
        return f"branch {result.branch} {result.outcome.value}"

    def _to_forge(self, text: bytes, records: Sequence[Record], changes: Sequence[WriteBack]) -> str:
        from reconciler.forges.interface import Proposal
        from reconciler.forges.propose import propose

        assert self._pull_requests is not None  # noqa: S101 - `check` was called before anything was applied
        cids = list(dict.fromkeys((change.ref, str(change.root)) for change in changes))
        name = self._index_path()
        title, body = "", ""
        if cids:
            title, body = self._pull_requests.describe(
                cids, records, str(PurePosixPath(name).with_name("records"))
            )
        opened = self._open_forge()
        try:
            branch, self.result = propose(
                opened.forge,
                self._files(text, records) or {name: text},
                _commit_message(changes),
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

    def _open_forge(self) -> OpenForge:
        if self._pull_requests is None:
            raise UsageError("this run has no forge to propose to")
        return self._pull_requests.open_forge()


def make_record(
    model: str, version: str, identity: BundleIdentity, pieces: tuple[ShardedCar, ...] = ()
) -> Record:
    """Return the record of an identified version, with the `pieces` that its targets need."""
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


def _commit_message(changes: Sequence[WriteBack]) -> str:
    """Return the commit message: one line for each version."""
    lines = dict.fromkeys(f"- {change.ref}: {change.root}" for change in changes)
    return "\n".join(["Record resolved CIDs", "", *lines]).rstrip() + "\n"
