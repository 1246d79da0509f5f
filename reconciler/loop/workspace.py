"""The inputs of a run: index, targets, records and source directories, each read once.

`load` is the first step of the chain in `run.py`; commands that only inspect targets start with it too.
`run_lock` allows one run at a time in a repository; plans and other readers take no lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.content.identity_cache import IdentityCache
from reconciler.errors import Reason, ReconcilerError, Where
from reconciler.index import guarded_yaml
from reconciler.index.load import parse_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.log_settings import AuditSettings, read_audit_settings
from reconciler.index.model import Index, Record, SourceSpec, Version
from reconciler.index.proposal_form import ProposalForm, read_proposal_form
from reconciler.index.record_check import check_records
from reconciler.index.records import read_records
from reconciler.index.sources_file import check_sources, load_sources
from reconciler.index.targets_file import read_targets
from reconciler.loop.piece_cache import PieceCache
from reconciler.loop.published import PublishedBundles
from reconciler.loop.remote import RemoteVersions
from reconciler.loop.seals import SealKeys
from reconciler.loop.select import Selection, select
from reconciler.loop.settings import Scope
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import Stoppable
from reconciler.loop.stream_cache import StreamCache
from reconciler.net.retry import RetryBudget
from reconciler.progress import Progress
from reconciler.targets.interface import Capabilities, RunTerms, Target
from reconciler.targets.open import open_targets


@dataclass(frozen=True, slots=True)
class Workspace:
    """The inputs of one run, as read by `load`.

    `index` was parsed from `index_bytes`. `targets_digest` is the SHA-256 of targets.yaml in hex; `audit` are
    its settings of the audit log. `recorded`
    are the CIDs in the records of versions, `made_from` what their bundles were made from, `records` the
    records of those whose targets need pieces, all by `model@version`. `source_specs` are the declared
    sources by name, `published` what is known about published versions. `targets` are open; `unopened` has
    the reasons why the others could not be opened.
    """

    scope: Scope
    index: Index
    index_bytes: bytes
    targets_digest: str
    selection: Selection
    proposals: ProposalForm
    audit: AuditSettings
    recorded: Mapping[str, Cid]
    made_from: Mapping[str, BundleInputs]
    records: Mapping[str, Record]
    sources: VersionSources
    source_specs: Mapping[str, SourceSpec]
    published: PublishedBundles
    targets: Mapping[str, Target]
    unopened: Mapping[str, Reason]
    progress: Stoppable

    @property
    def layout(self) -> RepositoryLayout:
        """The paths of the repository."""
        return self.scope.layout

    @property
    def capabilities(self) -> dict[str, Capabilities]:
        """The capabilities of the open targets, by name."""
        return {name: target.capabilities for name, target in self.targets.items()}

    def shardings(self, version: Version) -> tuple[Sharding, ...]:
        """Return how the open targets of `version` split it into pieces."""
        return target_shardings(version, self.capabilities)


@contextmanager
def load(
    scope: Scope,
    environ: Mapping[str, str],
    progress: Progress,
) -> Iterator[Workspace]:
    """Read the inputs of a run and open its targets; close targets and files when the block ends.

    A target that cannot be opened is not an error; `unopened` has the reason. Raises InvalidIndexError for an
    invalid index, record or targets file, and UsageError for a glob that matches nothing.
    """
    layout, cache = scope.layout, scope.cache
    name = str(layout.index_file)
    index_bytes = guarded_yaml.read(layout.index_file, name)
    index = parse_index(guarded_yaml.decode(index_bytes, name), layout.index_file, stamp_directory=cache)
    specs, targets_bytes = read_targets(layout.targets_file, stamp_directory=cache)
    proposals = read_proposal_form(targets_bytes, str(layout.targets_file), environ)
    source_specs = load_sources(layout.sources_file, stamp_directory=cache)
    check_sources(index, source_specs)
    checked = check_records(index)
    selection = select(index, specs, scope.only, scope.exclude)
    stoppable = progress if isinstance(progress, Stoppable) else Stoppable(progress)
    seals = SealKeys(layout.index_file, layout.root, environ)
    published = PublishedBundles(layout.index_file, seals)
    remote = RemoteVersions(
        {spec.name: spec for spec in source_specs},
        layout.source_root,
        environ,
        StreamCache(cache / "streams" if cache else None),
        stoppable,
        repository=layout.root,
        index_id=index.id,
    )
    sources = VersionSources(
        layout.source_root,
        IdentityCache(cache / "identities") if cache else None,
        stoppable,
        PieceCache(cache / "pieces") if cache else None,
        published,
        remote,
        seals,
    )
    budget = RetryBudget()
    terms = RunTerms(budget, cache, stoppable)
    stoppable.at_stop(budget.end)
    stoppable.at_stop(remote.interrupt)
    with (
        open_targets(selection.targets, root=layout.root, environ=environ, terms=terms) as opened,
        closing(sources),
    ):
        published.targets = opened.targets
        capabilities = {name: target.capabilities for name, target in opened.targets.items()}
        yield Workspace(
            scope=scope,
            index=index,
            index_bytes=index_bytes,
            targets_digest=hashlib.sha256(targets_bytes).hexdigest(),
            selection=selection,
            proposals=proposals,
            audit=read_audit_settings(targets_bytes, str(layout.targets_file)),
            recorded={ref: record.cid for ref, record in checked.items()},
            made_from={ref: record.inputs for ref, record in checked.items() if record.inputs is not None},
            records=read_records(index, (v for v in selection.kept if target_shardings(v, capabilities))),
            sources=sources,
            source_specs={spec.name: spec for spec in source_specs},
            published=published,
            targets=opened.targets,
            unopened=opened.failed,
            progress=stoppable,
        )


def target_shardings(version: Version, capabilities: Mapping[str, Capabilities]) -> tuple[Sharding, ...]:
    """Return how the targets of `version` split it; targets not in `capabilities` are left out."""
    able = (capabilities[name].sharding for name in version.targets if name in capabilities)
    return tuple(dict.fromkeys(sharding for sharding in able if sharding is not None))


@contextmanager
def run_lock(state: Path, command: str) -> Iterator[None]:
    """Hold the lock in `state` (the .reconcile directory) while the block runs.

    In a checkout that cannot be written, the lock is in the user's cache directory or in that for temporary
    files, where it excludes the other runs of this user on this machine. The operating system releases the
    lock when the process ends, however it ends. Raises LockedError, naming the holder, when another run holds
    it.
    """
    state = _lockable(state)
    holder = state / "run.json"
    with fs.locked(
        state / "run.lock",
        lambda: f"another run holds the lock: {_holder(holder)}",
        hint="wait for it, or stop it",
    ):
        try:
            # left by a run that was killed, or a link that the repository contains
            holder.unlink(missing_ok=True)
            with contextlib.suppress(OSError), holder.open("x", encoding="utf-8") as file:
                json.dump(_this_process(command), file)  # the lock counts; a full disk hides only its holder
            yield
        finally:
            holder.unlink(missing_ok=True)


def _lockable(state: Path) -> Path:
    """Return `state` when it can be written, else a directory elsewhere. Raises ReconcilerError."""
    if os.access(state, os.W_OK):
        return state
    name = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:32]
    for place in (
        fs.user_directory(os.environ, "XDG_CACHE_HOME", ".cache") / "locks",
        Path(tempfile.gettempdir()) / f"reconcile-locks-{os.getuid()}",
    ):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            if place.is_symlink() or place.stat().st_uid != os.getuid():
                continue
            (place / name).mkdir(exist_ok=True)
            if os.access(place / name, os.W_OK):
                return place / name
    raise ReconcilerError(
        f"cannot be written ({fs.why_unwritable(state)}), and no other place for the lock of the run can "
        "either",
        hint="make it writable, or set XDG_CACHE_HOME or TMPDIR to a directory that is",
        where=Where(str(state)),
    )


def _this_process(command: str) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command,
    }


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"{holder['command']!r}, process {holder['pid']} on {holder['host']}, since {holder['since']}"
    return "its holder is unknown"
