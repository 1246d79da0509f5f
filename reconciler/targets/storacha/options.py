"""The options of a `storacha` entry of targets.yaml, and the credentials in the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.deals.chain import ChainAccess, open_chain
from reconciler.errors import DataError, InvalidIndexError, UsageError
from reconciler.index.model import TargetSpec
from reconciler.net.auth import Secret, from_env
from reconciler.net.retry import RetryBudget
from reconciler.targets.storacha.delegation import (
    Delegation,
    read_authorization,
    read_principal,
    read_proof,
)

_T = TypeVar("_T")

HOSTED = "https://up.storacha.network"


@dataclass(frozen=True, slots=True)
class AgentCredentials:
    """The agent that uploads: its private key, its DID, and the proof that delegates the space to it."""

    key: Secret
    did: str
    proof: Secret
    delegation: Delegation = field(repr=False)


@dataclass(frozen=True, slots=True)
class BridgeCredentials:
    """The two headers of the HTTP bridge, and the delegation in the second one."""

    secret: Secret
    authorization: Secret
    delegation: Delegation = field(repr=False)


@dataclass(frozen=True, slots=True)
class StorachaOptions:
    """The options of one entry.

    `agent` is None when nothing can be uploaded, `bridge` None when reads go through the client. `service`
    (a DID) and `receipts` (a URL) belong to a service of your own and are "" for the hosted one. `cli` is the
    path of the client, "" to look for it on PATH. `chain` is the Filecoin chain of its deals.
    `gateway` serves the blocks of the space, "" when none is named.
    """

    space: str
    agent: AgentCredentials | None
    bridge: BridgeCredentials | None
    chain: ChainAccess
    endpoint: str = HOSTED
    service: str = ""
    receipts: str = ""
    cli: str = ""
    gateway: str = ""


def read_options(
    spec: TargetSpec, environ: Mapping[str, str], budget: RetryBudget | None = None
) -> StorachaOptions:
    """Read and check the options of an entry.

    Raises InvalidIndexError with the line of the entry, and UsageError for a missing or invalid environment
    variable.
    """

    def text(key: str) -> str:
        return str(spec.options.get(key, ""))

    for one, other in (
        ("principal_env", "proof_env"),
        ("bridge_secret_env", "bridge_auth_env"),
        ("endpoint", "service"),
    ):
        if bool(text(one)) != bool(text(other)):
            raise InvalidIndexError(
                f"target {spec.name!r} needs both {one} and {other}, or neither", where=spec.where
            )
    agent = _read_agent(text("principal_env"), text("proof_env"), environ) if text("proof_env") else None
    bridge = (
        _read_bridge(text("bridge_secret_env"), text("bridge_auth_env"), environ)
        if text("bridge_auth_env")
        else None
    )
    if agent is None and bridge is None:
        raise InvalidIndexError(
            f"target {spec.name!r} has no credentials",
            hint="set principal_env and proof_env to upload, bridge_secret_env and bridge_auth_env to read",
            where=spec.where,
        )
    endpoint = text("endpoint") or HOSTED
    return StorachaOptions(
        space=text("space"),
        agent=agent,
        bridge=bridge,
        endpoint=endpoint.rstrip("/"),
        service=text("service"),
        receipts=text("receipts") or (f"{endpoint.rstrip('/')}/receipt/" if text("endpoint") else ""),
        cli=text("cli"),
        gateway=text("gateway").rstrip("/"),
        chain=open_chain(spec.options, environ, name=spec.name, budget=budget),
    )


def _read_agent(key_env: str, proof_env: str, environ: Mapping[str, str]) -> AgentCredentials:
    key, proof = from_env(key_env, environ), from_env(proof_env, environ)
    did = _decode(
        key,
        read_principal,
        key_env,
        "private key",
        "a private key begins with 'Mg'; `storacha key create` generates one",
    )
    delegation = _decode(
        proof,
        read_proof,
        proof_env,
        "delegation",
        "a delegation begins with 'mAYIE'; `storacha delegation create DID --base64` prints one",
    )
    return AgentCredentials(key, did, proof, delegation)


def _read_bridge(secret_env: str, auth_env: str, environ: Mapping[str, str]) -> BridgeCredentials:
    secret, authorization = from_env(secret_env, environ), from_env(auth_env, environ)
    delegation = _decode(
        authorization,
        read_authorization,
        auth_env,
        "delegation",
        "set it to the Authorization value that `storacha bridge generate-tokens` prints",
    )
    return BridgeCredentials(secret, authorization, delegation)


def _decode(secret: Secret, decode: Callable[[str], _T], variable: str, what: str, hint: str) -> _T:
    """Return the decoded value of a variable. Raises UsageError with its name, and never its value."""
    try:
        return decode(secret.reveal())
    except DataError as error:
        message = f"the environment variable {variable!r} is not a {what}: {error.message}"
        raise UsageError(message, hint=hint) from None
