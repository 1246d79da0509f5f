"""The gateway as a provider record."""

from __future__ import annotations

import json

import pytest

from reconciler.errors import UsageError
from reconciler.gateway.providers import peer_record, providers_body
from reconciler.net.multiaddr import multiaddr_of_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", "/ip4/127.0.0.1/tcp/8080/http"),
        ("http://[::1]:8080/", "/ip6/::1/tcp/8080/http"),
        ("https://weights.example.org", "/dns/weights.example.org/tcp/443/tls/http"),
        ("http://weights.example.org", "/dns/weights.example.org/tcp/80/http"),
    ],
)
def test_a_url_is_announced_as_a_multiaddr(url: str, address: str) -> None:
    assert str(multiaddr_of_url(url)) == address
    assert multiaddr_of_url(url).http_url is not None


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/path", "x:80"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        multiaddr_of_url(url)


def test_the_peer_id_identifies_a_gateway_by_its_addresses() -> None:
    one, other = peer_record(["/ip4/1.2.3.4/tcp/1/http"]), peer_record(["/ip4/1.2.3.4/tcp/2/http"])
    assert one["ID"] != other["ID"]
    assert peer_record(["/ip4/1.2.3.4/tcp/1/http"]) == one
    assert str(one["ID"]).startswith("Qm")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({}, True),
        ({"filter-addrs": "http"}, True),
        ({"filter-addrs": "HTTP,quic-v1"}, True),
        ({"filter-addrs": "quic-v1"}, False),
        ({"filter-addrs": "!ip4"}, False),
        ({"filter-protocols": "transport-bitswap"}, False),
        ({"filter-protocols": "unknown,transport-ipfs-gateway-http"}, True),
    ],
)
def test_filters_of_the_client_are_applied(query: dict[str, str], named: bool) -> None:
    body, _ = providers_body(["/ip4/1.2.3.4/tcp/1/http"], has_block=True, query=query, ndjson=False)
    assert bool(json.loads(body)["Providers"]) is named
    lines, kind = providers_body(["/ip4/1.2.3.4/tcp/1/http"], has_block=True, query=query, ndjson=True)
    assert (bool(lines), kind) == (named, "application/x-ndjson")
