"""What may be a peer's base URL."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.net.address import parse_address


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:5001", True),
        ("http://[::1]:5001/", True),
        ("http://localhost:5001", True),
        ("https://node.example/kubo/", False),
        ("http://10.0.0.7", False),
    ],
)
def test_http_and_https_with_a_path_prefix_hold(url: str, loopback: bool) -> None:
    address = parse_address(url)
    assert address.loopback is loopback
    assert address.join("/api/v0/id") == url.rstrip("/") + "/api/v0/id"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:5001",
        "/ip4/127.0.0.1/tcp/5001",
        "file:///etc/passwd",
        "ftp://node.example",
        "http://",
        "http://:5001",
        "http://node:0",
        "http://node:99999",
        "http://node:x",
        "http://node/?a=1",
        "http://node/#x",
        "http://node/?",
        "http://no de",
        "http://node\r\nX: 1",
        "http://nöde",
        "http://node\\@evil",
        "http://[::1",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_address(url)


def test_user_information_is_refused_without_being_shown() -> None:
    with pytest.raises(UsageError, match="user name or password") as caught:
        parse_address("http://me:hunter22@node.example")
    assert "hunter22" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        parse_address("http://me:hunter22@node.example:x y")
    assert "hunter22" not in str(caught.value)
