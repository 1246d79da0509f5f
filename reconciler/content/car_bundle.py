"""A bundle that is already packed into a CAR file, with the same identity and checks as a directory.

The root of a CAR is fixed, so SHA256SUMS and manifest.json are not added when they are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from reconciler.content import checksums, manifest, source_file
from reconciler.content.bundle import check_digests, check_listed
from reconciler.content.car_dag import CarDag, open_car
from reconciler.content.contents import contents_of_map
from reconciler.content.directory_dag import BundleIdentity, FileIdentity
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.walk import FileNode, NodeKind, leaf_bytes
from reconciler.errors import BlockUnavailableError, BundleError, SourceChangedError
from reconciler.progress import Progress


class CarBundle:
    """The Dag of a CAR file with the identity of its bundle; made by `identify_car`.

    `changed` is set once a block could not be read, or had other bytes than when the CAR was identified.
    """

    def __init__(self, car: CarDag, identity: BundleIdentity) -> None:
        self.identity = identity
        self.contents = contents_of_map(car.map)
        self.layout = car.layout
        self.changed = False
        self.close = car.close
        self._car = car

    def read(self, position: int) -> bytes:
        """Return the verified bytes of the block at `position`. Raises SourceChangedError."""
        try:
            return self._car.read(position)
        except BlockUnavailableError as error:
            self.changed = True
            raise SourceChangedError(error.message, hint=source_file.WAIT_HINT) from None


def identify_car(path: Path, release: ReleaseInfo | None, progress: Progress) -> CarBundle:
    """Verify all of the CAR at `path`, and its SHA256SUMS and manifest.json if it has them.

    `release` is what the manifest must describe; None for a published version, whose CID is known. The
    `dirhash` is computed from the sums of the files, even if the CAR has no SHA256SUMS. Raises DataError for
    an invalid CAR, BundleError for an invalid bundle.
    """
    car = open_car(path, progress)
    try:
        return CarBundle(car, _identity(car, release, progress))
    except BaseException:
        car.close()
        raise


def _identity(car: CarDag, release: ReleaseInfo | None, progress: Progress) -> BundleIdentity:
    files = [node for node in car.map.nodes if node.kind is NodeKind.FILE]
    for node in car.map.nodes:
        if node.kind is NodeKind.SYMLINK:
            raise BundleError(f"{node.path!r} is a symbolic link; a bundle contains regular files only")
    small = {node.path: _content(car, node) for node in files if node.path in {checksums.NAME, manifest.NAME}}
    with progress.task(f"sums of {car.path.name}", car.map.size) as task:
        digests = {}
        for node in files:
            digest = hashlib.sha256()
            for leaf in car.map.leaves(node):
                digest.update(leaf_bytes(car.layout, leaf.position, car.read(leaf.position)))
                task.advance(leaf.size)
            digests[node.path] = digest.digest()
    sums = _sums(small, digests, release)
    return BundleIdentity(
        root=car.layout.root,
        size=car.map.size,
        blocks=len(car.layout),
        block_bytes=car.layout.size,
        car_size=car.layout.car_size,
        dirhash=hashlib.sha256(sums).hexdigest(),
        files=tuple(FileIdentity(n.path, n.size, digests[n.path].hex(), n.cid) for n in files),
    )


def _sums(small: Mapping[str, bytes], digests: Mapping[str, bytes], release: ReleaseInfo | None) -> bytes:
    """Return the checked SHA256SUMS of the CAR, or the one that it would have."""
    paths = set(digests)
    if manifest.NAME in small and release is not None:
        manifest.check(small[manifest.NAME], release, paths | {checksums.NAME})
    if checksums.NAME not in small:
        return checksums.render(digests.items())
    check_digests(check_listed(small[checksums.NAME], paths), digests)
    return small[checksums.NAME]


def _content(car: CarDag, node: FileNode) -> bytes:
    limit = max(checksums.MAX_SIZE, manifest.MAX_SIZE)
    if node.size > limit:
        raise BundleError(f"{node.path!r} is larger than {limit} bytes")
    return b"".join(
        leaf_bytes(car.layout, leaf.position, car.read(leaf.position)) for leaf in car.map.leaves(node)
    )
