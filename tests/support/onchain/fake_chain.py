"""A node with the contracts of Filecoin Onchain Cloud, in memory: Ethereum JSON-RPC over HTTP, with faults.

It answers as anvil does, and `test_onchain_lab.py` runs against both. Each transaction is a block, unless
`automine` is off. The accounts of `lab.KEYS` are unlocked and rich.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_peer import Asked, Said, http_peer
from tests.support.onchain.contracts import OnchainContracts, RevertedCallError
from tests.support.onchain.ethereum import Account, HexBytes, TypedTransaction, keccak

RICH = 10**22
GENESIS = 1_700_000_000
_GAS = 21_000
_CALL_GAS = 200_000


class RpcFault(Exception):
    """An error object of JSON-RPC."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message} | ({} if data is None else {"data": data})


@dataclass
class Transaction:
    """A transaction in the pool, or in a block."""

    hash: str
    sender: str
    nonce: int
    to: str
    data: bytes
    fee: int
    receipt: dict[str, Any] | None = None


@dataclass
class FakeChain:
    """The node. Faults: see the fields; `refuse` replaces whole responses, `lie` the bytes of an answer."""

    chain_id: int = 31415926
    automine: bool = True
    batches: bool = True
    head_offset: int = 0  #: pretend that the head is so many blocks away
    hides_data: bool = False  #: leave the bytes out of errors
    refuse: Callable[[Asked], Said | None] | None = None
    lie: Callable[[str, bytes, bytes], bytes] | None = None  #: (contract, call, answer) -> answer
    before: Callable[[str], None] | None = None  #: called with each method
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    calls: int = 0  #: calls within the requests
    contracts: OnchainContracts = field(default_factory=lambda: OnchainContracts(0))
    times: list[int] = field(default_factory=lambda: [GENESIS])  #: of every block
    forks: dict[int, int] = field(default_factory=dict)  #: block -> how often it was replaced
    pool: list[Transaction] = field(default_factory=list)
    done: dict[str, Transaction] = field(default_factory=dict)
    nonces: dict[str, int] = field(default_factory=dict)
    poor: set[str] = field(default_factory=set)  #: accounts without gas
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.contracts.chain_id = self.chain_id

    @property
    def head(self) -> int:
        """The number of the newest block."""
        return len(self.times) - 1

    def answer(self, asked: Asked) -> Said:
        """Answer any request."""
        if self.refuse is not None and (said := self.refuse(asked)) is not None:
            return said
        body = json.loads(asked.body)
        if isinstance(body, list):
            if not self.batches:
                found: Any = {
                    "jsonrpc": "2.0",
                    "id": None,
                    "error": {"code": -32600, "message": "no batches"},
                }
            else:
                found = [self._answered(each) for each in body]
        else:
            found = self._answered(body)
        return Said(200, json.dumps(found).encode())

    def _answered(self, call: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
        self.calls += 1
        if self.before is not None:
            self.before(call["method"])
        try:
            with self.lock:
                answer["result"] = getattr(self, f"_{call['method']}")(*call.get("params", ()))
        except RpcFault as fault:
            answer["error"] = fault.body
        except AttributeError:
            answer["error"] = {"code": -32601, "message": "method not found"}
        return answer

    # --- the chain

    def mine(self, blocks: int = 1) -> None:
        """Add blocks; the transactions of the pool go into the first."""
        with self.lock:
            for each in range(blocks):
                self.times.append(self.times[-1] + 1)
                if each == 0:
                    waiting, self.pool = sorted(self.pool, key=lambda tx: (tx.sender, tx.nonce)), []
                    for transaction in waiting:
                        self._execute(transaction)

    def replace_blocks(self, number: int) -> None:
        """Reorganise the chain: the blocks from `number` on get other hashes."""
        with self.lock:
            for each in range(number, self.head + 1):
                self.forks[each] = self.forks.get(each, 0) + 1

    def _execute(self, transaction: Transaction) -> None:
        if transaction.nonce != self.nonces.get(transaction.sender, 0):
            return
        self.nonces[transaction.sender] = transaction.nonce + 1
        self.contracts.number, self.contracts.timestamp = self.head, self.times[-1]
        trial = copy.deepcopy(self.contracts)
        status = "0x1"
        try:
            trial.execute(transaction.sender, transaction.to, transaction.data)
            self.contracts = trial
        except RevertedCallError:
            status = "0x0"
        transaction.receipt = {
            "transactionHash": transaction.hash,
            "blockNumber": hex(self.head),
            "blockHash": self._hash(self.head),
            "status": status,
            "gasUsed": hex(_CALL_GAS),
            "effectiveGasPrice": hex(10**9),
            "from": transaction.sender,
            "to": transaction.to,
            "contractAddress": None,
            "logs": [],
        }
        self.done[transaction.hash] = transaction

    def _hash(self, number: int) -> str:
        return "0x" + keccak(text=f"{self.chain_id}:{number}:{self.forks.get(number, 0)}").hex()

    def _number(self, block: str) -> int:
        head = self.head + self.head_offset
        return head if block in ("latest", "pending", "safe", "finalized") else int(block, 16)

    def _trial(self, call: dict[str, Any], block: str) -> bytes:
        data = bytes.fromhex(call.get("data", call.get("input", "0x"))[2:])
        trial = copy.copy(self.contracts)
        number = self._number(block)
        trial.number, trial.timestamp = number, self.times[min(number, self.head)]
        if "from" in call:
            trial = copy.deepcopy(trial)
        try:
            found = trial.execute(call.get("from", "0x" + "00" * 20), call["to"], data)
        except RevertedCallError as error:
            shown = None if self.hides_data else "0x" + error.data.hex()
            raise RpcFault(
                3, f"execution reverted{'' if self.hides_data else ': ' + error.data.hex()}", shown
            ) from None
        return found if self.lie is None else self.lie(call["to"].lower(), data, found)

    # --- the methods of JSON-RPC

    def _eth_chainId(self) -> str:
        return hex(self.chain_id)

    def _eth_blockNumber(self) -> str:
        return hex(self.head + self.head_offset)

    def _eth_getBlockByNumber(self, block: str, whole: bool) -> dict[str, Any] | None:
        number = self._number(block)
        if not 0 <= number <= max(self.head, self.head + self.head_offset):
            return None
        return {
            "number": hex(number),
            "hash": self._hash(number),
            "parentHash": self._hash(number - 1),
            "timestamp": hex(self.times[min(number, self.head)]),
            "baseFeePerGas": hex(10**9),
        }

    def _eth_call(self, call: dict[str, Any], block: str = "latest") -> str:
        return "0x" + self._trial(call, block).hex()

    def _eth_estimateGas(self, call: dict[str, Any], block: str = "latest") -> str:
        self._trial({"from": "0x" + "00" * 20} | call, "latest")
        return hex(_CALL_GAS)

    def _eth_maxPriorityFeePerGas(self) -> str:
        return hex(10**8)

    def _eth_getBalance(self, owner: str, block: str) -> str:
        return hex(0 if owner.lower() in self.poor else RICH)

    def _eth_getTransactionCount(self, owner: str, block: str) -> str:
        owner = owner.lower()
        waiting = [tx.nonce + 1 for tx in self.pool if tx.sender == owner] if block == "pending" else []
        return hex(max([self.nonces.get(owner, 0), *waiting]))

    def _eth_sendTransaction(self, call: dict[str, Any]) -> str:
        sender = call["from"].lower()
        nonce = int(self._eth_getTransactionCount(sender, "pending"), 16)
        data = bytes.fromhex(call.get("data", "0x")[2:])
        if self.automine:
            self._trial(call, "latest")
        digest = "0x" + keccak(text=f"{sender}:{nonce}:{call}").hex()
        return self._take(Transaction(digest, sender, nonce, call["to"].lower(), data, 10**9))

    def _eth_sendRawTransaction(self, raw: str) -> str:
        data = HexBytes(raw)
        try:
            fields = TypedTransaction.from_bytes(data).as_dict()
            sender = str(Account.recover_transaction(data)).lower()
        except Exception as error:
            raise RpcFault(-32000, f"failed to decode: {type(error).__name__}") from None
        if fields["chainId"] != self.chain_id:
            raise RpcFault(-32000, "invalid chain id for signer")
        if sender in self.poor:
            raise RpcFault(-32003, "Insufficient funds for gas * price + value")
        to = "0x" + bytes(fields["to"]).hex()
        digest = "0x" + keccak(data).hex()
        found = Transaction(
            digest, sender, fields["nonce"], to, bytes(fields["data"]), fields["maxFeePerGas"]
        )
        return self._take(found)

    def _take(self, transaction: Transaction) -> str:
        if transaction.hash in self.done or any(tx.hash == transaction.hash for tx in self.pool):
            raise RpcFault(-32000, "already known")
        if transaction.nonce < self.nonces.get(transaction.sender, 0):
            raise RpcFault(-32003, "nonce too low")
        for other in list(self.pool):
            if (other.sender, other.nonce) == (transaction.sender, transaction.nonce):
                if transaction.fee * 10 < other.fee * 11:
                    raise RpcFault(-32003, "replacement transaction underpriced")
                self.pool.remove(other)
        self.pool.append(transaction)
        if self.automine:
            self.mine()
        return transaction.hash

    def _eth_getTransactionReceipt(self, digest: str) -> dict[str, Any] | None:
        found = self.done.get(digest)
        return None if found is None else found.receipt

    def _anvil_mine(self, blocks: str = "0x1", interval: str = "0x1") -> None:
        self.mine(int(blocks, 16))


@contextmanager
def fake_chain(**fields: Any) -> Iterator[FakeChain]:
    """Run a node; its JSON-RPC is at `url`."""
    node = FakeChain(**fields)
    with http_peer(node.answer) as peer:
        node.url, node.asked = peer.url, peer.asked
        yield node
