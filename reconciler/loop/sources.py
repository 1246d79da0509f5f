"""The bytes on this machine: the versions' own directories, identified once in a run, only when needed.

A directory that turns out to have other bytes than were identified, because a cache was out of date or a
program writes to it, is identified once more in the same run: `confirm` or a delivery finds it, and `renew`
forgets what was known about it.

A version with a remote source (`remote.py`) is kept here as well once it was streamed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.content.bundle import describe_bundle, make_bundle
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.car_bundle import CarBundle, identify_car
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import BundleIdentity, DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.lint.finding import Finding
from reconciler.content.remembered_digests import RememberedDigests
from reconciler.content.scan import SourceListing, scan
from reconciler.content.sealing.sealed_dag import SealedDag, identify_sealed
from reconciler.errors import (
    BundleError,
    Reason,
    ReconcilerError,
    SourceChangedError,
)
from reconciler.index.label import Label
from reconciler.index.model import Version
from reconciler.index.provenance import Provenance
from reconciler.loop.entrance import dag_findings, listing_findings, require_publishable
from reconciler.loop.explain import FoundBundle, contents_without_hashing, explain
from reconciler.loop.mismatch import Mismatch, PublishedMismatchError
from reconciler.loop.piece_cache import PieceCache
from reconciler.loop.published import NOTHING_PUBLISHED, PublishedBundles
from reconciler.loop.published_plain import published_in_the_clear
from reconciler.loop.remote import RemoteVersions, StreamedVersion
from reconciler.loop.seals import NO_SEALS, NoSealKeyError, SealKeys
from reconciler.loop.streaming import TargetSink
from reconciler.loop.version_paths import locate
from reconciler.loop.version_pieces import VersionPieces
from reconciler.loop.world import Facts, ListedBytes
from reconciler.progress import Progress
from reconciler.targets.interface import Target

LocalDag = DirectoryDag | SealedDag | CarBundle
"""The forms of a bundle on this machine."""


class VersionSources:
    """The version directories below `root`; remembers what it identified, and why something failed."""

    def __init__(
        self,
        root: Path,
        cache: IdentityCache | None,
        progress: Progress,
        piece_cache: PieceCache | None = None,
        published: PublishedBundles = NOTHING_PUBLISHED,
        remote: RemoteVersions | None = None,
        seals: SealKeys = NO_SEALS,
    ) -> None:
        self._root = root
        self.seals = seals
        self.remote = remote
        self._cache = cache
        self._progress = progress
        self._dags: dict[str, LocalDag] = {}
        self._problems: dict[str, Reason] = {}
        self._locked: dict[str, Reason] = {}
        self._published = published
        self._inputs: dict[str, BundleInputs] = {}
        self._mismatches: dict[str, Mismatch] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._unused: dict[str, tuple[str, ...]] = {}
        self._findings: dict[str, tuple[Finding, ...]] = {}
        self.provenance: dict[str, Provenance] = {}  #: where streamed versions came from
        self._renewed: set[str] = set()
        self._pieces = VersionPieces(piece_cache, progress)

    def path(self, version: Version) -> Path:
        """Return the path of the version's directory or CAR file, see `locate`. Raises BundleError."""
        return locate(self._root, version)

    def present(self, versions: Iterable[Version]) -> frozenset[str]:
        """Return the versions (as `model@version`) whose path exists on this machine."""
        return frozenset(v.ref for v in versions if v.path is not None and (self._root / v.path).exists())

    def identify(self, version: Version, *, fresh: bool = False) -> LocalDag:
        """Return the version's own DAG. Reads its bytes the first time, unless they are in the cache.

        With `fresh`, no cached digest is used. Raises BundleError or DataError, also when the bytes no longer
        give the CID in the index.
        """
        fresh = fresh or version.ref in self._renewed
        dag = self._dags.get(version.ref)
        if dag is None or (fresh and _is_cached(dag)):
            dag = self._make(version, fresh=fresh)
        if version.cid is not None and dag.layout.root != version.cid and _is_cached(dag):
            dag = self._make(version, fresh=True)  # a cache refuses nothing
        self._locked.pop(version.ref, None)
        self._dags[version.ref] = dag
        if version.cid is not None and dag.layout.root != version.cid:
            listing = dag.listing if isinstance(dag, DirectoryDag) else None
            found = FoundBundle(dag.layout.root, dag.contents, listing)
            raise PublishedMismatchError(version, self._explain(version, found))
        return dag

    def _explain(self, version: Version, found: FoundBundle) -> Mismatch:
        known = self._mismatches.get(version.ref)
        if known is None:
            contents = self._published.contents(version)
            known = explain(found, contents, lambda: self._published.recorded_in(version))
            self._mismatches[version.ref] = known
        return known

    def _make(self, version: Version, *, fresh: bool) -> LocalDag:
        """Return the DAG of a version from its path, and keep what it was made from."""
        path = self.path(version)
        if version.cid is not None:
            self._inputs[version.ref], dag = self._find(version, path, fresh=fresh)
            return dag
        inputs = replace(version.inputs, sealing=self.seals.for_new(version))
        dag = self._identify(version, path, inputs, RememberedDigests(), fresh=fresh)
        self._inputs[version.ref] = inputs
        if isinstance(dag, (DirectoryDag, SealedDag)):
            self._unused[version.ref] = dag.listing.unused
        if isinstance(dag, SealedDag) and (index_file := self._published.index_file) is not None:
            self._notes[version.ref] += tuple(
                published_in_the_clear(index_file, version.model, dag, self._progress)
            )
        return dag

    def _find(self, version: Version, path: Path, *, fresh: bool) -> tuple[BundleInputs, LocalDag]:
        """Return what a published version was made from, and its DAG; those best known when none gives the
        CID. Files are hashed once.
        """
        remembered = RememberedDigests()
        best: tuple[BundleInputs, LocalDag] | None = None
        problem: BundleError | None = None
        for inputs in self._published.inputs(version):
            try:
                dag = self._identify(version, path, inputs, remembered, fresh=fresh)
            except SourceChangedError:
                raise
            except BundleError as error:
                problem = problem or error
                continue
            if dag.layout.root == version.cid or isinstance(dag, CarBundle):
                return inputs, dag
            best = best or (inputs, dag)
        if isinstance(problem, NoSealKeyError):
            raise problem
        if best is not None:
            return best
        assert problem is not None  # noqa: S101 - there is always an index
        raise self._explained(version, path, problem, remembered)

    def _explained(
        self, version: Version, path: Path, problem: BundleError, remembered: RememberedDigests
    ) -> BundleError:
        """Return `problem`, which makes the files of a published version no bundle, with what differs."""
        contents = self._published.contents(version)
        if contents is None:
            return problem
        inputs = next(self._published.inputs(version))
        if inputs.sealing is not None:
            return problem
        try:
            listing = self._scan(path, inputs)
        except BundleError:
            return problem
        found = FoundBundle(None, contents_without_hashing(listing, contents[0], remembered), listing)
        mismatch = self._explain(version, found)
        return PublishedMismatchError(version, mismatch, problem) if mismatch.differences else problem

    def _identify(
        self,
        version: Version,
        path: Path,
        inputs: BundleInputs,
        remembered: RememberedDigests,
        *,
        fresh: bool,
    ) -> LocalDag:
        """Return the DAG of what is at `path`; the files of a version without a CID are examined first."""
        release, sealing = inputs.release, inputs.sealing
        unpublished = version if version.cid is None else None
        key = None if sealing is None else self.seals.open(version, sealing)
        if path.suffix == ".car" and path.is_file():
            if sealing is not None:
                raise BundleError(
                    f"{version.path} is a CAR file, whose blocks are fixed and cannot be sealed",
                    hint="unpack it with `reconcile fetch CID DIR --car FILE`, and name the directory",
                    where=version.where,
                )
            packed = identify_car(path, None if unpublished is None else release, self._progress)
            self._notes[f"{release.model}@{release.version}"] = packed.notes
            try:
                self._admit(unpublished, lambda version: dag_findings(packed, version))
            except BaseException:
                packed.close()
                raise
            return packed
        listing = self._scan(path, inputs)
        bundle = make_bundle(
            listing,
            model=release.model,
            version=release.version,
            format=release.format,
            created_at=release.created_at,
        )
        if unpublished is not None:
            self._notes[unpublished.ref] = bundle.notes
        self._admit(unpublished, lambda version: listing_findings(listing, version))
        if key is not None and sealing is not None:
            return identify_sealed(
                bundle,
                key,
                hides_names=sealing.hides_names,
                cache=None if self._cache is None else self._cache.directory,
                fresh=fresh,
                progress=self._progress,
            )
        return identify(
            bundle, cache=self._cache, fresh=fresh, remembered=remembered, progress=self._progress
        )

    def _admit(self, version: Version | None, examine: Callable[[Version], tuple[Finding, ...]]) -> None:
        """Keep the findings about a version that is not published. Raises BundleError if they refuse it."""
        if version is not None:
            self._findings[version.ref] = examine(version)
            require_publishable(self._findings[version.ref], version.ref)

    def examine(self, version: Version) -> tuple[Finding, ...]:
        """Return the findings about the files at the version's path, published or not. Reads headers only.

        A CAR is verified completely. `notes` has what else may surprise people. Raises BundleError or
        DataError.
        """
        path, release = self.path(version), version.inputs.release
        if path.suffix == ".car" and path.is_file():
            with contextlib.closing(identify_car(path, release, self._progress)) as packed:
                self._notes[version.ref] = packed.notes
                return dag_findings(packed, version)
        listing = self._scan(path, version.inputs)
        found = listing_findings(listing, version)
        self._notes[version.ref] = describe_bundle(listing, release)
        return found

    def _scan(self, path: Path, inputs: BundleInputs) -> SourceListing:
        return scan(path, include_hidden=inputs.include_hidden, patterns=inputs.patterns, boundary=self._root)

    def try_identify(self, version: Version, *, fresh: bool = False) -> bool:
        """Identify a version; on failure, keep the reason instead of raising it, and return False."""
        try:
            self.identify(version, fresh=fresh)
            return True
        except ReconcilerError as error:
            reason = Reason.from_error(error)
            is_locked = isinstance(error, NoSealKeyError) and version.cid is not None
            (self._locked if is_locked else self._problems)[version.ref] = reason
        except OSError as error:
            self._problems[version.ref] = Reason(f"{version.path}: {error.strerror or error}")
        return False

    def try_list(self, version: Version) -> ListedBytes | None:
        """List the remote source of a version, and identify it when an earlier run has read it.

        On failure, keep the reason instead of raising it, and return None.
        """
        assert self.remote is not None  # noqa: S101 - given with an index
        try:
            inputs = self.first_inputs(version)
            listed = self.remote.listed(version, inputs)
            if (known := self.remote.identify_from_cache(version, inputs)) is not None:
                self._keep(version, known)
            return listed
        except ReconcilerError as error:
            self._problems[version.ref] = Reason.from_error(error)
        return None

    def stream(self, version: Version, targets: Sequence[Target], label: Label) -> list[TargetSink]:
        """Read a version once from its remote source; return the sinks of the `targets` that took its leaves.

        Raises as `RemoteVersions.stream`, and PublishedMismatchError for another CID than that of the index.
        """
        assert self.remote is not None  # noqa: S101 - given with an index
        streamed, sinks = self.remote.stream(version, self.first_inputs(version), targets, label)
        try:
            self._keep(version, streamed)
        except BaseException:
            for sink in sinks:
                sink.session.abandon()
            raise
        return sinks

    def first_inputs(self, version: Version) -> BundleInputs:
        """Return what a version with a remote source is made from, before anything of it was read.

        Such a version is never sealed. Raises BundleError for a new version of a sealed model, and for one
        that was sealed from a directory: its plain bytes would be sent before its CID is compared.
        """
        if version.cid is None:
            self.seals.for_new(version)
            return version.inputs
        if self._published.is_sealed(version):
            raise BundleError(
                f"{version.ref} is sealed, and cannot be made from its remote source",
                hint="download it, and name the directory with `path` in place of `source`",
                where=version.where,
            )
        return next(each for each in self._published.inputs(version) if each.sealing is None)

    def _keep(self, version: Version, streamed: StreamedVersion) -> None:
        """Use a version that was streamed as if it had been identified here."""
        dag = streamed.dag
        if version.cid is not None and dag.layout.root != version.cid:
            found = FoundBundle(dag.layout.root, dag.contents, dag.listing)
            raise PublishedMismatchError(version, self._explain(version, found))
        self._dags[version.ref] = dag
        self._inputs[version.ref] = streamed.inputs
        self.provenance[version.ref] = streamed.provenance
        if version.cid is None:
            self._findings[version.ref] = streamed.findings
            self._unused[version.ref] = dag.listing.unused
            self._notes[version.ref] = streamed.notes

    def refuse(self, version: Version, reason: Reason) -> None:
        """Make the bytes of `version` unusable in this run, for `reason`."""
        self._problems[version.ref] = reason

    def confirm(self, ref: str) -> None:
        """Hash whatever only the cache says about a version, unless it was sent since.

        Does nothing for a version that was not identified. Raises SourceChangedError when the directory has
        other bytes now, BundleError when it cannot be read.
        """
        dag = self._dags.get(ref)
        if isinstance(dag, (DirectoryDag, SealedDag)):
            dag.confirm(self._progress)

    def changed(self) -> frozenset[str]:
        """Return the versions whose directories turned out to have other bytes than were identified."""
        return frozenset(ref for ref, dag in self._dags.items() if dag.changed)

    def renew(self) -> frozenset[str]:
        """Forget what was identified of the `changed` versions, in the cache too, and return them.

        They are identified again from their bytes when they are needed.
        """
        changed = self.changed()
        for ref in changed:
            dag = self._dags.pop(ref)
            dag.close()
            if isinstance(dag, SealedDag):
                dag.forget()
            elif self._cache is not None and isinstance(dag, DirectoryDag):
                self._cache.forget(dag.listing, dag.cached)
            self._problems.pop(ref, None)
            self._mismatches.pop(ref, None)
        self._renewed |= changed
        return changed

    def dag(self, version: Version) -> LocalDag | None:
        """Return the DAG of a version that was identified in this run and can be used, or None."""
        return None if version.ref in self._problems else self._dags.get(version.ref)

    def keep_pieces(self, root: Cid, pieces: ShardedCar, *, computed: bool = False) -> None:
        """Remember the pieces of `root` that a record names, or that were computed while sending its bytes.

        Raises DataError, naming both, when different pieces are known already.
        """
        layouts = (dag.layout for dag in self._dags.values() if dag.layout.root == root)
        self._pieces.keep(root, pieces, next(layouts, None) if computed else None)

    def known_pieces(self, ref: str, sharding: Sharding) -> ShardedCar | None:
        """Return the pieces of a version when they are known without reading its bytes."""
        dag = self._dags.get(ref)
        return None if dag is None else self._pieces.find(dag.layout, sharding)

    def pieces(self, ref: str, sharding: Sharding) -> ShardedCar:
        """Return the pieces of an identified version. Raises as `VersionPieces.compute`."""
        return self._pieces.compute(self._dags[ref], sharding)

    def inputs(self, ref: str) -> BundleInputs:
        """Return what the bundle of an identified version was made from."""
        return self._inputs[ref]

    def identified(self, ref: str) -> LocalDag:
        """Return the DAG of an identified version."""
        return self._dags[ref]

    def mismatches(self) -> dict[str, Mismatch]:
        """Return why directories no longer give the published CID, by `model@version`."""
        return dict(self._mismatches)

    def identities(self) -> dict[str, BundleIdentity]:
        """Return the identity of each identified version, by `model@version`."""
        return {ref: dag.identity for ref, dag in self._dags.items()}

    def facts(self) -> dict[str, Facts]:
        """Return the facts of each identified version without a problem, by `model@version`."""
        return {
            ref: Facts(dag.identity.root, dag.identity.size, dag.identity.car_size)
            for ref, dag in self._dags.items()
            if ref not in self._problems
        }

    def findings(self) -> dict[str, tuple[Finding, ...]]:
        """Return the findings about each version that was examined, by `model@version`."""
        return dict(self._findings)

    def problems(self) -> dict[str, Reason]:
        """Return the reasons why directories cannot be used, by `model@version`."""
        return dict(self._problems)

    def locked(self) -> dict[str, Reason]:
        """Return why published versions cannot be sealed here: their key is not at hand."""
        return dict(self._locked)

    def notes(self, version: Version) -> tuple[str, ...]:
        """Return what may surprise people in a new version that was identified in this run."""
        return self._notes.get(version.ref, ())

    def unused_patterns(self, version: Version) -> tuple[str, ...]:
        """Return the patterns of a version identified in this run that match nothing in its directory."""
        return self._unused.get(version.ref, ())

    def close(self) -> None:
        """Close open files."""
        for dag in self._dags.values():
            dag.close()
        if self.remote is not None:
            self.remote.close()


def _is_cached(dag: LocalDag) -> bool:
    """Return whether a digest of `dag` comes from a cache."""
    return isinstance(dag, (DirectoryDag, SealedDag)) and bool(dag.cached)
