"""Checked options of an ipfs-cluster entry in targets.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.errors import InvalidIndexError
from reconciler.index.model import TargetSpec
from reconciler.index.targets_file import REPLICATION_HINT, is_replication
from reconciler.net.auth import Auth, Scheme, Secret, from_env

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The options of a cluster target.

    `factor_min` and `factor_max` are 0 for the default of the cluster, EVERYWHERE for every peer. `expire_in`
    is a Go duration ("" for pins that do not expire), `expire_seconds` the same as a number. `nodes` are the
    Kubo daemons behind the cluster, each with the options of a kubo target.
    """

    api: str
    auth: Auth | None = None
    factor_min: int = 0
    factor_max: int = 0
    expire_in: str = ""
    expire_seconds: float = 0.0
    nodes: tuple[TargetSpec, ...] = ()


def read_options(spec: TargetSpec, environ: Mapping[str, str]) -> ClusterOptions:
    """Read the options of `spec`.

    Raises InvalidIndexError with the line of the entry, and UsageError for a missing environment variable.
    """
    secret = None
    variable = spec.options.get("token_env")
    if variable is not None:
        secret = from_env(str(variable), environ)
    low, high = _replication(spec)
    expire_in = str(spec.options.get("expire_in", ""))
    return ClusterOptions(
        api=str(spec.options.get("api", "")),
        auth=None if secret is None else Auth(_scheme(spec, secret), secret),
        factor_min=low,
        factor_max=high,
        expire_in=expire_in,
        expire_seconds=_seconds(spec, expire_in),
        nodes=_nodes(spec),
    )


def _scheme(spec: TargetSpec, secret: Secret) -> Scheme:
    """Return the configured scheme; by default Basic if the secret has a colon, as no JSON Web Token has."""
    if "auth" in spec.options:
        return Scheme(str(spec.options["auth"]))
    return Scheme.BASIC if ":" in secret.reveal() else Scheme.BEARER


def _replication(spec: TargetSpec) -> tuple[int, int]:
    value = spec.options.get("replication")
    if value is None:
        return 0, 0
    factors: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    low: Any = factors.get("min")
    high: Any = factors.get("max")
    if not is_replication(low, high):
        raise InvalidIndexError(
            f"invalid replication of target {spec.name!r}", hint=REPLICATION_HINT, where=spec.where
        )
    return low, high


def _seconds(spec: TargetSpec, text: str) -> float:
    if not text:
        return 0.0
    if _DURATION.fullmatch(text):
        seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
        if seconds > 0:
            return seconds
    raise InvalidIndexError(
        f"expire_in of target {spec.name!r} is not a duration: {text!r}",
        hint="write hours, minutes and seconds, such as 720h or 1h30m",
        where=spec.where,
    )


def _nodes(spec: TargetSpec) -> tuple[TargetSpec, ...]:
    value = spec.options.get("nodes", ())
    found = []
    for number, node in enumerate(value if isinstance(value, list | tuple) else (value,), 1):
        if not isinstance(node, Mapping) or "api" not in node:
            raise InvalidIndexError(
                f"node {number} of target {spec.name!r} has no api",
                hint="write nodes: [{api: http://127.0.0.1:5001}], one for each Kubo behind the cluster",
                where=spec.where,
            )
        found.append(TargetSpec(f"{spec.name}/node{number}", "kubo", dict(node), spec.where))
    return tuple(found)
