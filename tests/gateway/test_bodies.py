"""The bodies of responses: a CAR has exactly the blocks that verify the requested content, in order."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content import dagpb, unixfs
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.gateway.bodies import car_stream, file_bytes
from reconciler.gateway.paths import resolve_path
from reconciler.gateway.request import CarTerms, DagScope, RequestRefusedError, Span, entity_bytes
from reconciler.gateway.stores import MissingBlockError
from reconciler.gateway.written_cid import WrittenCid, parse_written_cid, written_links
from tests.support.dags import memory_dag
from tests.support.shapes import Builder

LEAF = 64


def reader(blocks: dict[Cid, bytes], asked: list[Cid] | None = None):
    def read(cid: Cid) -> bytes:
        if asked is not None:
            asked.append(cid)
        if cid not in blocks:
            raise MissingBlockError(f"no block {cid}")
        return blocks[cid]

    return read


def sent(blocks: dict[Cid, bytes], root: Cid, path: tuple[bytes, ...], terms: CarTerms) -> list[Cid]:
    """Return the CIDs of the blocks in the CAR; the reader verifies each block."""
    read = reader(blocks)
    data = b"".join(car_stream(resolve_path(WrittenCid(root), path, read), terms, read))
    return [section.cid for section in CarReader(io.BytesIO(data))]


def big_file() -> tuple[dict[Cid, bytes], Cid, bytes]:
    builder = Builder("dag")
    entry = builder.file("big", 1100, LEAF)  # two levels
    leaves = b"".join(file_bytes_of(builder.blocks, entry.cid))
    return builder.blocks, entry.cid, leaves


def file_bytes_of(blocks: dict[Cid, bytes], root: Cid) -> Iterator[bytes]:
    if root.codec == RAW:
        yield blocks[root]
        return
    for link in dagpb.decode(blocks[root]).links:
        yield from file_bytes_of(blocks, link.cid)


BLOCKS, BIG, CONTENT = big_file()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 5000))
def test_a_range_has_exactly_the_needed_blocks(first: int, length: int) -> None:
    last = min(first + length, len(CONTENT) - 1)
    terms = CarTerms(DagScope.ENTITY, entity_bytes(f"{first}:{last}"))
    cids = sent(BLOCKS, BIG, (), terms)
    assert len(set(cids)) == len(cids)
    had = {cid: BLOCKS[cid] for cid in cids}
    root = resolve_path(WrittenCid(BIG), (), reader(had)).end
    asked: list[Cid] = []
    span = Span(first, last + 1)
    assert b"".join(file_bytes(root, span, reader(had, asked))) == CONTENT[first : last + 1]
    assert {BIG, *asked} == set(cids)  # no block is missing, and none is superfluous


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)))
def test_spans_of_a_file_are_slices_of_its_bytes(start: int, stop: int) -> None:
    node = resolve_path(WrittenCid(BIG), (), reader(BLOCKS)).end
    span = Span(min(start, stop), max(start, stop))
    assert b"".join(file_bytes(node, span, reader(BLOCKS))) == CONTENT[span.start : span.stop]


def test_ranges_of_a_file_decode_its_nodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder("ranges")
    file = build.file("big", 1100, LEAF).cid
    decoded: list[bytes] = []

    def decode(block: bytes) -> dagpb.PbNode:
        decoded.append(block)
        return decode_block(block)

    decode_block = dagpb.decode
    monkeypatch.setattr(dagpb, "decode", decode)
    for start in (0, 70_000, 1000):
        node = resolve_path(WrittenCid(file), (), reader(build.blocks)).end
        assert len(b"".join(file_bytes(node, Span(start, start + 1), reader(build.blocks)))) == 1
    assert len(decoded) == 3  # the root and two nodes below it


@pytest.mark.parametrize(("links", "times"), [(1, 1), (1500, 2)])
def test_only_nodes_of_usual_size_are_kept(links: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client could fill the memory with the largest nodes that are accepted."""
    block = dagpb.encode([dagpb.PbLink(b"n", hash_block(RAW, b"kept"), 1)] * links, b"")
    decoded: list[bytes] = []
    decode_block = dagpb.decode
    monkeypatch.setattr(dagpb, "decode", lambda block: decoded.append(block) or decode_block(block))
    assert written_links(block) == written_links(block)
    assert len(decoded) == times


def test_duplicates_are_sent_once_or_each_time() -> None:
    dag = memory_dag({"a": b"same", "b": b"same", "c": {"d": b"same"}})
    once = sent(dag.blocks, dag.layout.root, (), CarTerms())
    assert once == [block.cid for block in dag.layout]
    often = sent(dag.blocks, dag.layout.root, (), CarTerms(dups=True))
    assert often.count(hash_block(RAW, b"same")) == 3


def test_a_dag_with_exponentially_many_paths_is_sent_once() -> None:
    """2^50 paths over fifty blocks: without duplicates every block is sent once, also for a range."""
    blocks: dict[Cid, bytes] = {}
    leaf = hash_block(RAW, b"x" * 8)
    blocks[leaf] = b"x" * 8
    below, size = leaf, 8
    for _ in range(50):
        block = dagpb.encode([dagpb.PbLink(b"", below, size)] * 2, unixfs.file([size, size]))
        below, size = hash_block(DAG_PB, block), 2 * size
        blocks[below] = block
    assert len(sent(blocks, below, (), CarTerms())) == 51
    terms = CarTerms(DagScope.ENTITY, entity_bytes("1:-2"))
    assert len(sent(blocks, below, (), terms)) == 51


def test_a_path_through_a_sharded_directory_includes_its_shards() -> None:
    names = {f"{number:05}.txt": b"%d" % number for number in range(6000)}
    dag = memory_dag(names)
    cids = sent(dag.blocks, dag.layout.root, (b"04711.txt",), CarTerms(DagScope.BLOCK))
    assert cids[0] == dag.layout.root
    assert cids[-1] == hash_block(RAW, b"4711")
    assert 2 <= len(cids) <= 5
    with pytest.raises(RequestRefusedError, match="no such path"):
        sent(dag.blocks, dag.layout.root, (b"04711.tx",), CarTerms())


def test_a_missing_leaf_ends_the_stream_after_the_blocks_before_it() -> None:
    dag = memory_dag({"a": b"first", "b": b"second", "c": b"third"})
    blocks = {cid: data for cid, data in dag.blocks.items() if data != b"second"}
    read = reader(blocks)
    stream = car_stream(resolve_path(WrittenCid(dag.layout.root), (), read), CarTerms(), read)
    pieces: list[bytes] = []
    with pytest.raises(MissingBlockError):
        pieces.extend(stream)
    assert b"first" in pieces
    assert b"third" not in pieces


def test_cids_keep_their_version() -> None:
    text = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    written = parse_written_cid(text)
    assert (str(written), len(bytes(written))) == (text, 34)
    empty = unixfs.DIRECTORY
    block = b"\x0a\x02" + empty
    child = hash_block(DAG_PB, block)
    link = b"\x0a\x22\x12\x20" + child.digest + b"\x12\x01a\x18\x04"
    parent = b"\x12" + bytes((len(link),)) + link + b"\x0a\x02" + empty
    root = hash_block(DAG_PB, parent)
    read = reader({child: block, root: parent})
    data = b"".join(car_stream(resolve_path(WrittenCid(root), (), read), CarTerms(), read))
    assert data.endswith(bytes((34 + len(block),)) + b"\x12\x20" + child.digest + block)
