"""Who signed the versions of an index, as far as its own rule accepts them, and which versions lack that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.content.cid import Cid
from reconciler.errors import DataError, Reason

if TYPE_CHECKING:
    from reconciler.index.model import Index, Version
    from reconciler.loop.select import Selection
    from reconciler.trust.policy import TrustPolicy, Verdict


@dataclass(frozen=True, slots=True)
class SignatureState:
    """The signatures of one version.

    `signers` are names of accepted signers, or with `checked` False what the bundles say about themselves.
    `problem` says what the rule of the index lacks, "" when it is met or there is none.
    """

    model: str
    version: str
    signers: tuple[str, ...]
    checked: bool
    problem: str = ""


def signature_states(selection: Selection) -> Iterator[SignatureState]:
    """Yield the signatures of every version with a CID that has some, or that the index wants signed."""
    rule = selection.index.signatures
    for version in selection.kept:
        if version.cid is None:
            continue
        if rule is not None and rule.covers(version.model):
            verdict = _judge(selection.index, version, version.cid, _policy(selection.index))
            yield SignatureState(version.model, version.version, verdict.signers, True, _problem(verdict))
        elif claimed := _claimed(selection.index, version):
            yield SignatureState(version.model, version.version, claimed, False)


def unsigned_versions(selection: Selection) -> Mapping[str, Reason]:
    """Return why versions with a CID are not signed as their index demands, by `model@version`."""
    rule = selection.index.signatures
    if rule is None:
        return {}
    policy, found = _policy(selection.index), {}
    for version in selection.active:
        if version.cid is None or not rule.covers(version.model):
            continue
        verdict = _judge(selection.index, version, version.cid, policy)
        if not verdict.accepted:
            hint = f"sign it: reconcile sign {version.ref}"
            found[version.ref] = Reason(f"it is not signed as the index demands: {_problem(verdict)}", hint)
    return found


def _policy(index: Index) -> TrustPolicy:
    from reconciler.trust.rules import make_policy

    assert index.signatures is not None  # noqa: S101 - the callers check it
    return make_policy(index.signatures)


def _judge(index: Index, version: Version, cid: Cid, policy: TrustPolicy) -> Verdict:
    from reconciler.trust.files import read_signatures
    from reconciler.trust.policy import judge
    from reconciler.trust.statement import Release

    found = read_signatures(index.file.parent, version.model, version.version)
    release = Release(index.id, version.model, version.version, cid)
    return judge(release, found.release, found.provenance, policy)


def _problem(verdict: Verdict) -> str:
    if verdict.accepted:
        return ""
    if not verdict.signers and not verdict.problems:
        return "there is no signature"
    counted = f"{len(verdict.signers)} of {verdict.needed} signers"
    return "; ".join((counted, *verdict.problems[:2]))


def _claimed(index: Index, version: Version) -> tuple[str, ...]:
    """Return what the bundles of a version say about their signers; nothing of it is verified."""
    from reconciler.trust.certificates import certified_identity
    from reconciler.trust.dsse import parse_bundle
    from reconciler.trust.files import read_signatures

    names = []
    for found in read_signatures(index.file.parent, version.model, version.version).release:
        try:
            bundle = parse_bundle(found.data)
            if bundle.certificates:
                names.append(certified_identity(bundle.certificates[0])[0])
            else:
                names.append(f"key {found.place.split('/')[-2]}")
        except DataError:
            names.append(f"an unreadable bundle in {found.place}")
    return tuple(names)
