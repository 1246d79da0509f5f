"""Deterministic names of signed calls, so that sending one twice is sending it once. Pure.

The contracts accept each number of a payer once, for data set ids and for nonces of added pieces alike, and
remember where it was used. A number that follows from what the call does lets the next run find a call that
landed although its answer was lost.
"""

from __future__ import annotations

import hashlib

from reconciler.content.cid import Cid
from reconciler.deals.onchain.interface import EvmAddress


def data_set_name(
    chain_id: int, payer: EvmAddress, provider_id: int, subject: str, generation: int = 0
) -> int:
    """Return the client's id of the data set for `subject` (our repository) with one provider.

    `generation` counts up when the set of the previous one was terminated or deleted: its number stays used.
    """
    return _number("data set", str(chain_id), str(payer), str(provider_id), str(generation), subject)


def batch_name(data_set_name: int, root: Cid, batch: int, attempt: int = 0) -> int:
    """Return the nonce for adding pieces of one batch of the bundle `root` to a data set of ours.

    It does not depend on which of the pieces are missing: of two runs that disagree about that, one lands.
    `attempt` counts up when the number was used, and pieces of the batch are missing all the same.
    """
    return _number("batch", f"{data_set_name:x}", str(attempt), str(batch), str(root))


def _number(*parts: str) -> int:
    # No part but the last one contains a line feed, so two lists of parts never give the same text.
    text = "\n".join(("reconciler onchain 1", *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
