"""One version whose bytes are in a remote source, as its source lists it, and the reading of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from reconciler.content.bundle import Bundle, make_bundle
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.provisional import ProvisionalLayout, provisional_layout
from reconciler.content.remote_listing import remote_listing
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.index.model import SourceSpec, Version
from reconciler.loop.reads_in_order import ReadsInOrder
from reconciler.loop.spool import SpoolDirectory, SpooledLeaves
from reconciler.sources.interface import FileListing, ListedFile, WeightSource

_SMALL = 256 << 10  # bytes of a file that is read whole when any of it is needed
_SMALL_TOTAL = 16 << 20


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version with the listing of its source: `files` of its bundle by path, and the whole `state` there.

    `reference` is the source as the index names it, `kind` its kind, `inputs` what the bundle is made from.

    `key` identifies the source, the files with everything that pins their bytes, and the bundle. `spool` is
    set where sources.yaml names one.
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
    spool: SpoolDirectory | None

    @property
    def bundle(self) -> Bundle:
        """The bundle of the listed files, of which nothing was read. Raises BundleError."""
        release = self.inputs.release
        return make_bundle(
            self.listing,
            model=release.model,
            version=release.version,
            format=release.format,
            created_at=release.created_at,
        )

    def expected(self, bundle: Bundle) -> ProvisionalLayout:
        """Return the layout of its `bundle` before it was read."""
        same = {path: key for path, file in self.files.items() if (key := _content_key(file))}
        return provisional_layout(bundle, same)

    @property
    def is_pinned(self) -> bool:
        """Whether the bytes under the key can never be others."""
        return self.state.immutable or all(
            file.digests.sha256 or file.digests.git_blob or file.version_id for file in self.files.values()
        )


class SpanReader:
    """Reads spans of the files of `source`; small files are read whole, and kept while there is room.

    `small` are the files that are kept, by path. `find_spooled` is called before the first read, and
    returns the leaves that are on the disk.
    """

    def __init__(self, source: WeightSource, files: Mapping[str, ListedFile]) -> None:
        self._source = source
        self._files = files
        self._in_order = ReadsInOrder(source)
        self._lock = RLock()
        self._room = _SMALL_TOTAL
        self.small: dict[str, bytes] = {}
        self.find_spooled: Callable[[], SpooledLeaves | None] | None = None
        self._spooled: SpooledLeaves | None = None

    def __call__(self, file: SourceFile, size: int, offset: int) -> bytes:
        """Return `size` bytes of `file` from `offset`. Raises SourceError."""
        with self._lock:
            if (find := self.find_spooled) is not None:
                self.find_spooled = None  # finding them reads a SHA256SUMS of the source, through this reader
                self._spooled = find()
        spooled = self._spooled.read(file, size, offset) if self._spooled is not None else None
        if spooled is not None:
            return spooled
        listed = self._files[file.path]
        if listed.size > _SMALL:
            read = self._in_order.read if self._source.serves_ranges is False else self._source.read
            return b"".join(read(listed, offset, size))
        data = self.small.get(file.path)
        if data is None:
            data = b"".join(self._source.read(listed))
            with self._lock:
                if len(data) <= self._room and file.path not in self.small:
                    self.small[file.path] = data
                    self._room -= len(data)
        return data[offset : offset + size]


def list_version(
    version: Version, inputs: BundleInputs, spec: SourceSpec, source: WeightSource, root: Path
) -> RemoteVersion:
    """List the files of a version. Paths of spools are relative to `root`.

    Raises SourceError, and BundleError for names that no bundle may contain or a spool outside of `root`.
    """
    shown = spec.options.get("spool")
    spool = None if shown is None else SpoolDirectory.below(root, str(shown))
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
        spool,
    )


def _key(
    version: Version,
    inputs: BundleInputs,
    spec: SourceSpec,
    state: FileListing,
    files: Mapping[str, ListedFile],
) -> str:
    options = sorted((key, repr(value)) for key, value in spec.options.items() if key != "spool")
    described = [
        [str(version.source), spec.kind, options],
        state.revision,
        repr(inputs),
        [repr(file) for file in files.values()],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _content_key(file: ListedFile) -> bytes | None:
    """Return what two files have in common only when their bytes are equal."""
    known = file.digests
    return known.sha256 or known.git_blob
