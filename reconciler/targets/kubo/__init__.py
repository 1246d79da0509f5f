"""kubo: a Kubo daemon as a target, through its RPC API.

May use: content, index, net and the interface of targets. Guarantees: no block counts as held because a call
reported success; what was not sent was read; a pin that is not ours is never touched, and ours is set only
over a DAG that was just proven complete; no request makes the node wait for the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import InvalidIndexError, UsageError
from reconciler.index.model import TargetSpec
from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Scheme, from_env
from reconciler.targets.interface import RunTerms

if TYPE_CHECKING:
    from reconciler.targets.kubo.target import KuboTarget

_PIN_SECONDS = 120


def open_target(
    spec: TargetSpec,
    *,
    root: Path,  # noqa: ARG001  nothing of a node lies in the repository
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
) -> KuboTarget:
    """Return the node of `spec` without sending a request.

    Raises InvalidIndexError for an invalid option, UsageError for a missing environment variable.
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets.kubo.rpc import is_command_error
    from reconciler.targets.kubo.target import KuboTarget

    options = read_options(spec, environ)
    http = HttpClient(
        options.api,
        name=spec.name,
        auth=options.auth,
        budget=terms.retries,
        is_command_error=is_command_error,
        on_retry=terms.progress.note,
    )
    return KuboTarget(spec.name, http, pin_seconds=options.pin_seconds, nocopy=options.nocopy)


@dataclass(frozen=True, slots=True)
class KuboOptions:
    """The options of a node.

    `api` is the base URL of the RPC API, before `/api/v0`; `pin_seconds` is the time limit of one pin; with
    `nocopy`, the node keeps references to the files of a directory in place of a copy.
    """

    api: str
    auth: Auth | None = None
    pin_seconds: int = _PIN_SECONDS
    nocopy: bool = False


def read_options(spec: TargetSpec, environ: Mapping[str, str]) -> KuboOptions:
    """Read the options of `spec`.

    Raises InvalidIndexError with the line of the entry, UsageError for a missing environment variable.
    """
    api = str(spec.options.get("api", ""))
    nocopy = spec.options.get("nocopy") is True
    try:
        if not parse_address(api, f"api of target {spec.name!r}").loopback and nocopy:
            raise UsageError(
                f"target {spec.name!r} has nocopy, but its api is not on this machine",
                hint="remove nocopy: a node can only refer to files on its own machine",
            )
    except UsageError as error:
        raise InvalidIndexError(error.message, hint=error.hint, where=spec.where) from None
    seconds = spec.options.get("pin_timeout", _PIN_SECONDS)
    return KuboOptions(
        api.rstrip("/"),
        _auth(spec, environ),
        seconds if isinstance(seconds, int) else _PIN_SECONDS,
        nocopy,
    )


def _auth(spec: TargetSpec, environ: Mapping[str, str]) -> Auth | None:
    variable = spec.options.get("token_env")
    if variable is None:
        return None
    scheme = Scheme(str(spec.options.get("auth", Scheme.BEARER)))
    return Auth(scheme, from_env(str(variable), environ))
