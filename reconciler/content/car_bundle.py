"""A bundle that is already packed into a CAR file, with the same identity and checks as a directory.

The root of a CAR is fixed, so SHA256SUMS and manifest.json are not added when they are missing, and the
manifest of another model or version is kept: a CAR may be released again under another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.content import bounds, checksums, manifest, profile, source_file
from reconciler.content.bundle import check_digests, check_listed, collision_notes
from reconciler.content.car_dag import CarDag, open_car
from reconciler.content.cid import RAW, Cid
from reconciler.content.contents import contents_of_map
from reconciler.content.directory_dag import BundleIdentity, FileIdentity
from reconciler.content.manifest import Manifest, ReleaseInfo
from reconciler.content.unixfs_tree import DirectoryEntry, directory_tree, file_tree
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes
from reconciler.errors import (
    BlockUnavailableError,
    BundleError,
    ReconcilerError,
    SourceChangedError,
    Where,
)
from reconciler.progress import Progress


class CarBundle:
    """The Dag of a CAR file with the identity of its bundle; made by `identify_car`.

    `notes` tell people what may surprise them. `changed` is set once a block could not be read, or had other
    bytes than when the CAR was identified.
    """

    def __init__(self, car: CarDag, identity: BundleIdentity, notes: tuple[str, ...] = ()) -> None:
        self.identity = identity
        self.notes = notes
        self.contents = contents_of_map(car.map)
        self.map = car.map
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

    `release` is what the manifest should describe, else a note says what it describes; None for a published
    version, whose CID is known. The `dirhash` is computed from the sums of the files, even if the CAR has no
    SHA256SUMS. Raises DataError for an invalid CAR, BundleError for an invalid bundle.
    """
    car = open_car(path, progress)
    try:
        return _identify(car, release, progress)
    except BaseException:
        car.close()
        raise


def identify_new_car(path: Path, release: ReleaseInfo, progress: Progress) -> CarBundle:
    """Verify the CAR at `path` as `identify_car` does, and that it was packed as a directory would be now.

    Raises BundleError, naming the file, for anything else, such as a CAR of another CID profile: the same
    files would have two CIDs.
    """
    try:
        found = identify_car(path, release, progress)
    except ReconcilerError as error:
        raise BundleError(error.message, hint=error.hint, where=Where(str(path))) from None
    try:
        _check_profile(found, path)
    except BundleError:
        found.close()
        raise
    return found


def _check_profile(found: CarBundle, path: Path) -> None:
    root = found.layout.root
    if not found.identity.files:
        raise BundleError("it has no files", where=Where(str(path)))
    if profile_root(found.map) != root:
        raise BundleError(
            f"its root {root} is not the one that the CID profile {profile.NAME} gives these files",
            hint=f"unpack it with `reconcile fetch {root} DIR --car {path}`, and add the directory",
            where=Where(str(path)),
        )


def profile_root(dag_map: DagMap) -> Cid | None:
    """Return the root that the profile gives the files and directories of `dag_map`, without reading a leaf.

    Return None for a single file, and where a leaf is not one of the profile.
    """
    entries: dict[str, list[DirectoryEntry]] = {"": []}
    for node in reversed(dag_map.nodes):  # children before their parents
        if node.kind is NodeKind.DIRECTORY:
            tree = directory_tree(entries.pop(node.path, []))
        elif node.path and (leaves := _profile_leaves(dag_map, node)) is not None:
            tree = file_tree(node.size, leaves)
        else:
            return None
        parent, _, name = node.path.rpartition("/")
        entries.setdefault(parent, []).append(DirectoryEntry(name, tree.cid, tree.tsize))
    return directory_tree(entries[""]).cid


def _profile_leaves(dag_map: DagMap, node: FileNode) -> bytes | None:
    """Return the digests of the leaves of a file, or None when they are not chunks of the profile."""
    digests = bytearray()
    for leaf in dag_map.leaves(node):
        cid = dag_map.layout.cid(leaf.position)
        if cid.codec != RAW or leaf.size != min(profile.CHUNK_SIZE, node.size - leaf.offset):
            return None
        digests += cid.digest
    return bytes(digests)


def _identify(car: CarDag, release: ReleaseInfo | None, progress: Progress) -> CarBundle:
    files = [node for node in car.map.nodes if node.kind is NodeKind.FILE]
    for node in car.map.nodes:
        if node.kind is NodeKind.SYMLINK:
            raise BundleError(f"{node.path!r} is a symbolic link; a bundle contains regular files only")
    small = {
        node.path: _content(car, node)
        for node in files
        if node.path == checksums.NAME or (node.path == manifest.NAME and node.size <= manifest.MAX_SIZE)
    }
    with progress.task(f"sums of {car.path.name}", car.map.size) as task:
        digests = {}
        for node in files:
            digest = hashlib.sha256()
            for leaf in car.map.leaves(node):
                digest.update(leaf_bytes(car.layout, leaf.position, car.read(leaf.position)))
                task.advance(leaf.size)
            digests[node.path] = digest.digest()
    found = manifest.parse(small.get(manifest.NAME, b""))
    sums = _sums(small, found, digests, is_published=release is None)
    notes = () if release is None else _notes(car, found, release)
    return CarBundle(car, _bundle_identity(car, files, digests, sums), notes)


def _notes(car: CarDag, found: Manifest | None, release: ReleaseInfo) -> tuple[str, ...]:
    collisions = collision_notes(bounds.collisions(node.path for node in car.map.nodes))
    if found is None or manifest.is_of(found, release):
        return collisions
    of = found.model if found.version is None else f"{found.model}@{found.version}"
    return (f"{car.path.name} contains the manifest.json of {of}, which is kept", *collisions)


def _bundle_identity(
    car: CarDag, files: Sequence[FileNode], digests: Mapping[str, bytes], sums: bytes
) -> BundleIdentity:
    return BundleIdentity(
        root=car.layout.root,
        size=car.map.size,
        blocks=len(car.layout),
        block_bytes=car.layout.size,
        car_size=car.layout.car_size,
        dirhash=hashlib.sha256(sums).hexdigest(),
        files=tuple(FileIdentity(n.path, n.size, digests[n.path].hex(), n.cid) for n in files),
    )


def _sums(
    small: Mapping[str, bytes], found: Manifest | None, digests: Mapping[str, bytes], *, is_published: bool
) -> bytes:
    """Return the checked SHA256SUMS of the CAR, or the one that it would have."""
    paths = set(digests)
    if found is not None and not is_published:
        manifest.check_files(found, paths | {checksums.NAME})
    if checksums.NAME not in small:
        return checksums.render(digests.items())
    listed = checksums.parse(small[checksums.NAME])
    check_listed(listed, paths, has_manifest=found is not None or is_published)
    check_digests(listed, digests)
    return small[checksums.NAME]


def _content(car: CarDag, node: FileNode) -> bytes:
    if node.size > checksums.MAX_SIZE:
        raise BundleError(f"{node.path!r} is larger than {checksums.MAX_SIZE} bytes")
    return b"".join(
        leaf_bytes(car.layout, leaf.position, car.read(leaf.position)) for leaf in car.map.leaves(node)
    )
