"""What is known about a published version besides its CID: what it was made from, and its files.

The index may have changed since: a model was renamed, its format corrected, its patterns extended. The record
keeps what the bundle was made from. Where it does not, as in records of earlier releases, other records with
the same CID, the git history of the index and the manifest on a target are asked, one after the other and
only while none of them gives the CID.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from reconciler.content import manifest
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.cid import Cid
from reconciler.content.contents import BundleContents, contents_of_map
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes, walk
from reconciler.errors import InvalidIndexError, ReconcilerError
from reconciler.index.former_entries import FormerEntry, former_entries
from reconciler.index.model import Index, Record, Version
from reconciler.index.records import load_record, records_directory, records_of
from reconciler.json_fields import JsonFields, load_json
from reconciler.loop.seals import NO_SEALS, SealKeys
from reconciler.targets.healing import MergedDag, gather
from reconciler.targets.interface import Target


class PublishedBundles:
    """The sources of such facts for the versions of the index in a file, None for those of no index.

    `targets` are the open ones.
    """

    def __init__(self, index_file: Path | None, seals: SealKeys = NO_SEALS) -> None:
        self.index_file = index_file
        self._seals = seals
        self._facts: dict[Cid, _PublishedFacts] = {}
        self.targets: Mapping[str, Target] = {}

    def inputs(self, version: Version) -> Iterator[BundleInputs]:
        """Yield what the bundle of a version may have been made from, the best known first, each once."""
        seen: set[BundleInputs] = set()
        for inputs in self._candidates(version):
            if inputs not in seen:
                seen.add(inputs)
                yield inputs

    def is_sealed(self, version: Version) -> bool:
        """Return whether the record of a version says that it is sealed."""
        own = self._known(version).own
        return own is not None and own.inputs is not None and own.inputs.sealing is not None

    def contents(self, version: Version) -> tuple[BundleContents, str] | None:
        """Return the files of a version and the name of what lists them, None when nothing does."""
        facts = self._known(version)
        for record in facts.records:
            if record.contents is not None:
                return record.contents, "the record"
        if facts.tree is not None:
            return contents_of_map(facts.tree[0]), "a target"
        return None

    def file(self, version: Version, path: str, limit: int) -> bytes | None:
        """Return a file of a published version, at most `limit` bytes, from its targets; None without it."""
        if version.cid is None:
            raise ValueError(f"{version.ref} has no CID")
        targets = [self.targets[name] for name in version.targets if name in self.targets]
        try:
            with closing(gather(version.cid, targets)) as dag:
                return _file(dag, walk(version.cid, dag.read_block), path, limit)
        except (ReconcilerError, OSError, ValueError):
            return None

    def recorded_in(self, version: Version) -> str | None:
        """Return the first commit of the index that has the CID of a version, None when none is known."""
        entries = self._known(version).entries
        return entries[0].commit if entries else None

    def _candidates(self, version: Version) -> Iterator[BundleInputs]:
        facts = self._known(version)
        if facts.own is not None and facts.own.inputs is not None:
            yield facts.own.inputs
        sealed = [replace(version.inputs, sealing=each) for each in self._seals.for_published(version)]
        if version.seal is not None:
            yield from sealed
        yield version.inputs
        yield from sealed
        for record in facts.records:
            if record.inputs is not None:
                yield record.inputs
            else:
                named = replace(version.inputs.release, model=record.model, version=record.version)
                yield replace(version.inputs, release=named)
        for entry in facts.entries:
            yield entry.version.inputs
        if facts.tree is not None and (release := _released(facts.tree[1])) is not None:
            yield replace(version.inputs, release=release)

    def _known(self, version: Version) -> _PublishedFacts:
        if version.cid is None:
            raise ValueError(f"{version.ref} has no CID")
        if version.cid not in self._facts:
            self._facts[version.cid] = _PublishedFacts(self, version, version.cid)
        return self._facts[version.cid]


def edits_without_effect(
    index: Index, versions: Iterable[Version], made_from: Mapping[str, BundleInputs]
) -> Iterator[str]:
    """Yield a note for each published version whose own entry selects other files than it was made from.

    `made_from` has what the records keep, by `model@version`. Patterns that the version has from its model or
    from the defaults of the index are meant for new versions, so a change of those is not a mistake.
    """
    for version in versions:
        made = made_from.get(version.ref)
        if version.cid is None or made is None:
            continue
        inherited = index.models[version.model].patterns
        changed = [
            key
            for key, now, then, given in (
                ("hidden", version.include_hidden, made.include_hidden, None),
                ("include", version.patterns.include, made.patterns.include, inherited.include),
                ("exclude", version.patterns.exclude, made.patterns.exclude, inherited.exclude),
            )
            if now not in (then, given)
        ]
        if changed:
            yield (
                f"{version.ref}: {' and '.join(changed)} changed in the index after it was published, "
                "which has no effect; a new version would have them"
            )


NOTHING_PUBLISHED = PublishedBundles(None)  #: only what the index itself says


class _PublishedFacts:
    """The facts about one CID, each read when it is first needed."""

    def __init__(self, of: PublishedBundles, version: Version, cid: Cid) -> None:
        self._of = of
        self._version = version
        self._cid = cid

    @cached_property
    def own(self) -> Record | None:
        """The record of the version."""
        if self._of.index_file is None:
            return None
        directory = records_directory(self._of.index_file)
        try:
            record = load_record(directory, self._version.model, self._version.version)
        except InvalidIndexError:
            return None
        return record if record is not None and record.cid == self._cid else None

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records with the CID, the version's own first."""
        own = (self.own,) if self.own else ()
        if self._of.index_file is None:
            return own
        found = records_of(records_directory(self._of.index_file), self._cid)
        return (*own, *(record for record in found if record != self.own))

    @cached_property
    def entries(self) -> tuple[FormerEntry, ...]:
        """The versions with the CID in the git history of the index."""
        return tuple(former_entries(self._of.index_file, self._cid)) if self._of.index_file else ()

    @cached_property
    def tree(self) -> tuple[DagMap, bytes] | None:
        """The map of the DAG on the version's targets, and its manifest.json (b"" without one)."""
        targets = [self._of.targets[name] for name in self._version.targets if name in self._of.targets]
        try:
            with closing(gather(self._cid, targets)) as dag:
                found = walk(self._cid, dag.read_block)
                return found, _manifest(dag, found)
        except (ReconcilerError, OSError, ValueError):
            return None


def _manifest(dag: MergedDag, found: DagMap) -> bytes:
    try:
        return _file(dag, found, manifest.NAME, manifest.MAX_SIZE) or b""
    except ReconcilerError:
        return b""


def _file(dag: MergedDag, found: DagMap, path: str, limit: int) -> bytes | None:
    """Return a file of the DAG, None when it has none at `path` or a larger one."""
    node = next((node for node in found.nodes if node.path == path), None)
    if node is None or node.kind is not NodeKind.FILE or node.size > limit:
        return None
    return b"".join(_leaves(dag, found, node))


def _leaves(dag: MergedDag, found: DagMap, node: FileNode) -> Iterator[bytes]:
    for leaf in found.leaves(node):
        yield leaf_bytes(dag.layout, leaf.position, dag.read(leaf.position))


def _released(data: bytes) -> ReleaseInfo | None:
    """Return what a manifest names, None when it is not one of ours."""
    try:
        fields = JsonFields(load_json(data), ValueError)
        texts = [fields.text_or("", key) or None for key in ("format", "created_at")]
        return ReleaseInfo(fields.text("model"), fields.text("version"), *texts)
    except ValueError:
        return None
