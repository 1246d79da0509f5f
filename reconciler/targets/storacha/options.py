"""The options of a storacha entry in targets.yaml, checked."""

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
class Agent:
    """Who uploads: a private key, its DID, and what the space lets it do."""

    key: Secret
    did: str
    proof: Secret
    delegation: Delegation = field(repr=False)


@dataclass(frozen=True, slots=True)
class BridgeKeys:
    """The two headers of the HTTP bridge, and the delegation in the second."""

    secret: Secret
    authorization: Secret
    delegation: Delegation = field(repr=False)


@dataclass(frozen=True, slots=True)
class StorachaOptions:
    """`agent` is None where nothing can be uploaded, `bridge` where reads go through the client.

    `service` (DID) and `receipts` (address) are those of a service of one's own, "" for the hosted one. `cli`
    is the client's executable, "" for whichever is there. `chain` is where its deals are.
    """

    space: str
    agent: Agent | None
    bridge: BridgeKeys | None
    chain: ChainAccess
    endpoint: str = HOSTED
    service: str = ""
    receipts: str = ""
    cli: str = ""


def read_options(
    spec: TargetSpec, environ: Mapping[str, str], budget: RetryBudget | None = None
) -> StorachaOptions:
    """Raises InvalidIndexError with the entry's line, and UsageError for what the environment lacks."""

    def text(key: str) -> str:
        return str(spec.options.get(key, ""))

    for one, other in (
        ("principal_env", "proof_env"),
        ("bridge_secret_env", "bridge_auth_env"),
        ("endpoint", "service"),
    ):
        if bool(text(one)) != bool(text(other)):
            raise InvalidIndexError(
                f"target {spec.name!r} needs {one} and {other}, or neither", where=spec.where
            )
    agent = _agent(text("principal_env"), text("proof_env"), environ) if text("proof_env") else None
    bridge = (
        _bridge(text("bridge_secret_env"), text("bridge_auth_env"), environ)
        if text("bridge_auth_env")
        else None
    )
    if agent is None and bridge is None:
        raise InvalidIndexError(
            f"target {spec.name!r} has no credentials",
            hint="name principal_env and proof_env to upload, bridge_secret_env and bridge_auth_env to read",
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
        chain=open_chain(spec.options, environ, name=spec.name, budget=budget),
    )


def _agent(key_env: str, proof_env: str, environ: Mapping[str, str]) -> Agent:
    key, proof = from_env(key_env, environ), from_env(proof_env, environ)
    did = _decoded(
        key, read_principal, key_env, "private key", "it begins with 'Mg'; `storacha key create` makes one"
    )
    delegation = _decoded(
        proof,
        read_proof,
        proof_env,
        "delegation",
        "it begins with 'mAYIE'; `storacha delegation create DID --base64` prints one",
    )
    return Agent(key, did, proof, delegation)


def _bridge(secret_env: str, auth_env: str, environ: Mapping[str, str]) -> BridgeKeys:
    secret, authorization = from_env(secret_env, environ), from_env(auth_env, environ)
    delegation = _decoded(
        authorization,
        read_authorization,
        auth_env,
        "delegation",
        "it is the Authorization value of `storacha bridge generate-tokens`",
    )
    return BridgeKeys(secret, authorization, delegation)


def _decoded(secret: Secret, decode: Callable[[str], _T], variable: str, what: str, hint: str) -> _T:
    try:
        return decode(secret.reveal())
    except DataError as error:
        message = f"the environment variable {variable!r} holds no {what}: {error.message}"
        raise UsageError(message, hint=hint) from None
