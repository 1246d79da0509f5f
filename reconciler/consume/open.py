"""The sources and caches of a fetch, opened from what the user named or from the targets of a repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import BlockUnavailableError, ReconcilerError, UsageError
from reconciler.progress import Progress

if TYPE_CHECKING:
    from reconciler.consume.content_cache import ContentCache
    from reconciler.consume.existing import Released
    from reconciler.consume.fetch import Fetched
    from reconciler.consume.receipt import ReceiptBook
    from reconciler.consume.sources import Source
    from reconciler.consume.trusted import Demand, TrustOutcome
    from reconciler.consume.unsealing import Unsealing
    from reconciler.content.cid import Cid
    from reconciler.content.walk import DagMap
    from reconciler.download.limits import DownloadLimits
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Index, Version
    from reconciler.net.auth import Auth
    from reconciler.targets.interface import Target

_NAME_ONE = "name a source: --gateway, --kubo, --store or --car"


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources that blocks are requested from: trustless gateways and Kubo nodes by address, stores, CAR
    files, and content caches of other machines by path. When it is empty, the targets of the index's
    repository are used.
    """

    gateways: Sequence[str] = ()
    stores: Sequence[Path] = ()
    nodes: Sequence[str] = ()
    cars: Sequence[Path] = ()
    caches: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return bool(self.gateways or self.stores or self.nodes or self.cars)


def content_caches(sources: Sources, *, own: bool) -> list[ContentCache]:
    """Return the user's own content cache when `own`, followed by the read-only ones of `sources`."""
    from reconciler.consume.content_cache import ContentCache, default_cache

    caches = [ContentCache(default_cache(os.environ))] if own else []
    return caches + [ContentCache(Path(directory), writable=False) for directory in sources.caches]


def receipt_book() -> ReceiptBook | None:
    """Return the user's receipts, None unless the configuration has `receipts: true`."""
    from reconciler.consume.content_cache import default_cache
    from reconciler.consume.receipt import ReceiptBook
    from reconciler.index.user_config import config_file, load_config

    if not load_config(config_file(os.environ)).receipts:
        return None
    return ReceiptBook(default_cache(os.environ) / "receipts")


def open_sources(sources: Sources, root: Cid, progress: Progress) -> list[Source]:
    """Open the named sources that can serve `root`, local ones first.

    Raises BlockUnavailableError when there is none, UsageError for an invalid address.
    """
    from reconciler.consume.gateway_source import GatewaySource
    from reconciler.consume.host_tokens import auth_for
    from reconciler.consume.local_sources import car_source, kubo_source, store_source

    opened: list[Source] = []
    reasons: list[str] = []
    for directory in sources.stores:
        try:
            opened.append(store_source(Path(directory), root))
        except BlockUnavailableError as error:
            reasons.append(error.message)
    opened += [car_source(Path(file), root, progress) for file in sources.cars]
    failures: list[ReconcilerError] = []
    makers: list[tuple[Callable[[str, Auth | None], Source], str]] = [
        *((kubo_source, api) for api in sources.nodes),
        *((lambda url, auth: GatewaySource(url, auth=auth), url) for url in sources.gateways),
    ]
    for make, url in makers:
        try:
            opened.append(make(url, auth_for(url)))
        except ReconcilerError as error:  # such as a token that is not set: the others may suffice
            failures.append(error)
    if failures and not opened:
        raise failures[0]
    for failure in failures:
        progress.note(f"a source is left out: {failure}")
    if not opened:
        raise BlockUnavailableError(f"no source has {root}", hint="; ".join(reasons) or _NAME_ONE)
    return opened


def target_sources(targets: Mapping[str, Target], names: Iterable[str], root: Cid) -> list[Source]:
    """Open the targets `names` that serve blocks of `root`; names missing from `targets` are ignored.

    Raises BlockUnavailableError when none of them can.
    """
    from reconciler.consume.local_sources import target_source

    opened: list[Source] = []
    reasons: list[str] = []
    for name in names:
        if name not in targets:
            continue
        target = targets[name]
        if not target.capabilities.serves_blocks:
            reasons.append(f"{name} serves no blocks")
            continue
        try:
            opened.append(target_source(target, root))
        except ReconcilerError as error:
            reasons.append(error.message)
    if not opened:
        raise BlockUnavailableError(
            f"no target of this repository can serve {root}", hint="; ".join(reasons) or _NAME_ONE
        )
    return opened


def _nothing_released() -> Released:
    from reconciler.consume.existing import Released

    return Released()


@dataclass(frozen=True, slots=True)
class OpenedRef:
    """A reference ready to be fetched: its root, the sources to request blocks from, and warnings for people.

    `released` are the versions of the index, which a destination may have.

    `version` is None for a CID that the index does not have. `path` is the path below a CID,
    "" for all of it. `signers` are those that a trust rule accepts, none when no rule is about it.
    """

    root: Cid
    version: Version | None
    sources: Sequence[Source]
    warnings: tuple[str, ...] = ()
    path: str = ""
    released: Released = field(default_factory=_nothing_released)
    signers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`model@version`, or the CID."""
        return self.version.ref if self.version else str(self.root)


def unsealing_of(
    opened: OpenedRef, layout: RepositoryLayout | None, *, identity: Path | None, keep_sealed: bool
) -> Unsealing:
    """Return how a fetch opens a sealed version: with the private keys in the file `identity`, else those of
    the environment, which are read only then.
    """
    from reconciler.consume.reader_keys import ReaderKeys
    from reconciler.consume.unsealing import Unsealing
    from reconciler.index.identities import identities_from

    model = opened.version.model if opened.version is not None else ""
    keys = ReaderKeys(lambda: identities_from(os.environ, file=identity), layout, model)
    return Unsealing(keys, keep_sealed)


def fetch_opened(
    opened: OpenedRef,
    layout: RepositoryLayout | None,
    destination: Path,
    progress: Progress,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    caches: Sequence[ContentCache] = (),
    update: bool = False,
    receipts: ReceiptBook | None = None,
    trust_receipt: bool = True,
    limits: DownloadLimits | None = None,
    identity: Path | None = None,
    keep_sealed: bool = False,
) -> Fetched:
    """Fetch what `open_ref` opened to `destination`, as `fetch.fetch` does, and close its sources.

    With `update`, another version of the index in `destination` is brought to this one. `limits` are by
    default those of the user's configuration. `identity` and `keep_sealed` are as for `unsealing_of`. Raises
    what `fetch.fetch` raises, and InvalidIndexError for an invalid configuration.
    """
    from reconciler.consume.fetch import fetch
    from reconciler.index.user_config import config_file, load_config

    return fetch(
        opened.root,
        destination,
        opened.sources,
        progress,
        name=opened.name,
        include=include,
        exclude=exclude,
        caches=caches,
        path=opened.path,
        released=opened.released if update else _nothing_released(),
        receipts=receipts,
        trust_receipt=trust_receipt,
        limits=load_config(config_file(os.environ)).limits if limits is None else limits,
        unsealing=unsealing_of(opened, layout, identity=identity, keep_sealed=keep_sealed),
    )


@contextmanager
def open_ref(
    layout: RepositoryLayout | None,
    ref: str,
    sources: Sources,
    progress: Progress,
    *,
    named: tuple[str, str] | None = None,
    offline: bool = False,
    demand: Demand | None = None,
) -> Iterator[OpenedRef]:
    """Resolve `ref`, check its signatures, and open `sources` for it; without any, the repository's targets.

    `layout` is None without an index. `named` are the model and version that a lock file has for a CID. The
    trust rules are those of the user's configuration, and `demand` is one more check; with `offline` the
    signatures of a remote index are those read before. Raises UsageError when `ref` needs an index,
    InvalidIndexError, what resolving raises, TrustError when a trust rule refuses the version, before any
    source is opened, and BlockUnavailableError when no source has the root.
    """
    from reconciler.consume.trusted import trust_check
    from reconciler.index.load import load_index
    from reconciler.index.resolve import parse_ref, resolve, why_no_cid

    def trusted(index: Index | None, version: Version | None, root: Cid) -> TrustOutcome:
        model, number = named or ((version.model, version.version) if version is not None else ("", ""))
        check = trust_check(layout, index, offline=offline, gateways=sources.gateways)
        outcome = check.require(model, number, root)
        return outcome if demand is None else outcome.joined(demand(check, model, number, root))

    parsed = parse_ref(ref, with_path=True)
    if layout is None:
        if parsed.cid is None:
            hint = why_no_cid(parsed.model) or "name one with --index"
            raise UsageError(f"{ref!r} needs an index, and none was found", hint=hint)
        outcome = trusted(None, None, parsed.cid)
        opened = open_sources(sources, parsed.cid, progress)
        yield OpenedRef(parsed.cid, None, opened, outcome.warnings, path=parsed.path, signers=outcome.signers)
        return
    if sources:
        with suppress(OSError):  # something may be in its way; then nothing is cached
            layout.make_state()
        index = load_index(layout.index_file, stamps=layout.cache)
        found = resolve(index, parsed)
        outcome = trusted(index, found.version, found.cid)
        opened = open_sources(sources, found.cid, progress)
        released = _released(index, found.version, lambda root: open_sources(sources, root, progress))
        warnings = (*found.warnings, *outcome.warnings)
        yield OpenedRef(found.cid, found.version, opened, warnings, found.path, released, outcome.signers)
        return
    layout.make_state()
    index = load_index(layout.index_file, stamps=layout.cache)
    found = resolve(index, parsed)
    outcome = trusted(index, found.version, found.cid)
    with _repository_targets(index, layout, progress) as targets:
        names = found.version.targets if found.version else targets
        opened = target_sources(targets, names, found.cid)
        released = _released(index, found.version, lambda root: target_sources(targets, targets, root))
        warnings = (*found.warnings, *outcome.warnings)
        yield OpenedRef(found.cid, found.version, opened, warnings, found.path, released, outcome.signers)


def _released(index: Index, version: Version | None, reopen: Callable[[Cid], Sequence[Source]]) -> Released:
    """Return the versions in `index`, those of the same model first, the newest of them first."""
    from reconciler.consume.existing import Released
    from reconciler.consume.fetch import read_tree
    from reconciler.consume.sources import SourcePool, TrackedSource
    from reconciler.index.versions import parse_version

    model = version.model if version else None
    listed = sorted(
        (one for one in index.versions() if one.cid is not None),
        key=lambda one: (one.model == model, parse_version(one.version)),
        reverse=True,
    )

    def tree(root: Cid) -> DagMap:
        peers = SourcePool([TrackedSource(source) for source in reopen(root)])
        try:
            return read_tree(root, peers)
        finally:
            peers.close()

    return Released(tuple(dict.fromkeys(one.cid for one in listed if one.cid is not None)), tree)


@contextmanager
def _repository_targets(
    index: Index, layout: RepositoryLayout, progress: Progress
) -> Iterator[Mapping[str, Target]]:
    """Open the targets of a repository whose index, targets file and records agree with each other."""
    from reconciler.index.record_check import check_records
    from reconciler.index.targets_file import check_target_names, load_targets
    from reconciler.net.retry import RetryBudget
    from reconciler.targets.interface import RunTerms
    from reconciler.targets.open import open_targets

    specs = load_targets(layout.targets_file, stamp_directory=layout.cache)
    check_records(index)
    check_target_names(index, specs)
    terms = RunTerms(retries=RetryBudget(), cache=layout.cache, progress=progress)
    with open_targets(specs, root=layout.root, environ=os.environ, terms=terms) as opened:
        yield opened.targets
