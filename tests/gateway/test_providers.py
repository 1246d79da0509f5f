"""The gateway as a provider record."""

from __future__ import annotations

import json

import pytest

from reconciler.errors import UsageError
from reconciler.gateway.providers import providers, record
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
def test_addresses_are_announced_as_clients_read_them(url: str, address: str) -> None:
    assert str(multiaddr_of_url(url)) == address
    assert multiaddr_of_url(url).http_url is not None


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/path", "x:80"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        multiaddr_of_url(url)


def test_two_gateways_are_two_providers_and_one_is_always_the_same() -> None:
    one, other = record(["/ip4/1.2.3.4/tcp/1/http"]), record(["/ip4/1.2.3.4/tcp/2/http"])
    assert one["ID"] != other["ID"]
    assert record(["/ip4/1.2.3.4/tcp/1/http"]) == one
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
def test_filters_of_the_client_are_kept(query: dict[str, str], named: bool) -> None:
    body, _ = providers(["/ip4/1.2.3.4/tcp/1/http"], held=True, query=query, lines=False)
    assert bool(json.loads(body)["Providers"]) is named
    lines, kind = providers(["/ip4/1.2.3.4/tcp/1/http"], held=True, query=query, lines=True)
    assert (bool(lines), kind) == (named, "application/x-ndjson")
