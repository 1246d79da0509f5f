"""What `doctor` says of a space: the delegations, the client, the service. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from reconciler.errors import PeerError
from reconciler.net.errors import AccessDeniedError
from reconciler.targets.interface import Diagnosis
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.delegation import Delegation
from reconciler.targets.storacha.observe import Reads
from reconciler.targets.storacha.options import StorachaOptions
from reconciler.targets.storacha.output import FILECOIN

UPLOADING = ("space/blob/add", "space/index/add", "filecoin/offer", "upload/add")
LISTING = ("upload/list",)
DEALS = ("filecoin/info",)


def examine(
    options: StorachaOptions, reads: Reads, client: StorachaClient | None, now: datetime
) -> Sequence[Diagnosis]:
    """All findings; the peer's faults are findings too."""
    return tuple(_examine(options, reads, client, now))


def check_agent(name: str, options: StorachaOptions, now: datetime) -> None:
    """Raise AccessDeniedError when it is known beforehand that nothing can be uploaded."""
    if options.agent is None:
        return
    problem = _mismatch(options) or _lacking(options.agent.delegation, options.space, UPLOADING, now)
    if problem:
        raise AccessDeniedError(name, problem, hint=_hint(options, UPLOADING))


def hidden_deals(name: str, options: StorachaOptions) -> tuple[str, ...]:
    """A note for a user when the delegation itself says that no deals can be looked at."""
    reading = options.bridge or options.agent
    if reading is None or all(reading.delegation.allows(can, options.space) for can in DEALS):
        return ()
    return (f"{name}: deals are not looked at: the delegation does not allow {', '.join(DEALS)}",)


def _examine(
    options: StorachaOptions, reads: Reads, client: StorachaClient | None, now: datetime
) -> Iterator[Diagnosis]:
    over_bridge = options.bridge is not None
    if options.bridge is not None:
        yield from _delegation(
            "bridge", options, options.bridge.delegation, {"list": LISTING, "deals": DEALS}, now
        )
    if options.agent is not None:
        problem = _mismatch(options)
        if problem:
            yield Diagnosis("proof", ok=False, text=problem, hint=_hint(options, UPLOADING))
        jobs = {"upload": UPLOADING} | ({} if over_bridge else {"list": LISTING, "deals": DEALS})
        yield from _delegation("proof", options, options.agent.delegation, jobs, now)
    if client is not None:
        try:
            yield Diagnosis("client", ok=True, text=f"storacha {client.version()}")
        except PeerError as error:
            yield Diagnosis("client", ok=False, text=error.message, hint=error.hint or "")
            if not over_bridge:
                return
    try:
        count = len(reads.uploads())
    except PeerError as error:
        yield Diagnosis("service", ok=False, text=error.message, hint=error.hint or "")
        return
    how = "the HTTP bridge" if over_bridge else "the client"
    yield Diagnosis("service", ok=True, text=f"answers over {how}: {count:,} uploads in the space")
    if client is None:
        yield Diagnosis("writes", ok=True, text="none: this space is only read")
    else:
        text = "only an upload tells whether the service takes any; the hosted one stopped in May 2026"
        yield Diagnosis("writes", ok=None, text=text, hint=FILECOIN)


def _delegation(
    subject: str,
    options: StorachaOptions,
    delegation: Delegation,
    jobs: Mapping[str, tuple[str, ...]],
    now: datetime,
) -> Iterator[Diagnosis]:
    """What it allows and until when, and a finding for each job that it is too narrow for."""
    granted = ", ".join(dict.fromkeys(grant.can for grant in delegation.grants))
    end = delegation.expires
    until = "without an end" if end is None else f"until {end:%Y-%m-%d %H:%M} UTC"
    over, early = delegation.expired(now), delegation.early(now)
    since = f" from {delegation.begins:%Y-%m-%d %H:%M} UTC on, which is not yet," if early else ""
    needed = tuple(can for job in jobs.values() for can in job)
    yield Diagnosis(
        subject,
        ok=not (over or early),
        text=f"allows {granted}{since} {until}{', which is over' if over else ''}",
        hint=_hint(options, needed) if over or early else "",
    )
    for job, capabilities in jobs.items():
        missing = [can for can in capabilities if not delegation.allows(can, options.space)]
        if missing:
            text = f"cannot {_JOBS[job]}: {', '.join(missing)} of {options.space} missing"
            yield Diagnosis(f"{subject}: {job}", ok=False, text=text, hint=_hint(options, capabilities))


_JOBS = {"upload": "upload", "list": "see what is there", "deals": "see pieces and deals"}


def _mismatch(options: StorachaOptions) -> str:
    """Why principal, proof and space do not belong together; "" when they do."""
    if options.agent is None or options.agent.delegation.audience == options.agent.did:
        return ""
    return f"the proof is for {options.agent.delegation.audience}, and the principal is {options.agent.did}"


def _lacking(delegation: Delegation, space: str, capabilities: Sequence[str], now: datetime) -> str:
    if delegation.expired(now):
        return f"the proof has expired on {delegation.expires:%Y-%m-%d %H:%M} UTC"
    if delegation.early(now):
        return f"the proof does not hold before {delegation.begins:%Y-%m-%d %H:%M} UTC"
    missing = [can for can in capabilities if not delegation.allows(can, space)]
    return f"the proof does not allow {', '.join(missing)} of {space}" if missing else ""


def _hint(options: StorachaOptions, capabilities: Sequence[str]) -> str:
    """How the owner of the space makes a delegation that is wide enough."""
    wanted = " ".join(f"--can {can}" for can in capabilities)
    if options.agent is None:
        return f"`storacha bridge generate-tokens {options.space} {wanted}`"
    return f"`storacha delegation create {options.agent.did} {wanted} --base64`, with the space selected"
