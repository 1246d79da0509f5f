"""Proxies and certificates of the environment: used, and named where they are the cause of a failure."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.errors import UsageError
from reconciler.net import connections
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import AccessDeniedError, RequestError, TransientError
from reconciler.net.retry import NO_RETRY
from tests.net.test_transport import certificate, server, tls  # noqa: F401  fixtures
from tests.support.http_peer import HttpPeer, Said, http_peer
from tests.support.proxies import Open, connect, proxy_server, socks5


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer(lambda asked: Said(200, b"by proxy")) as running:
        yield running


def client(url: str) -> HttpClient:
    timeouts = Timeouts(connect=30, silence=60, total=120)
    return HttpClient(url, name="node", retry=NO_RETRY, timeouts=timeouts)


def get(url: str) -> bytes:
    http = client(url)
    try:
        return http.request("GET", "/api", repeatable=True).body
    finally:
        http.close()


def port_of(peer: HttpPeer) -> int:
    return urlsplit(peer.url).port or 0


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_carries_requests_and_looks_names_up(
    peer: HttpPeer, variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_server(socks5, port_of(peer), credentials="user:p@ss") as proxy:
        monkeypatch.setenv(variable, f"{scheme}://user:p%40ss@127.0.0.1:{proxy.port}")
        assert get("http://node.example:5001") == b"by proxy"
    assert proxy.named == ["node.example"]


def test_a_socks_proxy_carries_tls(
    tls: ssl.SSLContext,  # noqa: F811
    certificate: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        server(b"encrypted", context=tls) as (url, _),
        proxy_server(socks5, urlsplit(url).port or 0) as proxy,
    ):
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
        with pytest.raises(TransientError, match=r"certificate .*\(|certificate") as caught:
            get("https://node.example")  # the certificate is one for 127.0.0.1
        assert "that of another host" in (caught.value.hint or "")
        assert "proxy" not in caught.value.message
    assert proxy.named == ["node.example"]


@pytest.mark.parametrize("encrypted", [False, True], ids=["http proxy", "https proxy"])
def test_a_tunnel_through_an_http_and_an_https_proxy(
    encrypted: bool,
    tls: ssl.SSLContext,  # noqa: F811
    certificate: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        server(b"x", context=tls) as (url, _),
        proxy_server(connect, urlsplit(url).port or 0, context=tls if encrypted else None) as proxy,
    ):
        scheme = "https" if encrypted else "http"
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        with pytest.raises(TransientError, match="certificate"):
            get("https://node.example")
    assert proxy.named == ["node.example:443"]


@pytest.mark.parametrize(
    ("variable", "proxy", "url"),
    [
        ("HTTP_PROXY", "http://user:k4tze@127.0.0.1:9", "http://node.example"),
        ("https_proxy", "http://user:k4tze@127.0.0.1:9", "https://node.example"),
        ("https_proxy", "https://user:k4tze@127.0.0.1:9", "https://node.example"),
        ("ALL_PROXY", "socks5://user:k4tze@127.0.0.1:9", "https://node.example"),
        ("all_proxy", "socks5h://user:k4tze@127.0.0.1:9", "http://node.example"),
        ("HTTP_PROXY", "user:k4tze@127.0.0.1:9", "http://node.example"),
    ],
)
def test_a_proxy_that_is_down_is_named_as_the_cause(
    variable: str, proxy: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(TransientError, match=f"the proxy .* of {variable} does not answer") as caught:
        get(url)
    assert not caught.value.reached
    assert "k4tze" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)
    assert "node.example in NO_PROXY" in (caught.value.hint or "")


def test_an_https_proxy_that_speaks_no_tls_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_server(connect, 9) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        with pytest.raises(RequestError, match=r"the proxy .* of HTTPS_PROXY"):
            get("https://node.example")


@pytest.mark.parametrize(
    ("handshake", "scheme", "refusal", "error"),
    [
        (connect, "http", 407, AccessDeniedError),
        (connect, "http", 403, TransientError),
        (socks5, "socks5", 5, TransientError),
        (socks5, "socks5", 2, TransientError),
    ],
)
def test_a_proxy_that_refuses_is_named_as_the_cause(
    handshake: Open, scheme: str, refusal: int, error: type[RequestError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_server(handshake, 9, refusal=refusal) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        with pytest.raises(error, match=r"the proxy .* of HTTPS_PROXY did not connect to it"):
            get("https://node.example")


@pytest.mark.parametrize("expect", [(200,), (200, 407)])
def test_a_plain_request_that_the_proxy_does_not_forward_names_the_proxy(
    expect: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_peer(lambda asked: Said(407, b"who are you", {"Proxy-Authenticate": "Basic"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:k4tze@127.0.0.1:{port_of(proxy)}")
        http = client("http://node.example")
        with pytest.raises(AccessDeniedError, match=r"the proxy .* of HTTP_PROXY did not") as caught:
            http.request("GET", "/api", repeatable=True, expect=expect)
        http.close()
    assert "password of the proxy" in (caught.value.hint or "")
    assert "k4tze" not in caught.value.message


def test_a_peer_that_answers_407_itself_is_no_proxy() -> None:
    with (
        http_peer(lambda asked: Said(407, b"")) as peer,
        pytest.raises(AccessDeniedError, match="HTTP 407") as caught,
    ):
        get(peer.url)
    assert "proxy" not in caught.value.message


def test_a_wrong_password_of_a_socks_proxy_is_access_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_server(socks5, 9, credentials="user:right") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://user:wr0ng@127.0.0.1:{proxy.port}")
        with pytest.raises(RequestError, match="the proxy") as caught:
            get("https://node.example")
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    ["ftp://k4tze@proxy.example", "http://proxy.example:k4tze", "http://[::1", "socks4://proxy.example"],
)
def test_a_proxy_that_cannot_be_used_is_a_usage_error(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UsageError, match="of http_proxy cannot be used") as caught:
        client("http://node.example")
    assert "k4tze@" not in str(caught.value)


def test_without_the_extra_a_socks_proxy_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> None:
        raise RuntimeError("not installed")

    monkeypatch.setattr(connections.httpcore, "SOCKSProxy", missing)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(UsageError, match="needs the extra `socks`"):
        client("http://node.example")


def test_a_peer_on_this_machine_is_dialled_without_a_proxy(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert get(peer.url) == b"by proxy"


# --- certificates


@pytest.mark.parametrize(
    ("variable", "make", "reason"),
    [
        ("SSL_CERT_FILE", lambda path: None, "No such file"),
        (
            "SSL_CERT_FILE",
            lambda path: path.write_text("text"),
            "it contains no certificates in PEM form",
        ),
        ("SSL_CERT_DIR", lambda path: None, "there is no such directory"),
        ("SSL_CERT_DIR", lambda path: path.write_text("a file"), "there is no such directory"),
    ],
)
def test_certificates_that_cannot_be_read_are_named(
    variable: str, make: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "corporate-ca.pem"
    make(path)  # type: ignore[operator]
    monkeypatch.setenv(variable, str(path))
    for url in ("https://127.0.0.1:1", "https://node.example"):  # on loopback too
        with pytest.raises(UsageError, match=f"{variable}='.*corporate-ca.pem' cannot be read: {reason}"):
            client(url)
    client("http://127.0.0.1:1").close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_of_the_environment_are_trusted_on_loopback_too(
    variable: str,
    tls: ssl.SSLContext,  # noqa: F811
    certificate: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable == "SSL_CERT_DIR":
        text = certificate.read_text()
        directory = tmp_path / "certificates"
        directory.mkdir()
        (directory / f"{subject_hash(certificate)}.0").write_text(text[text.index("-----BEGIN CERT") :])
        monkeypatch.setenv(variable, f"{directory}")
    else:
        monkeypatch.setenv(variable, str(certificate))
    with server(b"trusted", context=tls) as (url, _):
        assert get(url) == b"trusted"


def subject_hash(file: Path) -> str:
    """The name under which OpenSSL looks for a certificate in a directory."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
