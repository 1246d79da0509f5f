"""Diagnosis of a node for `doctor`: reachability, version, permissions, clock, queue and addresses."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from reconciler.net.errors import AccessDeniedError, NotFoundError, RejectedError, RequestError
from reconciler.net.multiaddr import is_loopback
from reconciler.targets.interface import Diagnosis
from reconciler.targets.kubo import probe
from reconciler.targets.kubo.rpc import KuboRpc

OLDEST = (0, 40)
BETTER = (0, 42)
_SKEW = 120.0  # seconds

#: required calls. Without arguments each responds 400 when permitted, 403 when not, and does nothing
NEEDED = ("pin/ls", "pin/add", "pin/rm", "block/stat", "block/get", "dag/import", "dag/stat")
#: optional calls, and the consequence when they are not permitted
USEFUL = {
    "diag/cmds": "a stuck node cannot be recognized",
    "refs": "blocks are looked for one by one, which slows the first publish",
    "add": "files are sent as blocks, which costs the node more",
    "repo/stat": "there is no warning before the node is full",
    "id": "the addresses of the node are unknown, so other targets cannot fetch from it",
}


def diagnose_node(rpc: KuboRpc) -> list[Diagnosis]:
    """Run all checks; for a node that does not respond, return only the first finding."""
    try:
        version = rpc.version()
    except RequestError as error:
        return [Diagnosis("reachable", ok=False, text=error.message, hint=error.hint or "")]
    found = [Diagnosis("reachable", ok=True, text=f"answers at {rpc.http.address.text}"), _version(version)]
    for check in (_permissions, _clock, _stuck, _known):
        try:
            found += check(rpc)
        except AccessDeniedError:
            continue  # reported among the permissions
        except RequestError as error:
            found.append(Diagnosis("answers", ok=False, text=error.message, hint=error.hint or ""))
    if rpc.http.secrets and not (rpc.http.address.encrypted or rpc.http.address.loopback):
        found.append(Diagnosis("secret", ok=False, text="the secret is sent unencrypted", hint="use https"))
    return found


def _version(text: str) -> Diagnosis:
    numbers = re.match(r"(\d+)\.(\d+)", text)
    have = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if have < OLDEST:
        hint = "update Kubo: older versions limit imported blocks to 1 MiB and lack required features"
        return Diagnosis("version", ok=False, text=f"Kubo {text} is older than 0.40", hint=hint)
    if have < BETTER:
        hint = "0.42 and later end a pin that waits for the network"
        return Diagnosis("version", ok=True, text=f"Kubo {text}", hint=hint)
    return Diagnosis("version", ok=True, text=f"Kubo {text}")


def _permissions(rpc: KuboRpc) -> list[Diagnosis]:
    denied = [command for command in NEEDED if not _permitted(rpc, command)]
    useful = [command for command in USEFUL if not _permitted(rpc, command)]
    if denied:
        paths = ", ".join(f"/api/v0/{command}" for command in denied)
        hint = "add them to AllowedPaths of this secret in API.Authorizations, and restart the node"
        findings = [Diagnosis("permissions", ok=False, text=f"not permitted: {paths}", hint=hint)]
    else:
        findings = [Diagnosis("permissions", ok=True, text="all required calls are permitted")]
    return findings + [
        Diagnosis(
            "permissions",
            ok=False,
            text=f"/api/v0/{command} is not permitted: {USEFUL[command]}",
            hint="add it to AllowedPaths of this secret in API.Authorizations",
        )
        for command in useful
    ]


def _permitted(rpc: KuboRpc, command: str) -> bool:
    params = {"pin/ls": [("type", "recursive"), ("arg", "none")], "repo/stat": [("size-only", "true")]}
    try:
        rpc.http.request("POST", f"/api/v0/{command}", params=params.get(command, []), repeatable=True)
    except (AccessDeniedError, NotFoundError):
        return False
    except RejectedError:
        return True
    return True


def _clock(rpc: KuboRpc) -> list[Diagnosis]:
    answer = rpc.http.request("POST", "/api/v0/version", repeatable=True)
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return [Diagnosis("clock", ok=True, text="the node does not report its time")]
    off = (theirs - datetime.now(UTC)).total_seconds()
    if abs(off) > _SKEW:
        hint = "synchronize both clocks by NTP: provider records and signatures depend on them"
        return [Diagnosis("clock", ok=False, text=f"the node's clock differs by {off:+.0f} s", hint=hint)]
    return [Diagnosis("clock", ok=True, text="agrees with ours")]


def _stuck(rpc: KuboRpc) -> list[Diagnosis]:
    stuck = probe.describe_stuck_gc(rpc)
    if stuck:
        return [Diagnosis("queue", ok=False, text=f"the node {stuck}", hint=probe.RESTART_HINT)]
    return [Diagnosis("queue", ok=True, text="nothing is stuck")]


def _known(rpc: KuboRpc) -> list[Diagnosis]:
    node = rpc.identity()
    if not node.addresses:
        hint = (
            "start it without --offline, or look at Addresses.Swarm; until then only this machine can fetch"
        )
        return [Diagnosis("network", ok=False, text="the node announces no address", hint=hint)]
    if all(is_loopback(address) for address in node.addresses):
        hint = "see Addresses.Swarm and Addresses.AppendAnnounce; until then only this machine can fetch"
        return [Diagnosis("network", ok=False, text="the node announces loopback addresses only", hint=hint)]
    return [Diagnosis("network", ok=True, text=f"{node.peer_id} at {len(node.addresses)} addresses")]
