from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import varint
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import DAG_PB, RAW, hash_block
from reconciler.errors import DataError
from tests.support.dags import Blocks, car_bytes

DATA = b"hello"
CID = hash_block(RAW, DATA)
CAR = car_bytes(CID, [(CID, DATA)])
CAR_V2_PRAGMA = bytes.fromhex("0aa16776657273696f6e02")


def read_all(data: bytes, **options):
    reader = CarReader(io.BytesIO(data), **options)
    return reader.root, list(reader)


def headed(header: bytes) -> bytes:
    return varint.encode(len(header)) + header


def section(body: bytes) -> bytes:
    return varint.encode(len(body)) + body


HEADER = CAR[:59]
ROOT = b"\xd8\x2a\x58\x25\x00" + bytes(CID)
VERSION_1 = b"\x67version\x01"


def test_the_root_and_every_section_are_read_with_their_offsets():
    blocks = Blocks()
    root = blocks.pack({"a": b"one", "b": {"c": b"two"}}).cid
    car = car_bytes(root, blocks.blocks.items())

    found_root, sections = read_all(car)

    assert found_root == root
    assert {one.cid: one.data for one in sections} == blocks.blocks
    assert all(car[one.offset :].startswith(one.data) for one in sections)


def test_a_car_without_blocks_is_read():
    assert read_all(HEADER) == (CID, [])


def test_cid_v0_in_header_and_section_is_the_dag_pb_block():
    block = b"\x0a\x02\x08\x01"
    v0 = b"\x12\x20" + hash_block(DAG_PB, block).digest
    car = headed(b"\xa2\x65roots\x81\xd8\x2a\x58\x23\x00" + v0 + VERSION_1) + section(v0 + block)

    root, sections = read_all(car)

    assert root == hash_block(DAG_PB, block)
    assert [(one.cid, one.data) for one in sections] == [(root, block)]


class OneByteAtATime(io.BytesIO):
    def read(self, size=-1):
        return super().read(min(size, 1))


def test_short_reads_of_the_stream_do_not_matter():
    reader = CarReader(OneByteAtATime(CAR))

    assert [one.data for one in reader] == [DATA]


@pytest.mark.parametrize("cut", [cut for cut in range(len(CAR)) if cut != len(HEADER)])
def test_every_truncation_is_an_error(cut):
    with pytest.raises(DataError):
        read_all(CAR[:cut])


@given(st.integers(0, len(CAR) - 1), st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_changes_only_the_claimed_root(place, change):
    changed = bytearray(CAR)
    changed[place] ^= change
    try:
        _, sections = read_all(bytes(changed))
    except DataError:
        return
    assert place < len(HEADER)
    assert [one.data for one in sections] == [DATA]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_a_data_error(data):
    for head in (b"", HEADER):
        with contextlib.suppress(DataError):
            read_all(head + data)


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        (b"", "not a CAR"),
        (b"\0" + CAR, "not a CAR"),
        (b"PK\x03\x04" + bytes(100), "not a CAR"),
        (CAR_V2_PRAGMA + bytes(100), "CARv2"),
        (varint.encode(1024 * 1024 + 1), "the limit is 1048576"),
        (b"\xff" * 10, "nine bytes"),
        (headed(b"\xa2\x65roots\x80" + VERSION_1), "0 roots"),
        (headed(b"\xa2\x65roots\x82" + ROOT + ROOT + VERSION_1), "2 roots"),
        (headed(b"\xa2\x65roots\x98\x20" + ROOT * 32 + VERSION_1), "many roots"),
        (headed(b"\xa2\x65roots\x01" + VERSION_1), "not a list"),
        (headed(b"\xa2\x65roots"), "not a list"),
        (headed(b"\xa2\x65roots\x81\x58\x25\x00" + bytes(CID) + VERSION_1), "not a CID"),
        (headed(b"\xa2\x65roots\x81\xd8\x2a\x58\x24" + bytes(CID) + VERSION_1), "not a CID"),
        (headed(b"\xa2\x65roots\x81\xd8\x2a\x58"), "not a CID"),
        (headed(b"\xa2\x65roots\x81" + ROOT + b"\x67version\x02"), "version 1"),
        (headed(b"\xa2\x65roots\x81" + ROOT), "version 1"),
        (headed(b"\xa2\x65roots\x81" + ROOT + VERSION_1 + b"\0"), "version 1"),
        (headed(b"\xa2\x65roots\x81\xd8\x2a\x58\x05\x00\x01\x55\x00\x00" + VERSION_1), "hash identity"),
        (HEADER + b"\0", "is empty"),
        (HEADER + varint.encode(2 * 1024 * 1024 + 129), "the limit is"),
        (HEADER + b"\x80\x00", "minimal"),
        (HEADER + section(b"\x01\x55\x00\x02ab"), "hash identity"),
        (HEADER + section(b"\x01\x71\x12\x20" + bytes(32)), "dag-cbor"),
        (HEADER + section(b"\x01\x55\x12\x20" + bytes(10)), "truncated"),
        (HEADER + section(bytes(CID) + b"hellO"), "hash differs from that of block"),
        (HEADER + section(bytes(CID)), "hash differs from that of block"),
    ],
)
def test_an_invalid_car_is_refused(car, reason):
    with pytest.raises(DataError, match=reason):
        read_all(car)


def test_a_carv2_is_refused_with_advice():
    with pytest.raises(DataError) as caught:
        read_all(CAR_V2_PRAGMA + bytes(100))

    assert "unwrap" in (caught.value.hint or "")


def test_a_huge_claimed_section_is_refused_before_anything_is_read():
    class Watched(io.BytesIO):
        asked = 0

        def read(self, size=-1):
            self.asked = max(self.asked, size)
            return super().read(size)

    stream = Watched(HEADER + varint.encode(2**60))
    with pytest.raises(DataError):
        list(CarReader(stream))
    assert stream.asked <= len(HEADER)


def test_a_car_above_the_byte_limit_is_refused():
    assert read_all(CAR, max_bytes=len(CAR))[0] == CID
    with pytest.raises(DataError, match="longer than"):
        read_all(CAR, max_bytes=len(CAR) - 1)
