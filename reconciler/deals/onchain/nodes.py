"""Reading contracts through one or several nodes, as of one block on which enough of them agree.

Every call is made at a fixed block. With several nodes an answer counts only when `quorum` of them give the
same bytes, so that one node cannot lie alone; a node on another chain, or behind the clock, is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from reconciler.deals.chain import CHAINS
from reconciler.deals.json_rpc import JsonRpc, RpcCall, RpcRefusedError
from reconciler.deals.onchain.interface import ChainBlock, EvmAddress, Network
from reconciler.errors import Reason
from reconciler.json_fields import JsonFields
from reconciler.net.errors import RequestError, TransientError, UnexpectedResponseError

MAX_EPOCHS_BEHIND = 120  #: epochs (one hour) that a node may be behind our clock, or ahead of it

_BATCH = 100  # calls in one request
_STEPS_BACK = 5  # blocks below the newest common one that are tried when nodes disagree about it
_MAX_NUMBER = 1 << 62

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ContractCall:
    """A call of the contract `to` with `data`."""

    to: EvmAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class Revert:
    """A call that the contract refused, with its bytes; empty where the node hides them."""

    data: bytes
    text: str


#: the bytes of an answer, a refusal by the contract, or why there is no answer to rely on
CallAnswer = bytes | Revert | Reason


class ChainNodes:
    """The nodes of one network. `quorum` of them must give the same answer. Usable from several threads."""

    def __init__(
        self,
        nodes: Sequence[JsonRpc],
        network: Network,
        *,
        quorum: int = 1,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.network = network
        self._nodes = tuple(nodes)
        self._quorum = quorum
        self._clock = clock
        self._good: tuple[JsonRpc, ...] = ()
        self.left_out: tuple[Reason, ...] = ()  #: nodes that cannot be used in this view, and why

    @property
    def first(self) -> JsonRpc:
        """The first usable node: transactions are sent through it."""
        return (self._good or self._nodes)[0]

    def pin(self) -> ChainBlock:
        """Return the newest block on which enough nodes agree; `read` uses these nodes from now on.

        Raises RequestError when too few nodes can be reached, are on this chain and up to date, or agree.
        """
        heads = self._each(self._nodes, self._head)
        usable = {node: found for node, found in heads.items() if isinstance(found, ChainBlock)}
        problems = [found for found in heads.values() if isinstance(found, RequestError)]
        self.left_out = tuple(map(Reason.from_error, problems))
        if len(usable) < self._quorum:
            raise problems[0]
        lowest = min(block.number for block in usable.values())
        for number in range(lowest, max(-1, lowest - _STEPS_BACK), -1):
            found = self._each(tuple(usable), lambda node, n=number: self._block(node, n, usable[node]))  # type: ignore[misc]
            counts = Counter(block.hash for block in found.values() if isinstance(block, ChainBlock))
            if counts and counts.most_common(1)[0][1] >= self._quorum:
                winner = counts.most_common(1)[0][0]
                agreeing = {
                    node: block
                    for node, block in found.items()
                    if isinstance(block, ChainBlock) and block.hash == winner
                }
                self._good = tuple(agreeing)
                return next(iter(agreeing.values()))
        raise UnexpectedResponseError(
            self._nodes[0].name,
            f"{len(usable)} nodes do not agree on block {lowest}",
            hint="one of the rpc nodes follows another chain; run again, or remove it from targets.yaml",
        )

    def read(self, calls: Sequence[ContractCall], block: ChainBlock) -> list[CallAnswer]:
        """Return the answer to each call as of `block`, which `pin` returned.

        Raises RequestError when fewer than `quorum` nodes answer.
        """
        bodies = [
            RpcCall("eth_call", ({"to": str(call.to), "data": f"0x{call.data.hex()}"}, hex(block.number)))
            for call in calls
        ]
        answers = self._each(self._good, lambda node: _answers(node, bodies))
        given = [found for found in answers.values() if not isinstance(found, RequestError)]
        if len(given) < self._quorum:
            raise next(found for found in answers.values() if isinstance(found, RequestError))
        return [self._agreed([node[number] for node in given]) for number in range(len(calls))]

    def confirm(self, block: ChainBlock) -> None:
        """Check that `block` is still on the chain. Raises TransientError when the chain was reorganised."""
        found = self._each(self._good, lambda node: self._block(node, block.number, None))
        same = sum(isinstance(each, ChainBlock) and each.hash == block.hash for each in found.values())
        if same < self._quorum:
            raise TransientError(
                self.first.name,
                f"block {block.number} was replaced while the chain was read",
                hint="the chain was reorganised; run again",
            )

    def close(self) -> None:
        """Close connections. May be called twice."""
        for node in self._nodes:
            node.close()

    def _agreed(self, answers: Sequence[bytes | Revert]) -> CallAnswer:
        # nodes word refusals differently, so only the contract's bytes are compared
        keys = [(True, each.data) if isinstance(each, Revert) else (False, each) for each in answers]
        (best, votes), *_ = Counter(keys).most_common(1)
        if votes < self._quorum:
            return Reason(
                f"only {votes} of {len(answers)} nodes give the same answer, and {self._quorum} must",
                "one of the rpc nodes is wrong or behind; run again, or remove it from targets.yaml",
            )
        return answers[keys.index(best)]

    def _head(self, node: JsonRpc) -> ChainBlock:
        answers = node.batch((RpcCall("eth_chainId"), RpcCall("eth_getBlockByNumber", ("latest", False))))
        for answer in answers:
            if isinstance(answer, RpcRefusedError):
                raise answer
        chain, head = answers
        assert isinstance(chain, JsonFields) and isinstance(head, JsonFields)  # noqa: S101, PT018 - see above
        found = quantity(chain)
        if found != self.network.chain_id:
            raise UnexpectedResponseError(
                node.name,
                f"is on the chain {found}, not on {self.network.chain.name} ({self.network.chain_id})",
                hint="set network and rpc in targets.yaml to the same network",
            )
        block = _block(head)
        self._check_clock(node, block)
        return block

    def _check_clock(self, node: JsonRpc, block: ChainBlock) -> None:
        chain = self.network.chain
        if chain.name not in CHAINS:
            return  # a devnet has no known beginning
        late = chain.epoch(self._clock()) - block.number
        if abs(late) > MAX_EPOCHS_BEHIND:
            state = f"{late} epochs behind" if late > 0 else f"{-late} epochs in the future"
            raise UnexpectedResponseError(
                node.name,
                f"its newest block {block.number} is {state}",
                hint="wait until the node has caught up, use another one, or correct this machine's clock",
            )

    def _block(self, node: JsonRpc, number: int, latest: ChainBlock | None) -> ChainBlock:
        if latest is not None and latest.number == number:
            return latest
        found = node.call("eth_getBlockByNumber", (hex(number), False))
        if not found.has():
            raise UnexpectedResponseError(node.name, f"does not have block {number}")
        return _block(found)

    def _each(
        self, nodes: Sequence[JsonRpc], question: Callable[[JsonRpc], R]
    ) -> dict[JsonRpc, R | RequestError]:
        def ask(node: JsonRpc) -> R | RequestError:
            try:
                return question(node)
            except RequestError as error:
                return error

        if len(nodes) == 1:
            return {nodes[0]: ask(nodes[0])}
        with ThreadPoolExecutor(max(1, len(nodes)), "rpc") as threads:
            return dict(zip(nodes, threads.map(ask, nodes), strict=True))


def _answers(node: JsonRpc, calls: Sequence[RpcCall]) -> list[bytes | Revert]:
    """Return the answers of one node, asked for in batches. Raises RequestError."""
    found: list[bytes | Revert] = []
    for start in range(0, len(calls), _BATCH):
        for answer in node.batch(calls[start : start + _BATCH]):
            if isinstance(answer, RpcRefusedError):
                if not _is_revert(answer):
                    raise answer
                found.append(Revert(answer.data, answer.reason))
            else:
                found.append(hex_bytes(answer))
    return found


def _is_revert(error: RpcRefusedError) -> bool:
    """Whether the contract refused the call, and not the node (3: anvil, geth, Lotus)."""
    text = error.reason.lower()
    return bool(error.data) or error.code == 3 or "revert" in text or "exit=[33]" in text


def hex_bytes(fields: JsonFields) -> bytes:
    """Return the bytes of a `0x…` string. Raises the error of `fields`."""
    text = fields.text()
    try:
        if not text.startswith("0x"):
            raise ValueError
        return bytes.fromhex(text[2:])
    except ValueError:
        raise fields.error("bytes in hexadecimal") from None


def quantity(fields: JsonFields, *names: str) -> int:
    """Return a number that is written as `0x…`, as in Ethereum's JSON-RPC."""
    text = fields.text(*names)
    if text.startswith("0x") and 2 < len(text) <= 18:
        try:
            number = int(text[2:], 16)
        except ValueError:
            raise fields.error("a number in hexadecimal", *names) from None
        if number <= _MAX_NUMBER:
            return number
    raise fields.error("a number in hexadecimal", *names)


def _block(fields: JsonFields) -> ChainBlock:
    block_hash = hex_bytes(fields.at("hash"))
    if len(block_hash) != 32:
        raise fields.error("a hash of 32 bytes", "hash")
    return ChainBlock(quantity(fields, "number"), block_hash, quantity(fields, "timestamp"))
