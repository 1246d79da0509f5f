"""Parsing of requests; every invalid request has a status."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.content.cid import RAW, hash_block
from reconciler.errors import DataError
from reconciler.gateway.representation import disposition
from reconciler.gateway.request import DagScope, Format, RequestRefusedError, negotiate, parse_request
from reconciler.gateway.written_cid import parse_identity

CID = str(hash_block(RAW, b"x"))
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
VALUES = st.one_of(
    VISIBLE, st.sampled_from(["raw", "car", "tar", "y", "n", "1", "dfs", "all", "entity", "0:*", "-5:9"])
)
NAMES = (
    "format",
    "dag-scope",
    "entity-bytes",
    "car-dups",
    "car-order",
    "car-version",
    "filename",
    "download",
)


@given(VISIBLE, st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6), VISIBLE, st.booleans())
@example("%", [], "", True)
@example("%ff/%00", [("format", "car")], ";;;q=;", True)
@example("a/b//c/./..", [("entity-bytes", "1:0")], "application/vnd.ipld.car;q=x", True)
def test_every_request_is_parsed_or_refused(
    path: str, pairs: list[tuple[str, str]], accept: str, good_root: bool
) -> None:
    raw = f"/ipfs/{CID}/{path}" if good_root else f"/ipfs/{path}"
    query = "&".join(f"{name}={quote(value)}" for name, value in pairs)
    try:
        request = parse_request(raw, query, parse_qsl(query), {"accept": accept, "range": accept})
    except RequestRefusedError as refusal:
        assert refusal.status in (400, 406, 414)
    else:
        assert not set(request.segments) & {b"", b".", b".."}
        assert all(b"/" not in name and b"\0" not in name for name in request.segments)


@given(st.text(max_size=80))
def test_a_file_name_cannot_inject_into_its_header(name: str) -> None:
    header = disposition("inline", name.encode("utf-8", "replace").decode())
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        (None, "", Format.CONTENT),
        (None, "*/*", Format.CONTENT),
        (None, "text/html,application/xhtml+xml,*/*;q=0.8", Format.CONTENT),
        (None, "application/vnd.ipld.raw", Format.RAW),
        (None, "APPLICATION/VND.IPLD.CAR ; version=1", Format.CAR),
        (None, "application/vnd.ipld.raw;q=0.1, application/vnd.ipld.car", Format.CAR),
        (None, "application/vnd.ipld.car;q=0, application/vnd.ipld.raw", Format.RAW),
        (None, "application/x-tar, application/vnd.ipld.car", Format.CAR),
        ("raw", "application/vnd.ipld.car", Format.RAW),
        ("car", "text/html", Format.CAR),
    ],
)
def test_the_url_overrides_the_header(query: str | None, accept: str, expected: Format) -> None:
    assert negotiate(query, accept).format is expected


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("tar", ""),
        ("dag-json", ""),
        ("ipns-record", ""),
        (None, "application/x-tar"),
        (None, "application/cbor"),
    ],
)
def test_formats_that_need_a_conversion_are_not_acceptable(query: str | None, accept: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        negotiate(query, accept)
    assert caught.value.status == 406


def test_the_terms_of_a_car_come_from_the_url_and_then_from_the_header() -> None:
    def terms(query: str, accept: str = "") -> tuple[DagScope, bool]:
        request = parse_request(f"/ipfs/{CID}", query, parse_qsl(query), {"accept": accept})
        return request.car.scope, request.car.dups

    assert terms("format=car") == (DagScope.ALL, False)
    assert terms("format=car&dag-scope=block") == (DagScope.BLOCK, False)
    assert terms("format=car&entity-bytes=0:5") == (DagScope.ENTITY, False)
    assert terms("", "application/vnd.ipld.car; dups=y") == (DagScope.ALL, True)
    assert terms("format=car&car-dups=n", "application/vnd.ipld.car; dups=y") == (DagScope.ALL, False)
    for query in ("car-version=2", "car-order=bfs", "car-dups=maybe", "dag-scope=all&entity-bytes=0:5"):
        with pytest.raises(RequestRefusedError):
            terms(f"format=car&{query}")


@pytest.mark.parametrize(
    ("text", "data"), [("bafkqaaa", b""), ("bafkqabtimvwgy3yk", b"hello\n"), (CID, None), ("Qm", None)]
)
def test_identity_cids_contain_their_data(text: str, data: bytes | None) -> None:
    found = parse_identity(text)
    assert (found.data if found else None) == data


@pytest.mark.parametrize(
    "text", ["bafkqa", "bafkqab", "bafkqabt", "bafkqaaaaa", "bafkqa!", "bafkqa" + "a" * 999]
)
def test_malformed_identity_cids_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_identity(text)
