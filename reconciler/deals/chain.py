"""Reads of the Filecoin chain over Lotus JSON-RPC (also Forest and the public gateways).

A target's entry in targets.yaml has three keys for it: `network` is one of CHAINS, `rpc` the address of a
node, and `rpc_token_env` the environment variable with its token. Responses are read strictly: a wrong type
is an error of the node and no answer. The number of calls is bounded: the head once, each deal once, each
provider once, however many pieces share them; and a node that refuses or requests a pause gets no more calls
in the same check.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from reconciler.content import piece_cid
from reconciler.content.piece_cid import PieceRoot
from reconciler.deals.interface import ChainAnswers, DirectClaim, MarketDeal, parse_actor
from reconciler.deals.json_rpc import JsonRpc, open_json_rpc
from reconciler.errors import DataError, Reason, UsageError
from reconciler.json_fields import JsonFields
from reconciler.net.address import parse_address
from reconciler.net.auth import Secret, from_env
from reconciler.net.errors import RejectedError, RequestError, UnexpectedResponseError
from reconciler.net.retry import RetryBudget

EPOCH = timedelta(seconds=30)  #: the length of an epoch


@dataclass(frozen=True, slots=True)
class Chain:
    """One Filecoin network: its name, and the moment of its epoch 0 (UTC)."""

    name: str
    genesis: datetime

    def date(self, epoch: int) -> datetime | None:
        """Return the time at which `epoch` begins; None beyond the year 9999."""
        try:
            return self.genesis + epoch * EPOCH
        except OverflowError:
            return None

    def epoch(self, moment: datetime) -> int:
        """Return the epoch at `moment`."""
        return (moment - self.genesis) // EPOCH


MAINNET = Chain("mainnet", datetime(2020, 8, 24, 22, tzinfo=UTC))
CALIBRATION = Chain("calibration", datetime(2022, 11, 1, 18, 13, tzinfo=UTC))

CHAINS: Mapping[str, Chain] = {chain.name: chain for chain in (MAINNET, CALIBRATION)}


def in_epochs(period: timedelta) -> int:
    """Return the number of epochs in `period`, rounded up."""
    return -(-period // EPOCH)


@dataclass(frozen=True, slots=True)
class ChainAccess:
    """A chain, and the node through which it is read; `rpc` is None when no node is configured."""

    chain: Chain
    rpc: LotusRpc | None


def open_chain(
    options: Mapping[str, object], environ: Mapping[str, str], *, name: str, budget: RetryBudget | None = None
) -> ChainAccess:
    """Return the chain that a target's `options` name, without opening a connection.

    `name` is the target; error messages of the node begin with it. Raises UsageError for an unknown network,
    an invalid address, or a token that is not set.
    """
    network = str(options.get("network", MAINNET.name))
    chain = CHAINS.get(network)
    if chain is None:
        raise UsageError(
            f"{name}: unknown network {network[:64]!r}", hint="use one of " + ", ".join(sorted(CHAINS))
        )
    address, variable = options.get("rpc"), options.get("rpc_token_env")
    if address is None:
        if variable is not None:
            raise UsageError(f"{name}: rpc_token_env without rpc", hint="set rpc to the address of the node")
        return ChainAccess(chain, None)
    token = None if variable is None else from_env(str(variable), environ)
    return ChainAccess(chain, open_rpc(str(address), name=f"the RPC of {name}", token=token, budget=budget))


_THREADS = 4
_CLAIMS_LIMIT = 256 << 20  # bytes; a large provider has a million claims of 250 bytes each
_MAX_MALFORMED = 3  # malformed answers until a node is not called again
_MAX = (1 << 62) - 1

K = TypeVar("K")
V = TypeVar("V")


class LotusRpc:
    """One node, opened by `open_rpc`. Usable from several threads. All calls raise RequestError."""

    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc

    @property
    def name(self) -> str:
        """The node's name for the user."""
        return self._rpc.name

    def head(self) -> int:
        """Return the newest epoch that the node knows."""
        return self._rpc.call("Filecoin.ChainHead", []).number_in(0, _MAX, "Height")

    def deal(self, deal_id: int) -> MarketDeal | None:
        """Return a deal of the storage market; None when the chain does not have it, or has dropped it."""
        try:
            deal = self._rpc.call("Filecoin.StateMarketStorageDeal", [deal_id, None])
        except RejectedError as error:
            if f"deal {deal_id} not found" in error.reason:
                return None
            raise
        proposal, state = deal.at("Proposal"), deal.at("State")
        return MarketDeal(
            deal_id,
            _piece_root(proposal.at("PieceCID")),
            proposal.number_in(1, _MAX, "PieceSize"),
            _provider(proposal.at("Provider")),
            proposal.number_in(0, _MAX, "StartEpoch"),
            proposal.number_in(0, _MAX, "EndEpoch"),
            state.number_in(-1, _MAX, "SectorStartEpoch"),
            state.number_in(-1, _MAX, "SlashEpoch"),
        )

    def claims(self, provider: str, wanted: Collection[PieceRoot]) -> tuple[DirectClaim, ...]:
        """Return the claims of `provider` on the `wanted` pieces, from direct data onboarding.

        The node can only list all claims of a provider, up to a million: the others are dropped while the
        list is parsed.
        """
        links = {str(root) for root in wanted}

        def drop_unwanted(value: dict[str, object]) -> object:
            data = value.get("Data")
            unwanted = isinstance(data, dict) and isinstance(data.get("/"), str) and data["/"] not in links
            return None if unwanted else value

        found = self._rpc.call(
            "Filecoin.StateGetClaims", [provider, None], limit=_CLAIMS_LIMIT, hook=drop_unwanted
        )
        if not found.has():
            return ()
        return tuple(_direct_claim(claim) for _, claim in found.members() if claim.has())

    def close(self) -> None:
        """Close connections. May be called twice."""
        self._rpc.close()


def _direct_claim(claim: JsonFields) -> DirectClaim:
    return DirectClaim(
        f"f0{claim.number_in(0, _MAX, 'Provider')}",
        _piece_root(claim.at("Data")),
        claim.number_in(1, _MAX, "Size"),
        claim.number_in(0, _MAX, "TermStart"),
        claim.number_in(0, _MAX, "TermMin"),
        claim.number_in(0, _MAX, "TermMax"),
    )


def _provider(fields: JsonFields) -> str:
    try:
        return parse_actor(fields.text())
    except DataError:
        raise fields.error("an actor address") from None


def _piece_root(link: JsonFields) -> PieceRoot:
    """Return the piece CID (v1) of an IPLD link in JSON: {"/": CID}."""
    try:
        root = piece_cid.parse_any(link.text("/"))
    except DataError:
        root = None
    if not isinstance(root, PieceRoot):
        raise link.error("a piece CID")
    return root


def open_rpc(
    address: str, *, name: str, token: Secret | None = None, budget: RetryBudget | None = None
) -> LotusRpc:
    """Open the node at `address`, its full JSON-RPC address, such as https://api.node.glif.io/rpc/v1.

    Error messages begin with `name`. Raises UsageError for an invalid address.
    """
    text = parse_address(address, f"the rpc address of {name}").text
    if "/" not in text.partition("://")[2]:
        raise UsageError(
            f"the rpc address of {name} has no path", hint="write it with its path, such as /rpc/v1"
        )
    return LotusRpc(open_json_rpc(address, name=name, token=token, budget=budget))


class ChainQuery:
    """All questions of one check to one node; each is asked once."""

    def __init__(self, rpc: LotusRpc) -> None:
        self._rpc = rpc
        self._breaker = _CircuitBreaker()
        self._head: int | Reason | None = None
        self._deals: dict[int, MarketDeal | Reason | None] = {}
        self._claims: dict[str, tuple[DirectClaim, ...] | Reason] = {}
        self._wanted: dict[str, frozenset[PieceRoot]] = {}

    def ask(self, deals: Iterable[int], direct: Mapping[str, Collection[PieceRoot]]) -> ChainAnswers:
        """Return the answers of the chain to these and all previous questions.

        `deals` are numbers of the storage market, `direct` the pieces by provider that have none. Never
        raises for a node that fails.
        """
        if self._head is None:
            self._head = self._breaker.call(lambda _: self._rpc.head(), 0)
            if isinstance(self._head, Reason):
                self._breaker.opened = self._head
        new = {
            name: self._wanted.get(name, frozenset()) | frozenset(roots)
            for name, roots in direct.items()
            if not self._wanted.get(name, frozenset()).issuperset(roots)
        }
        self._wanted |= new
        with ThreadPoolExecutor(_THREADS, "chain") as threads:
            self._deals |= _each(
                threads,
                sorted(set(deals) - self._deals.keys()),
                lambda number: self._breaker.call(self._rpc.deal, number),
            )
            self._claims |= _each(
                threads,
                sorted(new),
                lambda name: self._breaker.call(lambda key: self._rpc.claims(key, new[key]), name),
            )
        return ChainAnswers(self._head, dict(self._deals), dict(self._claims))


def _each(threads: ThreadPoolExecutor, keys: list[K], question: Callable[[K], V]) -> dict[K, V]:
    return dict(zip(keys, threads.map(question, keys), strict=True))


class _CircuitBreaker:
    """A stop for calls to a node that refuses, fails, or sends malformed answers; `opened` is the reason."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._malformed = 0
        self.opened: Reason | None = None

    def call(self, question: Callable[[K], V], key: K) -> V | Reason:
        if self.opened is not None:
            return self.opened
        try:
            return question(key)
        except RejectedError as error:  # of this question only; the next one may be answered
            return Reason.from_error(error)
        except RequestError as error:
            reason = Reason.from_error(error)
            with self._lock:
                self._malformed += isinstance(error, UnexpectedResponseError)
                if not isinstance(error, UnexpectedResponseError) or self._malformed >= _MAX_MALFORMED:
                    self.opened = reason
            return reason
