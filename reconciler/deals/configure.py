"""Which chain a target's deals are on, and whom to ask about it: three keys of its entry in targets.yaml.

`rpc` is the address of a node, `rpc_token_env` names the environment variable with its token, and `network`
is one of `epochs.CHAINS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.deals.chain import LotusRpc, open_rpc
from reconciler.deals.epochs import CHAINS, MAINNET, Chain
from reconciler.errors import UsageError
from reconciler.net.retry import RetryBudget
from reconciler.net.secret import from_env


@dataclass(frozen=True, slots=True)
class ChainAccess:
    """A chain, and the node that is asked about it; None where none is configured."""

    chain: Chain
    rpc: LotusRpc | None


def open_chain(
    options: Mapping[str, object], environ: Mapping[str, str], *, name: str, budget: RetryBudget | None = None
) -> ChainAccess:
    """The chain that a target's `options` name; `name` begins the errors of its node. Opens no connection.

    Raises UsageError for an unknown network, an address that is none, or a token that is not set.
    """
    network = str(options.get("network", MAINNET.name))
    chain = CHAINS.get(network)
    if chain is None:
        raise UsageError(
            f"{name}: unknown network {network[:64]!r}", hint="one of " + ", ".join(sorted(CHAINS))
        )
    address, variable = options.get("rpc"), options.get("rpc_token_env")
    if address is None:
        if variable is not None:
            raise UsageError(f"{name}: rpc_token_env without rpc", hint="give the address of the node, too")
        return ChainAccess(chain, None)
    token = None if variable is None else from_env(str(variable), environ)
    return ChainAccess(chain, open_rpc(str(address), name=f"the RPC of {name}", token=token, budget=budget))
