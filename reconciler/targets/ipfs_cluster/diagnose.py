"""The findings of `doctor` about a cluster: version, peers, the Kubo behind each, replication, clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from reconciler.content.cid import RAW, Cid
from reconciler.errors import PeerError
from reconciler.net.errors import sanitize
from reconciler.targets.interface import Diagnosis
from reconciler.targets.ipfs_cluster.options import ClusterOptions
from reconciler.targets.ipfs_cluster.rest import ClusterRest
from reconciler.targets.ipfs_cluster.wire import missing_peers

_UNKNOWN_CID = Cid(RAW, bytes(32))  # no known block has this hash; a query for it has no effect
_MAX_SKEW = 300.0  # seconds between clocks; a slow answer explains less


def diagnose_cluster(rest: ClusterRest, options: ClusterOptions) -> Sequence[Diagnosis]:
    """Check the cluster without changing anything. A failing peer is a finding, not an error."""
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
        findings += _diagnose_peers(rest, options)
        findings.append(_diagnose_clock(rest))
    except PeerError as error:
        findings.append(Diagnosis("permission", ok=False, text=error.message, hint=error.hint or ""))
    if not options.nodes:
        findings.append(
            Diagnosis(
                "nodes",
                ok=False,
                text="the Kubo daemons behind the cluster are not configured, so blocks are not checked",
                hint="list them under `nodes` of this target",
            )
        )
    return tuple(findings)


def _diagnose_peers(rest: ClusterRest, options: ClusterOptions) -> list[Diagnosis]:
    peers = rest.peers()
    findings = []
    for peer in peers:
        error = peer.error or peer.ipfs_error
        if error:
            findings.append(
                Diagnosis(
                    f"peer {peer.name}",
                    ok=False,
                    text=sanitize(error),
                    hint=f"start the Kubo behind {peer.name}",
                )
            )
    findings += [
        Diagnosis(f"peer {name}", ok=False, text="stopped reporting and is gone", hint=f"start {name} again")
        for name in missing_peers(peers, rest.alerts()).values()
    ]
    if not findings:
        names = ", ".join(peer.name for peer in peers)
        findings.append(Diagnosis("peers", ok=True, text=f"{len(peers)} with Kubo each: {names}"))
    if options.factor_min > len(peers):
        findings.append(
            Diagnosis(
                "replication",
                ok=False,
                text=f"at least {options.factor_min} copies are required, but there are {len(peers)} peers",
                hint="start more peers, or lower replication.min",
            )
        )
    return findings


def _diagnose_clock(rest: ClusterRest) -> Diagnosis:
    _, now = rest.status(_UNKNOWN_CID)
    skew = abs((now - datetime.now(UTC)).total_seconds())
    return Diagnosis(
        "clock",
        ok=skew < _MAX_SKEW,
        text=f"{skew:.0f} s apart from ours",
        hint="" if skew < _MAX_SKEW else "set both clocks; pins expire by the clock of the cluster",
    )
