"""What `doctor` says about a cluster: version, peers, the Kubo behind each, replication, clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler.content.cid import RAW, Cid
from reconciler.errors import PeerError
from reconciler.net.errors import sanitize
from reconciler.targets.interface import Diagnosis
from reconciler.targets.ipfs_cluster.options import ClusterOptions
from reconciler.targets.ipfs_cluster.rest import ClusterRest
from reconciler.targets.ipfs_cluster.wire import gone

_NOBODYS = Cid(RAW, bytes(32))  # a CID whose bytes nobody can have, to ask for without meaning anything
_SKEW = 300.0  # seconds between clocks that no longer are a slow answer


def examine(rest: ClusterRest, options: ClusterOptions) -> Sequence[Diagnosis]:
    """Look, without changing anything. A sick peer is a finding, not an error."""
    try:
        version = rest.version()
    except PeerError as error:
        return (Diagnosis("API", ok=False, text=error.message, hint=error.hint or ""),)
    major = version.partition(".")[0]
    findings = [
        Diagnosis(
            "API",
            ok=major.isdigit() and int(major) >= 1,
            text=f"ipfs-cluster {sanitize(version)} answers",
            hint="" if major != "0" else "update to 1.0 or later",
        )
    ]
    try:
        findings += _peers(rest, options)
        findings.append(_clock(rest))
    except PeerError as error:
        findings.append(Diagnosis("permission", ok=False, text=error.message, hint=error.hint or ""))
    if not options.nodes:
        findings.append(
            Diagnosis(
                "nodes",
                ok=False,
                text="the Kubo daemons behind the cluster are not configured, so blocks are never checked",
                hint="list them under `nodes` of this target",
            )
        )
    return tuple(findings)


def _peers(rest: ClusterRest, options: ClusterOptions) -> list[Diagnosis]:
    peers = rest.peers()
    findings = []
    for peer in peers:
        sick = peer.error or peer.ipfs_error
        if sick:
            findings.append(
                Diagnosis(
                    f"peer {peer.name}",
                    ok=False,
                    text=sanitize(sick),
                    hint=f"start the Kubo behind {peer.name}",
                )
            )
    findings += [
        Diagnosis(f"peer {name}", ok=False, text="stopped reporting and is gone", hint=f"start {name} again")
        for name in gone(peers, rest.alerts()).values()
    ]
    if not findings:
        names = ", ".join(peer.name for peer in peers)
        findings.append(Diagnosis("peers", ok=True, text=f"{len(peers)} there, each with its Kubo: {names}"))
    if options.factor_min > len(peers):
        findings.append(
            Diagnosis(
                "replication",
                ok=False,
                text=f"at least {options.factor_min} copies are asked for, and there are {len(peers)} peers",
                hint="start more peers, or lower replication.min",
            )
        )
    return findings


def _clock(rest: ClusterRest) -> Diagnosis:
    _, now = rest.status(_NOBODYS)
    skew = abs((now - datetime.now(UTC)).total_seconds())
    return Diagnosis(
        "clock",
        ok=skew < _SKEW,
        text=f"{skew:.0f} s apart from ours",
        hint="" if skew < _SKEW else "set the clocks of both machines; expiry is counted by the cluster's",
    )
