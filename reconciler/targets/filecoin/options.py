"""The options of a `filecoin` entry of targets.yaml, and the key in the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.deals.onchain.guard import SpendingLimits, read_limits
from reconciler.deals.onchain.interface import EvmAddress
from reconciler.deals.onchain.keys import SigningKey, load_key
from reconciler.deals.onchain.networks import DEVNET, open_nodes
from reconciler.deals.onchain.nodes import ChainNodes
from reconciler.errors import DataError, InvalidIndexError
from reconciler.index.model import TargetSpec
from reconciler.net.retry import RetryBudget

DEFAULT_COPIES = 2
PAYER_KEY = "FILECOIN_PAYER_KEY"  #: the variable with the key that deposits


@dataclass(frozen=True, slots=True)
class FilecoinOptions:
    """The options of one entry.

    `payer` pays for everything; `key` is its own key or a session key, None when nothing is to be signed.
    `providers` are the ids of the providers to use, in order of preference; none: they are chosen from the
    registry. `payer_key` loads the payer's own key from the environment variable `payer_key_env`, which only
    funding needs; it raises UsageError.
    """

    nodes: ChainNodes
    payer: EvmAddress
    key: SigningKey | None
    copies: int
    providers: tuple[int, ...]
    limits: SpendingLimits
    payer_key_env: str
    payer_key: Callable[[], SigningKey]

    @property
    def has_session_key(self) -> bool:
        """Whether what is signed is signed by a session key."""
        return self.key is not None and self.key.address != self.payer

    @property
    def is_public(self) -> bool:
        """Whether the network is a public one, whose providers have public addresses."""
        return self.nodes.network.chain is not DEVNET


def read_options(
    spec: TargetSpec, environ: Mapping[str, str], budget: RetryBudget | None = None
) -> FilecoinOptions:
    """Read and check the options of an entry.

    Raises InvalidIndexError with the line of the entry, UsageError for an invalid address, amount or
    environment variable.
    """
    variable, address = spec.options.get("key_env"), spec.options.get("payer")
    if variable is None and address is None:
        raise InvalidIndexError(
            f"target {spec.name!r} has neither key_env nor payer",
            hint="set key_env to publish, payer to read what that account pays for",
            where=spec.where,
        )
    providers = _read_providers(spec)
    copies = _read_copies(spec)
    if providers and len(providers) < copies:
        raise InvalidIndexError(
            f"target {spec.name!r} requires {copies} copies and names {len(providers)} providers",
            hint="name at least as many providers, or set copies",
            where=spec.where,
        )
    limits = read_limits(spec.options, spec.name)
    nodes = open_nodes(spec.options, environ, name=spec.name, budget=budget)
    key = None if variable is None else load_key(str(variable), environ)
    if address is not None:
        try:
            payer = EvmAddress.parse(str(address))
        except DataError as error:
            raise InvalidIndexError(
                f"target {spec.name!r}: payer: {error.message}", hint=error.hint, where=spec.where
            ) from None
    else:
        assert key is not None  # noqa: S101 - one of the two is there
        payer = key.address
    variable = str(spec.options.get("payer_key_env", PAYER_KEY))
    return FilecoinOptions(
        nodes,
        payer,
        key,
        copies,
        providers,
        limits,
        variable,
        lambda: _payer_key(key, payer, variable, environ),
    )


def _payer_key(
    key: SigningKey | None, payer: EvmAddress, variable: str, environ: Mapping[str, str]
) -> SigningKey:
    return key if key is not None and key.address == payer else load_key(variable, environ)


def _read_copies(spec: TargetSpec) -> int:
    return int(str(spec.options.get("copies", DEFAULT_COPIES)))


def _read_providers(spec: TargetSpec) -> tuple[int, ...]:
    given = spec.options.get("providers", ())
    return tuple(dict.fromkeys(int(str(each)) for each in given)) if isinstance(given, list | tuple) else ()
