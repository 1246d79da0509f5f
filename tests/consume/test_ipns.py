"""An index under an IPNS name: only records signed by the owner of the name are used, from any source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.ipns import RECORD_LIMIT, IpnsName, IpnsRecord, parse_ipns_name, verify_record
from reconciler.consume.remote_index import open_remote
from reconciler.content import varint
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.errors import DataError, SafetyError, UsageError
from reconciler.net.retry import NO_RETRY
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.kubo_node import kubo_node

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"owner of the name".ljust(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"somebody else".ljust(32))
PATH = "/ipfs/bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"
CID_A = "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"
CID_B = "bafybeihmoglmxezqm6bqoiauzrvzwg3c46fp22wrm2b2of6jwewj5j2tdq"


def name_of(key: Ed25519PrivateKey) -> str:
    data = b"\x01\x72\x00\x24\x08\x01\x12\x20" + key.public_key().public_bytes_raw()
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"k{digits}"


NAME = parse_ipns_name(name_of(KEY))


def cbor(value: object) -> bytes:
    def head(major: int, size: int) -> bytes:
        if size < 24:
            return bytes([major << 5 | size])
        return (
            bytes([major << 5 | 27]) + size.to_bytes(8, "big")
            if size > 255
            else bytes([major << 5 | 24, size])
        )

    match value:
        case int():
            return head(0, value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value)) + value.encode()
        case dict():
            return head(5, len(value)) + b"".join(cbor(key) + cbor(each) for key, each in value.items())
    raise AssertionError(value)


def signed_data(**changes: object) -> bytes:
    until = (NOW + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z").encode()
    fields = {"TTL": 1000, "Value": PATH.encode(), "Sequence": 3, "Validity": until, "ValidityType": 0}
    return cbor({key: value for key, value in (fields | changes).items() if value is not None})


def sealed(data: bytes, key: Ed25519PrivateKey = KEY) -> bytes:
    """Return the record as Kubo writes it, with the fields of version 1."""

    def chunk(number: int, body: bytes) -> bytes:
        return varint.encode(number << 3 | 2) + varint.encode(len(body)) + body

    first = chunk(1, PATH.encode()) + varint.encode(3 << 3) + b"\0" + varint.encode(5 << 3) + b"\x03"
    return first + chunk(8, key.sign(b"ipns-signature:" + data)) + chunk(9, data)


def test_a_record_signed_by_the_owner_is_read() -> None:
    record = verify_record(NAME, sealed(signed_data()), NOW)
    assert record == IpnsRecord(PATH, (NOW + timedelta(hours=1)), 3)


@pytest.mark.parametrize(
    ("data", "wording"),
    [
        (sealed(signed_data(), OTHER), "was not signed by the owner"),
        (sealed(signed_data())[:-1], "truncated"),
        (b"", "without a signature"),
        (b"<html>", "not the expected protobuf"),
        (bytes(RECORD_LIMIT + 1), "the limit is"),
        (sealed(signed_data(Validity=b"2026-11-21T11:59:59Z")), "expired at 2026-11-21 11:59 UTC"),
        (sealed(signed_data(Validity=b"tomorrow")), "malformed time"),
        (sealed(signed_data(Value=b"\xff")), "malformed time or value"),
        (sealed(signed_data(Value=None)), "without a value"),
        (sealed(signed_data(ValidityType=1)), "without a value"),
        (sealed(signed_data(Sequence=b"3")), "without a value"),
        (sealed(cbor("text")), "not a map"),
    ],
)
def test_every_other_record_has_its_own_error(data: bytes, wording: str) -> None:
    with pytest.raises(DataError, match=wording):
        verify_record(NAME, data, NOW)


def test_no_flipped_bit_changes_what_is_read() -> None:
    whole = sealed(signed_data())
    meant = verify_record(NAME, whole, NOW)
    for at in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        try:
            assert verify_record(NAME, bytes(changed), NOW) == meant, "only unsigned fields may change"
        except DataError:
            continue


@given(st.binary(max_size=300))
def test_random_bytes_are_a_data_error(data: bytes) -> None:
    with pytest.raises(DataError):
        verify_record(NAME, data, NOW)
    with pytest.raises(DataError):
        verify_record(NAME, sealed(data), NOW)


@pytest.mark.parametrize(
    "text",
    [
        "models.example",
        "k",
        "k51",
        "",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        "k" + "z" * 99,
        CID_A,
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ipns_name(text)


def test_the_error_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(UsageError, match="needs the extra `ipns`"):
        verify_record(NAME, sealed(signed_data()), NOW)


@dataclass
class Host:
    """A gateway that serves one record, and raw blocks."""

    record: bytes = b""
    blocks: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Said:
        self.asked.append(asked.target)
        if asked.target.startswith("/ipns/"):
            assert asked.target == f"/ipns/{NAME.text}?format=ipns-record"
            return Said(200, self.record, {"Content-Type": "application/vnd.ipfs.ipns-record"})
        block = self.blocks.get(asked.target.removeprefix("/ipfs/").partition("?")[0])
        return Said(404) if block is None else Said(200, block)

    def publish(self, sequence: int, *cids: str) -> Cid:
        lines = [f'      "{number}.0.0": {{cid: {cid}}}\n' for number, cid in enumerate(cids, 1)]
        index = ("schema: 1\nid: acme\nmodels:\n  llm:\n    versions:\n" + "".join(lines)).encode()
        root = hash_block(RAW, index)
        self.blocks[str(root)] = index
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        self.record = sealed(signed_data(Value=f"/ipfs/{root}".encode(), Sequence=sequence, Validity=until))
        return root


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def read(host: Host, tmp_path: Path) -> Iterator[Callable[[], str]]:
    def index() -> str:
        return open_remote(f"ipns://{NAME.text}", tmp_path, sources=[gateway]).file.read_text()

    with http_peer(host) as peer, closing(GatewaySource(peer.url, retry=NO_RETRY)) as gateway:
        yield index


def test_the_index_of_a_name_is_read_and_revalidated(host: Host, read: Callable[[], str]) -> None:
    host.publish(1, CID_A)
    assert CID_A in read()
    host.asked.clear()
    assert CID_A in read()
    assert len(host.asked) == 1, "only the record"
    host.publish(2, CID_A, CID_B)
    assert CID_B in read()


def test_an_older_record_is_refused(host: Host, read: Callable[[], str]) -> None:
    host.publish(1, CID_A)
    old = host.record
    host.publish(2, CID_A, CID_B)
    assert CID_B in read()
    host.record = old
    with pytest.raises(SafetyError, match="record 2 was seen before"):
        read()


def test_a_name_that_resolves_to_a_name_is_refused(host: Host, read: Callable[[], str]) -> None:
    host.publish(1, CID_A)
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    host.record = sealed(signed_data(Value=f"/ipns/{NAME.text}".encode(), Validity=until))
    with pytest.raises(DataError, match="not a path below /ipfs/"):
        read()


@pytest.mark.ipfs
def test_a_name_that_kubo_published_is_read_from_its_gateway(tmp_path: Path) -> None:
    releases = tmp_path / "repo" / "releases"
    releases.mkdir(parents=True)
    index = f'schema: 1\nid: acme\nmodels:\n  llm:\n    versions:\n      "1.0.0": {{cid: {CID_A}}}\n'
    (releases / "index.yaml").write_text(index)
    with kubo_node(tmp_path / "node") as node:
        root = node.run("add", "-r", "-Q", "--cid-version=1", str(tmp_path / "repo")).strip()
        said = node.run("name", "publish", "--allow-offline", "--lifetime=1h", f"/ipfs/{root}")
        name = said.removeprefix("Published to ").partition(":")[0]
        with closing(GatewaySource(node.gateway, retry=NO_RETRY)) as gateway:
            found = open_remote(f"ipns://{name}/releases/index.yaml", tmp_path / "cache", sources=[gateway])
    assert found.file.read_text() == index


def test_the_key_is_the_one_in_the_name() -> None:
    assert IpnsName(NAME.text, KEY.public_key().public_bytes_raw()) == NAME
