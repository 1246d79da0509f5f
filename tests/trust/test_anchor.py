"""Anchors: their records, and what a node may answer about one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.errors import DataError, TrustError
from reconciler.trust.anchor import (
    AnchorKind,
    AnchorRecord,
    NotAnchoredError,
    SeenTransaction,
    anchor_data,
    checkpoint_digest,
    judge_anchor,
    parse_anchor,
)

SENDER = "0x" + "ab" * 20
RECORD = AnchorRecord(700, b"\x05" * 32, 31337, "0x" + "11" * 32, SENDER, 4, 9, "0x" + "22" * 32, "0x02f8")
SEEN = SeenTransaction(
    SENDER, SENDER, RECORD.data, True, 9, RECORD.block_hash, RECORD.block_hash, True, 1796022000, True
)


def test_the_data_on_the_chain_is_37_bytes_that_name_the_kind() -> None:
    assert RECORD.data == b"RCL\x01\x01" + b"\x05" * 32
    assert anchor_data(AnchorKind.ARTIFACT, bytes(32)) == b"RCL\x01\x02" + bytes(32)
    assert checkpoint_digest("a\n1\nx\n").hex().startswith("8f9d60f8")


def test_a_record_is_read_back() -> None:
    assert parse_anchor(RECORD.render(), RECORD.path) == RECORD
    artifact = replace(RECORD, subject="bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", raw="")
    assert parse_anchor(artifact.render(), artifact.path) == artifact
    assert artifact.data != RECORD.data


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("size", 0),
        ("digest", "05"),
        ("chain", "31337"),
        ("transaction", "0x11"),
        ("sender", "0xAB"),
        ("nonce", -1),
        ("block_hash", None),
        ("raw", "02f8"),
    ],
)
def test_malformed_records_are_refused(key: str, value: object) -> None:
    fields = json.loads(RECORD.render()) | {key: value}
    with pytest.raises(DataError, match=r"anchors/700\.json is not an anchor"):
        parse_anchor(json.dumps(fields).encode(), RECORD.path)


def test_a_record_of_something_else_and_what_is_no_json_are_refused() -> None:
    with pytest.raises(DataError, match="has the anchor of 700"):
        parse_anchor(RECORD.render(), "anchors/701.json")
    with pytest.raises(DataError, match="is not an anchor"):
        parse_anchor(b"\xff", RECORD.path)


def test_what_is_on_the_chain_is_dated() -> None:
    found = judge_anchor(RECORD, SEEN, "node")
    assert (f"{found.time:%Y-%m-%dT%H:%M:%S}", found.final) == ("2026-11-30T07:00:00", True)
    assert judge_anchor(RECORD, replace(SEEN, final=None), "node").final is None


@pytest.mark.parametrize(
    ("seen", "expected", "kind"),
    [
        (None, "is not on the chain", NotAnchoredError),
        (replace(SEEN, succeeded=False), "was reverted", TrustError),
        (replace(SEEN, chain_block="0x" + "33" * 32), "was reorganised away", NotAnchoredError),
        (replace(SEEN, listed=False), "was reorganised away", NotAnchoredError),
        (replace(SEEN, block=10), "the chain was reorganised", NotAnchoredError),
        (replace(SEEN, data=RECORD.data[:-1] + b"x"), "does not anchor this digest", TrustError),
        (replace(SEEN, data=anchor_data(AnchorKind.ARTIFACT, RECORD.digest)), "does not anchor", TrustError),
        (replace(SEEN, sender="0x" + "cd" * 20), "another sender", TrustError),
        (replace(SEEN, to="0x" + "cd" * 20), "another sender", TrustError),
    ],
)
def test_anything_else_anchors_nothing(
    seen: SeenTransaction | None, expected: str, kind: type[TrustError]
) -> None:
    with pytest.raises(kind, match=expected) as caught:
        judge_anchor(RECORD, seen, "node")
    assert str(caught.value).startswith("node: ")
