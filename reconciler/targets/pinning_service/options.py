"""The options of a pinning-service entry in targets.yaml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.errors import InvalidIndexError
from reconciler.index.model import TargetSpec
from reconciler.net.auth import Auth, Scheme, from_env
from reconciler.net.multiaddr import names_peer
from reconciler.targets.pinning_service.observe import MOST

_POLL = 10.0  # seconds to wait for a pin; longer waits are what the next run is for


@dataclass(frozen=True, slots=True)
class PinningOptions:
    """`origins` are always told to the service; `poll` is how many seconds a new pin is waited for."""

    endpoint: str
    auth: Auth | None = None
    origins: tuple[str, ...] = ()
    poll: float = _POLL


def read_options(spec: TargetSpec, environ: Mapping[str, str]) -> PinningOptions:
    """Raises InvalidIndexError with the entry's line, and UsageError for a missing environment variable."""
    variable = spec.options.get("token_env")
    auth = None if variable is None else Auth(Scheme.BEARER, from_env(str(variable), environ))
    listed = spec.options.get("origins", ())
    origins = tuple(str(one) for one in listed) if isinstance(listed, list | tuple) else (str(listed),)
    for origin in origins:
        if not names_peer(origin):
            raise InvalidIndexError(
                f"origin {origin!r} of target {spec.name!r} is not the address of an IPFS node",
                hint="write it as a multiaddr that ends in /p2p/<peer id>; `ipfs id` shows those of a node",
                where=spec.where,
            )
    if len(origins) > MOST:
        raise InvalidIndexError(
            f"target {spec.name!r} has {len(origins)} origins; a service takes {MOST}", where=spec.where
        )
    poll = spec.options.get("poll", _POLL)
    if isinstance(poll, bool) or not isinstance(poll, int | float) or poll < 0:
        raise InvalidIndexError(
            f"poll of target {spec.name!r} is no number of seconds: {poll!r}", where=spec.where
        )
    return PinningOptions(str(spec.options.get("endpoint", "")), auth, origins, float(poll))
