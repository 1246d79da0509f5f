"""What happened to the sources of versions since they were published: findings, never changes.

For a repository, its main branch is asked once, and each commit once: whether there is a newer commit,
whether commit and repository are still there under their names, who may read them, which licence they
state, and which files were taken away. Other sources are compared with the record of the version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.remote_listing import remote_listing
from reconciler.errors import ReconcilerError, SourceChangedError
from reconciler.index.model import Index, Record, SourceSpec, Version
from reconciler.index.provenance import SourcedFile
from reconciler.index.records import load_record, records_directory
from reconciler.index.sources_file import spec_of
from reconciler.index.version_source import HUB_DATASETS, SourceReference
from reconciler.index.versions import newest_first
from reconciler.loop.add_source import DEFAULT_BRANCH, upstream_state
from reconciler.loop.source_definition import open_declared
from reconciler.loop.source_license import spdx_license
from reconciler.loop.upstream_finding import UpstreamCode, UpstreamFinding
from reconciler.loop.workspace import Workspace
from reconciler.sources.interface import (
    FileListing,
    ListedFile,
    SourceError,
    SourceKind,
    SourceMissingError,
    SourceRefusedError,
    UpstreamState,
)

_SHOWN = 3  # paths in one message
_GENERATED = frozenset({"manifest.json", "SHA256SUMS"})


def check_upstream(workspace: Workspace, environ: Mapping[str, str]) -> tuple[UpstreamFinding, ...]:
    """Return the findings about the sources of all selected versions, in the order of the index."""
    versions = [version for version in workspace.selection.kept if version.source is not None]
    watch = _Watch(workspace.index, workspace.source_specs, workspace.layout.root, environ)
    found: list[UpstreamFinding] = []
    with workspace.progress.task("asking sources (versions)", len(versions)) as task:
        for version in versions:
            found += watch.findings(version)
            task.advance(1)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a source could not be asked, and what that means."""

    code: UpstreamCode
    message: str
    hint: str


class _Watch:
    """The answers of one run: each revision and each listing is asked for once."""

    def __init__(
        self, index: Index, specs: Mapping[str, SourceSpec], root: Path, environ: Mapping[str, str]
    ) -> None:
        self._index = index
        self._specs = specs
        self._root = root
        self._environ = environ
        self._states: dict[str, UpstreamState | _Failure] = {}
        self._listings: dict[str, FileListing | _Failure] = {}

    def findings(self, version: Version) -> Iterator[UpstreamFinding]:
        """Yield the findings about the source of `version`."""
        source = version.source
        assert source is not None  # noqa: S101 - the caller's selection
        spec = spec_of(source, self._specs, version.ref)
        found = (
            self._repository_findings(version, source, spec)
            if spec.kind == SourceKind.HUGGING_FACE.value
            else self._record_findings(version, source, spec)
        )
        for code, message, hint in found:
            yield UpstreamFinding(version.model, version.version, str(source), code, message, hint)

    # -- repositories ----------------------------------------------------------------------------------------

    def _repository_findings(
        self, version: Version, source: SourceReference, spec: SourceSpec
    ) -> Iterator[tuple[UpstreamCode, str, str]]:
        repository, _, commit = source.location.partition("@")
        branch = SourceReference(source.name, f"{repository}@{DEFAULT_BRANCH}")
        head = self._state(branch, spec)
        if isinstance(head, _Failure) and head.code is not UpstreamCode.COMMIT_GONE:
            yield head.code, head.message, head.hint
            return
        pinned = self._state(source, spec)
        if isinstance(pinned, _Failure):
            yield pinned.code, pinned.message, pinned.hint
        state = pinned if isinstance(head, _Failure) else head
        if isinstance(state, _Failure):
            return
        yield from self._state_findings(version, repository, state)
        if isinstance(head, _Failure) or head.commit == commit:
            return
        if self._is_newest(version, repository):
            hint = f"`reconcile add --from-upstream {version.model}` adds it"
            yield UpstreamCode.NEWER, f"has the newer commit {head.commit[:12]} on {DEFAULT_BRANCH}", hint
        if not isinstance(pinned, _Failure):
            at_head = SourceReference(source.name, f"{repository}@{head.commit}")
            yield from self._withdrawn(version, source, at_head, spec)

    def _state_findings(
        self, version: Version, repository: str, state: UpstreamState
    ) -> Iterator[tuple[UpstreamCode, str, str]]:
        asked = repository.removeprefix(HUB_DATASETS)
        if state.repository.removeprefix(HUB_DATASETS) != asked:
            yield UpstreamCode.RENAMED, f"is now {state.repository}", "write the new name into `source`"
        if state.disabled:
            yield UpstreamCode.DISABLED, "is disabled by the hub", "read its page"
        if state.gated:
            yield UpstreamCode.GATED, "is gated: readers must accept its terms", "read its page"
        license = spdx_license(state.license)  # noqa: A001 - the word of the index
        if license is not None and version.license is not None and license != version.license:
            message = f"states the license {license}, and the index has {version.license}"
            yield UpstreamCode.LICENSE, message, "a published version keeps the license it was published with"

    def _withdrawn(
        self, version: Version, pinned: SourceReference, head: SourceReference, spec: SourceSpec
    ) -> Iterator[tuple[UpstreamCode, str, str]]:
        here, there = self._listing(pinned, spec), self._listing(head, spec)
        if isinstance(here, _Failure):
            yield here.code, here.message, here.hint
            return
        if isinstance(there, _Failure):
            return
        left = {file.path for file in there.files}
        gone = [path for path in _selected(here, version) if path not in left]
        if gone:
            message = f"no longer has {_listed(gone)} on {DEFAULT_BRANCH}"
            yield UpstreamCode.WITHDRAWN, message, "read upstream why; what is published stays as it is"

    def _is_newest(self, version: Version, repository: str) -> bool:
        """Return whether no higher version of the model comes from the same repository."""
        versions = self._index.models[version.model].versions
        same = [
            text
            for text, each in versions.items()
            if each.source is not None and each.source.location.partition("@")[0] == repository
        ]
        return newest_first(same)[0] == version.version

    def _state(self, reference: SourceReference, spec: SourceSpec) -> UpstreamState | _Failure:
        key = str(reference)
        if key not in self._states:
            try:
                self._states[key] = upstream_state(reference, spec, self._root, self._environ)
            except ReconcilerError as error:
                self._states[key] = _failure(error, of_commit=reference.revision != DEFAULT_BRANCH)
        return self._states[key]

    # -- other sources ---------------------------------------------------------------------------------------

    def _record_findings(
        self, version: Version, source: SourceReference, spec: SourceSpec
    ) -> Iterator[tuple[UpstreamCode, str, str]]:
        if version.cid is None:
            return
        listing = self._listing(source, spec)
        if isinstance(listing, _Failure):
            yield listing.code, listing.message, listing.hint
            return
        record = load_record(records_directory(self._index.file), version.model, version.version)
        gone, changed = _differences(record, listing) if record is not None else ([], [])
        if gone:
            yield UpstreamCode.WITHDRAWN, f"no longer has {_listed(gone)}", "what is published stays as it is"
        if changed:
            hint = "release the other files as a new version; what is published stays as it is"
            yield UpstreamCode.CHANGED, f"has other files in the place of {_listed(changed)}", hint

    def _listing(self, reference: SourceReference, spec: SourceSpec) -> FileListing | _Failure:
        key = str(reference)
        if key not in self._listings:
            try:
                with closing(open_declared(reference, spec, self._root, self._environ)) as source:
                    self._listings[key] = source.list()
            except ReconcilerError as error:
                self._listings[key] = _failure(error, of_commit="@" in reference.location)
        return self._listings[key]


def _failure(error: ReconcilerError, *, of_commit: bool) -> _Failure:
    message = error.message
    if isinstance(error, SourceError):
        message = message.removeprefix(f"{error.source}: ")
    if isinstance(error, SourceMissingError):
        if of_commit:
            return _Failure(UpstreamCode.COMMIT_GONE, f"is gone: {message}", error.hint or "")
        code = UpstreamCode.COMMIT_GONE if "revision" in message else UpstreamCode.GONE
        return _Failure(code, f"is gone: {message}", error.hint or "")
    if isinstance(error, SourceRefusedError):
        gated = "gated" in message
        return _Failure(UpstreamCode.GATED if gated else UpstreamCode.REFUSED, message, error.hint or "")
    if isinstance(error, SourceChangedError):
        return _Failure(UpstreamCode.CHANGED, message, error.hint or "")
    return _Failure(UpstreamCode.UNKNOWN, f"could not be asked: {message}", error.hint or "")


def _selected(listing: FileListing, version: Version) -> Iterator[str]:
    """Yield the paths of a listing that belong to the bundle of `version`."""
    chosen = remote_listing(
        str(version.source),
        ((file.path, file.size) for file in listing.files),
        include_hidden=version.include_hidden,
        patterns=version.patterns,
        read_span=_read_nothing,
    )
    return (file.path for file in chosen.files)


def _read_nothing(*_: object) -> bytes:
    raise AssertionError("only paths are needed")


def _differences(record: Record, listing: FileListing) -> tuple[list[str], list[str]]:
    """Return the published paths that the source lacks, and those that are other files there.

    Without a provenance in the record, files of equal size count as equal.
    """
    there = {file.path: file for file in listing.files}
    if record.provenance is not None and record.provenance.files:
        sourced = record.provenance.files
        gone = [file.path for file in sourced if file.path not in there]
        return gone, [
            file.path for file in sourced if file.path in there and _differs(file, there[file.path])
        ]
    if record.contents is None:
        return [], []
    files = [file for file in record.contents.files if file.path not in _GENERATED or file.path in there]
    gone = [file.path for file in files if file.path not in there]
    return gone, [file.path for file in files if file.path in there and there[file.path].size != file.size]


def _differs(published: SourcedFile, listed: ListedFile) -> bool:
    """Return whether anything that both state about a file is different."""
    known = listed.digests
    stated = (
        (published.sha256, known.sha256),
        ("" if published.lfs else published.git, known.git_blob),
        (published.md5, known.md5),
    )
    return published.size != listed.size or any(
        before and now is not None and before != now.hex() for before, now in stated
    )


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(repr(path) for path in paths[:_SHOWN]) + more
