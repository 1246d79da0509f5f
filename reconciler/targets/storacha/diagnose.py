"""Diagnosis of a space: the delegations, the client and the service. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from reconciler.errors import PeerError
from reconciler.net.errors import AccessDeniedError
from reconciler.targets.interface import Diagnosis
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.delegation import Delegation
from reconciler.targets.storacha.options import StorachaOptions
from reconciler.targets.storacha.output import FILECOIN
from reconciler.targets.storacha.reader import SpaceReader

# the abilities that a delegation needs
_UPLOAD = ("space/blob/add", "space/index/add", "filecoin/offer", "upload/add")
_LIST = ("upload/list",)
_DEALS = ("filecoin/info",)

_PURPOSES = {"upload": "upload", "list": "list uploads", "deals": "read pieces and deals"}


def check_upload_permission(name: str, options: StorachaOptions, now: datetime) -> None:
    """Raise AccessDeniedError when the delegation rules an upload out, so that nothing is sent."""
    if options.agent is None:
        return
    problem = _audience_problem(options) or _permission_problem(
        options.agent.delegation, options.space, _UPLOAD, now
    )
    if problem:
        raise AccessDeniedError(name, problem, hint=_delegation_hint(options, _UPLOAD))


def deal_access_notes(name: str, options: StorachaOptions) -> tuple[str, ...]:
    """Return a note for the user when the delegation does not allow reading deals."""
    credentials = options.bridge or options.agent
    if credentials is None or all(credentials.delegation.allows(can, options.space) for can in _DEALS):
        return ()
    return (f"{name}: deals are not checked: the delegation does not allow {', '.join(_DEALS)}",)


def diagnose_space(
    options: StorachaOptions, reader: SpaceReader, client: StorachaClient | None, now: datetime
) -> Iterator[Diagnosis]:
    """Yield the findings; a failure of the client or the service is a finding as well."""
    over_bridge = options.bridge is not None
    if options.bridge is not None:
        yield from _diagnose_delegation(
            "bridge", options, options.bridge.delegation, {"list": _LIST, "deals": _DEALS}, now
        )
    if options.agent is not None:
        problem = _audience_problem(options)
        if problem:
            yield Diagnosis("proof", ok=False, text=problem, hint=_delegation_hint(options, _UPLOAD))
        purposes = {"upload": _UPLOAD} | ({} if over_bridge else {"list": _LIST, "deals": _DEALS})
        yield from _diagnose_delegation("proof", options, options.agent.delegation, purposes, now)
    if client is not None:
        try:
            yield Diagnosis("client", ok=True, text=f"storacha {client.version()}")
        except PeerError as error:
            yield Diagnosis("client", ok=False, text=error.message, hint=error.hint or "")
            if not over_bridge:
                return
    try:
        count = len(reader.uploads())
    except PeerError as error:
        yield Diagnosis("service", ok=False, text=error.message, hint=error.hint or "")
        return
    path = "the HTTP bridge" if over_bridge else "the client"
    yield Diagnosis("service", ok=True, text=f"responds over {path}: {count:,} uploads in the space")
    if client is None:
        yield Diagnosis("writes", ok=True, text="none: the credentials are for reading only")
    else:
        text = "only an upload can show whether the service accepts any; the hosted one stopped in May 2026"
        yield Diagnosis("writes", ok=None, text=text, hint=FILECOIN)


def _diagnose_delegation(
    subject: str,
    options: StorachaOptions,
    delegation: Delegation,
    purposes: Mapping[str, tuple[str, ...]],
    now: datetime,
) -> Iterator[Diagnosis]:
    """Yield what the delegation allows and until when, and each purpose for which an ability is missing."""
    allowed = ", ".join(dict.fromkeys(each.ability for each in delegation.capabilities))
    end = delegation.expires
    until = "without expiration" if end is None else f"until {end:%Y-%m-%d %H:%M} UTC"
    if delegation.is_expired(now):
        until += " (expired)"
    if delegation.is_too_early(now):
        until = f"from {delegation.not_before:%Y-%m-%d %H:%M} UTC (not valid yet) {until}"
    valid = not (delegation.is_expired(now) or delegation.is_too_early(now))
    needed = tuple(can for purpose in purposes.values() for can in purpose)
    yield Diagnosis(
        subject,
        ok=valid,
        text=f"allows {allowed} {until}",
        hint="" if valid else _delegation_hint(options, needed),
    )
    for purpose, abilities in purposes.items():
        missing = [can for can in abilities if not delegation.allows(can, options.space)]
        if missing:
            text = f"cannot {_PURPOSES[purpose]}: {', '.join(missing)} on {options.space} is missing"
            yield Diagnosis(
                f"{subject}: {purpose}", ok=False, text=text, hint=_delegation_hint(options, abilities)
            )


def _audience_problem(options: StorachaOptions) -> str:
    """Return why the proof is not for the principal; "" when it is."""
    if options.agent is None or options.agent.delegation.audience == options.agent.did:
        return ""
    return f"the proof is for {options.agent.delegation.audience}, but the principal is {options.agent.did}"


def _permission_problem(delegation: Delegation, space: str, abilities: Sequence[str], now: datetime) -> str:
    """Return why `delegation` does not allow all of `abilities` now; "" when it does."""
    if delegation.is_expired(now):
        return f"the proof expired on {delegation.expires:%Y-%m-%d %H:%M} UTC"
    if delegation.is_too_early(now):
        return f"the proof is not valid before {delegation.not_before:%Y-%m-%d %H:%M} UTC"
    missing = [can for can in abilities if not delegation.allows(can, space)]
    return f"the proof does not allow {', '.join(missing)} on {space}" if missing else ""


def _delegation_hint(options: StorachaOptions, abilities: Sequence[str]) -> str:
    """Return the command with which the owner of the space creates a sufficient delegation."""
    flags = " ".join(f"--can {ability}" for ability in abilities)
    if options.agent is None:
        return f"`storacha bridge generate-tokens {options.space} {flags}`"
    return f"`storacha delegation create {options.agent.did} {flags} --base64`, with the space selected"
