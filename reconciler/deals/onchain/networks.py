"""The networks of Filecoin Onchain Cloud, and the keys of a target in targets.yaml that choose one.

`network` is `mainnet` (default), `calibration` or `devnet`; `rpc` is the JSON-RPC address of a node, or a
list of them, of which `quorum` must agree (default: more than half); `rpc_token_env` names the environment
variable with the token for all of them; `contract` is the address of the service, for a network of one's own.
Addresses: deployments.json of FilOzone/filecoin-services.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.deals.chain import CALIBRATION, MAINNET, Chain
from reconciler.deals.json_rpc import open_json_rpc
from reconciler.deals.onchain.interface import ZERO_ADDRESS, EvmAddress, Network
from reconciler.deals.onchain.nodes import ChainNodes
from reconciler.errors import DataError, UsageError
from reconciler.net.auth import from_env
from reconciler.net.retry import RetryBudget

_PUBLIC_RPC = {
    MAINNET.name: "https://api.node.glif.io/rpc/v1",
    CALIBRATION.name: "https://api.calibration.node.glif.io/rpc/v1",
}
DEVNET = Chain("devnet", datetime.fromtimestamp(0, UTC))  #: its epoch 0 is whenever it was started

NETWORKS: Mapping[str, Network] = {
    MAINNET.name: Network(
        MAINNET,
        314,
        EvmAddress.parse("0x8408502033C418E1bbC97cE9ac48E5528F371A9f"),
        EvmAddress.parse("0x59eFa2e8324E1551d46010d7B0B140eE2F5c726b"),
    ),
    CALIBRATION.name: Network(
        CALIBRATION,
        314159,
        EvmAddress.parse("0x02925630df557F957f70E112bA06e50965417CA0"),
        EvmAddress.parse("0xAA2f7CfC7ecAc616EC9C1f6d700fAd19087FAC84"),
    ),
    DEVNET.name: Network(DEVNET, 31415926, ZERO_ADDRESS),
}

_MAX_NODES = 9


def read_network(options: Mapping[str, object], name: str) -> Network:
    """Return the network that the `options` of the target `name` choose. Raises UsageError."""
    chosen = str(options.get("network", MAINNET.name))
    network = NETWORKS.get(chosen)
    if network is None:
        raise UsageError(f"{name}: unknown network {chosen[:64]!r}", hint="use one of " + ", ".join(NETWORKS))
    contract = options.get("contract")
    if contract is not None:
        try:
            network = Network(network.chain, network.chain_id, EvmAddress.parse(str(contract)))
        except DataError as error:
            raise UsageError(f"{name}: contract: {error.message}", hint=error.hint) from None
    if not network.service:
        raise UsageError(
            f"{name}: the network {chosen!r} has no contract of its own",
            hint="set contract to the address of the FilecoinWarmStorageService proxy",
        )
    return network


def open_nodes(
    options: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    name: str,
    budget: RetryBudget | None = None,
) -> ChainNodes:
    """Return the nodes that a target's `options` name, without opening a connection.

    `name` is the target; error messages of a node begin with it. Raises UsageError for an unknown network, an
    invalid address or quorum, or a token that is not set.
    """
    network = read_network(options, name)
    given = options.get("rpc", _PUBLIC_RPC.get(network.chain.name))
    addresses = [str(each) for each in given] if isinstance(given, list | tuple) else [given]
    if given is None or not addresses or len(addresses) > _MAX_NODES:
        raise UsageError(
            f"{name}: rpc names {len(addresses) if given is not None else 0} nodes",
            hint=f"set rpc to the JSON-RPC address of a node, or a list of up to {_MAX_NODES}",
        )
    quorum = _read_quorum(options, len(addresses), name)
    variable = options.get("rpc_token_env")
    token = None if variable is None else from_env(str(variable), environ)
    several = len(addresses) > 1
    opened = [
        open_json_rpc(
            str(address),
            name=f"the RPC of {name}" + (f" ({number} of {len(addresses)})" if several else ""),
            token=token,
            budget=budget,
        )
        for number, address in enumerate(addresses, start=1)
    ]
    return ChainNodes(opened, network, quorum=quorum)


def _read_quorum(options: Mapping[str, object], nodes: int, name: str) -> int:
    quorum = options.get("quorum", nodes // 2 + 1)
    if isinstance(quorum, str) and quorum.isascii() and quorum.isdigit():
        quorum = int(quorum[:9])
    if not isinstance(quorum, int) or isinstance(quorum, bool) or not 1 <= quorum <= nodes:
        raise UsageError(
            f"{name}: quorum: {quorum!r} is not a number from 1 to {nodes}",
            hint="it is the number of the rpc nodes that must give the same answer",
        )
    return quorum
