"""The choice of providers for the copies of one version. Pure.

Providers that hold pieces of the version already come first, so that its pieces stay together; then those
with a data set of ours, because each data set costs a fee; then endorsed, approved and other providers, in an
order that differs from payer to payer. Providers named in targets.yaml are used in their own order, and no
others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.deals.onchain.interface import EvmAddress, StorageProvider


@dataclass(frozen=True, slots=True)
class Candidates:
    """The providers to choose from, by id, and what is known about them.

    `named` are those of targets.yaml, in their order; with some, no others are used. `with_data_set` have a
    live data set of ours.
    """

    providers: Mapping[int, StorageProvider]
    endorsed: frozenset[int] = frozenset()
    approved: frozenset[int] = frozenset()
    named: tuple[int, ...] = ()
    with_data_set: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CopyTask:
    """Shards, by their number, to bring to one provider."""

    provider: StorageProvider
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CopyTasks:
    """The tasks of one version; `missing` copies of a shard have no provider."""

    tasks: tuple[CopyTask, ...]
    missing: int


def rank(candidates: Candidates, payer: EvmAddress, holding: Mapping[int, int]) -> list[StorageProvider]:
    """Return usable providers in order of preference; `holding` counts the shards that each one has."""
    named = {number: place for place, number in enumerate(candidates.named)}

    def key(provider: StorageProvider) -> tuple[object, ...]:
        spread = hashlib.sha256(payer.value + provider.id.to_bytes(32, "big")).digest()
        return (
            -holding.get(provider.id, 0),
            named.get(provider.id, 0),
            provider.id not in candidates.with_data_set,
            provider.id not in candidates.endorsed,
            provider.id not in candidates.approved,
            spread,
        )

    usable = (
        each
        for each in candidates.providers.values()
        if each.active and each.url and (not named or each.id in named)
    )
    return sorted(usable, key=key)


def assign(
    ranked: Sequence[StorageProvider],
    sizes: Sequence[int],
    healthy: Sequence[frozenset[int]],
    spoiled: Sequence[frozenset[int]],
    copies: int,
) -> CopyTasks:
    """Assign the missing copies of shards to providers.

    `sizes` (bytes) and `healthy` (the providers with a good copy) are by shard; `spoiled` providers have a
    copy that went bad, and get no other one.
    """
    lacking = [max(0, copies - len(each)) for each in healthy]
    tasks = []
    for provider in ranked:
        shards = tuple(
            number
            for number, size in enumerate(sizes)
            if lacking[number]
            and provider.id not in healthy[number] | spoiled[number]
            and (provider.min_piece or 0) <= size <= (provider.max_piece or size)
        )
        for number in shards:
            lacking[number] -= 1
        if shards:
            tasks.append(CopyTask(provider, shards))
    return CopyTasks(tuple(tasks), sum(lacking))
