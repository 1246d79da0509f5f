"""Epochs of a Filecoin chain as dates: one every 30 seconds since the chain's first.

Which chain a target's deals are on, and whom to ask about it: three keys of its entry in targets.yaml.

`rpc` is the address of a node, `rpc_token_env` names the environment variable with its token, and `network`
is one of `epochs.CHAINS`.

Reads of the Filecoin chain over Lotus JSON-RPC (also Forest and the public gateways).

What a node says is read strictly: a wrong type is the node's fault and no answer. Calls are bounded by what
there is to ask: the head once, each deal once, each provider once, however many pieces share them; and a node
that refuses or asks for a pause is asked nothing more in this check.
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
from reconciler.deals.interface import ChainAnswers, DirectClaim, MarketDeal, Unanswered, actor
from reconciler.errors import DataError, UsageError
from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Scheme, Secret, from_env
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import (
    RejectedError,
    RequestError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.retry import RetryBudget

EPOCH = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Chain:
    """One Filecoin network: its name, and the moment of its epoch 0 (UTC)."""

    name: str
    genesis: datetime

    def date(self, epoch: int) -> datetime | None:
        """When `epoch` begins; None when no calendar reaches that far."""
        try:
            return self.genesis + epoch * EPOCH
        except OverflowError:
            return None

    def epoch(self, moment: datetime) -> int:
        """The epoch at `moment`."""
        return (moment - self.genesis) // EPOCH


MAINNET = Chain("mainnet", datetime(2020, 8, 24, 22, tzinfo=UTC))
CALIBRATION = Chain("calibration", datetime(2022, 11, 1, 18, 13, tzinfo=UTC))

CHAINS: Mapping[str, Chain] = {chain.name: chain for chain in (MAINNET, CALIBRATION)}


def in_epochs(period: timedelta) -> int:
    """`period` in epochs, rounded up."""
    return -(-period // EPOCH)


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


_THREADS = 4
_CLAIMS_LIMIT = 256 << 20  # bytes; a large provider has a million claims of 250 bytes each
_PATIENCE = 3  # answers that are none, until a node is left alone
_MAX = 1 << 62
_ANSWERED = (200, 500)  # nodes tell the error of a call with either
_HINT = "is this the JSON-RPC address of a Lotus or Forest node, ending in /rpc/v1?"

Hook = Callable[[dict[str, object]], object]
K = TypeVar("K")
V = TypeVar("V")


class LotusRpc:
    """One node, made by `open_rpc`. Usable from several threads. All calls raise RequestError."""

    def __init__(self, http: HttpClient, path: str) -> None:
        self._http = http
        self._path = path

    @property
    def name(self) -> str:
        """How the user knows the node."""
        return self._http.name

    def head(self) -> int:
        """The newest epoch the node knows."""
        return self._number(self._object(self._call("Filecoin.ChainHead", []), "a tipset"), "Height", 0)

    def deal(self, deal_id: int) -> MarketDeal | None:
        """A deal of the storage market; None when the chain has no such deal (any more)."""
        try:
            answer = self._call("Filecoin.StateMarketStorageDeal", [deal_id, None])
        except RejectedError as error:
            if f"deal {deal_id} not found" in error.reason:
                return None
            raise
        deal = self._object(answer, "a deal")
        proposal = self._object(deal.get("Proposal"), "a deal proposal")
        state = self._object(deal.get("State"), "the state of a deal")
        return MarketDeal(
            deal_id,
            self._root(proposal, "PieceCID"),
            self._number(proposal, "PieceSize", 1),
            self._actor(proposal, "Provider"),
            self._number(proposal, "StartEpoch", 0),
            self._number(proposal, "EndEpoch", 0),
            self._number(state, "SectorStartEpoch", -1),
            self._number(state, "SlashEpoch", -1),
        )

    def claims(self, provider: str, wanted: Collection[PieceRoot]) -> tuple[DirectClaim, ...]:
        """What `provider` took on of the `wanted` pieces by direct data onboarding.

        The node can only list all claims of a provider, which may be a million: the others are dropped while
        the list is read.
        """
        links = {str(root) for root in wanted}

        def slim(value: dict[str, object]) -> object:
            data = value.get("Data")
            unwanted = isinstance(data, dict) and isinstance(data.get("/"), str) and data["/"] not in links
            return None if unwanted else value

        answer = self._call("Filecoin.StateGetClaims", [provider, None], limit=_CLAIMS_LIMIT, hook=slim)
        if answer is None:
            return ()
        claims = self._object(answer, "a map of claims").values()
        return tuple(self._claim(self._object(claim, "a claim")) for claim in claims if claim is not None)

    def _claim(self, claim: Mapping[str, object]) -> DirectClaim:
        return DirectClaim(
            f"f0{self._number(claim, 'Provider', 0)}",
            self._root(claim, "Data"),
            self._number(claim, "Size", 1),
            self._number(claim, "TermStart", 0),
            self._number(claim, "TermMin", 0),
            self._number(claim, "TermMax", 0),
            self._number(claim, "Sector", 0),
        )

    def close(self) -> None:
        """Close connections. May be called twice."""
        self._http.close()

    def _call(
        self, method: str, parameters: list[object], limit: int = 8 << 20, hook: Hook | None = None
    ) -> object:
        """The result of one call. Raises RejectedError with the node's own words for an error it answers."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        response = self._http.request(
            "POST", self._path, repeatable=True, json=body, expect=_ANSWERED, limit=limit
        )
        if response.status == 500 and not response.body.lstrip().startswith(b"{"):
            raise TransientError(self.name, "failed (HTTP 500)", status=500)
        answer = self._object(response.json(hook), "a JSON-RPC answer")
        if answer.get("error") is not None:
            error = self._object(answer["error"], "a JSON-RPC error")
            words = sanitize(str(error.get("message")), self._http.secrets)
            raise RejectedError(self.name, f"{method}: {words}", reason=words, hint=_HINT)
        if "result" not in answer or answer.get("id") != 1:
            raise self._lie("an answer that is not to the question")
        return answer["result"]

    def _object(self, value: object, what: str) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self._lie(f"something that is not {what}")
        return value

    def _number(self, parent: Mapping[str, object], key: str, least: int) -> int:
        value = parent.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MAX:
            raise self._lie(f"{key!r} that is not a whole number of at least {least}")
        return value

    def _actor(self, parent: Mapping[str, object], key: str) -> str:
        try:
            value = parent.get(key)
            return actor(value if isinstance(value, str) else "")
        except DataError:
            raise self._lie(f"{key!r} that is no actor address") from None

    def _root(self, parent: Mapping[str, object], key: str) -> PieceRoot:
        link = self._object(parent.get(key), f"the link {key!r}")
        try:
            root = piece_cid.parse_any(str(link.get("/")))
        except DataError:
            root = None
        if not isinstance(root, PieceRoot):
            raise self._lie(f"{key!r} that is not a piece CID")
        return root

    def _lie(self, what: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(self.name, f"answered with {what}", hint=_HINT)


def open_rpc(
    address: str, *, name: str, token: Secret | None = None, budget: RetryBudget | None = None
) -> LotusRpc:
    """The node at `address`, its whole JSON-RPC address, such as https://api.node.glif.io/rpc/v1.

    `name` begins its errors. Raises UsageError for what is no such address.
    """
    base, _, path = parse_address(address, f"the rpc address of {name}").text.rpartition("/")
    if "://" not in base:
        raise UsageError(f"the rpc address of {name} has no path", hint="it ends in /rpc/v1")
    auth = None if token is None else Auth(Scheme.BEARER, token)
    timeouts = Timeouts(silence=30.0, total=120.0)
    return LotusRpc(HttpClient(base, name=name, auth=auth, timeouts=timeouts, budget=budget), path)


class Inquiry:
    """All questions of one check to one node: each is asked once, however often it comes up."""

    def __init__(self, rpc: LotusRpc) -> None:
        self._rpc = rpc
        self._refused = _Refusal()
        self._head: int | Unanswered | None = None
        self._deals: dict[int, MarketDeal | Unanswered | None] = {}
        self._claims: dict[str, tuple[DirectClaim, ...] | Unanswered] = {}
        self._wanted: dict[str, frozenset[PieceRoot]] = {}

    def ask(self, deals: Iterable[int], direct: Mapping[str, Collection[PieceRoot]]) -> ChainAnswers:
        """What the chain says of these `deals`, of the pieces that providers keep without one (`direct`), and
        of all that was asked for before. Never raises for a sick node.
        """
        if self._head is None:
            self._head = self._refused.ask(lambda _: self._rpc.head(), 0)
            if isinstance(self._head, Unanswered):
                self._refused.because = self._head
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
                lambda number: self._refused.ask(self._rpc.deal, number),
            )
            self._claims |= _each(
                threads,
                sorted(new),
                lambda name: self._refused.ask(lambda key: self._rpc.claims(key, new[key]), name),
            )
        return ChainAnswers(self._head, dict(self._deals), dict(self._claims))


def _each(threads: ThreadPoolExecutor, keys: list[K], question: Callable[[K], V]) -> dict[K, V]:
    return dict(zip(keys, threads.map(question, keys), strict=True))


class _Refusal:
    """Remembers that the node refused, or answers nonsense, so that it is asked nothing more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nonsense = 0
        self.because: Unanswered | None = None

    def ask(self, question: Callable[[K], V], key: K) -> V | Unanswered:
        if self.because is not None:
            return self.because
        try:
            return question(key)
        except RejectedError as error:  # a no to this question; the next one may be answered
            return Unanswered(error.message, error.hint or "")
        except RequestError as error:
            found = Unanswered(error.message, error.hint or "")
            with self._lock:
                self._nonsense += isinstance(error, UnexpectedResponseError)
                if not isinstance(error, UnexpectedResponseError) or self._nonsense >= _PATIENCE:
                    self.because = found
            return found
