"""The proposal: resolved CIDs and records, written to the working tree, a branch, or a pull request."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.content import profile
from reconciler.content.car import ShardedCar
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import BundleIdentity
from reconciler.errors import FileChangedError, ReconcilerError, UsageError, Where
from reconciler.forges.interface import BranchOutcome, Proposal, ProposalOutcome, ProposalResult
from reconciler.fs import why_unwritable
from reconciler.git.repository import locate_repository
from reconciler.index import guarded_yaml
from reconciler.index.edits import set_cids, write_edit
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Record
from reconciler.index.record_bundle import is_listed
from reconciler.index.records import (
    load_record,
    merge_records,
    record_path,
    records_directory,
    records_written,
)
from reconciler.loop.changes import Proposed, ResolveCid, WriteBack, WriteRecord
from reconciler.loop.log_leaves import (
    ProposedLeaves,
    WriteLeaf,
    log_directory,
    working_tree_leaves,
    write_log_files,
)
from reconciler.loop.proposal_edit import Describe, IndexEdit, Refs
from reconciler.loop.proposed_signatures import ProposedSignatures
from reconciler.loop.settings import ProposeMode
from reconciler.loop.sign import SignedRelease, identified_material, sign_material, write_signatures
from reconciler.loop.workspace import Workspace

if TYPE_CHECKING:
    from reconciler.forges.open import OpenForge
    from reconciler.trust.files import VersionSignatures
    from reconciler.trust.signing import StatementSigner


@dataclass(frozen=True, slots=True)
class PullRequests:
    """The forge for pull requests, and their wording.

    `describe` makes title and body from the versions (each with its CID), their records, and the records'
    directory in the repository. `titled`: the environment gives the title.
    """

    open_forge: Callable[[], OpenForge]
    describe: Callable[[Sequence[tuple[str, str]], Sequence[Record], str], tuple[str, str]]
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    draft: bool = False
    titled: bool = False


@dataclass(frozen=True, slots=True)
class RunSigning:
    """The signer of the versions that a run resolves, and the environment that its provenance describes."""

    signer: StatementSigner
    environ: Mapping[str, str]


class Proposer:
    """The writer of the write-backs of one run, to the place that `mode` names.

    With `signing`, the versions that the run resolves are signed, and their signatures written with the CIDs.
    When the index file has changed since the workspace read it, nothing is written.
    """

    def __init__(
        self,
        workspace: Workspace,
        mode: ProposeMode,
        pull_requests: PullRequests | None = None,
        signing: RunSigning | None = None,
    ) -> None:
        self._workspace = workspace
        self._signing = signing
        self._layout = workspace.layout
        self._index = workspace.index
        self._index_bytes = workspace.index_bytes
        self._form = workspace.proposals
        self._sources = workspace.sources
        self._logs = workspace.audit.log is not None
        self._mode = mode
        self._pull_requests = pull_requests
        self.result: ProposalResult | None = None  #: the pull request, once one was made or found

    def check(self) -> None:
        """Raise ReconcilerError when the proposal will be impossible, so that nothing is published before."""
        if self._mode is ProposeMode.PULL_REQUEST:
            index_place(self._layout)
            self._open_forge().forge.close()
            return
        if self._mode is ProposeMode.WRITE and not os.access(self._layout.index_file.parent, os.W_OK):
            releases = self._layout.index_file.parent
            raise ReconcilerError(
                f"cannot be written ({why_unwritable(releases)}), so the resolved CIDs could not be either; "
                "nothing was published",
                hint="use --propose pull-request, or --propose none to only publish",
                where=Where(str(releases)),
            )
        if self._mode is not ProposeMode.BRANCH:
            return
        from reconciler.forges.branch import is_committed

        top, name = index_place(self._layout)
        if not is_committed(top, {name: self._index_bytes}):
            raise UsageError(
                f"{name} has uncommitted changes, which a proposal on a branch must not include",
                hint="commit them first, or use --propose write",
            )

    def proposed_on(self, changes: Sequence[WriteBack]) -> str | None:
        """Return the branch that contains `changes` already, on top of the current commit, or None."""
        from reconciler.forges.branch import is_proposed, locate_branch

        try:
            top, name = index_place(self._layout)
            edit = self._edit(name, changes)
            branch = locate_branch(top, edit.names, edit.owns)
            return branch if is_proposed(top, edit, branch) else None
        except ReconcilerError:
            return None  # the error is raised again when the proposal is made

    def propose(self, changes: Sequence[WriteBack]) -> Proposed:
        """Write all `changes` or none; return where. Raises ReconcilerError or OSError."""
        if self._mode is ProposeMode.BRANCH:
            return self._to_branch(changes)
        if self._mode is ProposeMode.PULL_REQUEST:
            return self._to_forge(changes)
        cids = _cids(changes)
        text = self._index_bytes
        if cids:
            text = set_cids(text.decode("utf-8"), cids).encode("utf-8")
        self._to_working_tree(text, self._records(changes), changes)
        return Proposed("written to the working tree")

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
        if self._signing is not None:
            for change in changes:
                if isinstance(change, ResolveCid):
                    from reconciler.trust.files import read_signatures

                    existing = read_signatures(index_file.parent, change.model, change.version)
                    write_signatures(index_file.parent, self._sign(change.ref, existing))
        if self._logs:  # last: a run that is killed before leaves a version that the next plan logs
            leaves = working_tree_leaves(self._index, _cids(changes), records, _leaf_refs(changes))
            write_log_files(log_directory(index_file), {leaf.path: leaf.file() for leaf in leaves})

    def close_finished(self) -> None:
        """Close a pull request of ours that is still open although nothing is left to propose."""
        if self._mode is ProposeMode.PULL_REQUEST:
            self._to_forge(())

    def _edit(self, place: str, changes: Sequence[WriteBack], describer: Describe | None = None) -> IndexEdit:
        records = self._records(changes)
        log = None
        if self._logs:
            beside = str(PurePosixPath(place).with_name("log"))
            log = ProposedLeaves(self._index.id, beside, _leaf_refs(changes))
        signatures = None
        if self._signing is not None:
            refs = frozenset(change.ref for change in changes if isinstance(change, ResolveCid))
            signatures = ProposedSignatures(PurePosixPath(place).parent, refs, self._sign)
        return IndexEdit(place, self._index, _cids(changes), records, self._form, describer, log, signatures)

    def _sign(self, ref: str, existing: VersionSignatures) -> SignedRelease:
        """Sign a version that this run identified, unless `existing` has the signature."""
        assert self._signing is not None  # noqa: S101 - only called with a signer
        version = next(each for each in self._index.versions() if each.ref == ref)
        record = make_record(version.model, version.version, self._sources.identities()[ref])
        record = replace(record, provenance=self._sources.provenance.get(ref))
        material = identified_material(self._workspace, version, self._sources.identities()[ref], record)
        return sign_material(version, material, self._signing.signer, self._signing.environ, existing)

    def _records(self, changes: Sequence[WriteBack]) -> list[Record]:
        return [self._record(change) for change in changes if isinstance(change, WriteRecord)]

    def _record(self, change: WriteRecord) -> Record:
        """Return the record to write: the existing one, and what `change` adds."""
        directory = records_directory(self._layout.index_file)
        identity = self._sources.identities()[change.ref]
        pieces = tuple(self._sources.pieces(change.ref, sharding) for sharding in change.shardings)
        found = make_record(change.model, change.version, identity, pieces)
        found = replace(found, inputs=self._sources.inputs(change.ref))
        found = replace(found, provenance=self._sources.provenance.get(change.ref))
        dag = self._sources.identified(change.ref)
        if is_listed(dag.contents):
            found = replace(found, contents=dag.contents)
        existing = load_record(directory, change.model, change.version)
        if existing is None or existing.cid == change.replaces:
            return found
        return merge_records(existing, found, str(record_path(directory, change.model, change.version)))

    def _to_branch(self, changes: Sequence[WriteBack]) -> Proposed:
        from reconciler.forges.branch import commit_to_branch, locate_branch

        top, name = index_place(self._layout)
        edit = self._edit(name, changes)
        result = commit_to_branch(top, edit, locate_branch(top, edit.names, edit.owns))
        if result.outcome is BranchOutcome.TAKEN:  # another run has just created it
            result = commit_to_branch(top, edit, edit.names.own)
        if result.outcome in (BranchOutcome.HUMAN_EDITED, BranchOutcome.TAKEN):
            raise ReconcilerError(result.detail, hint="merge or delete that branch, then run again")
        return Proposed(f"branch {result.branch} {result.outcome.value}{_overruling(edit)}")

    def _to_forge(self, changes: Sequence[WriteBack]) -> Proposed:
        from reconciler.forges.propose import propose

        opened = self._open_forge()
        edit = self._edit(index_place(self._layout)[1], changes, self._describer(opened.base))
        try:
            branch, self.result = propose(
                opened.forge,
                edit,
                base=opened.base,
                close_comment="Nothing is left to propose: the index has every CID.",
            )
        finally:
            opened.forge.close()
        if branch.outcome in (BranchOutcome.HUMAN_EDITED, BranchOutcome.TAKEN):
            raise ReconcilerError(branch.detail, hint="merge or delete that branch")
        if self.result.outcome is ProposalOutcome.DECLINED:
            return Proposed(self.result.detail, waits=True)
        return Proposed(
            f"pull request {self.result.url or ''} {self.result.outcome.value}{_overruling(edit)}"
        )

    def _describer(self, base: str) -> Describe:
        """Return the function that words the pull request into the branch `base`."""
        requests = self._pull_requests
        assert requests is not None  # noqa: S101 - `_open_forge` was called before

        def describe(refs: Refs, records: Sequence[Record], directory: str, branch: str) -> Proposal:
            title, body = requests.describe(refs, records, directory)
            if self._form.title and not requests.titled:
                title = self._form.titled(title, [ref for ref, _ in refs])
            return Proposal(
                title,
                body,
                base,
                branch,
                labels=requests.labels,
                reviewers=requests.reviewers,
                draft=requests.draft,
            )

        return describe

    def _open_forge(self) -> OpenForge:
        if self._pull_requests is None:
            raise UsageError("this run has no forge to propose to")
        return self._pull_requests.open_forge()


def _overruling(edit: IndexEdit) -> str:
    """Return what a proposal replaces, to be appended to its outcome: "" when nothing contradicts it."""
    if not edit.overruled:
        return ""
    return f"; it replaces what another run proposed: {'; '.join(edit.overruled)}"


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


def _leaf_refs(changes: Sequence[WriteBack]) -> frozenset[str]:
    return frozenset(change.ref for change in changes if isinstance(change, WriteLeaf))


def _cids(changes: Sequence[WriteBack]) -> dict[tuple[str, str], Cid]:
    return {(c.model, c.version): c.root for c in changes if isinstance(c, ResolveCid)}


def index_place(layout: RepositoryLayout) -> tuple[Path, str]:
    """Return the repository that the index is in, and the path of the index there.

    That is the repository of the real directory, whichever links lead to it: a submodule, a linked work tree,
    or one around `layout.root`. Without git it is `layout.root`. Raises UsageError when the index is outside
    of that, or a link itself.
    """
    file = layout.index_file
    if file.is_symlink():
        raise UsageError(
            f"{str(file)!r} is a symbolic link, and links are not edited",
            hint="name the file it points to with --index",
        )
    directory = file.parent.resolve()
    found = locate_repository(directory)
    if found is not None and found.top is not None:
        return found.top, str(found.prefix / file.name)
    root = layout.root.resolve()
    if directory.is_relative_to(root):
        return root, (directory / file.name).relative_to(root).as_posix()
    raise UsageError(
        f"{str(file)!r} is not in the repository {str(layout.root)!r}",
        hint="a branch can only propose to an index of its own repository; use --propose write",
    )
