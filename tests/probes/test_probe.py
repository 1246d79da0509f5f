"""Providers are probed at their own addresses, and each gets the verdict for what it served."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from reconciler.content.cid import Cid
from reconciler.net.address import is_public
from reconciler.net.deadline import Timeouts
from reconciler.net.errors import RequestError
from reconciler.probes import (
    MAX_PROVIDERS,
    ProbeTerms,
    ProbeVerdict,
    Provider,
    Router,
    choose_leaves,
    http_url,
    probe_providers,
)
from tests.support.dags import MemoryDag, memory_dag
from tests.support.gateway import keep, served
from tests.support.http_peer import Asked, Said, http_peer

MIB = 1 << 20
TERMS = ProbeTerms(timeouts=Timeouts(connect=30.0, silence=60.0, total=120.0), allow_private=True)


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    return memory_dag({"weights.bin": bytes(range(256)) * (5 * MIB // 256) + b"end", "config.json": b"{}"})


def at(url: str, peer: str = "peer") -> Provider:
    host, port = url.removeprefix("http://").split(":")
    return Provider(peer, (f"/ip4/{host}/tcp/{port}/http",))


@pytest.fixture(scope="module")
def good(dag: MemoryDag, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Provider]]:
    """Three gateways of ours that have it all."""
    with ExitStack() as stack:
        found = []
        for number in range(3):
            home = tmp_path_factory.mktemp(f"good{number}")
            keep(home / "store", dag)
            found.append(at(stack.enter_context(served(home, home / "store")).url, f"good{number}"))
        yield found


def test_a_lying_a_slow_and_a_dead_provider_are_named_among_three_good_ones(
    dag: MemoryDag, good: list[Provider]
) -> None:
    def lie(asked: Asked) -> Said:
        return Said(200, b"x" * MIB, {"Content-Type": "application/vnd.ipld.raw"})

    probed = threading.Event()

    def dawdle(asked: Asked) -> Said:
        probed.wait(120)
        return Said(200, b"late")

    seconds = 5.0  # for the three good ones on a busy machine
    terms = ProbeTerms(timeouts=Timeouts(connect=30.0, silence=seconds, total=120.0), allow_private=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with http_peer(lie) as liar, http_peer(dawdle) as slow:
        providers = [good[0], at(liar.url, "liar"), good[1], at(slow.url, "slow"), at(dead, "dead"), good[2]]
        findings = probe_providers(dag.layout, providers, terms, Random(1))
        probed.set()
    assert [finding.provider for finding in findings] == providers
    assert [finding.verdict for finding in findings] == [
        ProbeVerdict.SERVED,
        ProbeVerdict.WRONG_BYTES,
        ProbeVerdict.SERVED,
        ProbeVerdict.TIMEOUT,
        ProbeVerdict.REFUSED,
        ProbeVerdict.SERVED,
    ]
    assert [finding.leaves for finding in findings] == [3, 0, 3, 0, 0, 3]
    assert "cannot be reached" in findings[4].detail


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (Said(404, b""), ProbeVerdict.REFUSED),
        (Said(412, b""), ProbeVerdict.REFUSED),
        (Said(429, b"", {"Retry-After": "1"}), ProbeVerdict.REFUSED),
        (Said(302, b"", {"Location": "http://127.0.0.1:1/"}), ProbeVerdict.REFUSED),
        (Said(500, b""), ProbeVerdict.REFUSED),
        (Said(200, b""), ProbeVerdict.WRONG_BYTES),
        (Said(200, b"<html>welcome</html>", {"Content-Type": "text/html"}), ProbeVerdict.WRONG_BYTES),
        (Said(200, b"x" * (3 * MIB)), ProbeVerdict.WRONG_BYTES),
    ],
)
def test_a_response_that_is_not_the_leaf_is_not_serving(
    dag: MemoryDag, said: Said, verdict: ProbeVerdict
) -> None:
    with http_peer(lambda _: said) as peer:
        (finding,) = probe_providers(dag.layout, [at(peer.url)], TERMS, Random(1))
    assert (finding.verdict, finding.leaves) == (verdict, 0)


def test_a_gateway_must_not_fetch_the_leaf_from_elsewhere(dag: MemoryDag) -> None:
    with http_peer(lambda _: Said(412)) as peer:
        probe_providers(dag.layout, [at(peer.url)], TERMS, Random(1))
        assert {asked.headers["cache-control"] for asked in peer.asked} == {"only-if-cached"}


def test_a_provider_with_one_bad_leaf_is_found_when_that_leaf_is_asked_for(dag: MemoryDag) -> None:
    leaves = {str(block.cid): dag.blocks[block.cid] for block in choose_leaves(dag.layout, 99, Random(1))}
    bad = next(iter(leaves))

    def answer(asked: Asked) -> Said:
        cid = asked.target.split("/")[2].partition("?")[0]
        return Said(200, b"bad" if cid == bad else leaves[cid])

    terms = ProbeTerms(leaves=99, timeouts=TERMS.timeouts, allow_private=True)
    with http_peer(answer) as peer:
        (finding,) = probe_providers(dag.layout, [at(peer.url)], terms, Random(1))
    assert finding.verdict is ProbeVerdict.WRONG_BYTES
    assert bad in finding.detail


def test_private_addresses_are_dialled_only_when_allowed(dag: MemoryDag) -> None:
    strict = ProbeTerms(timeouts=TERMS.timeouts)
    with http_peer(lambda _: Said()) as peer:
        port = peer.url.rpartition(":")[2]
        for address in (f"/ip4/127.0.0.1/tcp/{port}/http", f"/dns4/localhost/tcp/{port}/http"):
            (finding,) = probe_providers(dag.layout, [Provider("p", (address,))], strict, Random(1))
            assert finding.verdict is ProbeVerdict.NOT_PROBED
            assert "private" in finding.detail
        assert peer.asked == []


def test_a_provider_without_http_is_not_probed(dag: MemoryDag) -> None:
    provider = Provider("p", ("/ip4/8.8.8.8/udp/4001/quic-v1", "/ip4/8.8.8.8/tcp/4001"))
    (finding,) = probe_providers(dag.layout, [provider], TERMS, Random(1))
    assert (finding.verdict, finding.detail) == (ProbeVerdict.NOT_PROBED, "no HTTP address")


@pytest.mark.parametrize(
    ("multiaddr", "url"),
    [
        ("/ip4/1.2.3.4/tcp/8080/http", "http://1.2.3.4:8080"),
        ("/ip6/2001:db8::1/tcp/443/https", "https://[2001:db8::1]:443"),
        ("/dns/example.org/tcp/443/tls/http", "https://example.org:443"),
        ("/dns4/example.org/tcp/443/tls/sni/example.org/http", "https://example.org:443"),
        ("/dns/example.org/tcp/443/https/http-path/x", None),
        ("/ip4/1.2.3.4/tcp/4001", None),
        ("/ip4/1.2.3.4/udp/4001/quic-v1", None),
        ("/ip4/1.2.3.4/tcp/99999/http", None),
        ("/ip4/not-an-address/tcp/80/http", None),
        ("/dns/user@example.org/tcp/80/http", None),
        ("/dns/exa mple.org/tcp/80/http", None),
        ("/unix/tmp%2fsocket/http", None),
        ("", None),
        ("/" * 1000, None),
    ],
)
def test_multiaddrs_become_urls_where_they_are_http(multiaddr: str, url: str | None) -> None:
    assert http_url(multiaddr) == url


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "224.0.0.1", "ff02::1", "::127.0.0.1", "fec0::1",
     "::ffff:0:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1"],
)  # fmt: skip
def test_addresses_of_machines_and_networks_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_public() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")
    assert is_public("64:ff9b::808:808"), "a public host in a network that has only IPv6"
    assert is_public("2002:808:808::1")


# --- the router

ROOT = memory_dag(b"root").layout.root


def routed(body: object, root: Cid = ROOT, status: int = 200, kind: str = "application/json") -> object:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with http_peer(lambda _: Said(status, data, {"Content-Type": kind})) as peer:
        router = Router(peer.url)
        try:
            return router.providers(root)
        finally:
            router.close()
            assert peer.asked[0].target == f"/routing/v1/providers/{root}"


def test_providers_are_read_in_both_forms_and_each_peer_once() -> None:
    one = {"Schema": "peer", "ID": "12D3a", "Addrs": ["/ip4/1.2.3.4/tcp/1/http"], "Protocols": []}
    more = {"Schema": "peer", "ID": "12D3a", "Addrs": ["/ip4/1.2.3.4/tcp/1/http", "/ip4/5.6.7.8/tcp/1/http"]}
    expected = (Provider("12D3a", ("/ip4/1.2.3.4/tcp/1/http", "/ip4/5.6.7.8/tcp/1/http")),)
    assert routed({"Providers": [one, more]}) == expected
    lines = b"\n".join(json.dumps(record).encode() for record in (one, more))
    assert routed(lines, kind="application/x-ndjson") == expected


@pytest.mark.parametrize(
    "body", [{}, {"Providers": None}, {"Providers": [1, "x", None, []]}, [], {"Providers": {}}]
)
def test_malformed_records_are_skipped(body: object) -> None:
    assert routed(body) == ()


def test_an_empty_list_and_a_404_are_no_providers() -> None:
    assert routed({"Providers": []}) == ()
    assert routed(b"", status=404) == ()


def test_the_number_of_providers_is_bounded() -> None:
    many = [{"ID": str(number), "Addrs": ["/x"] * 100} for number in range(1000)]
    found = routed({"Providers": many})
    assert isinstance(found, tuple)
    assert len(found) == MAX_PROVIDERS
    assert max(len(provider.addresses) for provider in found) <= 20


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<html>", "text/html"), (b"{", "application/json"), (b" " * (2 * MIB), "application/json")],
)
def test_a_malformed_answer_of_a_router_is_an_error(body: bytes, kind: str) -> None:
    with pytest.raises(RequestError):
        routed(body, kind=kind)


def test_our_own_gateway_is_a_router_and_a_provider(dag: MemoryDag, tmp_path: Path) -> None:
    keep(tmp_path / "store", dag)
    with served(tmp_path, tmp_path / "store") as gateway:
        router = Router(gateway.url)
        providers = router.providers(dag.layout.root)
        router.close()
        (finding,) = probe_providers(dag.layout, providers, TERMS, Random(1))
    assert finding.verdict is ProbeVerdict.SERVED
