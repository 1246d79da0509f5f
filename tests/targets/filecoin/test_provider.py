"""The HTTP API of providers: what is accepted of their answers, and how providers are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.onchain.interface import EvmAddress, StorageProvider
from reconciler.errors import PeerError
from reconciler.net.retry import RetryBudget
from reconciler.targets.filecoin.choose import Candidates, assign, rank
from reconciler.targets.filecoin.provider import PiecePull, ProviderClient, PullState
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.onchain.payer import piece

ADDRESS = EvmAddress(b"\3" * 20)
P = piece(1)


def provider(number: int, url: str = "http://127.0.0.1:1", **fields: object) -> StorageProvider:
    return StorageProvider(number, ADDRESS, ADDRESS, "alpha", url, True, **fields)  # type: ignore[arg-type]


def ask(said: Said, question: Callable[[ProviderClient], object]) -> tuple[object, list[Asked]]:
    with http_peer(lambda _: said) as peer:
        client = ProviderClient(provider(3, peer.url), public_only=False, budget=RetryBudget(0))
        try:
            return question(client), peer.asked
        finally:
            client.close()


@pytest.mark.parametrize(
    ("said", "question", "message"),
    [
        (Said(200, b"ok"), lambda c: c.ping(), "answered the ping with something else"),
        (Said(200, b"<html>curio-pdp"), lambda c: c.ping(), "answered the ping with something else"),
        (Said(201), lambda c: c.begin_upload(), "without a usable Location"),
        (
            Said(201, headers={"Location": "https://evil.example/pdp/x"}),
            lambda c: c.begin_upload(),
            "without a usable Location",
        ),
        (
            Said(201, headers={"Location": "/pdp/../../admin"}),
            lambda c: c.begin_upload(),
            "without a usable Location",
        ),
        (Said(206, b"12"), lambda c: c.read(P, 0, 3), "answered with 2 bytes of a range of 3"),
        (Said(206, b"1234"), lambda c: c.read(P, 0, 3), "more than 3 bytes"),
        (Said(200, b"123"), lambda c: c.read(P, 0, 3), "HTTP 200"),
        (Said(200, b"{}"), lambda c: c.is_settled("pdp/x"), "txStatus"),
        (Said(200, b"[]"), lambda c: c.is_settled("pdp/x"), "answered with JSON in which"),
        (Said(302, headers={"Location": "/x"}), lambda c: c.has(P), "redirects"),
        (Said(413, b"too large"), lambda c: c.has(P), "too large"),
        (
            Said(200, json.dumps({"pieces": [{"pieceCid": str(P), "status": "lost"}]}).encode()),
            lambda c: c.pull(PiecePull(ADDRESS, 0, {P: ["https://a.example"]}, b"\1")),
            "status",
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_the_provider(
    said: Said, question: Callable[[ProviderClient], object], message: str
) -> None:
    with pytest.raises(PeerError, match=r"provider 3 \(alpha\)") as caught:
        ask(said, question)
    assert message in caught.value.message


def test_a_pull_names_pieces_and_sources_and_reads_the_state_of_each() -> None:
    other = piece(2)
    states = [{"pieceCid": str(P), "status": "failed"}, {"pieceCid": str(P), "status": "complete"}]
    request = PiecePull(
        ADDRESS, 7, {P: ["https://a.example", "https://b.example"], other: ["https://a.example"]}, b"\1"
    )
    found, asked = ask(Said(200, json.dumps({"pieces": states}).encode()), lambda c: c.pull(request))
    assert found == {P: PullState.COMPLETE, other: PullState.RUNNING}
    body = json.loads(asked[0].body)
    assert (body["dataSetId"], body["extraData"], body["recordKeeper"]) == (7, "0x01", str(ADDRESS))
    assert body["pieces"][1] == {"pieceCid": str(P), "sourceUrl": f"https://b.example/piece/{P}"}


@pytest.mark.parametrize(
    "url", ["http://provider.example", "ftp://provider.example", "", "https://u:p@x.example"]
)
def test_addresses_from_the_registry_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(PeerError, match="provider 3"):
        ProviderClient(provider(3, url))


def test_addresses_of_private_networks_are_not_connected_to() -> None:
    client = ProviderClient(provider(3, "https://127.0.0.1:9"), budget=RetryBudget(0))
    with pytest.raises(PeerError, match="provider 3"):
        client.ping()
    client.close()


# --- the choice

IDS = st.frozensets(st.integers(1, 6))


@given(
    usable=st.lists(st.integers(1, 6), unique=True),
    healthy=st.lists(IDS, min_size=1, max_size=4),
    spoiled=IDS,
    copies=st.integers(1, 4),
)
def test_no_provider_gets_a_second_copy_and_none_is_bought_in_vain(
    usable: list[int], healthy: list[frozenset[int]], spoiled: frozenset[int], copies: int
) -> None:
    found = assign(
        [provider(each) for each in usable], [1000] * len(healthy), healthy, [spoiled] * len(healthy), copies
    )
    given_to = [
        [task.provider.id for task in found.tasks if number in task.shards] for number in range(len(healthy))
    ]
    missing = 0
    for number, good in enumerate(healthy):
        assert not set(given_to[number]) & (good | spoiled)
        assert len(set(given_to[number])) == len(given_to[number])
        need = max(0, copies - len(good))
        assert len(given_to[number]) <= need
        missing += need - len(given_to[number])
    assert found.missing == missing
    if missing:
        assert all(
            set(usable) <= good | spoiled | set(mine) or len(mine) == max(0, copies - len(good))
            for good, mine in zip(healthy, given_to, strict=True)
        )


def test_preference_is_by_what_it_has_then_data_sets_endorsement_and_approval() -> None:
    all_of_them = {number: provider(number) for number in range(1, 8)}
    all_of_them[7] = StorageProvider(7, ADDRESS, ADDRESS, "gone", "https://x.example", False)
    candidates = Candidates(
        all_of_them, endorsed=frozenset({5, 7}), approved=frozenset({4}), with_data_set=frozenset({6})
    )
    order = [each.id for each in rank(candidates, ADDRESS, {2: 1})]
    assert order[:4] == [2, 6, 5, 4]
    assert sorted(order[4:]) == [1, 3]
    named = Candidates(all_of_them, named=(3, 1, 9))
    assert [each.id for each in rank(named, ADDRESS, {})] == [3, 1]


def test_a_provider_with_other_sizes_is_passed_over() -> None:
    small = provider(1, max_piece=500)
    found = assign([small, provider(2, min_piece=127)], [1000], [frozenset()], [frozenset()], 1)
    assert [task.provider.id for task in found.tasks] == [2]
