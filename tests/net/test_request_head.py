"""A request has the address and the headers that HTTP requires, whatever characters its path has."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.net.request_head import merged_headers, parse_url, request_headers

HOST = "http://node.example:5001"


@pytest.mark.parametrize(
    ("text", "params", "target"),
    [
        (HOST, [], "/"),
        (f"{HOST}/api/v0/id", [], "/api/v0/id"),
        (f"{HOST}/a b/é.bin", [], "/a%20b/%C3%A9.bin"),
        (f"{HOST}/a%20b%2Fc", [], "/a%20b%2Fc"),
        (f"{HOST}/100%/50%zz", [], "/100%25/50%25zz"),
        (f"{HOST}/a#b", [], "/a%23b"),
        (f"{HOST}//a//b", [], "//a//b"),
        (f"{HOST}/a;p=1@x:y", [], "/a;p=1@x:y"),
        (f"{HOST}/a?x=1&y=a/b?c", [], "/a?x=1&y=a/b?c"),
        (f"{HOST}/a?sig=a%2Bb{{c}}", [], "/a?sig=a%2Bb{c}"),
        (f"{HOST}/a", [("arg", "k/é v"), ("arg", "2")], "/a?arg=k%2F%C3%A9+v&arg=2"),
        (f"{HOST}/a?x=1", [("y", "2")], "/a?x=1&y=2"),
    ],
)
def test_the_target_is_encoded_where_it_must_be(
    text: str, params: list[tuple[str, str]], target: str
) -> None:
    url = parse_url(text, params)
    assert (url.scheme, url.host, url.port) == (b"http", b"node.example", 5001)
    assert url.target.decode() == target


@given(
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="#?%\\\x7f"), max_size=20
    )
)
def test_the_target_is_the_one_of_a_browser_like_client(path: str) -> None:
    target = parse_url(f"{HOST}/x/{path}/y").target
    assert target.isascii()
    if "/." not in f"/{path}/":  # httpx resolves these; a peer of ours gets the path as it is
        assert target == httpx.URL(f"{HOST}/x/{path}/y").raw_path


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://node.example:80/x", "node.example"),
        ("https://node.example/x", "node.example"),
        ("https://node.example:80/x", "node.example:80"),
        ("http://[::1]:5001/x", "[::1]:5001"),
        ("http://Node.Example/x", "node.example"),
    ],
)
def test_the_host_is_named_without_the_usual_port(address: str, host: str) -> None:
    assert dict(request_headers("GET", parse_url(address), None, {}))[b"host"] == host.encode()


@pytest.mark.parametrize(
    ("method", "content", "given_headers", "expected"),
    [
        ("GET", None, {}, {}),
        ("POST", None, {}, {b"content-length": b"0"}),
        ("POST", b"abc", {}, {b"content-length": b"3"}),
        ("POST", [b"abc"], {}, {b"transfer-encoding": b"chunked"}),
        ("POST", [b"abc"], {"Content-Length": "3"}, {b"content-length": b"3"}),
    ],
)
def test_the_length_of_a_content_is_stated_once(method, content, given_headers, expected) -> None:
    headers = dict(request_headers(method, parse_url(HOST), content, given_headers))
    assert {name: value for name, value in headers.items() if name not in (b"host", b"accept")} == expected


def test_a_header_of_the_caller_replaces_a_general_one() -> None:
    headers = request_headers("GET", parse_url(HOST), None, {"Accept": "application/json", "ACCEPT": "x/y"})
    assert [value for name, value in headers if name == b"accept"] == [b"x/y"]


def test_headers_of_a_response_are_read_in_any_case_and_encoding() -> None:
    raw = [(b"Link", b"<a>"), (b"LINK", b"<b>"), (b"X", "é".encode()), (b"Y", b"\xe9")]
    assert merged_headers(raw) == {"link": "<a>, <b>", "x": "é", "y": "é"}
