from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.layout_file import layout_from_bytes, layout_to_bytes
from reconciler.errors import DataError

digests = st.binary(min_size=32, max_size=32)
blocks = st.lists(
    st.tuples(st.builds(Cid, st.sampled_from([RAW, DAG_PB]), digests), st.integers(0, 2 * 1024 * 1024)),
    min_size=1,
    max_size=20,
    unique_by=lambda block: block[0],
)


def layout_of(some) -> DagLayout:
    layout = DagLayout(some[0][0])
    for cid, size in some:
        layout.add(cid, size)
    return layout


def resealed(body: bytes) -> bytes:
    """Return `body` with a correct checksum, as a faulty or malicious program would write it."""
    return body + hashlib.sha256(body).digest()


ENTRY = b"\x55" + (5).to_bytes(4, "big") + bytes(32)
HEAD = b"RDLAYOUT" + (1).to_bytes(4, "big")


@given(blocks)
def test_reading_gives_back_what_was_written(some):
    layout = layout_of(some)

    again = layout_from_bytes(layout_to_bytes(layout))

    assert list(again) == list(layout)
    assert (again.root, again.size, again.car_size) == (layout.root, layout.size, layout.car_size)


@given(blocks, st.data())
def test_any_changed_byte_is_an_error(some, data):
    written = bytearray(layout_to_bytes(layout_of(some)))
    written[data.draw(st.integers(0, len(written) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DataError):
        layout_from_bytes(bytes(written))


@given(blocks, st.data())
def test_any_truncation_is_an_error(some, data):
    written = layout_to_bytes(layout_of(some))

    with pytest.raises(DataError):
        layout_from_bytes(written[: data.draw(st.integers(0, len(written) - 1))])


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "truncated"),
        (resealed(b"RDLAYOUX" + HEAD[8:] + (1).to_bytes(4, "big") + ENTRY), "not a block index"),
        (resealed(b"RDLAYOUT" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + ENTRY), "version 2"),
        (resealed(HEAD + (0).to_bytes(4, "big")), "number of blocks"),
        (resealed(HEAD + (2).to_bytes(4, "big") + ENTRY), "number of blocks"),
        (resealed(HEAD + (2).to_bytes(4, "big") + ENTRY + ENTRY), "twice"),
        (resealed(HEAD + (1).to_bytes(4, "big") + b"\x71" + ENTRY[1:]), "invalid codec or size"),
        (
            resealed(HEAD + (1).to_bytes(4, "big") + b"\x55\xff\xff\xff\xff" + bytes(32)),
            "invalid codec or size",
        ),
    ],
)
def test_an_invalid_index_with_a_correct_checksum_is_refused(written, reason):
    with pytest.raises(DataError, match=reason):
        layout_from_bytes(written)
