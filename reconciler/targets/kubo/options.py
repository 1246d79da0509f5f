"""The options of a kubo entry in targets.yaml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.errors import InvalidIndexError, UsageError
from reconciler.index.model import TargetSpec
from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Scheme, from_env

_PIN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class KuboOptions:
    """`api` is the base URL of the RPC API, before `/api/v0`.

    `pin_seconds` the longest that one pin may take.
    """

    api: str
    auth: Auth | None = None
    pin_seconds: int = _PIN_SECONDS


def read_options(spec: TargetSpec, environ: Mapping[str, str]) -> KuboOptions:
    """Raises InvalidIndexError with the entry's line, and UsageError for a missing environment variable."""
    api = str(spec.options.get("api", ""))
    try:
        parse_address(api, f"api of target {spec.name!r}")
    except UsageError as error:
        raise InvalidIndexError(error.message, hint=error.hint, where=spec.where) from None
    seconds = spec.options.get("pin_timeout", _PIN_SECONDS)
    return KuboOptions(
        api.rstrip("/"), _auth(spec, environ), seconds if isinstance(seconds, int) else _PIN_SECONDS
    )


def _auth(spec: TargetSpec, environ: Mapping[str, str]) -> Auth | None:
    variable = spec.options.get("token_env")
    if variable is None:
        return None
    scheme = Scheme(str(spec.options.get("auth", Scheme.BEARER)))
    return Auth(scheme, from_env(str(variable), environ))
