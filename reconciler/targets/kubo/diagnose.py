"""What `doctor` says about a node: reachable, new enough, permissive enough, on time, and known to others."""

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

#: what we call. Without arguments each says 400 when it is permitted and 403 when not, and does nothing.
NEEDED = ("pin/ls", "pin/add", "pin/rm", "block/stat", "block/get", "dag/import", "dag/stat")
#: what we call when it is permitted, and what is lost when it is not
USEFUL = {
    "block/rm": "damaged blocks cannot be replaced",
    "diag/cmds": "a node that is stuck cannot be recognised",
    "repo/stat": "nobody warns when the node is full",
    "id": "others cannot be told where to fetch from",
}


def examine(rpc: KuboRpc) -> list[Diagnosis]:
    """Look at everything; a node that does not answer gets only the first line."""
    try:
        version = rpc.version()
    except RequestError as error:
        return [Diagnosis("reachable", ok=False, text=error.message, hint=error.hint or "")]
    found = [Diagnosis("reachable", ok=True, text=f"answers at {rpc.http.address.text}"), _version(version)]
    for look in (_permissions, _clock, _stuck, _known):
        try:
            found += look(rpc)
        except AccessDeniedError:
            continue  # named among the permissions
        except RequestError as error:
            found.append(Diagnosis("answers", ok=False, text=error.message, hint=error.hint or ""))
    if rpc.http.secrets and not (rpc.http.address.encrypted or rpc.http.address.loopback):
        found.append(
            Diagnosis("secret", ok=False, text="the secret goes over the network in clear", hint="use https")
        )
    return found


def _version(text: str) -> Diagnosis:
    numbers = re.match(r"(\d+)\.(\d+)", text)
    have = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if have < OLDEST:
        hint = "update Kubo: older ones limit imported blocks to 1 MiB and lack what this relies on"
        return Diagnosis("version", ok=False, text=f"Kubo {text} is older than 0.40", hint=hint)
    if have < BETTER:
        hint = "0.42 and later do not let a pin wait without end"
        return Diagnosis("version", ok=True, text=f"Kubo {text}", hint=hint)
    return Diagnosis("version", ok=True, text=f"Kubo {text}")


def _permissions(rpc: KuboRpc) -> list[Diagnosis]:
    denied = [command for command in NEEDED if not _permitted(rpc, command)]
    useful = [command for command in USEFUL if not _permitted(rpc, command)]
    if denied:
        paths = ", ".join(f"/api/v0/{command}" for command in denied)
        hint = "add them to AllowedPaths of this secret in API.Authorizations, and restart the node"
        yielded = [Diagnosis("permissions", ok=False, text=f"not permitted: {paths}", hint=hint)]
    else:
        yielded = [Diagnosis("permissions", ok=True, text="everything that is needed is permitted")]
    return yielded + [
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
        return [Diagnosis("clock", ok=True, text="the node does not say what time it is")]
    off = (theirs - datetime.now(UTC)).total_seconds()
    if abs(off) > _SKEW:
        hint = "set both clocks by NTP: provider records and signatures go by them"
        return [Diagnosis("clock", ok=False, text=f"the node's clock is {off:+.0f} s off ours", hint=hint)]
    return [Diagnosis("clock", ok=True, text="agrees with ours")]


def _stuck(rpc: KuboRpc) -> list[Diagnosis]:
    stuck = probe.look(rpc)
    if stuck:
        return [Diagnosis("queue", ok=False, text=f"the node {stuck}", hint=probe.ADVICE)]
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
