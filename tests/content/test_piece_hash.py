"""Piece hashing: both engines, every chunking and edge, against a direct implementation."""

import hashlib
import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content.piece_cid import PieceCid, capacity
from reconciler.content.piece_hash import PieceHasher, make_engine
from reconciler.content.piece_lanes import LanesEngine
from reconciler.content.piece_tree import (
    STRETCH,
    STRETCH_HEIGHT,
    PieceEngine,
    StdlibEngine,
    hash_nodes,
    zero_node,
)
from reconciler.errors import DataError
from tests.support.pieces import piece_of

ENGINES = [StdlibEngine, LanesEngine]


def by_definition(data: bytes) -> PieceCid:
    """Return the piece CID of a few KiB of `data`, computed bit by bit as in the specification."""
    height = 2
    while 127 << (height - 2) < len(data):
        height += 1
    padded = data + bytes((127 << (height - 2)) - len(data))
    bits = "".join(f"{byte:08b}"[::-1] for byte in padded)
    level = []
    for start in range(0, len(bits), 254):
        wide = bits[start : start + 254] + "00"
        level.append(bytes(int(wide[i : i + 8][::-1], 2) for i in range(0, 256, 8)))
    while len(level) > 1:
        digests = [hashlib.sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
        level = [digest[:31] + bytes([digest[31] & 0b111111]) for digest in digests]
    return PieceCid(level[0], height, len(padded) - len(data))


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=60)
@given(data=st.binary(min_size=65, max_size=2100))
def test_short_data_hashes_by_the_definition(engine: type[PieceEngine], data: bytes) -> None:
    assert piece_of([data], engine) == by_definition(data)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [65, 126, 127, 128, 253, 254, 255, 507, 508, 509, 1016, 1017, 4064, 4065])
def test_edges_hash_by_the_definition(engine: type[PieceEngine], size: int) -> None:
    data = random.Random(size).randbytes(size)
    piece = piece_of([data], engine)
    assert piece == by_definition(data)
    assert piece.size == size
    assert piece.padded_size == max(128, 1 << (-(-size // 127) * 128 - 1).bit_length())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_published_vectors_are_reproduced(engine: type[PieceEngine]) -> None:
    data = b"".join(bytes([value]) * 127 for value in range(4))
    assert str(piece_of([data], engine)) == "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"
    zeros = PieceCid(zero_node(30), 30, 0)
    assert str(zeros) == "bafkzcibcaapao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"
    assert zeros.size == 34_091_302_912


EDGES = [n * STRETCH + delta for n in (1, 2, 3, 4, 5) for delta in (-1, 0, 1)]


@settings(deadline=None, max_examples=25)
@given(
    size=st.sampled_from(EDGES) | st.integers(65, 6 * STRETCH),
    cuts=st.lists(st.integers(1, 2 * STRETCH), max_size=12),
)
def test_any_chunking_and_either_engine_give_one_cid(size: int, cuts: list[int]) -> None:
    data = random.Random(size).randbytes(size)
    chunks, start = [], 0
    for cut in cuts:
        chunks.append(data[start : start + cut])
        start += cut
    chunks.append(data[start:])
    assert piece_of(chunks, LanesEngine) == piece_of([data], LanesEngine)
    assert _fold_by_hand(data) == piece_of([data], LanesEngine)
    if size < 2 * STRETCH:
        assert piece_of(chunks, StdlibEngine) == piece_of([data], LanesEngine)


def _fold_by_hand(data: bytes) -> PieceCid:
    """Return the piece CID from the subtrees of all stretches, without precomputed subtrees of zeros."""
    height = 2
    while capacity(height) < len(data):
        height += 1
    engine = LanesEngine()
    if height <= STRETCH_HEIGHT:
        return PieceCid(engine.root(data, height), height, capacity(height) - len(data))
    padded = data + bytes(capacity(height) - len(data))
    level = [engine.root(padded[i : i + STRETCH], STRETCH_HEIGHT) for i in range(0, len(padded), STRETCH)]
    while len(level) > 1:
        level = [hash_nodes(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return PieceCid(level[0], height, len(padded) - len(data))


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_an_engine_keeps_no_state_between_calls(engine: type[PieceEngine], data: st.DataObject) -> None:
    used = engine()
    for _ in range(3):
        height = data.draw(st.integers(2, 8))
        some = data.draw(st.binary(min_size=1, max_size=capacity(height)))
        assert used.root(some, height) == engine().root(some, height) == StdlibEngine().root(some, height)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_hasher_hashes_several_pieces(engine: type[PieceEngine]) -> None:
    first, second = random.Random(1).randbytes(3000), random.Random(2).randbytes(STRETCH + 70)
    with PieceHasher(engine) as hasher:
        for data in (first, second, first):
            hasher.update(data)
            assert hasher.finish() == piece_of([data], engine)


@pytest.mark.parametrize("size", [0, 1, 64])
def test_too_few_bytes_are_no_piece(size: int) -> None:
    with PieceHasher() as hasher:
        hasher.update(bytes(size))
        with pytest.raises(DataError, match="too few for a piece"):
            hasher.finish()
        hasher.update(bytes(65))
        assert hasher.finish().size == 65


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reconciler.content.piece_native", None)


@pytest.mark.usefixtures("without_native")
def test_the_lanes_engine_is_used_where_it_works() -> None:
    assert make_engine().name == "stringzilla"


class _Stale:
    """An engine whose tape is copied: it returns the first root for every input."""

    name, parallel = "stale", True

    def __init__(self) -> None:
        self._first: bytes | None = None

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        self._first = self._first or StdlibEngine().root(data, height)
        return self._first


class _Wrong:
    name, parallel = "wrong", True

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        return bytes(32)


def _missing() -> PieceEngine:
    raise ImportError("No module named 'stringzilla'")


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize("broken", [_Stale, _Wrong, _missing])
def test_an_engine_that_is_missing_or_wrong_is_not_used(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[], PieceEngine]
) -> None:
    monkeypatch.setattr("reconciler.content.piece_lanes.LanesEngine", broken)
    assert make_engine().name == "hashlib"


def test_an_engine_that_fails_in_its_thread_fails_the_caller() -> None:
    class Failing(LanesEngine):
        def root(self, data: bytes | bytearray, height: int) -> bytes:
            raise MemoryError("no lanes left")

    with PieceHasher(Failing) as hasher, pytest.raises(MemoryError):
        for _ in range(20):
            hasher.update(bytes(STRETCH))
        hasher.finish()
