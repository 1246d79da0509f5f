"""The versions whose bytes are in a remote source: listed for a plan, streamed when it is carried out.

A listing tells names and sizes, so a plan reads no weights. The first pass over the bytes identifies the
version, gives the leaves to the targets, and checks every file against what its source committed to. After
that the version is a DAG like any other, whose leaves are read from the source in ranges, each verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from reconciler.content import source_file
from reconciler.content.bundle import Bundle, make_bundle
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.cid import Cid
from reconciler.content.dag import Block, DagLayout
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.hashing import FileDigests
from reconciler.content.identify import identify
from reconciler.content.lint.finding import Finding
from reconciler.content.part_dag import PartDag
from reconciler.content.provisional import ProvisionalLayout, provisional_layout
from reconciler.content.remembered_digests import RememberedDigests
from reconciler.content.remote_listing import remote_listing
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.errors import ReconcilerError
from reconciler.index.label import Label
from reconciler.index.model import SourceSpec, Version
from reconciler.index.part import Part
from reconciler.index.provenance import Provenance
from reconciler.index.sources_file import spec_of
from reconciler.loop.entrance import listing_findings, require_publishable
from reconciler.loop.provenance import check_pointers, make_provenance
from reconciler.loop.source_definition import open_declared
from reconciler.loop.stream_cache import LeafJournal, StreamCache
from reconciler.loop.streaming import StreamPass, StreamResult, StreamSink
from reconciler.loop.world import ListedBytes
from reconciler.progress import Progress
from reconciler.sources.interface import (
    FileListing,
    KnownDigests,
    ListedFile,
    SourceKind,
    SourceMismatchError,
    WeightSource,
)
from reconciler.targets.interface import Ingests, IngestSession, Target

_SMALL = 256 << 10  # bytes of a file that is read whole when any of it is needed
_SMALL_TOTAL = 16 << 20


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version with the listing of its source: `files` of its bundle by path, and the whole `state` there.

    `reference` is the source as the index names it, `kind` its kind, `inputs` what the bundle is made from.

    `key` identifies the source, the files with everything that pins their bytes, and the bundle.
    """

    inputs: BundleInputs
    reference: str
    kind: str
    source: WeightSource
    state: FileListing
    files: Mapping[str, ListedFile]
    listing: SourceListing
    reader: SpanReader
    key: str

    @property
    def is_pinned(self) -> bool:
        """Whether the bytes under the key can never be others."""
        return self.state.immutable or all(
            file.digests.sha256 or file.digests.git_blob or file.version_id for file in self.files.values()
        )


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

    Paths of local sources are relative to `root`.
    """

    def __init__(
        self,
        specs: Mapping[str, SourceSpec],
        root: Path,
        environ: Mapping[str, str],
        cache: StreamCache,
        progress: Progress,
    ) -> None:
        self._specs = specs
        self._root = root
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
            made = _remote(version, inputs, spec, source)
        except BaseException:
            source.close()
            raise
        self._versions[version.ref] = made
        return made

    def identify_from_cache(self, version: Version, inputs: BundleInputs) -> StreamedVersion | None:
        """Return a version that an earlier pass identified, without reading it; None if there was none.

        The bytes of a version without a CID must be pinned by its source.
        """
        remote = self.open(version, inputs)
        if version.cid is None and not remote.is_pinned:
            return None
        digests = self._cache.finished(remote.key, remote.listing.files)
        if digests is None:
            return None
        dag = _identified(_bundle(remote), digests)
        if version.cid not in (None, dag.layout.root):
            return None
        return StreamedVersion(dag, inputs, StreamResult(digests, 0, 0), self._provenance(remote, digests))

    def stream(
        self, version: Version, inputs: BundleInputs, targets: Sequence[Target], label: Label
    ) -> tuple[StreamedVersion, list[StreamSink]]:
        """Read a version once; return it with the sinks, whose sessions have its leaves.

        The caller finishes or abandons each session. An unpublished version is examined first. A target that
        cannot begin a session is left out. Raises SourceError, SourceMismatchError, BundleError, SafetyError.
        """
        remote, findings = self._admitted(version, inputs)
        bundle = _bundle(remote)
        expected = _expected(remote, bundle)
        result, sinks, _ = self._read(version, remote, expected, targets, label)
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
    ) -> tuple[PartDag, list[StreamSink]]:
        """Read one part of a version; return its directory with the sinks, whose sessions have its leaves.

        The caller keeps or abandons each session. Raises as `stream`.
        """
        remote, _ = self._admitted(version, inputs)
        expected = _expected(remote, _bundle(remote)).part(part.number, part.count)
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
    ) -> tuple[StreamResult, list[StreamSink], LeafJournal]:
        """Read the leaves of `expected` once; the journal has all of them, and is closed.

        What earlier passes and jobs left is used, unless the sums of the files then refuse it.
        """
        for resume in (True, False):
            journal = self._cache.journal(remote.key, len(expected.layout))
            with ExitStack() as stack:
                stack.callback(journal.close)
                sinks = []
                for target in targets:
                    session = self._begin(target, expected.layout, label, remote.key)
                    if session is not None:
                        sinks.append(StreamSink(target.name, session))
                        stack.callback(session.abandon)
                if resume:
                    self._note_kept(remote, expected, sinks, journal)
                reading = StreamPass(
                    remote.source, remote.files, expected, sinks, journal, remote.reader.small, resume=resume
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
                return result, sinks, journal
        raise AssertionError("the second pass resumes nothing")

    def _note_kept(
        self,
        remote: RemoteVersion,
        expected: ProvisionalLayout,
        sinks: Sequence[StreamSink],
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

    def close(self) -> None:
        """Close all sources."""
        for remote in self._versions.values():
            remote.source.close()


class SpanReader:
    """Reads spans of the files of `source`; small files are read whole, and kept while there is room.

    `small` are the files that are kept, by path.
    """

    def __init__(self, source: WeightSource, files: Mapping[str, ListedFile]) -> None:
        self._source = source
        self._files = files
        self._lock = Lock()
        self._room = _SMALL_TOTAL
        self.small: dict[str, bytes] = {}

    def __call__(self, file: SourceFile, size: int, offset: int) -> bytes:
        """Return `size` bytes of `file` from `offset`. Raises SourceError."""
        listed = self._files[file.path]
        if listed.size > _SMALL:
            return b"".join(self._source.read(listed, offset, size))
        data = self.small.get(file.path)
        if data is None:
            data = b"".join(self._source.read(listed))
            with self._lock:
                if len(data) <= self._room and file.path not in self.small:
                    self.small[file.path] = data
                    self._room -= len(data)
        return data[offset : offset + size]


def _remote(version: Version, inputs: BundleInputs, spec: SourceSpec, source: WeightSource) -> RemoteVersion:
    state = source.list()
    by_path = {file.path: file for file in state.files}
    reader = SpanReader(source, by_path)
    listing = remote_listing(
        str(version.source),
        ((file.path, file.size) for file in state.files),
        include_hidden=inputs.include_hidden,
        patterns=inputs.patterns,
        read_span=reader,
    )
    files = {file.path: by_path[file.path] for file in listing.files}
    return RemoteVersion(
        inputs,
        str(version.source),
        spec.kind,
        source,
        state,
        files,
        listing,
        reader,
        _key(version, inputs, spec, state, files),
    )


def _key(
    version: Version,
    inputs: BundleInputs,
    spec: SourceSpec,
    state: FileListing,
    files: Mapping[str, ListedFile],
) -> str:
    described = [
        [str(version.source), spec.kind, sorted((key, repr(value)) for key, value in spec.options.items())],
        state.revision,
        repr(inputs),
        [repr(file) for file in files.values()],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _bundle(remote: RemoteVersion) -> Bundle:
    release = remote.inputs.release
    return make_bundle(
        remote.listing,
        model=release.model,
        version=release.version,
        format=release.format,
        created_at=release.created_at,
    )


def _expected(remote: RemoteVersion, bundle: Bundle) -> ProvisionalLayout:
    """Return the layout of a version that was not read."""
    same = {path: key for path, file in remote.files.items() if (key := _content_key(file))}
    return provisional_layout(bundle, same)


def _identified(bundle: Bundle, digests: Mapping[str, FileDigests]) -> DirectoryDag:
    """Return the DAG of `bundle` whose files have `digests`; nothing is read."""
    remembered = RememberedDigests()
    for file in bundle.listing.files:
        remembered.put(file, digests[file.path])
    return identify(bundle, cache=None, remembered=remembered)


def _content_key(file: ListedFile) -> bytes | None:
    """Return what two files have in common only when their bytes are equal."""
    known = file.digests
    return known.sha256 or known.git_blob
