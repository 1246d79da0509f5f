"""Piece CIDs: both versions, their sizes, and invalid ones."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import piece_cid, varint
from reconciler.content.piece_cid import PieceCid, PieceRoot
from reconciler.errors import DataError

# (v1, v2, bytes of data): the vectors of FRC-0069
VECTORS = [
    (
        "baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi",
        "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi",
        508,
    ),
    (
        "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq",
        "bafkzcibcaapao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq",
        34_091_302_912,
    ),
]
ROOTS = st.binary(min_size=32, max_size=32).map(lambda root: root[:-1] + bytes((root[-1] & 0x3F,)))


@st.composite
def pieces(draw: st.DrawFn) -> PieceCid:
    height = draw(st.integers(piece_cid.MIN_HEIGHT, piece_cid.MAX_HEIGHT))
    return PieceCid(draw(ROOTS), height, draw(st.integers(0, piece_cid.capacity(height) - 1)))


@pytest.mark.parametrize(("v1", "v2", "size"), VECTORS)
def test_the_published_vectors_read_and_print(v1: str, v2: str, size: int) -> None:
    piece = piece_cid.parse(v2)
    assert (str(piece), str(piece.v1), piece.size) == (v2, v1, size)
    assert piece.padded_size == size // 127 * 128
    assert piece_cid.parse_any(v1) == piece.v1
    assert bytes(piece)[:4] == bytes.fromhex("01559120")


@given(pieces())
def test_text_and_bytes_read_back_equal(piece: PieceCid) -> None:
    assert piece_cid.parse(str(piece)) == piece
    assert piece_cid.decode(bytes(piece)) == piece
    assert piece_cid.parse_any(str(piece.v1)) == piece.v1
    assert piece_cid.decode(bytes(piece.v1)) == piece.v1


@given(ROOTS, st.integers(piece_cid.MIN_HEIGHT, 40))
def test_one_root_with_two_sizes_is_two_pieces(root: bytes, height: int) -> None:
    piece = PieceCid(root, height, 0)
    assert piece != PieceCid(root, height, 1)
    assert piece != PieceCid(root, height + 1, 0)
    assert piece.is_tree(PieceRoot(root), piece.padded_size)
    assert not piece.is_tree(PieceRoot(root), piece.padded_size * 2)
    assert not piece.is_tree(PieceRoot(bytes(32) if root[0] else b"\1" + bytes(31)), piece.padded_size)


@given(st.integers(1, piece_cid.capacity(piece_cid.MAX_HEIGHT)))
def test_the_height_for_a_size_is_the_smallest_that_fits(size: int) -> None:
    height = piece_cid.height_for(size)
    assert piece_cid.capacity(height) >= size
    assert height == piece_cid.MIN_HEIGHT or piece_cid.capacity(height - 1) < size


ROOT = bytes(range(32))


def _text(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().rstrip("=").lower()


def _v2(padding: bytes, rest: bytes, length: int | None = None) -> str:
    digest = padding + rest
    return _text(b"\x01\x55\x91\x20" + varint.encode(len(digest) if length is None else length) + digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bafk",
        "z" + VECTORS[0][1][1:],
        VECTORS[0][1].upper(),
        VECTORS[0][1] + "a",
        VECTORS[0][1][:-1],
        VECTORS[0][0][:-2],
        VECTORS[0][0] + "aa",
        VECTORS[0][1] + "a" * 200,
        VECTORS[0][1].replace("e", "1"),
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        _v2(b"\0", b"\1" + ROOT),  # no height that data could have
        _v2(b"\0", b"\x30" + ROOT),
        _v2(b"\0", b"\xff" + ROOT),
        _v2(b"\x7f", b"\2" + ROOT),  # all of it padding
        _v2(b"\x80\0", b"\2" + ROOT),  # a varint that is not minimal
        _v2(b"\xff" * 9 + b"\1", b"\2" + ROOT),
        _v2(b"\0", b"\2" + ROOT + b"\0"),
        _v2(b"\0", b"\2" + ROOT[:31]),
        _v2(b"\0", b"\2" + ROOT, length=33),
        _v2(b"\0", b"\2" + ROOT, length=35),
        _v2(b"\0", b"\2" + ROOT[:31] + b"\x40"),  # more than 254 bits
        _v2(b"\0", b"\2" + ROOT[:31] + b"\x80"),
        _v2(b"", b""),
        _text(b"\x01\x81\xe2\x03\x92\x20\x20" + ROOT[:31] + b"\x80"),
        _text(b"\x01\x81\xe2\x03\x92\x20\x1f" + ROOT[:31]),
    ],
)
def test_a_malformed_piece_cid_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        piece_cid.parse_any(text)


@given(st.binary(max_size=60))
def test_random_bytes_are_a_piece_cid_or_one_clear_error(data: bytes) -> None:
    for candidate in (data, b"\x01\x55\x91\x20" + data, b"\x01\x81\xe2\x03\x92\x20\x20" + data):
        try:
            piece = piece_cid.decode(candidate)
        except DataError:
            continue
        assert bytes(piece) == candidate


def test_a_v1_piece_cid_is_refused_where_a_size_is_needed() -> None:
    with pytest.raises(DataError, match="does not contain the size"):
        piece_cid.parse(VECTORS[0][0])


def test_an_inconsistent_piece_cid_is_refused() -> None:
    for root, height, padding in ((b"", 2, 0), (ROOT, 1, 0), (ROOT, 48, 0), (ROOT, 2, -1), (ROOT, 2, 127)):
        with pytest.raises(DataError):
            PieceCid(root, height, padding)
