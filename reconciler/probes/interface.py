"""What a probe finds out, one finding a provider."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.content.cid import Cid


class Verdict(StrEnum):
    """How a provider did."""

    SERVED = "served"  #: every leaf asked for came back and hashed right
    REFUSED = "refused"  #: it cannot be reached, or does not hand out a leaf
    WRONG_BYTES = "wrong bytes"  #: it answered with something that does not hash to the leaf
    TIMEOUT = "timeout"  #: too slow
    NOT_PROBED = "not probed"  #: no HTTP address, or none that may be asked


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the router names it: its peer ID ("" when it gives none) and its multiaddrs."""

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one provider of `root`. `latency` is the slowest leaf in seconds, None without one."""

    root: Cid
    provider: Provider
    url: str
    verdict: Verdict
    leaves: int = 0  #: that came back right
    latency: float | None = None
    detail: str = ""
