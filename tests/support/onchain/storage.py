"""Filecoin Onchain Cloud with providers, for tests of the target: a chain, providers 1 to 4, and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.content.car import Sharding
from reconciler.content.pieces import MAX_PIECE
from reconciler.deals.onchain.interface import DataSetState
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.net.retry import RetryBudget
from reconciler.progress import QUIET, Progress
from reconciler.targets.filecoin.options import read_options
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.filecoin.waits import Waits
from reconciler.targets.interface import RunTerms
from tests.support.onchain.lab import KEYS, OWNERS, OnchainLab, onchain_lab
from tests.support.onchain.payer import Payer
from tests.support.onchain.pdp_provider import PdpProvider, pdp_provider

_PDP = 0  # the product of the registry


@dataclass
class Ticker:
    """A clock that only sleeping moves; while a target waits, `during` is called, and the chain goes on."""

    now: float = 0.0
    lab: OnchainLab | None = None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.lab is not None:
            self.lab.mine()

    def clock(self) -> float:
        return self.now


@dataclass
class OnchainStorage:
    """The chain, the providers by number from 1, and the targets that were opened."""

    lab: OnchainLab
    payer: Payer
    providers: dict[int, PdpProvider]
    ticker: Ticker
    opened: list[FilecoinTarget] = field(default_factory=list)

    def target(
        self,
        *,
        copies: int = 1,
        max_bytes: int = MAX_PIECE,
        cache: Path | None = None,
        progress: Progress = QUIET,
        environ: dict[str, str] | None = None,
        budget: RetryBudget | None = None,
        batch: float = 2700.0,
        **options: Any,
    ) -> FilecoinTarget:
        """Open a target; `options` are keys of the entry, `max_bytes` the size of shards."""
        given = {
            "network": "devnet",
            "rpc": [self.lab.url],
            "contract": self.lab.service,
            "key_env": "FILECOIN_KEY",
            "copies": copies,
        } | options
        spec = TargetSpec(
            "filecoin",
            "filecoin",
            {key: value for key, value in given.items() if value is not None},
            Where("targets.yaml", 2),
        )
        environ = {"FILECOIN_KEY": KEYS[0]} if environ is None else environ
        budget = budget or RetryBudget(0)
        made = FilecoinTarget(
            "filecoin",
            read_options(spec, environ, budget),
            sharding=Sharding(max_bytes),
            waits=Waits(interval=20, batch=batch, sleep=self.ticker.sleep, clock=self.ticker.clock),
            terms=RunTerms(retries=budget, cache=cache, progress=progress),
        )
        self.opened.append(made)
        return made

    @property
    def stored(self) -> Counter[str]:
        """How often the bytes of each piece were sent to a provider."""
        return sum((provider.stored for provider in self.providers.values()), Counter())

    @property
    def added(self) -> dict[int, Counter[str]]:
        """How often each piece was added to a data set, by provider."""
        return {number: provider.added for number, provider in self.providers.items()}

    def prove(self) -> None:
        """Let every provider prove all its data sets once."""
        view = self.payer.view()
        for number, state in view.data_sets(view.data_set_ids(self.payer.key.address)).items():
            assert isinstance(state, DataSetState)
            if not state.account.end:
                self.lab.prove_period(state.account.provider_id, number)


@contextmanager
def onchain_storage(
    *,
    anvil: bool = False,
    providers: int = 4,
    funds: int = 5 * 10**18,
    make: Callable[[int], AbstractContextManager[PdpProvider]] = pdp_provider,
    **fields: Any,
) -> Iterator[OnchainStorage]:
    """Run a chain and providers; `make` runs one by its number, and `fields` are those of FakeChain."""
    with ExitStack() as stack:
        running = {number: stack.enter_context(make(number)) for number in range(1, providers + 1)}
        urls = [provider.url for provider in running.values()]
        lab = stack.enter_context(onchain_lab(anvil=anvil, urls=urls, **fields))
        for provider in running.values():
            provider.lab = lab
        payer = Payer(lab, funds)
        stack.callback(payer.close)
        storage = OnchainStorage(lab, payer, running, Ticker(lab=lab))
        try:
            yield storage
        finally:
            for target in storage.opened:
                target.close()


@contextmanager
def deployed_providers(lab: OnchainLab) -> Iterator[dict[int, PdpProvider]]:
    """Run the two providers of a deployment of the real contracts; undo afterwards what was done there."""
    with ExitStack() as stack:
        stack.callback(lab.revert, lab.snapshot())
        running = {number: stack.enter_context(pdp_provider(number)) for number in (1, 2)}
        for provider in running.values():
            provider.lab = lab
            _give_address(provider)
        yield running


def _give_address(provider: PdpProvider) -> None:
    """Let the registry name the address of a provider."""
    lab, owner = provider.lab, OWNERS[provider.number]
    registry = lab.read(lab.service, "serviceProviderRegistry()", "address")
    _, keys, values = lab.read(
        registry,
        "getAllProductCapabilities(uint256,uint8)",
        "bool,string[],bytes[]",
        provider.number,
        _PDP,
    )
    stated = dict(zip(keys, values, strict=True)) | {"serviceURL": provider.url.encode()}
    signature = "updateProduct(uint8,string[],bytes[])"
    lab.send(owner, registry, signature, _PDP, list(stated), list(stated.values()))
