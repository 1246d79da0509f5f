"""Anchors on a chain in memory and on anvil: made once, found again, and checked against every lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.content import cid as cids
from reconciler.deals.json_rpc import RpcRefusedError
from reconciler.deals.onchain.keys import read_transaction
from reconciler.deals.onchain.wallet import TransactionPendingError, TransactionRefusedError
from reconciler.errors import DataError, PeerError, SafetyError, TrustError, UsageError
from reconciler.index.log_settings import AnchorSettings
from reconciler.json_fields import JsonFields
from reconciler.loop.anchoring import AnchorChain, AnchorWish
from reconciler.net.errors import UnexpectedResponseError
from reconciler.trust.anchor import NotAnchoredError, artifact_digest
from tests.support.anvil_node import CHAIN_ID, KEY, SENDER, anvil_node

WISH = AnchorWish(3, hashlib.sha256(b"checkpoint").digest())
OTHER = AnchorWish(4, hashlib.sha256(b"another").digest())
ENVIRON = {"ANCHOR_KEY": KEY}


@dataclass
class NodeInMemory:
    """A node with its chain, in place of a JsonRpc: one block for each transaction; `lies` change answers."""

    name: str = "the RPC of the anchor"
    blocks: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0
    chain: int = CHAIN_ID
    sent: int = 0
    lies: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    forgets: int = 0  #: state of blocks below is not kept

    def __post_init__(self) -> None:
        self.mine()

    def mine(self, *transactions: dict[str, Any]) -> None:
        number = len(self.blocks)
        name = f"0x{hashlib.sha256(b'%d %d' % (number, id(self))).hexdigest()}"
        for each in transactions:
            each.update(blockNumber=hex(number), blockHash=name)
        block = {"number": hex(number), "hash": name, "timestamp": hex(1796022000 + number)}
        self.blocks.append({**block, "baseFeePerGas": hex(10**9), "transactions": list(transactions)})

    def call(self, method: str, parameters: Sequence[Any] = (), **_: object) -> JsonFields:
        answer = getattr(self, f"_{method}")(*parameters)
        if method in self.lies:
            answer = self.lies[method](answer)
        return JsonFields(answer, lambda message: UnexpectedResponseError(self.name, message))

    def close(self) -> None: ...

    def _transactions(self, until: int) -> list[dict[str, Any]]:
        return [each for block in self.blocks[: until + 1] for each in block["transactions"]]

    def _eth_chainId(self) -> str:
        return hex(self.chain)

    def _eth_blockNumber(self) -> str:
        return hex(len(self.blocks) - 1)

    def _eth_getTransactionCount(self, sender: str, at: str) -> str:
        number = len(self.blocks) - 1 if at in ("latest", "pending") else int(at, 16)
        if number < self.forgets:
            raise RpcRefusedError(self.name, "x", reason="missing trie node", code=-32000, data=b"")
        mined = sum(each["from"] == sender for each in self._transactions(number))
        return hex(mined + (self.waiting if at == "pending" else 0))

    def _eth_getBlockByNumber(self, at: str, whole: bool) -> dict[str, Any] | None:
        number = {"latest": len(self.blocks) - 1, "finalized": max(0, len(self.blocks) - 3)}.get(at)
        number = int(at, 16) if number is None else number
        if number >= len(self.blocks):
            return None
        block = self.blocks[number]
        listed = block["transactions"] if whole else [each["hash"] for each in block["transactions"]]
        return {**block, "transactions": listed}

    def _eth_estimateGas(self, call: dict[str, str]) -> str:
        return hex(22_450)

    def _eth_maxPriorityFeePerGas(self) -> str:
        return hex(10**9)

    def _eth_sendRawTransaction(self, raw: str) -> str:
        signed = read_transaction(bytes.fromhex(raw[2:]))
        self.sent += 1
        self.mine(
            {
                "hash": signed.hash,
                "from": str(signed.sender),
                "to": str(signed.to),
                "nonce": hex(signed.nonce),
                "input": f"0x{signed.data.hex()}",
                "raw": raw,
                "status": "0x1",
                "gasUsed": "0x1",
                "effectiveGasPrice": "0x1",
            }
        )
        return signed.hash

    def _find(self, digest: str) -> dict[str, Any] | None:
        return next((each for each in self._transactions(len(self.blocks)) if each["hash"] == digest), None)

    def _eth_getTransactionReceipt(self, digest: str) -> dict[str, Any] | None:
        found = self._find(digest)
        return None if found is None else {**found, "transactionHash": digest}

    def _eth_getTransactionByHash(self, digest: str) -> dict[str, Any] | None:
        return self._find(digest)

    def _eth_getRawTransactionByHash(self, digest: str) -> str | None:
        found = self._find(digest)
        return None if found is None else str(found["raw"])


def chain_on(*nodes: NodeInMemory, **settings: Any) -> AnchorChain:
    rpc = tuple("http://127.0.0.1:1" for _ in nodes)
    made = AnchorChain(AnchorSettings(CHAIN_ID, rpc, "ANCHOR_KEY", **settings), ENVIRON, pause=lambda _: None)
    made._nodes = list(nodes)  # type: ignore[arg-type]
    return made


@pytest.fixture
def node() -> NodeInMemory:
    return NodeInMemory()


@pytest.fixture(params=["memory", pytest.param("anvil", marks=pytest.mark.anvil)])
def chain(request: pytest.FixtureRequest) -> Iterator[AnchorChain]:
    """A chain in memory, and anvil."""
    if request.param == "memory":
        yield chain_on(NodeInMemory())
        return
    with (
        anvil_node() as url,
        closing(AnchorChain(AnchorSettings(CHAIN_ID, (url,), "ANCHOR_KEY"), ENVIRON, poll=0.05)) as made,
    ):
        yield made


def count(chain: AnchorChain) -> int:
    return int(chain._nodes[0].call("eth_getTransactionCount", (SENDER, "latest")).text(), 16)


def test_a_digest_is_anchored_once_and_found_again_without_its_record(chain: AnchorChain) -> None:
    assert chain.find(WISH, SENDER, []) is None
    first = chain.anchor(WISH, [])
    assert count(chain) == 1
    assert chain.check(first).record == first
    assert read_transaction(bytes.fromhex(first.raw[2:])).data == WISH.data
    assert chain.anchor(WISH, [first]) == first  # from its record
    second = chain.anchor(OTHER, [first])
    assert chain.anchor(WISH, []) == first  # the record was lost: found on the chain
    assert chain.find(WISH, SENDER, [second]) == first
    assert count(chain) == 2
    artifact = cids.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
    third = chain.anchor(AnchorWish(str(artifact), artifact_digest(artifact)), [first, second])
    assert (count(chain), chain.check(third).record.subject) == (3, str(artifact))


def test_a_key_is_needed_and_must_be_that_of_the_sender(node: NodeInMemory) -> None:
    chain = chain_on(node, sender="0x" + "cd" * 20)
    with pytest.raises(UsageError, match="has the key of 0x90f79bf6"):
        chain.anchor(WISH, [])
    chain._environ = {}
    with pytest.raises(UsageError, match="ANCHOR_KEY"):
        chain.anchor(WISH, [])
    assert node.sent == 0


def test_a_fee_above_the_limit_is_refused_before_anything_is_signed(node: NodeInMemory) -> None:
    # 28,062 units of gas at 3 gwei
    with pytest.raises(SafetyError, match="may cost 84,186 gwei, and max_fee is 84,185"):
        chain_on(node, max_fee=84_185).anchor(WISH, [])
    assert node.sent == 0
    assert chain_on(node, max_fee=84_186).anchor(WISH, []).block == 1


def test_a_transaction_that_waits_is_not_sent_a_second_time(node: NodeInMemory) -> None:
    node.waiting = 1
    with pytest.raises(TransactionPendingError, match="not on the chain yet"):
        chain_on(node).anchor(WISH, [])
    assert node.sent == 0


def test_an_anchor_that_would_be_refused_is_not_sent(node: NodeInMemory) -> None:
    def refuse(_: object) -> object:
        raise RpcRefusedError(node.name, "x", reason="insufficient funds for gas", code=-32000, data=b"")

    node.lies["eth_estimateGas"] = refuse
    with pytest.raises(TransactionRefusedError, match="cannot pay the gas of the anchor") as caught:
        chain_on(node).anchor(WISH, [])
    assert (node.sent, caught.value.hint) == (0, "send its coin to this address; nothing was sent")


def test_another_chain_is_refused_before_anything_is_signed(node: NodeInMemory) -> None:
    record = chain_on(node).anchor(WISH, [])
    node.chain = 1
    for call in (lambda c: c.anchor(OTHER, []), lambda c: c.check(record)):
        with pytest.raises(UnexpectedResponseError, match="is on the chain 1, not on 31337"):
            call(chain_on(node))
    with pytest.raises(UsageError, match="is on the chain 5, and anchor names 31337"):
        chain_on(node).check(replace(record, chain=5))
    assert node.sent == 1


def test_what_was_reorganised_away_is_found_out_and_anchored_again(node: NodeInMemory) -> None:
    chain = chain_on(node)
    record = chain.anchor(WISH, [])
    node.blocks.pop()
    with pytest.raises(NotAnchoredError, match="reorganised away"):
        chain.check(record)
    again = chain.anchor(WISH, [record])
    assert node.sent == 2
    assert chain.check(again).record == again
    # it came back in another block: recorded anew, and not sent again
    moved = node.blocks.pop()["transactions"]
    node.mine()
    node.mine(*moved)
    with pytest.raises(NotAnchoredError, match="the chain was reorganised"):
        chain.check(again)
    assert (chain.anchor(WISH, [again]).block, node.sent) == (2, 2)


LIES = {
    "another input": (
        {"eth_getTransactionByHash": lambda found: {**found, "input": "0x00"}},
        "does not anchor",
    ),
    "another sender": (
        {"eth_getTransactionByHash": lambda found: {**found, "from": "0x" + "cd" * 20}},
        "does not anchor",
    ),
    "reverted": ({"eth_getTransactionReceipt": lambda found: {**found, "status": "0x0"}}, "was reverted"),
    "in no block": (
        {"eth_getBlockByNumber": lambda found: {**found, "transactions": []}},
        "reorganised away",
    ),
    "in another block": (
        {"eth_getTransactionReceipt": lambda found: {**found, "blockHash": "0x" + "33" * 32}},
        "reorganised away",
    ),
    "nothing there": ({"eth_getTransactionReceipt": lambda _: None}, "is not on the chain"),
    "still waiting": (
        {"eth_getTransactionByHash": lambda found: {**found, "blockNumber": None}},
        "is not on the chain",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_one_node_that_says_otherwise_is_enough_to_doubt(node: NodeInMemory, lie: str) -> None:
    record = chain_on(node).anchor(WISH, [])
    liar = NodeInMemory("the liar", blocks=[])
    liar.blocks = node.blocks
    lies, expected = LIES[lie]
    liar.lies = dict(lies)
    with pytest.raises(TrustError, match=f"the liar: .*{expected}"):
        chain_on(node, liar).check(record)


def test_a_node_that_answers_nonsense_is_an_error_of_the_node(node: NodeInMemory) -> None:
    record = chain_on(node).anchor(WISH, [])
    for method, answer in (
        ("eth_getTransactionReceipt", {"status": "yes", "blockNumber": "0x1"}),
        ("eth_getTransactionByHash", 3),
    ):
        node.lies = {method: lambda _, answer=answer: answer}
        with pytest.raises(UnexpectedResponseError):
            chain_on(node).check(record)


def test_a_record_whose_signed_transaction_is_another_one_is_refused_without_a_node(
    node: NodeInMemory,
) -> None:
    record = chain_on(node).anchor(WISH, [])
    for change in (
        {"transaction": "0x" + "11" * 32},
        {"nonce": 7},
        {"digest": OTHER.digest},
        {"sender": "0x" + "cd" * 20},
        {"raw": record.raw[:-2] + ("00" if record.raw[-2:] != "00" else "01")},
        {"raw": "0x02"},
    ):
        with pytest.raises(TrustError, match=r"the (signed )?transaction in it is not"):
            chain_on().check(replace(record, **change))
    with pytest.raises(DataError, match="not a signed transaction"):
        read_transaction(b"")


def test_finality_is_unknown_when_a_node_has_no_word_for_it(node: NodeInMemory) -> None:
    chain = chain_on(node)
    record = chain.anchor(WISH, [])
    assert chain.check(record).final is False
    for _ in range(3):
        node.mine()
    assert chain.check(record).final is True

    def refuse(found: object) -> object:
        if isinstance(found, dict) and found["number"] == "0x2":
            raise RpcRefusedError(node.name, "x", reason="unknown block", code=-32000, data=b"")
        return found

    node.lies["eth_getBlockByNumber"] = refuse
    assert chain.check(record).final is None


def test_what_a_node_has_forgotten_is_not_taken_for_absent(node: NodeInMemory) -> None:
    chain = chain_on(node)
    chain.anchor(OTHER, [])
    for _ in range(9):
        node.mine()
    node.forgets = 8
    with pytest.raises(PeerError, match=r"cannot say what the transaction 0 of 0x90f79bf6.* was"):
        chain.anchor(WISH, [])
    assert node.sent == 1


def test_a_node_without_raw_transactions_leaves_the_field_empty(node: NodeInMemory) -> None:
    def refuse(_: object) -> object:
        raise RpcRefusedError(node.name, "x", reason="method not found", code=-32601, data=b"")

    node.lies["eth_getRawTransactionByHash"] = refuse
    chain = chain_on(node)
    record = chain.anchor(WISH, [])
    assert record.raw == ""
    assert chain.check(record).record == record
