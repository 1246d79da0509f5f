"""The connections of one run to providers, opened when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.deals.onchain.interface import StorageProvider
from reconciler.errors import PeerError
from reconciler.net.retry import RetryBudget
from reconciler.targets.filecoin.provider import ProviderClient


class ProviderClients:
    """The clients of providers by id; the fields are those of ProviderClient."""

    def __init__(
        self,
        *,
        public_only: bool,
        budget: RetryBudget | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self._public_only = public_only
        self._budget = budget
        self._on_retry = on_retry
        self._clients: dict[tuple[int, str], ProviderClient] = {}

    def __call__(self, provider: StorageProvider) -> ProviderClient:
        """Return the client of a provider. Raises PeerError when its address cannot be used."""
        key = (provider.id, provider.url)
        if key not in self._clients:
            self._clients[key] = ProviderClient(
                provider, public_only=self._public_only, budget=self._budget, on_retry=self._on_retry
            )
        return self._clients[key]

    def of(self, providers: Iterable[StorageProvider]) -> list[ProviderClient]:
        """Return the clients of those providers whose address can be used."""
        found = []
        for provider in providers:
            try:
                found.append(self(provider))
            except PeerError:
                continue
        return found

    def close(self) -> None:
        """Close all connections. May be called twice."""
        for client in self._clients.values():
            client.close()
