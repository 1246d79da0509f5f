"""pinning_service: the target kind for services that implement the IPFS Pinning Service API 1.0.

A service takes CIDs, fetches the blocks itself, and serves none: its status of a pin cannot be verified, and
every observation says so.
May use: content, index and net.
Guarantees: a pin that is not ours is never replaced or removed, not even at a service that keeps only one pin
for each CID.

Source of the protocol: IPFS Pinning Service API specification, version 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import InvalidIndexError
from reconciler.index.model import TargetSpec
from reconciler.net.auth import Auth, Scheme, from_env
from reconciler.net.multiaddr import names_peer
from reconciler.targets.interface import RunTerms, Target
from reconciler.targets.pinning_service.api import MAX_ORIGINS

_POLL = 10.0  # seconds; a pin that takes longer is checked by the next run


@dataclass(frozen=True, slots=True)
class PinningOptions:
    """The options of one `pinning-service` entry of targets.yaml.

    `origins` are multiaddrs that go with every pin; `poll` is how many seconds a new pin is waited for.
    """

    endpoint: str
    auth: Auth | None = None
    origins: tuple[str, ...] = ()
    poll: float = _POLL


def open_target(
    spec: TargetSpec,
    *,
    root: Path,  # noqa: ARG001  all kinds share this signature
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
) -> Target:
    """Open the service that `spec` describes, without a request.

    Raises InvalidIndexError for an invalid option, UsageError for an invalid address or a missing environment
    variable.
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets.pinning_service.target import PinningServiceTarget

    options = read_options(spec, environ)
    http = HttpClient(
        options.endpoint,
        name=spec.name,
        auth=options.auth,
        budget=terms.retries,
        on_retry=terms.progress.note,
    )
    return PinningServiceTarget(spec.name, http, origins=options.origins, poll=options.poll)


def read_options(spec: TargetSpec, environ: Mapping[str, str]) -> PinningOptions:
    """Read and check the options of an entry.

    Raises InvalidIndexError with the line of the entry, and UsageError for a missing environment variable.
    """
    variable = spec.options.get("token_env")
    auth = None if variable is None else Auth(Scheme.BEARER, from_env(str(variable), environ))
    listed = spec.options.get("origins", ())
    origins = tuple(str(one) for one in listed) if isinstance(listed, list | tuple) else (str(listed),)
    for origin in origins:
        if not names_peer(origin):
            raise InvalidIndexError(
                f"origin {origin!r} of target {spec.name!r} is not the address of an IPFS node",
                hint="write a multiaddr that ends in /p2p/<peer id>, as `ipfs id` prints it",
                where=spec.where,
            )
    if len(origins) > MAX_ORIGINS:
        raise InvalidIndexError(
            f"target {spec.name!r} has {len(origins)} origins; a service accepts at most {MAX_ORIGINS}",
            where=spec.where,
        )
    poll = spec.options.get("poll", _POLL)
    if isinstance(poll, bool) or not isinstance(poll, int | float) or poll < 0:
        raise InvalidIndexError(
            f"poll of target {spec.name!r} is not a number of seconds: {poll!r}", where=spec.where
        )
    return PinningOptions(str(spec.options.get("endpoint", "")), auth, origins, float(poll))
