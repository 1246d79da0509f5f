"""The versions whose bytes are in a remote source: listed for a plan, streamed when it is carried out.

A listing tells names and sizes, so a plan reads no weights. The first pass over the bytes identifies the
version, gives the leaves to the targets, and checks every file against what its source committed to. After
that the version is a DAG like any other, whose leaves are read from the source in ranges, each verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reconciler.content import source_file
from reconciler.content.bundle import Bundle
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.cid import Cid
from reconciler.content.dag import Block, DagLayout
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.hashing import FileDigests
from reconciler.content.identify import identify
from reconciler.content.lint.finding import Finding
from reconciler.content.part_dag import PartDag
from reconciler.content.provisional import ProvisionalLayout
from reconciler.content.remembered_digests import RememberedDigests
from reconciler.errors import ReconcilerError
from reconciler.index.label import Label
from reconciler.index.model import SourceSpec, Version
from reconciler.index.part import Part
from reconciler.index.provenance import Provenance
from reconciler.index.sources_file import spec_of
from reconciler.index.user_config import config_file, load_config
from reconciler.loop.entrance import listing_findings, require_publishable
from reconciler.loop.provenance import check_pointers, make_provenance
from reconciler.loop.remote_version import RemoteVersion, list_version
from reconciler.loop.source_definition import open_declared
from reconciler.loop.spool import SpoolDirectory, SpooledLeaves, SpoolFile, needs_spool
from reconciler.loop.stream_cache import LeafJournal, StreamCache
from reconciler.loop.streaming import StreamPass, StreamResult, StreamSink, TargetSink
from reconciler.loop.world import ListedBytes
from reconciler.progress import Progress
from reconciler.sources.interface import (
    KnownDigests,
    SourceKind,
    SourceMismatchError,
)
from reconciler.targets.interface import Ingests, IngestSession, Target


@dataclass(frozen=True, slots=True)
class StreamedVersion:
    """A version after a pass over its source."""

    dag: DirectoryDag
    inputs: BundleInputs
    result: StreamResult
    provenance: Provenance
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class RemoteVersions:
    """The sources of one run by `specs`, the definitions of sources.yaml by name; opened when needed.

    Paths of local sources are relative to `root`, those of spools to `repository`. `index_id` is that of the
    index.
    """

    def __init__(
        self,
        specs: Mapping[str, SourceSpec],
        root: Path,
        environ: Mapping[str, str],
        cache: StreamCache,
        progress: Progress,
        *,
        repository: Path,
        index_id: str,
    ) -> None:
        self._specs = specs
        self._root = root
        self._repository = repository
        self._index_id = index_id
        self._spooled: dict[str, SpoolFile] = {}
        self._environ = environ
        self._cache = cache
        self._progress = progress
        self._versions: dict[str, RemoteVersion] = {}
        self.streamed: set[str] = set()  #: the versions that were read in this run

    def listed(self, version: Version, inputs: BundleInputs) -> ListedBytes:
        """Return the number and the bytes of the files of a version. Raises SourceError and UsageError."""
        remote = self.open(version, inputs)
        return ListedBytes(str(version.source), len(remote.listing.files), remote.listing.size)

    def open(self, version: Version, inputs: BundleInputs) -> RemoteVersion:
        """Return a version with the listing of its source, which is asked once. Raises as `listed`."""
        known = self._versions.get(version.ref)
        if known is not None:
            return known
        assert version.source is not None  # noqa: S101 - the caller's choice
        spec = spec_of(version.source, self._specs, version.ref)
        source = open_declared(version.source, spec, self._root, self._environ)
        try:
            made = list_version(version, inputs, spec, source, self._repository)
        except BaseException:
            source.close()
            raise
        self._versions[version.ref] = made
        return made

    def identify_from_cache(self, version: Version, inputs: BundleInputs) -> StreamedVersion | None:
        """Return a version that an earlier pass identified, without reading it; None if there was none.

        The bytes of a version without a CID must be pinned by its source. What the spool has is used.
        """
        remote = self.open(version, inputs)
        if version.cid is None and not remote.is_pinned:
            return None
        digests = self._cache.finished(remote.key, remote.listing.files)
        if digests is None:
            return None
        dag = _identified(remote.bundle, digests)
        if version.cid not in (None, dag.layout.root):
            return None
        if remote.spool is not None and version.ref not in self._spooled:
            remote.reader.find_spooled = partial(self._find_spooled, version, remote, remote.spool, digests)
        return StreamedVersion(dag, inputs, StreamResult(digests, 0, 0), self._provenance(remote, digests))

    def stream(
        self, version: Version, inputs: BundleInputs, targets: Sequence[Target], label: Label
    ) -> tuple[StreamedVersion, list[TargetSink]]:
        """Read a version once; return it with the sinks, whose sessions have its leaves.

        The caller finishes or abandons each session. An unpublished version is examined first. A target that
        cannot begin a session is left out. Raises SourceError, SourceMismatchError, BundleError, SafetyError.
        """
        remote, findings = self._admitted(version, inputs)
        bundle = remote.bundle
        expected = remote.expected(bundle)
        result, sinks, _ = self._read(version, remote, expected, targets, label)
        if (spool := self._spooled.get(version.ref)) is not None:
            remote.reader.find_spooled = partial(SpooledLeaves, spool, expected, result.digests)
        try:
            dag = _identified(bundle, result.digests)
        except BaseException:
            for sink in sinks:
                sink.session.abandon()
            raise
        self.streamed.add(version.ref)
        self._cache.keep(remote.key, remote.listing.files, result.digests)
        provenance = self._provenance(remote, result.digests)
        return StreamedVersion(dag, inputs, result, provenance, findings, bundle.notes), sinks

    def stream_part(
        self, version: Version, inputs: BundleInputs, part: Part, targets: Sequence[Target], label: Label
    ) -> tuple[PartDag, list[TargetSink]]:
        """Read one part of a version; return its directory with the sinks, whose sessions have its leaves.

        The caller keeps or abandons each session. Raises as `stream`.
        """
        remote, _ = self._admitted(version, inputs)
        expected = remote.expected(remote.bundle).part(part.number, part.count)
        _, sinks, journal = self._read(version, remote, expected, targets, label)
        places = {leaf.position: (file, leaf) for file in expected.files for leaf in expected.leaves(file)}
        leaves = {
            position: Block(cid, leaf.size)
            for position, (_, leaf) in places.items()
            if (cid := journal.get(position)) is not None
        }

        def read_leaf(position: int) -> bytes:
            file, leaf = places[position]
            data = remote.reader(file, leaf.size, leaf.start)
            if not leaves[position].cid.matches(data):
                raise source_file.changed(file, leaf.start)
            return data

        return PartDag(remote.key, leaves, read_leaf), sinks

    def key(self, version: Version) -> str | None:
        """Return the key of a version whose source was listed in this run; None for another one."""
        known = self._versions.get(version.ref)
        return known.key if known else None

    def _admitted(self, version: Version, inputs: BundleInputs) -> tuple[RemoteVersion, tuple[Finding, ...]]:
        """Return a version that may be read, and the findings about an unpublished one."""
        remote = self.open(version, inputs)
        if remote.kind == SourceKind.HUGGING_FACE.value:
            check_pointers(remote.source.name, remote.files.values())
        findings = listing_findings(remote.listing, version) if version.cid is None else ()
        require_publishable(findings, version.ref)
        return remote, findings

    def _read(
        self,
        version: Version,
        remote: RemoteVersion,
        expected: ProvisionalLayout,
        targets: Sequence[Target],
        label: Label,
    ) -> tuple[StreamResult, list[TargetSink], LeafJournal]:
        """Read the leaves of `expected` once; the journal has all of them, and is closed.

        What earlier passes and jobs left is used, unless the sums of the files then refuse it.
        """
        for resume in (True, False):
            journal = self._cache.journal(remote.key, len(expected.layout))
            with ExitStack() as stack:
                stack.callback(journal.close)
                sinks: list[TargetSink] = []
                for target in targets:
                    session = self._begin(target, expected.layout, label, remote.key)
                    if session is not None:
                        sinks.append(TargetSink(target.name, session))
                        stack.callback(session.abandon)
                if resume:
                    self._note_kept(remote, expected, sinks, journal)
                passed: list[StreamSink] = [*sinks]
                spool = None
                if remote.spool is not None and needs_spool(targets, [sink.name for sink in sinks]):
                    spool = self._spooled.pop(version.ref, None)  # its headers may have been read already
                    spool = spool or remote.spool.begin(label, remote.key, expected.layout)
                    stack.callback(spool.close)
                    passed.append(StreamSink("spool", spool))
                reading = StreamPass(
                    remote.source,
                    remote.files,
                    expected,
                    passed,
                    journal,
                    remote.reader.small,
                    resume=resume,
                    limits=load_config(config_file(self._environ)).limits,
                )
                try:
                    with self._progress.task(f"streaming {version.ref}", expected.size) as task:
                        result = reading.run(task)
                except SourceMismatchError:
                    if reading.resumed:  # what is left of earlier passes refuses nothing
                        self._cache.forget(remote.key)
                        continue
                    raise
                stack.pop_all()  # the sessions are the caller's now
                journal.close()
                if spool is not None:
                    self._spooled[version.ref] = spool
                return result, sinks, journal
        raise AssertionError("the second pass resumes nothing")

    def _note_kept(
        self,
        remote: RemoteVersion,
        expected: ProvisionalLayout,
        sinks: Sequence[TargetSink],
        journal: LeafJournal,
    ) -> None:
        """Note the leaves of parts that targets keep, of files whose digests will prove them."""
        kept: dict[int, Cid] = {}
        for sink in sinks:
            try:
                kept |= sink.session.kept()
            except ReconcilerError as error:
                self._progress.note(f"{sink.name}: the parts that it keeps could not be read: {error}")
        if not kept:
            return
        for file in expected.files:
            if remote.files[file.path].digests == KnownDigests():
                continue
            for leaf in expected.leaves(file):
                cid = kept.get(leaf.position)
                if cid is not None and journal.get(leaf.position) is None:
                    journal.put([(leaf.position, cid)])

    def _find_spooled(
        self,
        version: Version,
        remote: RemoteVersion,
        directory: SpoolDirectory,
        digests: Mapping[str, FileDigests],
    ) -> SpooledLeaves | None:
        """Return what an earlier run left in the spool, if anything."""
        label = Label.of(self._index_id, version.ref)
        if not directory.has(label, remote.key):
            return None
        expected = remote.expected(remote.bundle)
        spool = directory.find(label, remote.key, expected.layout)
        if spool is None:
            return None
        self._spooled[version.ref] = spool
        return SpooledLeaves(spool, expected, digests)

    def discard_spooled(self, version: Version) -> None:
        """Remove what the spool has of a version that nothing lacks any more. Never raises."""
        if version.source is None:
            return
        with suppress(ReconcilerError):
            shown = spec_of(version.source, self._specs, version.ref).options.get("spool")
            if shown is None:
                return
            if (spool := self._spooled.pop(version.ref, None)) is not None:
                spool.close()
            label = Label.of(self._index_id, version.ref)
            SpoolDirectory.below(self._repository, str(shown)).discard(label)

    def _provenance(self, remote: RemoteVersion, digests: Mapping[str, FileDigests]) -> Provenance:
        return make_provenance(remote.reference, remote.kind, remote.state.revision, remote.files, digests)

    def _begin(self, target: Target, layout: DagLayout, label: Label, key: str) -> IngestSession | None:
        if not isinstance(target, Ingests):
            return None
        try:
            return target.ingest(layout, label, key)
        except (ReconcilerError, OSError) as error:
            self._progress.note(f"{target.name}: {error}; it gets the bytes afterwards")
            return None

    def interrupt(self) -> None:
        """End the reads of all sources, for good. May be called from any thread."""
        for remote in list(self._versions.values()):
            remote.source.close()

    def close(self) -> None:
        """Close all sources, and the files of spools, which stay."""
        for remote in self._versions.values():
            remote.source.close()
        for spool in self._spooled.values():
            spool.close()


def _identified(bundle: Bundle, digests: Mapping[str, FileDigests]) -> DirectoryDag:
    """Return the DAG of `bundle` whose files have `digests`; nothing is read."""
    remembered = RememberedDigests()
    for file in bundle.listing.files:
        remembered.put(file, digests[file.path])
    return identify(bundle, cache=None, remembered=remembered)
