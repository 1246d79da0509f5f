"""Inclusion proofs: every honest one is valid, and every mutation is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.content.piece_cid import PieceCid, capacity
from reconciler.deals.inclusion import verify_inclusion
from reconciler.deals.interface import InclusionProof, MerklePath
from reconciler.errors import DataError
from tests.deals.vectors import REAL, proof_of
from tests.support.aggregates import Aggregate

ROOTS = st.binary(min_size=32, max_size=32).map(lambda root: root[:31] + bytes((root[31] & 0x3F,)))


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregate:
    heights = draw(st.lists(st.integers(2, 12), min_size=1, max_size=8))
    pieces = [PieceCid(draw(ROOTS), height, 0) for height in sorted(heights, reverse=True)]
    return Aggregate(pieces, draw(st.integers(18, 30)))


@settings(deadline=None)
@given(aggregates())
def test_every_piece_of_an_aggregate_is_proved(aggregate: Aggregate) -> None:
    for number in range(len(aggregate.pieces)):
        verify_inclusion(aggregate.proof(number))


@settings(deadline=None)
@given(aggregates(), ROOTS, st.data())
def test_no_proof_proves_another_piece_or_aggregate(
    aggregate: Aggregate, root: bytes, data: st.DataObject
) -> None:
    proof = aggregate.proof(data.draw(st.integers(0, len(aggregate.pieces) - 1)))
    assume(root not in (proof.piece.root, proof.aggregate.root))
    for name in ("piece", "aggregate"):
        with pytest.raises(DataError):
            verify_inclusion(replace(proof, **{name: replace(getattr(proof, name), root=root)}))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_proofs_of_real_aggregators_are_valid(path: Path) -> None:
    verify_inclusion(proof_of(json.loads(path.read_text())))


def _mutations(proof: InclusionProof) -> Iterator[tuple[str, InclusionProof]]:
    """`proof` with one thing changed, for everything there is in it."""
    for name in ("piece", "aggregate"):
        piece: PieceCid = getattr(proof, name)
        for bit in range(254):
            yield f"{name} root bit {bit}", replace(proof, **{name: _flip(piece, bit)})
        for height in (piece.height - 1, piece.height + 1, piece.height + 7):
            if 2 <= height <= 47 and piece.padding < capacity(height):
                yield f"{name} height {height}", replace(proof, **{name: replace(piece, height=height)})
    for name in ("subtree", "index"):
        path: MerklePath = getattr(proof, name)
        for at in (path.at + 1, path.at - 1, path.at ^ 1, path.at + (1 << len(path.siblings)), -1, 1 << 70):
            if at != path.at:
                yield f"{name} at {at}", replace(proof, **{name: replace(path, at=at)})
        for number, sibling in enumerate(path.siblings):
            for bit in (0, 100, 253, 254, 255):
                flipped = (int.from_bytes(sibling, "little") ^ (1 << bit)).to_bytes(32, "little")
                yield f"{name} node {number} bit {bit}", _with(proof, name, number, (flipped,))
            yield f"{name} node {number} missing", _with(proof, name, number, ())
            yield f"{name} node {number} twice", _with(proof, name, number, (sibling, sibling))
            yield f"{name} node {number} short", _with(proof, name, number, (sibling[:31],))
            yield f"{name} node {number} long", _with(proof, name, number, (sibling + b"\0",))
        yield f"{name} empty", replace(proof, **{name: replace(path, siblings=())})
        yield f"{name} reversed", replace(proof, **{name: replace(path, siblings=path.siblings[::-1])})
    yield "paths swapped", replace(proof, subtree=proof.index, index=proof.subtree)
    yield "piece and aggregate swapped", replace(proof, piece=proof.aggregate, aggregate=proof.piece)


def _flip(piece: PieceCid, bit: int) -> PieceCid:
    root = int.from_bytes(piece.root, "little") ^ (1 << bit)
    return replace(piece, root=root.to_bytes(32, "little"))


def _with(proof: InclusionProof, name: str, number: int, nodes: tuple[bytes, ...]) -> InclusionProof:
    path: MerklePath = getattr(proof, name)
    siblings = (*path.siblings[:number], *nodes, *path.siblings[number + 1 :])
    return replace(proof, **{name: replace(path, siblings=siblings)})


MADE = Aggregate([PieceCid(bytes([n]) * 31 + b"\1", 5 - n // 2, 0) for n in range(4)], 20)
PROOFS = {f"made {number}": MADE.proof(number) for number in range(4)}
PROOFS |= {path.stem: proof_of(json.loads(path.read_text())) for path in REAL}


@pytest.mark.parametrize("name", PROOFS)
def test_every_mutation_is_refused(name: str) -> None:
    mutations = list(_mutations(PROOFS[name]))
    assert len(mutations) >= 600
    for what, wrong in mutations:
        with pytest.raises(DataError):
            verify_inclusion(wrong)
            pytest.fail(what)


def test_an_entry_outside_the_index_is_refused() -> None:
    """An aggregator could write bytes that look like an entry into its data."""
    inner = Aggregate([PieceCid(bytes(31) + b"\1", 2, 0)], 10)
    entry_in_data = inner.proof(0).index
    outer = Aggregate([inner.cid], 20)
    up = outer.proof(0)
    deeper = InclusionProof(
        inner.pieces[0],
        outer.cid,
        MerklePath(up.subtree.at << 8, (*inner.proof(0).subtree.siblings, *up.subtree.siblings)),
        MerklePath(entry_in_data.at, (*entry_in_data.siblings, *up.subtree.siblings)),
    )
    with pytest.raises(DataError, match="outside the aggregate's index"):
        verify_inclusion(deeper)
