"""Pinning-service targets for the tests of this folder: no pauses between retries, short time limits."""

from __future__ import annotations

from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.retry import RetryPolicy
from reconciler.targets.pinning_service.target import PinningServiceTarget


def service_target(
    url: str,
    *,
    secret: str = "sesame",
    attempts: int = 1,
    timeouts: Timeouts | None = None,
    origins: tuple[str, ...] = (),
    poll: float = 5.0,
) -> PinningServiceTarget:
    """Return a target at `url` that tries each call `attempts` times, without pauses."""
    http = HttpClient(
        url,
        name="service",
        auth=Auth(Scheme.BEARER, Secret(secret)),
        timeouts=timeouts or Timeouts(connect=30, silence=60, total=120),
        retry=RetryPolicy(attempts=attempts),
        sleep=lambda seconds: None,
    )
    return PinningServiceTarget("service", http, origins=origins, poll=poll)
