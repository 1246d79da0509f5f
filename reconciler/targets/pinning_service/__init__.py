"""pinning_service: a service that speaks the IPFS Pinning Service API 1.0, as a target.

What it is: `api.py` makes the calls and `wire.py` reads their answers; `listing.py` gets all pages of a list
whose pages cannot be trusted; `observe.py` says what the service's word amounts to; `pinning.py` pins,
renames and unpins; `origins.py` chooses the addresses a service is told to fetch from.
May use: content, index and net.
Promises: pins that are not ours are never replaced or removed, also where a service has one pin for a CID.
The service takes CIDs and no bytes, and serves no blocks: what it holds is its word, and is said to be.

Source of the protocol: IPFS Pinning Service API specification, version 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms, Target


def open_target(
    spec: TargetSpec,
    *,
    root: Path,  # noqa: ARG001  every kind is opened alike
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
) -> Target:
    """The service that `spec` names; no request is made yet.

    Raises InvalidIndex (an option does not hold) and UsageError (an address or an environment variable).
    """
    from reconciler.net.client import HttpClient
    from reconciler.targets.pinning_service.options import read_options
    from reconciler.targets.pinning_service.target import PinningServiceTarget

    options = read_options(spec, environ)
    http = HttpClient(
        options.endpoint,
        name=spec.name,
        auth=options.auth,
        budget=terms.retries,
        on_retry=terms.progress.note,
    )
    return PinningServiceTarget(spec.name, http, options)
