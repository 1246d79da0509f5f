"""Base URLs of peers, and the proxy that the environment names for each."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.net.address import Proxy, environment_proxy, parse_address


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
def test_http_and_https_with_a_path_prefix_are_valid(url: str, loopback: bool) -> None:
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


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("", "http://node.example", True),
        ("*", "http://node.example", False),
        ("other.example,node.example", "http://node.example", False),
        (" NODE.example ", "http://node.example", False),
        ("example", "http://node.example", False),
        ("ode.example", "http://node.example", True),
        (".example", "http://node.example", False),
        (".node.example", "http://node.example", True),
        ("*.example", "http://node.example", False),
        ("*node.example", "http://node.example", False),
        ("node.example:5001", "http://node.example:5001", False),
        ("node.example:5001", "http://node.example:5002", True),
        ("node.example:80", "http://node.example", False),
        ("https://node.example", "http://node.example", True),
        ("all://node.example", "http://node.example", False),
        ("10.0.0.7", "http://10.0.0.7:5001", False),
        ("10.0.0.0/8", "http://10.0.0.7:5001", False),
        ("10.0.0.8", "http://10.0.0.7:5001", True),
        ("2001:db8::1", "http://[2001:db8::1]:5001", False),
        ("[2001:db8::1]:5001", "http://[2001:db8::1]:5001", False),
        ("[2001:db8::1]", "http://[2001:db8::1]:5001", False),
        ("[2001:DB8:0:0::1]:5001", "http://[2001:db8::1]:5001", False),
        ("[2001:db8::1]:5002", "http://[2001:db8::1]:5001", True),
        ("[2001:db8::]/32", "http://[2001:db8::1]:5001", False),
        ("2001:db8::/32", "http://[2001:db8::1]:5001", False),
        ("2001:db8::2", "http://[2001:db8::1]:5001", True),
        ("localhost,127.0.0.1,[::1]", "http://node.example", True),
        ("other.example node.example", "http://node.example", False),
        ("node.example.", "http://node.example", False),
        ("node.example", "http://node.example.", False),
        ("10.0.0.7:5001", "http://10.0.0.7:5001", False),
        ("10.0.0.7:5002", "http://10.0.0.7:5001", True),
        ("node.example:x,[::1", "http://node.example", True),
    ],
)
def test_no_proxy_covers_hosts_networks_and_domains(
    variable: str, no_proxy: str, url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, no_proxy)
    found = environment_proxy(parse_address(url))
    assert found == (Proxy("http://proxy.example:3128", "http_proxy") if proxied else None)


def test_the_proxy_is_chosen_by_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert environment_proxy(parse_address("https://node.example")) is None
    monkeypatch.setenv("ALL_PROXY", "socks5://a.example:1080")
    monkeypatch.setenv("HTTPS_PROXY", "http://s.example:3128")
    assert environment_proxy(parse_address("https://node.example")) == Proxy(
        "http://s.example:3128", "HTTPS_PROXY"
    )
    assert environment_proxy(parse_address("http://node.example")) == Proxy(
        "socks5://a.example:1080", "ALL_PROXY"
    )
    monkeypatch.setenv("all_proxy", "socks5://user:pw@b.example:1080")
    lower = environment_proxy(parse_address("http://node.example"))
    assert lower is not None
    assert lower.described == "the proxy socks5://[secret]@b.example:1080 of all_proxy"
    assert "pw" not in repr(lower)
