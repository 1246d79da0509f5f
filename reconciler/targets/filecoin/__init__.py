"""filecoin: the target kind for Filecoin Onchain Cloud: pieces with providers that prove them on the chain.

Bundles are split into CARs of up to 1,065,353,216 bytes, each naming the bundle's root, and streamed to a
provider; further copies are pulled by other providers from the first one. The chain decides what is there.

May use: content, deals, index and net.
Guarantees: nothing is sent or paid twice, also after a kill at any point; nothing is signed beyond the limits
of targets.yaml; no run removes anything, because pieces have no names; no key is in a message, log or `repr`.

    options             the entry of targets.yaml
    provider, clients   the HTTP API of providers
    holdings, observe   what the payer's data sets hold, and the state of roots
    discover, known     which pieces belong to which root
    served, probe       blocks from providers, and whether they serve what they prove
    choose              the choice of providers
    deliver, publish    a delivery: what is missing, limits, batches
    send, add, journal  bringing pieces to a provider, and into our data set there
    costs               what deliveries will do and cost
    fund, stop          what the payer's account lacks, and the end of all storage of an index
    diagnose            every missing piece, for doctor
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms, Target


def open_target(
    spec: TargetSpec,
    *,
    root: Path,  # noqa: ARG001  nothing is on this machine
    environ: Mapping[str, str],
    terms: RunTerms = RunTerms(),
) -> Target:
    """Open the storage that `spec` describes, without a request.

    Raises InvalidIndexError for an invalid option, UsageError for an invalid address or environment variable.
    """
    from reconciler.targets.filecoin.options import read_options
    from reconciler.targets.filecoin.target import FilecoinTarget

    return FilecoinTarget(spec.name, read_options(spec, environ, terms.retries), terms=terms)
