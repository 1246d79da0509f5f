"""Multiaddrs are parsed strictly, formatted back, and turned into URLs where they are HTTP gateways."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.net.multiaddr import multiaddr_of_url, names_peer, parse_multiaddr

PEER = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"


@pytest.mark.parametrize(
    ("text", "ip", "peer"),
    [
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}", "1.2.3.4", PEER),
        (f"/ip6/2001:db8::1/udp/4001/quic-v1/webtransport/certhash/uEiA/p2p/{PEER}", "2001:db8::1", PEER),
        (f"/dns4/relay.example/tcp/443/tls/ws/p2p/QmRelay/p2p-circuit/p2p/{PEER}", None, PEER),
        (f"/dnsaddr/bootstrap.example/p2p/{PEER}", None, PEER),
        (f"/ip4/1.2.3.4/udp/1/some-new-transport/p2p/{PEER}", "1.2.3.4", PEER),
        ("/ip4/127.0.0.1/tcp/8080/http", "127.0.0.1", None),
        (f"/dns4/my_node/tcp/4001/p2p/{PEER}", None, PEER),
        (f"/dns4/node.example.com./tcp/4001/p2p/{PEER}", None, PEER),
        (f"/dns4/*.example.libp2p.direct/tcp/4001/tls/ws/p2p/{PEER}", None, PEER),
    ],
)
def test_a_multiaddr_is_read_and_written_back(text: str, ip: str | None, peer: str | None) -> None:
    found = parse_multiaddr(text)
    assert found is not None
    assert str(found) == text
    assert (None if found.ip is None else str(found.ip), found.peer) == (ip, peer)
    assert names_peer(text) is (peer is not None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "ip4/1.2.3.4/tcp/1",
        "/ip4/1.2.3.4//tcp/1",
        "/ip4/::1/tcp/1",
        "/ip4/1.2.3/tcp/1",
        "/ip4/1.2.3.4/tcp",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/1.2.3.4/tcp/-1",
        "/ip4/1.2.3.4/tcp/1/p2p",
        "/dns/user@example.org/tcp/80",
        "/dns/a..b/tcp/80",
        "/dns/./tcp/80",
        "/dns/-/tcp/80",
        "/dns/exämple.org/tcp/80",
        "/dns/example.org/tcp/80/http\n",
        "/" + "x/" * 300,
    ],
)
def test_a_malformed_multiaddr_is_none(text: str) -> None:
    assert parse_multiaddr(text) is None
    assert not names_peer(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/ip4/1.2.3.4/tcp/8080/http", "http://1.2.3.4:8080"),
        ("/ip6/2001:DB8::1/tcp/443/https", "https://[2001:db8::1]:443"),
        ("/dns6/example.org/tcp/443/tls/sni/example.org/http", "https://example.org:443"),
        ("/dns/example.org/tcp/0/http", None),
        ("/dns/*.example.org/tcp/80/http", None),
        ("/dnsaddr/example.org/tcp/80/http", None),
        ("/dns/example.org/tcp/443/https/http-path/x", None),
        (f"/ip4/1.2.3.4/tcp/80/http/p2p/{PEER}", None),
        ("/ip4/1.2.3.4/udp/443/quic-v1/http", None),
    ],
)
def test_an_http_gateway_has_a_url(text: str, url: str | None) -> None:
    found = parse_multiaddr(text)
    assert found is not None
    assert found.http_url == url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "https://[::1]:443", "https://gateway.example:8443"]
)
def test_the_multiaddr_of_a_url_leads_back_to_it(url: str) -> None:
    assert multiaddr_of_url(url).http_url == url
    assert parse_multiaddr(str(multiaddr_of_url(url))) == multiaddr_of_url(url)


def test_a_url_with_a_path_has_no_multiaddr() -> None:
    with pytest.raises(UsageError, match="is not the address of a gateway"):
        multiaddr_of_url("https://gateway.example/ipfs")
