"""A release as a plain OCI image: its files below /models, for consumers that unpack tar layers.

A layer is an uncompressed tar with fixed times, owners and order, computed span by span from the blocks of
the files, never stored. Its digest is not that of a file, so it has to be hashed once; it is remembered
beside the digests that it is a function of. Sources: OCI image specification 1.1, `layer.md`, `config.md`;
POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

import hashlib
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from reconciler.gateway.background_digests import UnhashedContent
from reconciler.gateway.bodies import file_bytes
from reconciler.gateway.doors.modelpack import MANIFEST_TYPE, Artifact, json_blob, oci_digest
from reconciler.gateway.release_files import ReleaseFile, folders_of, open_file
from reconciler.gateway.request import Span
from reconciler.gateway.stores import ReadBlock
from reconciler.index.model import Version

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_DIRECTORY = "models"
_LAYER_BYTES = 1 << 30  # of a layer of many files; a larger file is a layer of its own
_MAX_LAYERS = 100  # some container runtimes mount at most 127
_RECORD = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class TarLayer:
    """A tar of `files` below /models: `parts` are its pieces in order, header bytes or files.

    `starts` are their offsets, and `size` the number of bytes.
    """

    files: tuple[ReleaseFile, ...]
    parts: tuple[bytes | ReleaseFile, ...]
    starts: tuple[int, ...]
    size: int

    @property
    def content(self) -> UnhashedContent:
        """The bytes, to be hashed."""
        digest = hashlib.sha256(b"tar")
        for part in self.parts:
            digest.update(bytes(part.address) if isinstance(part, ReleaseFile) else part)
        return UnhashedContent(digest.digest(), lambda read: self.read(Span(0, self.size), read))

    def read(self, span: Span, read: ReadBlock) -> Iterator[bytes | memoryview]:
        """Iterate over the bytes of `span`. Raises what `read` raises, and DataError."""
        number = bisect_right(self.starts, span.start) - 1
        while number < len(self.parts) and self.starts[number] < span.stop:
            part, offset = self.parts[number], self.starts[number]
            length = part.size if isinstance(part, ReleaseFile) else len(part)
            start, stop = max(span.start - offset, 0), min(span.stop - offset, length)
            if start < stop:
                if isinstance(part, ReleaseFile):
                    yield from file_bytes(open_file(part, read), Span(start, stop), read)
                else:
                    yield part[start:stop]
            number += 1


def image_layers(files: Sequence[ReleaseFile]) -> list[TarLayer]:
    """Distribute files over tar layers, in order. The first layer has all directories."""
    limit = max(_LAYER_BYTES, -(-sum(file.size for file in files) // _MAX_LAYERS))
    groups: list[list[ReleaseFile]] = [[]]
    size = 0
    for file in files:
        if groups[-1] and size + file.size > limit:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size
    folders = sorted({folder for file in files for folder in folders_of(file.path)})
    directories = [f"{_DIRECTORY}/", *(f"{_DIRECTORY}/{folder}/" for folder in folders)]
    return [_layer(group, directories if number == 0 else ()) for number, group in enumerate(groups)]


def image_artifact(version: Version, layers: Sequence[TarLayer], digests: Sequence[bytes]) -> Artifact:
    """Return the image manifest and config; `digests` are the SHA-256 of the layers."""
    config = json_blob(
        CONFIG_TYPE,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"org.opencontainers.image.version": version.version}},
            "rootfs": {"type": "layers", "diff_ids": list(map(oci_digest, digests))},
        },
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor,
        "layers": [
            {"mediaType": LAYER_TYPE, "digest": oci_digest(digest), "size": layer.size}
            for layer, digest in zip(layers, digests, strict=True)
        ],
    }
    return Artifact(json_blob(MANIFEST_TYPE, manifest), config)


def _layer(files: Sequence[ReleaseFile], directories: Sequence[str]) -> TarLayer:
    parts: list[bytes | ReleaseFile] = [_header(name, None) for name in directories]
    for file in files:
        parts.append(_header(f"{_DIRECTORY}/{file.path}", file.size))
        if file.size:
            parts.append(file)
        if padding := -file.size % _RECORD:
            parts.append(bytes(padding))
    parts.append(bytes(2 * _RECORD))
    sizes = [part.size if isinstance(part, ReleaseFile) else len(part) for part in parts]
    starts = tuple(accumulate(sizes, initial=0))
    return TarLayer(tuple(files), tuple(parts), starts[:-1], starts[-1])


def _header(name: str, size: int | None) -> bytes:
    """Return the header of a file of `size` bytes, or of a directory (None)."""
    entry = tarfile.TarInfo(name.rstrip("/") if size is None else name)
    entry.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    entry.mode = 0o755 if size is None else 0o644
    entry.size = size or 0
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
