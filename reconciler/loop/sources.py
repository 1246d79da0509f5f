"""The pieces of bundles as computed before, so that a proposal nobody merged yet costs no second reading.

They follow from the root and the way of cutting, so an entry can never be out of date, only damaged: it
carries its own checksum, and one that does not hold counts as not there.

Which bytes this machine has: the versions' own directories, identified once a run, only when needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from reconciler.content.bundle import make_bundle
from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.car_bundle import CarBundle, identify_car
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.directory_dag import BundleIdentity, DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.scan import scan
from reconciler.errors import BundleError, DataError, InvalidIndexError, LockedError, ReconcilerError, Where
from reconciler.fs import replace_file
from reconciler.index.model import Version
from reconciler.index.records import parse_pieces, piece_difference, render_pieces
from reconciler.loop.world import Facts, SourceProblem
from reconciler.progress import Progress


class PieceCache:
    """Entries under `directory`, which is made when the first one is stored, and may be deleted any time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, layout: DagLayout, cut: Sharding) -> ShardedCar | None:
        """The pieces of the bundle with `layout`, or None."""
        path = self._entry(layout, cut)
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != checksum:
                return None
            (pieces,) = parse_pieces(json.loads(body), layout.car_size, Where(str(path)))
        except (OSError, ValueError, InvalidIndexError):
            return None
        return pieces if pieces.sharding == cut else None

    def put(self, layout: DagLayout, pieces: ShardedCar) -> None:
        """Remember the pieces of the bundle with `layout`. A cache that cannot be written is no error."""
        body = json.dumps(render_pieces((pieces,))).encode()
        with contextlib.suppress(OSError, LockedError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
            replace_file(self._entry(layout, pieces.sharding), entry, mode=0o600)

    def _entry(self, layout: DagLayout, cut: Sharding) -> Path:
        return self._directory / f"{layout.root}-{cut.max_bytes}-{cut.naming.value}"


class SourceDirectories:
    """The version directories below `root`. Keeps what it identified, and why something could not be."""

    def __init__(
        self,
        root: Path,
        cache: IdentityCache | None,
        progress: Progress,
        piece_cache: PieceCache | None = None,
    ) -> None:
        self._root = root
        self._cache = cache
        self._piece_cache = piece_cache
        self._progress = progress
        self._dags: dict[str, DirectoryDag | CarBundle] = {}
        self._problems: dict[str, SourceProblem] = {}
        self._pieces: dict[tuple[Cid, Sharding], ShardedCar] = {}

    def place(self, version: Version) -> Path:
        """The directory, or the CAR file, where the version's bytes are, whether or not anything is there.

        Raises BundleError when the index names no path, or the path leaves the source root through a link: an
        index from a fork must not make us publish what lies elsewhere on this machine.
        """
        if version.path is None:
            raise BundleError(f"the index names no path for {version.ref}", where=version.where)
        path = self._root / version.path
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise BundleError(
                f"{version.path} leads outside the source root through a link",
                hint="give the directory that really holds the weights with --source-root",
                where=version.where,
            )
        return path

    def present(self, versions: Iterable[Version]) -> frozenset[str]:
        """Those versions (as `model@version`) whose path exists on this machine."""
        return frozenset(v.ref for v in versions if v.path is not None and (self._root / v.path).exists())

    def identify(self, version: Version) -> DirectoryDag | CarBundle:
        """The version's own DAG. Reads its bytes the first time, unless the cache knows them.

        Raises BundleError or DataError, also when the bytes no longer give the CID the index has.
        """
        if version.ref not in self._dags:
            self._dags[version.ref] = self._identify(version, self.place(version))
        dag = self._dags[version.ref]
        if version.cid is not None and dag.layout.root != version.cid:
            raise BundleError(
                f"{version.path} no longer gives the published CID: it gives {dag.layout.root}, "
                f"the index has {version.cid}",
                hint="a published version is immutable: restore its bytes, or release them as a new version",
                where=version.where,
            )
        return dag

    def _identify(self, version: Version, path: Path) -> DirectoryDag | CarBundle:
        if path.suffix == ".car" and path.is_file():
            release = ReleaseInfo(version.model, version.version, version.format, version.created_at)
            return identify_car(path, release, self._progress)
        bundle = make_bundle(
            scan(path, include_hidden=version.include_hidden),
            model=version.model,
            version=version.version,
            format=version.format,
            created_at=version.created_at,
        )
        return identify(bundle, cache=self._cache, progress=self._progress)

    def try_identify(self, version: Version) -> None:
        """Identify, and keep the reason when that fails instead of raising it."""
        try:
            self.identify(version)
        except ReconcilerError as error:
            self._problems[version.ref] = SourceProblem(str(error), error.hint or "")
        except OSError as error:
            self._problems[version.ref] = SourceProblem(f"{version.path}: {error.strerror or error}")

    def dag(self, version: Version) -> DirectoryDag | CarBundle | None:
        """What was identified in this run, or None."""
        return self._dags.get(version.ref)

    def keep_pieces(self, root: Cid, pieces: ShardedCar, *, computed: bool = False) -> None:
        """Note the pieces of `root` that a record names, or that went to a target (`computed` from the bytes
        on their way).

        Raises DataError, naming both, when others are known already.
        """
        known = self._pieces.setdefault((root, pieces.sharding), pieces)
        if known != pieces:
            raise DataError(
                f"{root}: {piece_difference(known, pieces)}",
                hint="compare with `reconcile pieces --no-cache`, which reads the bytes again",
            )
        if computed and self._piece_cache:
            for dag in self._dags.values():
                if dag.layout.root == root:
                    self._piece_cache.put(dag.layout, pieces)
                    break

    def known_pieces(self, ref: str, cut: Sharding) -> ShardedCar | None:
        """The pieces of a version, as far as they can be told without reading its bytes."""
        dag = self._dags.get(ref)
        if dag is None:
            return None
        known = self._pieces.get((dag.layout.root, cut))
        return known or (self._piece_cache.get(dag.layout, cut) if self._piece_cache else None)

    def pieces(self, ref: str, cut: Sharding) -> ShardedCar:
        """The pieces of a version that was identified; its bytes are read unless they are known.

        Raises SourceChanged, and UsageError when the version cannot be cut like that.
        """
        dag = self._dags[ref]
        key = (dag.layout.root, cut)
        if key not in self._pieces:
            known = self._piece_cache.get(dag.layout, cut) if self._piece_cache else None
            self._pieces[key] = known or self._compute_pieces(dag, cut)
        return self._pieces[key]

    def _compute_pieces(self, dag: DirectoryDag | CarBundle, cut: Sharding) -> ShardedCar:
        from reconciler.content.pieces import shard_pieces

        found = shard_pieces(dag, cut, self._progress)
        if self._piece_cache:
            self._piece_cache.put(dag.layout, found)
        return found

    def identities(self) -> dict[str, BundleIdentity]:
        """What identifying found, whole, by `model@version`."""
        return {ref: dag.identity for ref, dag in self._dags.items()}

    def facts(self) -> dict[str, Facts]:
        """What identifying found, by `model@version`; directories with a problem left out."""
        return {
            ref: Facts(dag.identity.root, dag.identity.size, dag.identity.car_size)
            for ref, dag in self._dags.items()
            if ref not in self._problems
        }

    def problems(self) -> dict[str, SourceProblem]:
        """Why directories cannot be used, by `model@version`."""
        return dict(self._problems)

    def close(self) -> None:
        """ReleaseInfo open files."""
        for dag in self._dags.values():
            dag.close()
