"""Whose releases are accepted: the trust rules of the user's configuration, before the first block.

`TrustCheck` finds the rule for a release, the signatures beside its index, and the verdict of the room
`trust`. Every way to the bytes of a version asks it: `open_ref` for fetching, `lock`, `verify`, and the doors
of `serve`. A rule is chosen by what the user configured and asked for, never by what an index says about
itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import DataError, LockedError, PeerError, TrustError, UsageError
from reconciler.fs import expand_user, replace_file
from reconciler.index.user_config import config_file, load_config

if TYPE_CHECKING:
    from reconciler.consume.sources import Source
    from reconciler.content.cid import Cid
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Index, Model, Version
    from reconciler.index.signature_rules import SignatureRule
    from reconciler.index.user_config import PinnedLog
    from reconciler.trust.files import VersionSignatures
    from reconciler.trust.policy import TrustPolicy
    from reconciler.trust.statement import Release

_REFUSED_SECONDS = 30.0  # after which a server asks again for a version that was refused
_ABSENT = "signatures lie in `signatures/` beside an index; name the one that has this content with --index"


@dataclass(frozen=True, slots=True)
class TrustOutcome:
    """Who signed a release, as far as a rule accepts them, and what a rule with `mode: warn` says."""

    signers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def joined(self, other: TrustOutcome) -> TrustOutcome:
        """Return both outcomes, each signer once."""
        signers = tuple(dict.fromkeys((*self.signers, *other.signers)))
        return TrustOutcome(signers, (*self.warnings, *other.warnings))


NOT_ASKED = TrustOutcome()


@dataclass(frozen=True, slots=True)
class TrustCheck:
    """The check of releases of one index, None without an index.

    With `offline` the signatures of a remote index are those read before. `gateways` make the sources of an
    index under a CID. `logs` are the audit logs whose keys the user knows.
    """

    layout: RepositoryLayout | None
    index_id: str | None
    rules: tuple[SignatureRule, ...]
    offline: bool = False
    gateways: Callable[[], Sequence[Source]] = lambda: ()
    logs: tuple[PinnedLog, ...] = ()

    def require(self, model: str, version: str, cid: Cid) -> TrustOutcome:
        """Return who signed a version with this CID; `model` and `version` are "" for content of no index.

        Raises TrustError when the rule for it does not accept it, UsageError for a rule whose files cannot be
        read, and ReconcilerError when a library for signatures is missing.
        """
        self._require_logged(model, version, cid)
        rule = next((each for each in self.rules if self._covers(each, model)), None)
        if rule is None or rule.mode == "off":
            return NOT_ASKED
        from reconciler.trust.policy import judge
        from reconciler.trust.rules import make_policy
        from reconciler.trust.statement import Release

        policy = make_policy(rule)
        release = Release(self.index_id if model else None, model, version, cid)
        try:
            if self.layout is None or self.index_id is None or not model:
                raise TrustError(
                    f"{release.ref} is not a version of an index that was read, and a trust rule demands "
                    "its signature",
                    hint=_ABSENT,
                )
            found = self._signatures(self.layout, release, policy)
            verdict = judge(release, found.release, found.provenance, policy)
            verdict.require()
        except TrustError as error:
            if rule.mode != "warn":
                raise
            return TrustOutcome(warnings=(error.message,))
        return TrustOutcome(verdict.signers)

    def _require_logged(self, model: str, version: str, cid: Cid) -> None:
        """Raise TrustError when the user knows the log of the index, and it does not have the version."""
        if not self.logs or not model or self.layout is None or self.layout.origin is None:
            return
        from reconciler.consume.seen_log import pinned_keys, require_logged

        keys = pinned_keys(self.logs, self.layout.origin.place)
        if keys is not None:
            ref = f"{model}@{version}"
            require_logged(self.layout, keys, ref, cid, offline=self.offline, sources=self.gateways)

    def _covers(self, rule: SignatureRule, model: str) -> bool:
        if not rule.covers(model):
            return False
        if not rule.index:
            return True
        if self.layout is None:
            return False
        if self.layout.origin is not None:
            return fnmatchcase(self.layout.origin.place, rule.index)
        named = expand_user(rule.index)
        return self.layout.index_file.resolve() == named.resolve() or (
            named.is_dir() and self.layout.index_file.resolve().is_relative_to(named.resolve())
        )

    def _signatures(
        self, layout: RepositoryLayout, release: Release, policy: TrustPolicy
    ) -> VersionSignatures:
        from reconciler.trust.files import read_signatures

        releases = layout.index_file.parent
        if layout.origin is None or self.offline:
            return read_signatures(releases, release.model, release.version)
        return self._download(layout, release, policy)

    def _download(self, layout: RepositoryLayout, release: Release, policy: TrustPolicy) -> VersionSignatures:
        """Ask a remote index for the files of each signer, until enough are there, and keep them.

        Raises TrustError when they cannot be asked for: without an answer nothing is accepted.
        """
        from reconciler.consume.beside import BesideRemoteIndex
        from reconciler.trust.files import (
            LIMITS,
            PROVENANCE_FILE,
            RELEASE_FILE,
            VersionSignatures,
            signature_path,
        )
        from reconciler.trust.policy import BundleFile, judge

        origin = layout.origin
        assert origin is not None  # noqa: S101 - the caller checked it
        place = origin.content or origin.place
        sources = self.gateways() if place.startswith("ipfs://") else ()
        found: dict[str, list[BundleFile]] = {RELEASE_FILE: [], PROVENANCE_FILE: []}
        folders = tuple(dict.fromkeys(signer.folder for signer in policy.signers))
        stages = [(RELEASE_FILE, replace(policy, provenance=None)), (PROVENANCE_FILE, policy)]
        try:
            with closing(BesideRemoteIndex(place, origin.commit, sources)) as beside:
                for name, asked in stages[: 1 if policy.provenance is None else 2]:
                    accepted = False
                    for folder in folders:
                        path = signature_path(release.model, release.version, folder, name)
                        data = beside.read(path, LIMITS[name])
                        if data is None:
                            continue
                        found[name].append(BundleFile(str(path), data))
                        _keep(Path(layout.index_file.parent, path), data)
                        accepted = judge(release, found[RELEASE_FILE], found[PROVENANCE_FILE], asked).accepted
                        if accepted:
                            break
                    if not accepted:
                        break
        except (PeerError, DataError, UsageError) as error:
            raise TrustError(
                f"the signatures of {release.ref} cannot be read, and a trust rule demands them: {error}",
                hint=error.hint,
            ) from None
        finally:
            for source in sources:
                source.close()
        return VersionSignatures(tuple(found[RELEASE_FILE]), tuple(found[PROVENANCE_FILE]))


def trust_check(
    layout: RepositoryLayout | None,
    index: Index | None,
    *,
    offline: bool = False,
    gateways: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> TrustCheck:
    """Return the check for releases of `index` by the rules of the user's configuration.

    `gateways` serve an index under a CID; without any, those of the configuration. Raises InvalidIndexError
    for an invalid configuration.
    """
    config = load_config(config_file(os.environ if environ is None else environ))

    def sources() -> Sequence[Source]:
        from reconciler.consume.gateway_source import GatewaySource
        from reconciler.consume.host_tokens import auth_for

        return [GatewaySource(url, auth=auth_for(url)) for url in gateways or config.gateways]

    index_id = index.id if index else None
    return TrustCheck(layout, index_id, config.trust, offline, sources, config.logs)


class AcceptedReleases:
    """An index without the versions that a trust rule refuses, for a server that answers from it.

    `find` names the index and `read` parses it, as it is now. A version that was accepted is not asked for
    again while its CID stays; one that was refused is after half a minute, since it may be signed by then.
    `log` gets each refusal once.
    """

    def __init__(
        self,
        find: Callable[[], RepositoryLayout],
        read: Callable[[RepositoryLayout], Index],
        log: Callable[[str], None],
    ) -> None:
        self._find = find
        self._read = read
        self._log = log
        self._accepted: set[tuple[str, Cid]] = set()
        self._refused: dict[str, tuple[Cid, float, str]] = {}
        self._told: set[str] = set()

    def __call__(self) -> Index:
        """Return the index as it is now. Raises what finding and reading it raise, and as `TrustCheck`."""
        layout = self._find()
        index = self._read(layout)
        check = trust_check(layout, index)
        if not check.rules and not check.logs:
            return index
        models = {name: self._with_accepted(check, model) for name, model in index.models.items()}
        return replace(index, models=models)

    def refused(self) -> Mapping[str, str]:
        """Return why versions are left out, by `model@version`."""
        return {ref: reason for ref, (_, _, reason) in self._refused.copy().items()}

    def _with_accepted(self, check: TrustCheck, model: Model) -> Model:
        kept = {text: each for text, each in model.versions.items() if self._accepts(check, each)}
        channels = {name: text for name, text in model.channels.items() if text in kept}
        return replace(model, versions=kept, channels=channels)

    def _accepts(self, check: TrustCheck, version: Version) -> bool:
        if version.cid is None or (version.ref, version.cid) in self._accepted:
            return True
        before = self._refused.get(version.ref)
        if before is not None and before[0] == version.cid and time.monotonic() < before[1]:
            return False
        try:
            outcome = require_version(check, version)
        except TrustError as error:
            self._refused[version.ref] = version.cid, time.monotonic() + _REFUSED_SECONDS, error.message
            self._tell(f"not served: {error.message}")
            return False
        self._refused.pop(version.ref, None)
        for warning in outcome.warnings:
            self._tell(f"warning: {warning}")
        if not outcome.warnings:
            self._accepted.add((version.ref, version.cid))
        return True

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._log(text)


#: one more demand on a release, by model, version ("" for content of no index) and CID; raises TrustError
Demand = Callable[[TrustCheck, str, str, "Cid"], TrustOutcome]


def require_version(check: TrustCheck, version: Version) -> TrustOutcome:
    """Return who signed a version that has a CID. Raises as `TrustCheck.require` does."""
    assert version.cid is not None  # noqa: S101 - resolved versions have one
    return check.require(version.model, version.version, version.cid)


def _keep(path: Path, data: bytes) -> None:
    """Keep a signature beside the cached index, for `--offline`; where that cannot be written, do not."""
    with suppress(OSError, LockedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, mode=0o644, sync=False)
