"""Nodes that are down, behind, limited, lying or malformed never make a wrong answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from reconciler.deals.chain import MAINNET
from reconciler.deals.json_rpc import JsonRpc, RpcCall, RpcRefusedError, open_json_rpc
from reconciler.deals.onchain import calls
from reconciler.deals.onchain.interface import DataSetState, EvmAddress, Network
from reconciler.deals.onchain.networks import NETWORKS, open_nodes, read_network
from reconciler.deals.onchain.nodes import ChainNodes
from reconciler.deals.onchain.reader import ChainReader
from reconciler.errors import Reason, UsageError
from reconciler.net.errors import (
    RejectedError,
    RequestError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.retry import RetryBudget
from tests.support.http_peer import Asked, Said
from tests.support.onchain.contracts import ADDRESSES
from tests.support.onchain.fake_chain import FakeChain
from tests.support.onchain.lab import OWNERS, OnchainLab, onchain_lab
from tests.support.onchain.payer import Payer, options, piece, pieces

P = pieces(3)


@pytest.fixture
def labs() -> Iterator[list[OnchainLab]]:
    """Three nodes with the same contracts and blocks."""
    with ExitStack() as stack:
        yield [stack.enter_context(onchain_lab()) for _ in range(3)]


OPENED: list[ChainNodes | JsonRpc] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def nodes_of(labs: list[OnchainLab], **more: object) -> ChainNodes:
    rpc: dict[str, object] = {"rpc": [lab.url for lab in labs]}
    return opened(options(labs[0]) | rpc | more)


def opened(keys: dict[str, object]) -> ChainNodes:
    nodes = open_nodes(keys, {}, name="filecoin", budget=RetryBudget(retries=0))
    OPENED.append(nodes)
    return nodes


def lone_node(lab: OnchainLab) -> JsonRpc:
    OPENED.append(node := open_json_rpc(lab.url, name="node"))
    return node


def fake(lab: OnchainLab) -> FakeChain:
    assert lab.fake is not None
    return lab.fake


def down(_: Asked) -> Said:
    return Said(503, b"down")


def test_one_of_three_nodes_may_be_down_on_another_chain_or_behind(labs: list[OnchainLab]) -> None:
    def other_chain(node: FakeChain) -> None:
        node.chain_id = 314

    def behind(node: FakeChain) -> None:
        node.head_offset = -1

    def silent(node: FakeChain) -> None:
        node.refuse = down

    for fault in (other_chain, silent, behind):
        fault(fake(labs[1]))
        view = ChainReader(nodes_of(labs)).view()
        assert view.block.number == labs[0].head - (fault is behind)
        if fault is not behind:
            assert any("the RPC of filecoin (2 of 3)" in note for note in view.contracts.notes)
        fake(labs[1]).refuse, fake(labs[1]).chain_id, fake(labs[1]).head_offset = None, 31415926, 0


def test_with_too_few_good_nodes_nothing_is_known(labs: list[OnchainLab]) -> None:
    fake(labs[0]).refuse = fake(labs[2]).refuse = down
    with pytest.raises(TransientError, match="503"):
        ChainReader(nodes_of(labs)).view()
    assert ChainReader(nodes_of(labs, quorum=1)).view().block.number == labs[1].head


def test_a_node_that_lies_alone_is_outvoted_and_two_that_disagree_leave_unknown(
    labs: list[OnchainLab],
) -> None:
    def lie(to: str, data: bytes, answer: bytes) -> bytes:
        return (1).to_bytes(32, "big") if data.startswith(calls.LIVE.selector) else answer

    fake(labs[0]).lie = lie
    state = ChainReader(nodes_of(labs)).view().data_sets([5])[5]
    assert isinstance(state, DataSetState)
    assert not state.live
    found = ChainReader(nodes_of(labs[:2])).view().data_sets([5])[5]
    assert isinstance(found, Reason)
    assert "only 1 of 2 nodes give the same answer, and 2 must" in found.text
    alone = ChainReader(nodes_of(labs[:1])).view().data_sets([5])[5]  # it answers nothing else about the set
    assert isinstance(alone, DataSetState | Reason)


def test_nodes_on_two_branches_are_read_where_enough_of_them_agree(labs: list[OnchainLab]) -> None:
    for lab in labs:
        lab.mine(5)
    fake(labs[0]).replace_blocks(labs[0].head - 1)
    assert ChainReader(nodes_of(labs)).view().block.number == labs[0].head
    fake(labs[1]).replace_blocks(labs[1].head - 1)
    fake(labs[1]).replace_blocks(labs[1].head - 1)  # three branches now
    view = ChainReader(nodes_of(labs)).view()
    assert view.block.number == labs[0].head - 2
    for number in (0, 1, 1):
        fake(labs[number]).replace_blocks(0)
    with pytest.raises(UnexpectedResponseError, match="3 nodes do not agree on block"):
        ChainReader(nodes_of(labs)).view()


def test_a_reorganisation_between_two_reads_is_noticed(fake_payer: Payer) -> None:
    view = fake_payer.view()
    view.confirm()
    fake_payer.lab.mine(3)
    view.confirm()
    fake(fake_payer.lab).replace_blocks(view.block.number)
    with pytest.raises(TransientError, match=f"block {view.block.number} was replaced"):
        view.confirm()


def test_a_head_that_does_not_match_the_clock_is_refused() -> None:
    with onchain_lab(chain_id=314) as lab:
        network = Network(MAINNET, 314, EvmAddress.parse(lab.service))
        now = MAINNET.date(lab.head)
        assert now is not None
        for late, words in (
            (121, "121 epochs behind"),
            (-121, "121 epochs in the future"),
            (120, ""),
            (-120, ""),
        ):
            rpc = open_json_rpc(lab.url, name="node")
            moment = now + late * timedelta(seconds=30)
            nodes = ChainNodes([rpc], network, clock=lambda moment=moment: moment)  # type: ignore[misc]
            if words:
                with pytest.raises(UnexpectedResponseError, match=words):
                    nodes.pin()
            else:
                assert nodes.pin().number == lab.head
            nodes.close()


def test_a_node_on_another_network_names_both(fake_payer: Payer) -> None:
    nodes = opened({"rpc": fake_payer.lab.url})
    with pytest.raises(UnexpectedResponseError, match=r"is on the chain 31415926, not on mainnet \(314\)"):
        nodes.pin()


def answer(value: Any) -> Callable[[Asked], Said]:
    """Answer every call with `value` as its result."""

    def respond(asked: Asked) -> Said:
        body = json.loads(asked.body)
        listed = body if isinstance(body, list) else [body]
        found = [{"jsonrpc": "2.0", "id": each["id"], "result": value} for each in listed]
        return Said(200, json.dumps(found if isinstance(body, list) else found[0]).encode())

    return respond


def raw(body: bytes, status: int = 200) -> Callable[[Asked], Said]:
    return lambda _: Said(status, body)


BAD = [
    answer(None), answer(5), answer("0x"), answer("0xzz"), answer([]), answer({}), answer("5"),
    answer("0x" + "f" * 20), raw(b""), raw(b"null"), raw(b"[]"), raw(b"{}"), raw(b"[null,null]"),
    raw(b"[[]]"),
    raw(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"bad"}}'), raw(b"<html>", 502),
    raw(b'[{"id":1,"result":"0x1"},{"id":1,"result":"0x1"}]'), raw(b'[{"id":1,"result":"0x1"}]'),
    raw(b'[{"id":9,"result":"0x1"},{"id":2,"result":"0x1"}]'), raw(b"[" * 100_000), raw(b"no", 500),
    raw(b'{"error":"no"}', 401), raw(b"{}", 404),
]  # fmt: skip


@pytest.mark.parametrize("refusal", BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_malformed_answer_of_a_node_is_one_error(
    fake_payer: Payer, refusal: Callable[[Asked], Said]
) -> None:
    fake(fake_payer.lab).refuse = refusal
    with pytest.raises(RequestError) as caught:
        ChainReader(nodes_of([fake_payer.lab])).view()
    assert caught.value.message.startswith("the RPC of filecoin: ")
    assert len(caught.value.message.splitlines()) == 1


LIMITED = [
    Said(429, b"slow down", {"Retry-After": "0"}),
    Said(200, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"limit exceeded"}}'),
    Said(200, b'[{"id":1,"error":{"code":-32000,"message":"Too Many Requests"}},{"id":2,"result":"0x1"}]'),
]


@pytest.mark.parametrize("said", LIMITED)
def test_a_node_that_asks_for_a_pause_is_a_typed_error(fake_payer: Payer, said: Said) -> None:
    fake(fake_payer.lab).refuse = lambda _: said
    with pytest.raises(RetryLaterError):
        ChainReader(nodes_of([fake_payer.lab])).view()


def test_a_node_without_batches_gets_the_calls_one_by_one(fake_payer: Payer) -> None:
    node = fake(fake_payer.lab)
    data_set = fake_payer.create(1, P)
    whole = fake_payer.state(data_set)
    node.batches = False
    assert ChainReader(nodes_of([fake_payer.lab])).view().data_sets([data_set])[data_set] == whole
    lone = lone_node(fake_payer.lab)
    asked = len(node.asked)
    found = lone.batch([RpcCall("eth_chainId"), RpcCall("eth_none"), RpcCall("eth_blockNumber")])
    assert [isinstance(each, RpcRefusedError) for each in found] == [False, True, False]
    lone.batch([RpcCall("eth_chainId"), RpcCall("eth_chainId")])
    assert len(node.asked) == asked + 1 + 3 + 2  # the batch was tried once


def test_a_refusal_keeps_the_bytes_of_the_contract(fake_payer: Payer) -> None:
    lone = lone_node(fake_payer.lab)
    call = {"to": ADDRESSES["verifier"], "data": "0x" + calls.LEAVES.data(99).hex()}
    with pytest.raises(RpcRefusedError) as caught:
        lone.call("eth_call", (call, "latest"))
    assert (caught.value.code, caught.value.data.hex()) == (3, "5d946944")
    assert isinstance(caught.value, RejectedError)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"network": "testnet"}, "unknown network 'testnet'"),
        ({"contract": "0x12"}, "contract: not an address"),
        ({"contract": None}, "the network 'devnet' has no contract of its own"),
        ({"rpc": []}, "rpc names 0 nodes"),
        ({"rpc": None}, "rpc names 0 nodes"),
        ({"rpc": ["http://127.0.0.1:1/rpc"] * 10}, "rpc names 10 nodes"),
        ({"rpc": "ftp://node"}, "neither http nor https"),
        ({"rpc": "http://user:hunter2@node/rpc"}, "contains a user name or password"),
        ({"quorum": 0}, "quorum: 0 is not a number from 1 to 1"),
        ({"quorum": 2}, "quorum: 2 is not a number from 1 to 1"),
        ({"quorum": "all"}, "quorum: 'all' is not a number"),
        ({"quorum": True}, "quorum: True is not a number"),
        ({"rpc_token_env": "TOKEN"}, "'TOKEN' is not set"),
    ],
)
def test_an_invalid_configuration_names_the_target(more: dict[str, object], message: str) -> None:
    base: dict[str, object] = {"network": "devnet", "rpc": "http://127.0.0.1:1", "contract": "0x" + "11" * 20}
    with pytest.raises(UsageError) as caught:
        open_nodes(base | more, {}, name="filecoin")
    assert message in caught.value.message
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_the_public_networks_need_no_address() -> None:
    for name in ("mainnet", "calibration"):
        assert read_network({"network": name}, "filecoin") is NETWORKS[name]
        open_nodes({"network": name}, {}, name="filecoin").close()
    assert read_network({}, "filecoin").chain_id == 314


# --- contracts that answer something else


def lies(selector: bytes, replacement: bytes) -> Callable[[str, bytes, bytes], bytes]:
    return lambda _, data, found: replacement if data.startswith(selector) else found


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


SHORT, LONG_WORD = bytes(16), word(1 << 200)
READS = ("DATA_SET", "LIVE", "ACTIVATION", "DEADLINE", "PROVEN_THIS_PERIOD", "DATA_SET_METADATA", "LISTENER",
         "LEAVES", "REMOVALS", "NEXT_PIECE", "PIECE_COUNT", "PIECES", "PROVEN_PERIODS")  # fmt: skip


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("answer", [b"", SHORT, word(2) + SHORT], ids=["nothing", "short", "cut off"])
def test_a_data_set_with_a_malformed_answer_is_unknown_and_the_others_are_not(
    fake_payer: Payer, name: str, answer: bytes
) -> None:
    data_set = fake_payer.create(1, P)
    fake_payer.lab.prove_period(1, data_set)
    fake(fake_payer.lab).lie = lambda _, data, found: (
        answer if data == getattr(calls, name).selector + data[4:] and data[4:36] == word(data_set) else found
    )
    found = fake_payer.view().data_sets([data_set, 99])
    assert isinstance(found[data_set], Reason)
    assert f"data set {data_set}: " in str(found[data_set])
    assert isinstance(found[99], DataSetState)


@pytest.mark.parametrize(
    ("call", "replacement", "reason"),
    [
        (calls.PIECE_COUNT, word(2), "3 of 2 active pieces were listed"),
        (calls.PIECE_COUNT, word(4), "4 active pieces, with ids below 3, are impossible or too many"),
        (calls.NEXT_PIECE, word(1 << 60), "are impossible or too many"),
        (calls.LIVE, word(2), "neither 0 nor 1"),
        (calls.LIVE, LONG_WORD, "neither 0 nor 1"),
        (calls.PROVEN_THIS_PERIOD, LONG_WORD, "neither 0 nor 1"),
        (calls.ACTIVATION, LONG_WORD, "is impossible"),
        (calls.DEADLINE, LONG_WORD, "is impossible"),
        (calls.LEAVES, LONG_WORD, "are impossible"),
        (calls.CHALLENGED, LONG_WORD, "are impossible"),
        (calls.LISTENER, LONG_WORD, "longer than 20 bytes"),
        (calls.DATA_SET, LONG_WORD * 13, "longer than 20 bytes"),
        (calls.REMOVALS, LONG_WORD, "points outside it"),
        (calls.PIECES, LONG_WORD * 3, "points outside it"),
        (calls.DATA_SET_METADATA, LONG_WORD * 2, "points outside it"),
        (calls.PIECE_COUNT, LONG_WORD, "are impossible or too many"),
        (calls.PIECES, word(96) + word(128) + word(0) + word(0) + word(1) + word(5), "0 pieces have 1 ids"),
        (calls.DATA_SET_METADATA, word(64) + word(96) + word(0) + word(1) + word(32) + word(0),
         "its metadata has 0 keys and 1 values"),
    ],
)  # fmt: skip
def test_answers_that_contradict_each_other_are_unknown(
    fake_payer: Payer, call: calls.Call, replacement: bytes, reason: str
) -> None:
    data_set = fake_payer.create(1, P)
    fake(fake_payer.lab).lie = lies(call.selector, replacement)
    found = fake_payer.state(data_set)
    assert isinstance(found, Reason)
    assert reason in found.text


def test_a_longer_tuple_of_a_newer_contract_is_read_by_place(fake_payer: Payer) -> None:
    data_set = fake_payer.create(1, P)
    before = fake_payer.state(data_set)
    fake(fake_payer.lab).lie = lambda _, data, found: (
        found + word(7) * 3 if data[:4] in (calls.DATA_SET.selector, calls.PRICE_LIST.selector) else found
    )
    assert fake_payer.state(data_set) == before


def test_a_piece_that_is_no_piece_cid_is_listed_without_one(fake_payer: Payer) -> None:
    data_set = fake_payer.create(1, P)
    node = fake(fake_payer.lab)
    node.contracts.sets[data_set].pieces[1] = b"\x01\x55\x12\x20" + bytes(32)
    state = fake_payer.state(data_set)
    assert isinstance(state, DataSetState)
    assert [each.piece for each in state.pieces] == [P[0], None, P[2]]


def test_a_contract_of_an_unknown_version_stops_everything(fake_payer: Payer) -> None:
    for role, version in (
        ("service", "1.5.0"),
        ("verifier", "4.0.0"),
        ("service", "x" * 500),
        ("service", ""),
    ):
        fake_payer.lab.send(OWNERS[3], ADDRESSES[role], "become(string)", version)
        with pytest.raises(UnexpectedResponseError, match="which this program does not know") as caught:
            fake_payer.view()
        assert len(caught.value.message) < 300
        fake_payer.lab.send(OWNERS[3], ADDRESSES["service"], "become(string)", "1.3.9")
        fake_payer.lab.send(OWNERS[3], ADDRESSES["verifier"], "become(string)", "3.5.0")
    fake_payer.lab.send(OWNERS[3], ADDRESSES["service"], "become(string)", "1.4.0")
    assert fake_payer.view().contracts.service_version == "1.4.0"


def test_an_announced_upgrade_is_a_note(payer: Payer) -> None:
    assert payer.view().contracts.notes == ()
    payer.lab.tell("announce(address,uint96)", OWNERS[3], 777)
    assert payer.view().contracts.notes == (
        f"an upgrade of FilecoinWarmStorageService to {OWNERS[3]} was announced for epoch 777",
        f"an upgrade of PDPVerifier to {OWNERS[3]} was announced for epoch 777",
    )


def test_the_view_is_asked_for_in_every_run(payer: Payer) -> None:
    before = payer.view().contracts.view
    payer.lab.tell("moveView()")
    after = payer.view()
    assert after.contracts.view != before
    assert after.data_set_ids(payer.key.address) == ()


def test_where_no_contract_is_this_is_said_and_nothing_is_zero(payer: Payer) -> None:
    nodes = opened(options(payer.lab) | {"contract": "0x" + "99" * 20})
    with pytest.raises(UnexpectedResponseError, match="there is no contract, or it does not know the call"):
        ChainReader(nodes).view()


def test_a_price_list_or_period_that_cannot_be_is_an_error(fake_payer: Payer) -> None:
    for call, replacement in (
        (calls.PRICE_LIST, SHORT),
        (calls.PDP_CONFIG, word(0) * 4),
        (calls.VIEW, SHORT),
    ):
        fake(fake_payer.lab).lie = lies(call.selector, replacement)
        with pytest.raises(UnexpectedResponseError):
            fake_payer.view()


# --- what there is to read


def test_providers_are_read_from_the_registry(payer: Payer) -> None:
    payer.lab.tell("retire(uint256)", 2)
    view = payer.view()
    assert view.provider_ids() == (1,)
    assert view.approved_ids() == {1, 2}
    found = view.providers([1, 2, 3, 1])
    assert list(found) == [1, 2, 3]
    first, second, third = found.values()
    assert (first.name, first.url, first.active) == ("alpha", "http://127.0.0.1:1", True)  # type: ignore[union-attr]
    assert second.active is False  # type: ignore[union-attr]
    assert isinstance(third, Reason)
    assert view.endorsed_ids() == frozenset()


def test_many_data_sets_and_pieces_are_read_in_few_requests() -> None:
    """1,000 pieces in 10 data sets, with gaps."""
    with onchain_lab() as lab:
        payer, node = Payer(lab), fake(lab)
        OPENED.append(payer.nodes)
        sets = [payer.create(1, [piece(number)], generation=number) for number in range(10)]
        for number, data_set in enumerate(sets):
            found = node.contracts.sets[data_set]
            found.pieces = [bytes(each) for each in pieces(105, first=number * 1000)]
            found.leaves = [0 if each % 21 == 4 else 505 for each in range(105)]
        before = len(node.asked)
        view = payer.view()
        states = view.data_sets(view.data_set_ids(payer.key.address))
        view.account(payer.key.address)
        view.confirm()
        assert len(node.asked) - before <= 30
        assert [len(state.pieces) for state in states.values()] == [100] * 10  # type: ignore[union-attr]


@pytest.mark.slow
def test_ten_thousand_pieces_in_one_data_set_are_read(fake_payer: Payer) -> None:
    data_set, node = fake_payer.create(1, P), fake(fake_payer.lab)
    big = node.contracts.sets[data_set]
    big.pieces, big.leaves = [bytes(piece(1))] * 10_000, [505] * 10_000
    before = len(node.asked)
    state = fake_payer.state(data_set)
    assert isinstance(state, DataSetState)
    assert [each.id for each in state.pieces] == list(range(10_000))
    assert len(node.asked) - before <= 10


def test_endorsed_providers_are_read_where_the_network_lists_them(payer: Payer) -> None:
    payer.lab.tell("endorse(uint256)", 2)
    network = payer.nodes.network
    listed = Network(network.chain, network.chain_id, network.service, EvmAddress.parse(payer.lab.endorsed))
    nodes = ChainNodes([lone_node(payer.lab)], listed)
    assert ChainReader(nodes).view().endorsed_ids() == {2}
