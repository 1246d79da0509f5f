"""The edit that a proposal makes to the index and the records of its base, added to what is proposed already.

The base may have moved since this run read its index, and other runs, which see other versions, may have
proposed some in the meantime. So the edit is made on the base as it is now, version by version: a version
that the base resolved since is left out, one that another run proposed is kept, and one that this run
proposes replaces an older proposal of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from reconciler.content.cid import Cid
from reconciler.errors import InvalidIndexError, ReconcilerError, Where
from reconciler.forges.branch_names import BranchNames
from reconciler.forges.interface import CommitFiles, Composed, Proposal
from reconciler.index import guarded_yaml
from reconciler.index.edits import set_cids
from reconciler.index.load import parse_index
from reconciler.index.model import Index, Record, Version
from reconciler.index.proposal_form import ProposalForm
from reconciler.index.records import merge_records, parse_record_of, render_record
from reconciler.loop.log_leaves import ProposedLeaves, covered_size, state_of
from reconciler.loop.proposed_signatures import ProposedSignatures
from reconciler.trust.leaves import LoggedState, LogLeaf
from reconciler.trust.log import CHECKPOINT

Refs = Sequence[tuple[str, str]]  #: pairs of `model@version` and CID
Describe = Callable[[Refs, Sequence[Record], str, str], Proposal]
"""Makes a pull request from versions, their records, the records' directory and the branch."""

_NO_PLACE = Where("")
SUBJECT = "Record resolved CIDs"
LOG_SUBJECT = "Extend the audit log"


@dataclass
class IndexEdit:
    """What one run proposes to the index at `place` in its repository. Implements `ProposedEdit`.

    `index` is the index as the run read it, `cids` are by model and version; `log` is None where no audit log
    is kept, `signatures` where the run signs nothing. `composed` are the versions and records of the whole
    proposal, and `leaves` what it adds to the audit log, as `compose` last made it; `overruled` says what
    another run had proposed that contradicts it.
    """

    place: str
    index: Index
    cids: Mapping[tuple[str, str], Cid]
    records: Sequence[Record]
    form: ProposalForm
    describer: Describe | None = None
    log: ProposedLeaves | None = None
    signatures: ProposedSignatures | None = None
    composed: tuple[Refs, Sequence[Record]] = field(init=False, default=((), ()))
    leaves: tuple[LogLeaf, ...] = field(init=False, default=())
    overruled: tuple[str, ...] = field(init=False, default=())

    @property
    def names(self) -> BranchNames:
        """As `ProposedEdit.names`."""
        return BranchNames.of(self.place)

    @property
    def directory(self) -> str:
        """The directory of the records in the repository."""
        return str(PurePosixPath(self.place).with_name("records"))

    @property
    def sign_off(self) -> bool:
        """As `BranchEdit.sign_off`."""
        return self.form.sign_off

    @property
    def items(self) -> Collection[str]:
        """As `ProposedEdit.items`."""
        cids = ((f"{model}@{version}", str(cid)) for (model, version), cid in self.cids.items())
        logged = () if self.log is None else sorted(f"log {ref}" for ref in self.log.refs)
        signed = () if self.signatures is None else self.signatures.items
        return [*_items(cids, self.records), *logged, *signed]

    def owns(self, changed: frozenset[str]) -> bool:
        """As `BranchEdit.owns`: the branch changes our index, its records, its audit log or signatures."""
        ours = [self.directory, *([] if self.log is None else [self.log.directory])]
        ours += [] if self.signatures is None else [self.signatures.directory]
        return any(
            path == self.place or any(path.startswith(f"{each}/") for each in ours) for path in changed
        )

    def compose(self, base: CommitFiles, proposed: CommitFiles | None) -> Composed:
        """As `BranchEdit.compose`.

        Raises ReconcilerError when the base lacks the index or a version, or defines it in another way.
        """
        data = base.read(self.place)
        if data is None:
            raise ReconcilerError(
                f"the base branch has no {self.place!r}",
                hint="push the commit that adds it; the forge must be that of the index's own repository",
            )
        text = guarded_yaml.decode(data, self.place)
        there = parse_index(text, Path(self.place), name=self.place)
        self.overruled = ()
        cids = self._unresolved(there)
        if proposed is not None:
            cids = {**self._proposed_by_others(there, proposed, cids), **cids}
        ordered = {
            (v.model, v.version): cids[v.model, v.version]
            for v in there.versions()
            if (v.model, v.version) in cids
        }
        records = self._records(there, base, proposed, ordered)
        files = {self.place: data}
        if ordered:
            files[self.place] = set_cids(text, ordered, name=self.place).encode()
        files |= {self._record_path(one.model, one.version): render_record(one).encode() for one in records}
        if self.signatures is not None:
            resolved = {f"{model}@{version}": cid for (model, version), cid in ordered.items()}
            files |= self.signatures.compose(resolved, proposed)
        if self.log is not None:
            changed = proposed.changed if proposed is not None else ()
            refs = [*ordered, *((r.model, r.version) for r in records), *self.log.versions_in(changed)]
            state = partial(self._state, there, ordered, files, base)
            self.leaves = tuple(self.log.compose(refs, state, base.read))
            self.log.covered = covered_size(base.read(f"{self.log.directory}/{CHECKPOINT}"))
            files |= self.log.files(self.leaves, base.read)
        lines = {f"{model}@{version}": str(cid) for (model, version), cid in ordered.items()}
        lines |= {f"{one.model}@{one.version}": str(one.cid) for one in records}
        self.composed = list(lines.items()), records
        ours = LOG_SUBJECT if self.leaves and not lines else SUBJECT
        title = _title(list(lines)) if lines else ours
        subject = self.form.titled(title, list(lines)) if self.form.title else ours
        body = "\n".join(
            [
                *(f"- {ref}: {cid}" for ref, cid in lines.items()),
                *(f"- log {leaf.event.value} {leaf.ref}" for leaf in self.leaves),
            ]
        )
        return Composed(files, f"{subject}\n\n{body}".rstrip() + "\n")

    def describe(self, branch: str) -> Proposal:
        """As `ProposedEdit.describe`."""
        from reconciler.forges.content_marker import add_marker

        assert self.describer is not None  # noqa: S101 - given for pull requests
        refs, records = self.composed
        proposal = self.describer(refs, records, self.directory, branch)
        if self.leaves and not refs:
            title = self.form.titled(LOG_SUBJECT, []) if self.form.title else LOG_SUBJECT
            proposal = replace(proposal, title=title, body="")
        if self.leaves and self.log is not None:
            section = self.log.describe(self.leaves)
            proposal = replace(proposal, body=f"{proposal.body.rstrip()}\n\n{section}".lstrip())
        items = [*_items(refs, records), *sorted({f"log {leaf.ref}" for leaf in self.leaves})]
        body = proposal.body
        if self.signatures is not None:
            items += self.signatures.items
            body += self.signatures.described()
        return replace(proposal, body=add_marker(body, self.place, items))

    def _state(
        self,
        there: Index,
        cids: Mapping[tuple[str, str], Cid],
        files: Mapping[str, bytes],
        base: CommitFiles,
        model: str,
        version: str,
    ) -> LoggedState:
        """Return what the audit log has to say about a version once the proposal is merged."""
        now = _version(there, model, version)
        path = self._record_path(model, version)
        cid = cids.get((model, version)) or (now.cid if now is not None else None)
        return state_of(now, cid, files.get(path) or base.read(path))

    def _unresolved(self, there: Index) -> dict[tuple[str, str], Cid]:
        """Return our CIDs that the base does not have yet. Raises ReconcilerError."""
        found = {}
        for (model, version), cid in self.cids.items():
            now = _version(there, model, version)
            ref = f"{model}@{version}"
            if now is None:
                raise ReconcilerError(
                    f"{ref} is not in {self.place!r} on the base branch",
                    hint="push the commit that adds it, and run again",
                )
            read = _version(self.index, model, version)
            if read is not None and _definition(now) != _definition(read):
                raise ReconcilerError(
                    f"{ref} changed in {self.place!r} on the base branch since this run read it",
                    hint="run again on the newest commit of the base branch",
                )
            if now.cid is None:
                found[model, version] = cid
            elif now.cid != cid:
                raise ReconcilerError(
                    f"{ref} is {now.cid} on the base branch, and its files have {cid}",
                    hint="a published version is immutable: restore its bytes, or release a new version",
                )
        return found

    def _proposed_by_others(
        self, there: Index, proposed: CommitFiles, ours: Mapping[tuple[str, str], Cid]
    ) -> dict[tuple[str, str], Cid]:
        """Return the CIDs that the open proposal adds for versions that still need them, except `ours`."""
        data = proposed.read(self.place) if self.place in proposed.changed else None
        if data is None:
            return {}
        try:
            index = parse_index(guarded_yaml.decode(data, self.place), Path(self.place), name=self.place)
        except InvalidIndexError:
            return {}  # made by another version of the reconciler
        found = {}
        for version in index.versions():
            key = version.model, version.version
            now = _version(there, *key)
            if now is None or now.cid is not None or now.suspended or version.cid is None:
                continue
            if key in ours:
                if version.cid != ours[key]:
                    self.overruled += (f"{version.ref} was proposed as {version.cid} before",)
                continue
            if _definition(now) == _definition(version):
                found[key] = version.cid
        return found

    def _records(
        self,
        there: Index,
        base: CommitFiles,
        proposed: CommitFiles | None,
        cids: Mapping[tuple[str, str], Cid],
    ) -> list[Record]:
        """Return the records that differ from those of the base: ours, and those proposed for kept CIDs."""
        wanted = {(one.model, one.version): one for one in self.records}
        for theirs in self._proposed_records(proposed):
            key = theirs.model, theirs.version
            now = _version(there, *key)
            cid = cids.get(key) or (now.cid if now is not None else None)
            if now is not None and now.cid not in (None, theirs.cid):
                ref = f"{theirs.model}@{theirs.version}"
                self.overruled += (f"{ref} was proposed with a record of {theirs.cid}, and is {now.cid}",)
            if theirs.cid == cid and (now is None or not now.suspended):
                ours = wanted.get(key, theirs)
                wanted[key] = self._merged(theirs, ours, self._record_path(*key))
        found = []
        for key, record in wanted.items():
            existing = self._parse(base.read(self._record_path(*key)), *key)
            merged = record
            if existing is not None:
                merged = merge_records(existing, record, self._record_path(*key))
            if merged != existing:
                found.append(merged)
        order = {(v.model, v.version): number for number, v in enumerate(there.versions())}
        return sorted(found, key=lambda one: order.get((one.model, one.version), len(order)))

    def _proposed_records(self, proposed: CommitFiles | None) -> Iterator[Record]:
        """Yield the records in the open proposal that can be read."""
        for path in sorted(proposed.changed) if proposed is not None else ():
            name = PurePosixPath(path)
            if proposed is None or name.suffix != ".json" or not path.startswith(f"{self.directory}/"):
                continue
            model = str(name.parent.relative_to(self.directory))
            record = self._parse(proposed.read(path), model, name.stem)
            if record is not None:
                yield record

    def _merged(self, theirs: Record, ours: Record, name: str) -> Record:
        """Return both records of one version together; ours where they contradict each other."""
        try:
            return merge_records(theirs, ours, name)
        except InvalidIndexError as error:
            self.overruled += (
                f"{ours.model}@{ours.version} was proposed with another record ({error.message})",
            )
            return ours

    def _parse(self, data: bytes | None, model: str, version: str) -> Record | None:
        try:
            name = self._record_path(model, version)
            return None if data is None else parse_record_of(model, version, data, name)
        except InvalidIndexError:
            return None

    def _record_path(self, model: str, version: str) -> str:
        return f"{self.directory}/{model}/{version}.json"


def _version(index: Index, model: str, version: str) -> Version | None:
    known = index.models.get(model)
    return known.versions.get(version) if known is not None else None


def _definition(version: Version) -> Version:
    """Return a version without its CID and its place: what a person wrote about it."""
    return replace(version, cid=None, where=_NO_PLACE)


def _title(refs: Sequence[str]) -> str:
    return f"Resolve {refs[0]}" if len(refs) == 1 else f"Resolve {len(refs):,} CIDs"


def _items(cids: Iterable[tuple[str, str]], records: Sequence[Record]) -> Collection[str]:
    """Return one text for each fact of a proposal."""
    found = [f"cid {ref} {cid}" for ref, cid in cids]
    for one in records:
        ref = f"{one.model}@{one.version}"
        found.append(f"cid {ref} {one.cid}")
        found += [
            f"pieces {ref} {each.sharding} {[str(s.piece) for s in each.shards]}" for each in one.pieces
        ]
    return sorted(set(found))
