"""Malformed answers of a cluster end in one clear error, or are left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.net.errors import UnexpectedResponseError
from reconciler.targets.ipfs_cluster import wire

CID = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
CBOR = "bafyreibvaxtgwmftyxsmfczy2hqkcgqlm7gyuo2wk2ppvbmg3xrv4eqrrm"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
names = [
    "cid",
    "name",
    "mode",
    "type",
    "metadata",
    "peer_map",
    "allocations",
    "expire_at",
    "id",
    "ipfs",
    "value",
]
shaped = st.dictionaries(st.sampled_from(names), json_values | st.just(CID))


@given(json_values | shaped)
def test_any_json_is_read_or_an_error(value: object) -> None:
    for read in (wire.read_entry, wire.read_status, wire.read_peer, wire.read_alert, wire.read_added):
        try:
            read("cluster", value)
        except UnexpectedResponseError as error:
            assert error.message.startswith("cluster: unexpected response")


def test_pins_of_unsupported_kinds_are_left_out() -> None:
    assert wire.read_entry("cluster", {"cid": CBOR, "type": "pin"}) is None
    assert wire.read_status("cluster", {"cid": CBOR, "peer_map": {}}) is None
    assert wire.read_entry("cluster", {"cid": CID, "type": "shard-type"}) is None


def test_the_label_is_in_the_metadata_when_it_carries_our_mark() -> None:
    pin = {"cid": CID, "name": "renamed", "metadata": {"reconciler": "1", "label": "reconciler/i/m@1"}}
    entry = wire.read_entry("cluster", pin)
    assert entry is not None
    assert entry.label == "reconciler/i/m@1"
    pin["metadata"] = {"label": "reconciler/i/m@1"}
    entry = wire.read_entry("cluster", pin)
    assert entry is not None
    assert entry.label == "renamed"


def test_the_zero_time_of_go_is_no_expiry() -> None:
    for text, year in (
        ("0001-01-01T00:00:00Z", None),
        ("2026-12-21T01:06:00.123456789Z", 2026),
        ("soon", None),
    ):
        entry = wire.read_entry("cluster", {"cid": CID, "expire_at": text})
        assert entry is not None
        assert (entry.expires.year if entry.expires else None) == year


def test_a_missing_peer_is_named_by_an_alert_or_by_the_end_of_its_id() -> None:
    dead, unnamed = "12D3KooWD1m1cEb8VrWSpGhF7sJsFV2LoMFA4BMB", "12D3KooWHqZAtk8uEt1ZjSHiabWMPjJWtQMH8iHC"
    values = [(dead, '{"peer_name":"peer2"}'), (dead, "72057594"), (unnamed, "not json"), ("back", "{}")]
    alerts = [wire.read_alert("cluster", {"peer": peer, "value": value}) for peer, value in values]
    there = wire.read_peer("cluster", {"id": "back", "peername": "peer9"})
    assert wire.missing_peers([there], alerts) == {dead: "peer2", unnamed: "…" + unnamed[-8:]}
    assert wire.missing_peers([there], reversed(alerts))[dead] == "peer2"


@pytest.mark.parametrize("answer", [[], [{}, {}], "x", None, [[]]])
def test_an_answer_of_add_without_exactly_one_root_is_an_error(answer: object) -> None:
    with pytest.raises(UnexpectedResponseError, match="one added CAR"):
        wire.read_added("cluster", answer)
